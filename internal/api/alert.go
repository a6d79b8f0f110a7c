package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/alert"
	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
)

// AlertRules keeps what people are told of, and what they were told. Those that name one answer NotFound.
type AlertRules interface {
	AlertRules(ctx context.Context) ([]pki.AlertRule, error)
	AlertRule(ctx context.Context, name string) (*pki.AlertRule, error)
	CreateAlertRule(ctx context.Context, rule *pki.AlertRule, event audit.Event) error
	UpdateAlertRule(ctx context.Context, rule *pki.AlertRule, event audit.Event) error
	DeleteAlertRule(ctx context.Context, name string, at time.Time, event audit.Event) error
	Alerts(ctx context.Context, filter pki.AlertFilter) ([]pki.Alert, error)
	Alert(ctx context.Context, id pki.AlertID) (*pki.Alert, error)
}

func (s *Server) alertRoutes() {
	const tag = "alerts"
	register(s, operation{
		id: "list-alert-rules", method: http.MethodGet, path: "/alert-rules", tag: tag, access: auth.Read, asIs: true,
		summary: "List alert rules",
	}, s.listAlertRules)
	register(s, operation{
		id: "create-alert-rule", method: http.MethodPost, path: "/alert-rules", tag: tag, access: auth.Operate,
		status: http.StatusCreated, summary: "Create an alert rule",
	}, s.createAlertRule)
	register(s, operation{
		id: "get-alert-rule", method: http.MethodGet, path: "/alert-rules/{rule}", tag: tag, access: auth.Read, asIs: true,
		summary: "Show an alert rule",
	}, s.getAlertRule)
	register(s, operation{
		id: "update-alert-rule", method: http.MethodPut, path: "/alert-rules/{rule}", tag: tag, access: auth.Operate,
		summary: "Replace the settings of an alert rule",
	}, s.updateAlertRule)
	register(s, operation{
		id: "delete-alert-rule", method: http.MethodDelete, path: "/alert-rules/{rule}", tag: tag, access: auth.Operate, asIs: true,
		summary: "Delete an alert rule and end its alerts",
	}, s.deleteAlertRule)
	register(s, operation{
		id: "list-alerts", method: http.MethodGet, path: "/alerts", tag: tag, access: auth.Read, asIs: true,
		summary: "List alerts, the newest first",
	}, s.listAlerts)
	register(s, operation{
		id: "get-alert", method: http.MethodGet, path: "/alerts/{alert}", tag: tag, access: auth.Read, asIs: true,
		summary: "Show an alert",
	}, s.getAlert)
}

// RulePath names an alert rule.
type RulePath struct {
	Rule string `path:"rule" doc:"Name of the rule." maxLength:"100"`
}

func (s *Server) listAlertRules(ctx context.Context, in *struct{ PageQuery }) (*output[apiv1.Page[apiv1.AlertRule]], error) {
	rules, err := s.config.Store.AlertRules(ctx)
	if err != nil {
		return nil, err
	}
	page := pageOf(&in.PageQuery, rules, func(r pki.AlertRule) string { return r.Name }, wireAlertRule)
	for i := range page.Items {
		if err := s.countOpen(ctx, &page.Items[i]); err != nil {
			return nil, err
		}
	}
	return answer(page), nil
}

// countOpen counts a rule's alerts that go on, up to a page of them.
func (s *Server) countOpen(ctx context.Context, rule *apiv1.AlertRule) error {
	const most = 1000
	open, err := s.config.Store.Alerts(ctx, pki.AlertFilter{Rule: rule.Name, Open: true, Limit: most})
	rule.Open = len(open)
	return err
}

func wireAlertRule(r pki.AlertRule) apiv1.AlertRule {
	out := apiv1.AlertRule{
		Name: r.Name, Kind: string(r.Kind), Enabled: r.Enabled, Severity: string(r.Severity),
		CheckedAt: utc(r.CheckedAt), CreatedAt: utc(r.CreatedAt), UpdatedAt: utc(r.UpdatedAt),
		AlertSettings: apiv1.AlertSettings{
			Profile: r.Settings.Profile, Namespace: r.Settings.Namespace, Cluster: r.Settings.Cluster, Channels: r.Settings.Channels,
			GroupBy: string(r.Settings.GroupBy), Repeat: wireSeconds(r.Settings.Repeat), Resolved: r.Settings.Resolved,
			Status: string(r.Settings.Status), Within: wireSeconds(r.Settings.Within), Count: r.Settings.Count,
		},
	}
	if q := r.Settings.Quiet; q != nil {
		out.Quiet = &apiv1.QuietHours{TimeZone: q.TimeZone, From: q.From, To: q.To, Days: q.Days}
	}
	return out
}

// wireSeconds writes a length of time as it is read; none is "".
func wireSeconds(n int64) string {
	if n == 0 {
		return ""
	}
	return pki.Duration(time.Duration(n) * time.Second).String()
}

func (s *Server) getAlertRule(ctx context.Context, in *RulePath) (*output[apiv1.AlertRule], error) {
	rule, err := s.config.Store.AlertRule(ctx, in.Rule)
	if err != nil {
		return nil, err
	}
	wire := wireAlertRule(*rule)
	return answer(wire), s.countOpen(ctx, &wire)
}

// alertSettings reads the settings of a rule.
func (f *findings) alertSettings(in *apiv1.AlertSettings) pki.AlertSettings {
	seconds := func(field, value string) int64 {
		if value == "" {
			return 0
		}
		return int64(time.Duration(f.duration(field, value)) / time.Second)
	}
	out := pki.AlertSettings{
		Profile: in.Profile, Namespace: in.Namespace, Cluster: in.Cluster, Channels: in.Channels, GroupBy: pki.GroupBy(in.GroupBy),
		Repeat: seconds("/repeat", in.Repeat), Resolved: in.Resolved, Status: pki.IdentityStatus(in.Status),
		Within: seconds("/within", in.Within), Count: in.Count,
	}
	if q := in.Quiet; q != nil {
		out.Quiet = &pki.QuietHours{TimeZone: q.TimeZone, From: q.From, To: q.To, Days: q.Days}
	}
	return out
}

// alertRule checks a rule with what it names.
func (s *Server) alertRule(ctx context.Context, found findings, rule *pki.AlertRule) error {
	alert.Fill(rule)
	for _, problem := range alert.Check(rule) {
		found = append(found, problem)
	}
	if rule.Settings.Profile != "" {
		if _, ok := s.config.Catalog.Snapshot().ProfileByName(rule.Settings.Profile); !ok {
			found.add("/profile", "there is no profile %.80q", rule.Settings.Profile)
		}
	}
	if len(rule.Settings.Channels) > 0 {
		channels, err := s.config.Store.Channels(ctx)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		for i := range channels {
			known[channels[i].Name] = true
		}
		for _, name := range rule.Settings.Channels {
			if !known[name] {
				found.add("/channels", "there is no channel %.80q", name)
			}
		}
	}
	return found.err()
}

func (s *Server) createAlertRule(ctx context.Context, in *struct{ body[apiv1.CreateAlertRule] }) (*output[apiv1.AlertRule], error) {
	var found findings
	now := s.config.Now()
	rule := &pki.AlertRule{
		Name: in.Body.Name, Kind: pki.AlertKind(in.Body.Kind), Enabled: in.Body.Enabled == nil || *in.Body.Enabled,
		Severity: pki.Severity(in.Body.Severity), CreatedAt: now, UpdatedAt: now, Settings: found.alertSettings(&in.Body.AlertSettings),
	}
	if err := pki.CheckName(rule.Name); err != nil {
		found.add("/name", "%v", err)
	}
	if err := s.alertRule(ctx, found, rule); err != nil {
		return nil, err
	}
	if err := s.config.Store.CreateAlertRule(ctx, rule, s.alertEvent(ctx, audit.AlertRuleCreate, rule.Name)); err != nil {
		return nil, err
	}
	return answer(wireAlertRule(*rule)), nil
}

func (s *Server) updateAlertRule(ctx context.Context, in *struct {
	RulePath
	body[apiv1.UpdateAlertRule]
},
) (*output[apiv1.AlertRule], error) {
	rule, err := s.config.Store.AlertRule(ctx, in.Rule)
	if err != nil {
		return nil, err
	}
	var found findings
	rule.Enabled, rule.Severity, rule.UpdatedAt = in.Body.Enabled, pki.Severity(in.Body.Severity), s.config.Now()
	rule.Settings = found.alertSettings(&in.Body.AlertSettings)
	if err := s.alertRule(ctx, found, rule); err != nil {
		return nil, err
	}
	if err := s.config.Store.UpdateAlertRule(ctx, rule, s.alertEvent(ctx, audit.AlertRuleUpdate, rule.Name)); err != nil {
		return nil, err
	}
	return s.getAlertRule(ctx, &in.RulePath)
}

func (s *Server) deleteAlertRule(ctx context.Context, in *RulePath) (*struct{}, error) {
	return nil, s.config.Store.DeleteAlertRule(ctx, in.Rule, s.config.Now(), s.alertEvent(ctx, audit.AlertRuleDelete, in.Rule))
}

func (s *Server) alertEvent(ctx context.Context, action audit.Action, target string) audit.Event {
	by := auth.PrincipalOf(ctx).By()
	return audit.Event{
		Time: s.config.Now().UTC(), Actor: by.Actor, Action: action, Target: target, Client: by.Client, Request: by.Request, Replica: s.config.Replica,
		Outcome: audit.Done,
	}
}

func (s *Server) listAlerts(ctx context.Context, in *struct {
	Rule  string `query:"rule" doc:"Name of the rule; absent: all." maxLength:"100"`
	State string `query:"state" enum:"firing,resolved" doc:"Only those; absent: both."`
	PageQuery
},
) (*output[apiv1.Page[apiv1.Alert]], error) {
	found, err := s.config.Store.Alerts(ctx, pki.AlertFilter{
		Rule: in.Rule, Open: in.State == "firing", Resolved: in.State == "resolved", Before: pki.AlertID(in.After), Limit: in.Limit,
	})
	if err != nil {
		return nil, err
	}
	page := apiv1.Page[apiv1.Alert]{Items: []apiv1.Alert{}}
	for i := range found {
		page.Items = append(page.Items, wireAlert(&found[i]))
	}
	if len(found) == in.Limit {
		page.Next = string(found[len(found)-1].ID)
	}
	return answer(page), nil
}

func wireAlert(a *pki.Alert) apiv1.Alert {
	out := apiv1.Alert{
		ID: string(a.ID), Rule: a.Rule, Kind: string(a.Kind), State: "firing", Severity: string(a.Severity), Subject: a.Subject, Summary: a.Summary,
		Labels: a.Labels, FiredAt: utc(a.FiredAt), ResolvedAt: utc(a.ResolvedAt), ToldAt: utc(a.ToldAt),
	}
	if !a.ResolvedAt.IsZero() {
		out.State = "resolved"
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

func (s *Server) getAlert(ctx context.Context, in *struct {
	Alert string `path:"alert" doc:"Identifier of the alert." maxLength:"100"`
},
) (*output[apiv1.Alert], error) {
	a, err := s.config.Store.Alert(ctx, pki.AlertID(in.Alert))
	if err != nil {
		return nil, err
	}
	return answer(wireAlert(a)), nil
}

// alertsPage is where the console shows alerts.
func (s *Server) alertsPage() string {
	return strings.TrimSuffix(s.config.BaseURL, "/") + "/policies/alerts"
}
