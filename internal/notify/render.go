package notify

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// request is what is posted.
type request struct {
	url         string
	contentType string
	content     []byte
	id          pki.DeliveryID
}

// render makes the body for a channel that speaks HTTP.
func (n *Notifier) render(t *target, m *pki.Message) (*request, error) {
	r := &request{url: t.Settings.URL, contentType: "application/json", id: m.ID}
	var body any
	switch t.Kind {
	case pki.ChannelWebhook:
		r.contentType = "application/cloudevents+json"
		body = n.cloudEvent(m)
	case pki.ChannelSlack:
		r.url, body = t.secret, slackMessage(m)
	case pki.ChannelTeams:
		r.url, body = t.secret, teamsMessage(m)
	case pki.ChannelPagerDuty:
		r.url, body = n.PagerDuty, n.pagerDutyEvent(t, m)
	case pki.ChannelAlertmanager:
		r.url, body = strings.TrimSuffix(t.Settings.URL, "/")+"/api/v2/alerts", alertmanagerAlerts(m)
	default:
		return nil, failed(true, "channel kind %.40q is not known to this version", string(t.Kind))
	}
	var err error
	if r.content, err = json.Marshal(body); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	return r, nil
}

// oneLine makes a text fit for a header or a title: what is not printable becomes a space.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
}

// more says how many alerts a message does not list, "" when it lists them all.
func more(m *pki.Message) string {
	if n := m.Total - len(m.Alerts); n > 0 {
		return fmt.Sprintf("and %d more", n)
	}
	return ""
}

// cloudEvent is the message as CloudEvents 1.0 in the structured JSON format.
func (n *Notifier) cloudEvent(m *pki.Message) any {
	return struct {
		SpecVersion     string       `json:"specversion"`
		ID              string       `json:"id"`
		Source          string       `json:"source"`
		Type            string       `json:"type"`
		Subject         string       `json:"subject,omitempty"`
		Time            string       `json:"time"`
		DataContentType string       `json:"datacontenttype"`
		Data            *pki.Message `json:"data"`
	}{"1.0", string(m.ID), n.BaseURL, "certloom.alert." + string(m.State), m.Rule, m.Time.UTC().Format(time.RFC3339), "application/json", m}
}

// slackText escapes what Slack reads as markup: the three characters of its documentation, and with them every link and
// mention.
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(oneLine(s))
}

// slackLines is how many alerts a chat message lists; more would not be read.
const slackLines = 20

func slackMessage(m *pki.Message) any {
	var b strings.Builder
	b.WriteString(slackText(m.Title))
	for i := range m.Alerts {
		if i == slackLines {
			fmt.Fprintf(&b, "\n• and %d more", m.Total-i)
			break
		}
		b.WriteString("\n• " + slackText(m.Alerts[i].Summary))
	}
	if m.URL != "" {
		b.WriteString("\n" + slackText(m.URL))
	}
	return map[string]any{"text": b.String(), "mrkdwn": false, "unfurl_links": false}
}

// teamsMessage is an adaptive card for a workflow's webhook. Its texts are runs, which have no markup.
func teamsMessage(m *pki.Message) any {
	line := func(text, weight string) any {
		return map[string]any{"type": "RichTextBlock", "inlines": []any{
			map[string]any{"type": "TextRun", "text": oneLine(text), "weight": weight},
		}}
	}
	body := []any{line(m.Title, "Bolder")}
	for i := range m.Alerts {
		if i == slackLines {
			body = append(body, line(fmt.Sprintf("and %d more", m.Total-i), "Default"))
			break
		}
		body = append(body, line(m.Alerts[i].Summary, "Default"))
	}
	card := map[string]any{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": body}
	if m.URL != "" {
		card["actions"] = []any{map[string]any{"type": "Action.OpenUrl", "title": "Open Certloom", "url": m.URL}}
	}
	return map[string]any{"type": "message", "attachments": []any{
		map[string]any{"contentType": "application/vnd.microsoft.card.adaptive", "content": card},
	}}
}

// pagerDutyEvent is an event of the Events API v2. Its messages hold one alert each, whose ID is the key under which
// PagerDuty knows it until it is resolved.
func (n *Notifier) pagerDutyEvent(t *target, m *pki.Message) any {
	key, action := string(m.ID), "trigger"
	if len(m.Alerts) > 0 {
		key = string(m.Alerts[0].ID)
	}
	if m.State == pki.MessageResolved {
		action = "resolve"
	}
	const maxSummary = 1024 // of PagerDuty's documentation
	summary := oneLine(m.Title)
	if len(summary) > maxSummary {
		summary = strings.ToValidUTF8(summary[:maxSummary], "")
	}
	event := map[string]any{
		"routing_key": t.secret, "event_action": action, "dedup_key": key, "client": "Certloom", "client_url": m.URL,
		"payload": map[string]any{
			"summary": summary, "source": n.BaseURL, "severity": string(m.Severity), "timestamp": m.Time.UTC().Format(time.RFC3339),
			"component": m.Rule, "class": string(m.Kind), "custom_details": m.Alerts,
		},
	}
	return event
}

// alertmanagerLife is how long Alertmanager believes an alert without hearing of it again. Its end is told.
const alertmanagerLife = 7 * 24 * time.Hour

func alertmanagerAlerts(m *pki.Message) any {
	type alert struct {
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		StartsAt     time.Time         `json:"startsAt"`
		EndsAt       time.Time         `json:"endsAt"`
		GeneratorURL string            `json:"generatorURL,omitempty"`
	}
	all := []alert{}
	for i := range m.Alerts {
		a := &m.Alerts[i]
		labels := map[string]string{}
		for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
			labels[name] = a.Labels[name]
		}
		labels["alertname"], labels["severity"], labels["rule"], labels["subject"] = "Certloom", string(m.Severity), m.Rule, a.Subject
		if m.State == pki.MessageTest {
			labels["alertname"] = "CertloomTest"
		}
		end := a.ResolvedAt
		switch {
		case m.State == pki.MessageTest:
			end = m.Time.Add(time.Minute)
		case end.IsZero():
			end = m.Time.Add(alertmanagerLife)
		}
		all = append(all, alert{labels, map[string]string{"summary": a.Summary}, a.FiredAt.UTC(), end.UTC(), m.URL})
	}
	return all
}

// TestMessage is what *Send test* sends.
func TestMessage(id pki.DeliveryID, channel, page string, now time.Time) pki.Message {
	return pki.Message{
		ID: id, State: pki.MessageTest, Rule: "test", Severity: pki.SeverityInfo, Time: now.UTC(), URL: page,
		Title: fmt.Sprintf("Test of channel %s: nothing is wrong", channel), Total: 1,
		Alerts: []pki.MessageAlert{{
			ID: pki.AlertID(id), Subject: "test", Summary: "This is a test. Alerts will arrive here.", FiredAt: now.UTC(),
		}},
	}
}

// ExampleMessage is what a preview shows.
func ExampleMessage(page string, now time.Time) pki.Message {
	at := now.UTC()
	alert := func(id, workload string) pki.MessageAlert {
		name := "spiffe://cluster.local/ns/shop/sa/" + workload
		return pki.MessageAlert{
			ID: pki.AlertID(id), Subject: name, Summary: name + " has not renewed its certificate, which ends " + at.Add(time.Hour).Format(time.RFC3339),
			FiredAt: at, Labels: map[string]string{"namespace": "shop", "trust_domain": "cluster.local"},
		}
	}
	return pki.Message{
		ID: "example", State: pki.MessageFiring, Rule: "identity-lapsing", Kind: pki.AlertIdentityHealth, Severity: pki.SeverityWarning, Time: at, URL: page,
		Title: "2 identities are lapsing", Total: 2, Alerts: []pki.MessageAlert{alert("example-1", "cart"), alert("example-2", "checkout")},
	}
}

// unknownKind refuses a kind that is not in the catalogue.
func unknownKind(kind pki.ChannelKind) error {
	return fault.New(fault.Malformed, "channel kind %.40q is not one of %s", string(kind), joined(pki.ChannelKinds())).WithField("/kind")
}

func joined[T ~string](all []T) string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = string(one)
	}
	return strings.Join(texts, ", ")
}
