package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// alerts makes a few rules, channels, alerts and deliveries.
func alerts(t *testing.T, w *apitest.World) {
	t.Helper()
	admin := w.Client(t, pki.RoleAdmin)
	for _, name := range []string{"a", "b", "c"} {
		if _, err := admin.CreateAlertRule(t.Context(), apiv1.CreateAlertRule{Name: name, Kind: "ca-expiry"}); err != nil {
			t.Fatal(err)
		}
		in := apiv1.CreateChannel{Name: name, Kind: "webhook", ChannelSettings: apiv1.ChannelSettings{URL: "http://127.0.0.1:1/"}}
		if _, err := admin.CreateChannel(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.TestChannel(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		err := w.Store.SaveAlerts(t.Context(), pki.AlertChange{Rule: name, CheckedAt: w.Clock.Now(), Fired: []pki.Alert{{
			ID: pki.AlertID(name), Rule: name, Kind: pki.AlertCAExpiry, Subject: "root", Severity: pki.SeverityWarning, FiredAt: w.Clock.Now(),
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever may read sees channels, never their secrets; a test says at once what became of it.
func TestChannels(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	got := make(chan http.Header, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	t.Cleanup(receiver.Close)
	admin := w.Client(t, pki.RoleAdmin)
	in := apiv1.CreateChannel{Name: "hook", Kind: "webhook", ChannelSettings: apiv1.ChannelSettings{URL: receiver.URL}}
	made, err := admin.CreateChannel(t.Context(), in)
	if err != nil || made.Secret == "" || !made.HasSecret {
		t.Fatalf("created %+v, %v", made, err)
	}
	d, err := admin.TestChannel(t.Context(), "hook")
	if err != nil || d.State != "retrying" || d.Error == "" {
		t.Fatalf("a private address: %+v, %v; want it refused", d, err)
	}
	if _, err := admin.UpdateChannel(t.Context(), "hook", apiv1.UpdateChannel{Enabled: true, ChannelSettings: apiv1.ChannelSettings{
		URL: receiver.URL, AllowPrivate: true,
	}}); err != nil {
		t.Fatal(err)
	}
	d, err = w.Client(t, pki.RoleOperator).TestChannel(t.Context(), "hook")
	if err != nil || d.State != "delivered" {
		t.Fatalf("test: %+v, %v", d, err)
	}
	if header := <-got; header.Get("Webhook-Id") != d.ID || header.Get("Webhook-Signature") == "" {
		t.Errorf("header %v", header)
	}
	if _, err := admin.RetryDelivery(t.Context(), d.ID); err == nil {
		t.Error("a delivery that arrived is tried again")
	}
	seen, err := w.Client(t, pki.RoleAuditor).Channels(t.Context())
	if err != nil || len(seen.Items) != 1 || seen.Items[0].URL != receiver.URL {
		t.Errorf("channels %+v, %v", seen, err)
	}
	preview, err := admin.PreviewChannel(t.Context(), "hook")
	if err != nil || preview.ContentType != "application/cloudevents+json" {
		t.Errorf("preview %+v, %v", preview, err)
	}
	if err := admin.DeleteChannel(t.Context(), "hook"); err != nil {
		t.Error(err)
	}
}

// What is wrong with a rule is told at once, with the members that it is about.
func TestAlertRuleRefusals(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	admin := w.Client(t, pki.RoleAdmin)
	for name, in := range map[string]apiv1.CreateAlertRule{
		"refuses/kind":     {Name: "a", Kind: "weather"},
		"refuses/name":     {Name: "A b", Kind: "ca-expiry"},
		"refuses/severity": {Name: "a", Kind: "ca-expiry", Severity: "fatal"},
		"refuses/repeat":   {Name: "a", Kind: "ca-expiry", AlertSettings: apiv1.AlertSettings{Repeat: "1s"}},
		"refuses/channel":  {Name: "a", Kind: "ca-expiry", AlertSettings: apiv1.AlertSettings{Channels: []string{"none"}}},
		"refuses/profile":  {Name: "a", Kind: "identity-health", AlertSettings: apiv1.AlertSettings{Profile: "none"}},
		"refuses/scope":    {Name: "a", Kind: "ca-expiry", AlertSettings: apiv1.AlertSettings{Namespace: "shop"}},
		"refuses/zone": {Name: "a", Kind: "ca-expiry", AlertSettings: apiv1.AlertSettings{
			Quiet: &apiv1.QuietHours{TimeZone: "Mars/Olympus", From: "22:00", To: "06:00"},
		}},
	} {
		if _, err := admin.CreateAlertRule(t.Context(), in); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
