package console

import (
	"net/url"

	"github.com/certloom/certloom/internal/apiv1"
)

// alertsShown bounds the alerts on the page; the command line lists the rest.
const alertsShown = 100

// alertsView is what goes on, what is watched, and who is told.
type alertsView struct {
	Alerts   []alertRow
	More     bool
	Rules    []alertRuleRow
	Channels []channelRow
}

type alertRow struct {
	Subject, Path, Summary, Rule, Severity string
	Fired, Told                            stamp
}

type alertRuleRow struct {
	Name, Kind, Severity, StateText string
	Open                            int
	Checked                         stamp
}

type channelRow struct{ Name, Kind, StateText string }

// alerts shows the alerts that go on, the rules and the channels.
func (c *Console) alerts(v *visit) error {
	list, err := v.api.Alerts(v.ctx(), apiv1.AlertQuery{State: "firing", Limit: alertsShown})
	if err != nil {
		return err
	}
	rules, err := v.api.AlertRules(v.ctx())
	if err != nil {
		return err
	}
	channels, err := v.api.Channels(v.ctx())
	if err != nil {
		return err
	}
	view := alertsView{More: list.Next != ""}
	for i := range list.Items {
		a := &list.Items[i]
		view.Alerts = append(view.Alerts, alertRow{
			Subject: a.Subject, Path: subjectPath(a), Summary: a.Summary, Rule: a.Rule, Severity: v.text("alert.severity." + a.Severity),
			Fired: v.stamp(a.FiredAt), Told: v.stamp(a.ToldAt),
		})
	}
	for i := range rules.Items {
		r := &rules.Items[i]
		view.Rules = append(view.Rules, alertRuleRow{
			Name: r.Name, Kind: v.text("alert.kind." + r.Kind), Severity: v.text("alert.severity." + r.Severity), StateText: v.switched(r.Enabled),
			Open: r.Open, Checked: v.stamp(r.CheckedAt),
		})
	}
	for i := range channels.Items {
		one := &channels.Items[i]
		view.Channels = append(view.Channels, channelRow{Name: one.Name, Kind: one.Kind, StateText: v.switched(one.Enabled)})
	}
	return v.render("alerts", view)
}

// switched says whether a rule or channel is on.
func (v *visit) switched(on bool) string {
	if on {
		return v.text("alert.on")
	}
	return v.text("alert.off")
}

// subjectPath is the page of what an alert is about, or empty.
func subjectPath(a *apiv1.Alert) string {
	switch a.Kind {
	case "identity-health":
		return "/inventory/identity?name=" + url.QueryEscape(a.Subject)
	case "ca-expiry":
		return "/authorities/" + url.PathEscape(a.Subject)
	}
	return ""
}
