package alert

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// listed bounds how many alerts one message names; it says how many there are.
const listed = 100

// tell makes the messages that are due about a rule's alerts, for each of its channels, and stores them together with
// the fact that they are.
func (e *Evaluator) tell(ctx context.Context, rule *pki.AlertRule, alerts []pki.Alert) error {
	now := e.Now()
	if Quiet(rule.Settings.Quiet, now) {
		return nil // what goes on is told afterwards
	}
	news := pki.AlertNews{Rule: rule.Name, Turn: rule.Turn, At: now}
	firing, ended := due(rule, alerts, &news)
	if len(news.Told)+len(news.EndTold) == 0 {
		return nil
	}
	channels, err := e.channels(ctx, rule)
	if err != nil {
		return err
	}
	if len(channels) == 0 && len(news.EndTold) == 0 {
		return nil // told as soon as there is somebody to tell
	}
	if !rule.Settings.Resolved {
		ended = nil
	}
	for i := range channels {
		for _, m := range e.messages(rule, &channels[i], firing, pki.MessageFiring, now) {
			if err := e.deliver(&news, rule, &channels[i], m); err != nil {
				return err
			}
		}
		for _, m := range e.messages(rule, &channels[i], ended, pki.MessageResolved, now) {
			if err := e.deliver(&news, rule, &channels[i], m); err != nil {
				return err
			}
		}
	}
	if len(channels) == 0 {
		news.Told = nil
	}
	return e.Store.Announce(ctx, news)
}

// due sorts out the alerts that are to be told of, and notes them in the news.
func due(rule *pki.AlertRule, alerts []pki.Alert, news *pki.AlertNews) (firing, ended []pki.Alert) {
	repeat := time.Duration(rule.Settings.Repeat) * time.Second
	for i := range alerts {
		a := alerts[i]
		switch {
		case !a.ResolvedAt.IsZero():
			ended = append(ended, a)
			news.EndTold = append(news.EndTold, a.ID)
		case a.ToldAt.IsZero(), repeat > 0 && news.At.Sub(a.ToldAt) >= repeat:
			firing = append(firing, a)
			news.Told = append(news.Told, a.ID)
		}
	}
	return firing, ended
}

// deliver adds one message to the news.
func (e *Evaluator) deliver(news *pki.AlertNews, rule *pki.AlertRule, c *pki.Channel, m pki.Message) error {
	id, err := pki.NewID[pki.DeliveryID](news.At, e.Random)
	if err != nil {
		return err
	}
	m.ID = id
	news.Deliveries = append(news.Deliveries, pki.Delivery{
		ID: id, Channel: c.Name, Rule: rule.Name, State: pki.DeliveryPending, NextAt: news.At, CreatedAt: news.At, Message: m,
	})
	return nil
}

// channels are those that a rule names, or all; only those that are switched on.
func (e *Evaluator) channels(ctx context.Context, rule *pki.AlertRule) ([]pki.Channel, error) {
	all, err := e.Store.Channels(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c pki.Channel) bool {
		return !c.Enabled || len(rule.Settings.Channels) > 0 && !slices.Contains(rule.Settings.Channels, c.Name)
	}), nil
}

// messages groups alerts into messages.
func (e *Evaluator) messages(rule *pki.AlertRule, c *pki.Channel, alerts []pki.Alert, state pki.MessageState, now time.Time) []pki.Message {
	by := rule.Settings.GroupBy
	if c.Kind == pki.ChannelPagerDuty {
		by = pki.GroupByAlert // it opens and closes incidents one by one
	}
	groups := map[string][]pki.Alert{}
	var order []string
	for i := range alerts {
		key := ""
		switch by {
		case pki.GroupByAlert:
			key = string(alerts[i].ID)
		case pki.GroupByNamespace:
			key = alerts[i].Labels["namespace"]
		case pki.GroupByRule:
		}
		if _, known := groups[key]; !known {
			order = append(order, key)
		}
		groups[key] = append(groups[key], alerts[i])
	}
	var all []pki.Message
	for _, key := range order {
		all = append(all, e.message(rule, key, groups[key], state, now))
	}
	return all
}

func (e *Evaluator) message(rule *pki.AlertRule, group string, alerts []pki.Alert, state pki.MessageState, now time.Time) pki.Message {
	m := pki.Message{
		State: state, Rule: rule.Name, Kind: rule.Kind, Severity: rule.Severity, Group: group, Time: now.UTC(), Total: len(alerts),
		URL: strings.TrimSuffix(e.BaseURL, "/") + "/policies/alerts", Title: title(rule, alerts, state),
	}
	for i := range alerts[:min(len(alerts), listed)] {
		a := &alerts[i]
		m.Alerts = append(m.Alerts, pki.MessageAlert{
			ID: a.ID, Subject: a.Subject, Summary: a.Summary, Labels: a.Labels, FiredAt: a.FiredAt.UTC(), ResolvedAt: a.ResolvedAt,
		})
	}
	return m
}

// title is one line for a message: of a single alert what it says, of many how many.
func title(rule *pki.AlertRule, alerts []pki.Alert, state pki.MessageState) string {
	prefix := ""
	if state == pki.MessageResolved {
		prefix = "Resolved: "
	}
	if len(alerts) == 1 {
		return prefix + alerts[0].Summary
	}
	what := "alerts"
	switch rule.Kind {
	case pki.AlertIdentityHealth:
		what = "identities have not renewed their certificates"
		if state == pki.MessageResolved {
			what = "identities have renewed their certificates"
		}
	case pki.AlertCAExpiry:
		what = "CAs are near their expiry"
	case pki.AlertCredentialExpiry:
		what = "EAB credentials expire soon"
	case pki.AlertCredentialUnused:
		what = "EAB credentials are not used"
	case pki.AlertIssuanceFailures:
		what = "reasons for refusing certificates are frequent"
	}
	return fmt.Sprintf("%s%d %s", prefix, len(alerts), what)
}
