package console_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
)

// TestAlerts looks at the page of alerts before and after there are a rule, a channel and alerts.
func TestAlerts(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	for _, want := range []string{"No alert goes on", "Nobody is told yet"} {
		if html := l.page(t, "/policies/alerts"); !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	admin := l.Client(t, pki.RoleAdmin)
	if _, err := admin.CreateAlertRule(t.Context(), apiv1.CreateAlertRule{Name: "stopped", Kind: "identity-health"}); err != nil {
		t.Fatal(err)
	}
	hook := apiv1.CreateChannel{Name: "hook", Kind: "webhook", ChannelSettings: apiv1.ChannelSettings{URL: "https://hooks.example.test/1"}}
	if _, err := admin.CreateChannel(t.Context(), hook); err != nil {
		t.Fatal(err)
	}
	const identity = "spiffe://cluster.local/ns/shop/sa/web"
	rule, err := l.Store.AlertRule(t.Context(), "stopped")
	if err != nil {
		t.Fatal(err)
	}
	change := pki.AlertChange{Rule: rule.Name, Turn: rule.Turn, CheckedAt: l.Clock.Now(), Fired: []pki.Alert{{
		ID: "one", Rule: rule.Name, Kind: rule.Kind, Subject: identity, Severity: pki.SeverityCritical,
		Summary: "it has <stopped>", FiredAt: l.Clock.Now(),
	}}}
	if err := l.Store.SaveAlerts(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	html := l.page(t, "/policies/alerts")
	for _, want := range []string{
		"stopped", "hook", "it has &lt;stopped&gt;", "critical", "identity stops renewing", `href="/inventory/identity?name=` + url.QueryEscape(identity) + `"`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q:\n%s", want, html)
		}
	}
	if strings.Contains(html, "No alert goes on") || strings.Contains(html, "Nobody is told yet") {
		t.Error("the page says that there is nothing")
	}
}
