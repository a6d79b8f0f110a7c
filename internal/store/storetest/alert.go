package storetest

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func newRule(name string) *pki.AlertRule {
	return &pki.AlertRule{
		Name: name, Kind: pki.AlertIdentityHealth, Enabled: true, Severity: pki.SeverityWarning, CreatedAt: Now(), UpdatedAt: Now(),
		Settings: pki.AlertSettings{GroupBy: pki.GroupByRule, Status: pki.IdentityLapsing, Quiet: &pki.QuietHours{TimeZone: "UTC", From: "22:00", To: "06:00"}},
	}
}

func testAlertRules(t *testing.T, s *store.Store) {
	ctx := t.Context()
	rule := newRule("a")
	check(t, s.CreateAlertRule(ctx, rule, Event(audit.AlertRuleCreate)))
	if err := s.CreateAlertRule(ctx, rule, Event(audit.AlertRuleCreate)); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same name again: %v, want Conflict", err)
	}
	got, err := s.AlertRule(ctx, "a")
	check(t, err)
	equal(t, "rule", rule, got)
	rule.Enabled, rule.Settings.Repeat = false, 3600
	check(t, s.UpdateAlertRule(ctx, rule, Event(audit.AlertRuleUpdate)))
	all, err := s.AlertRules(ctx)
	check(t, err)
	rule.Turn = 1
	equal(t, "rules", []pki.AlertRule{*rule}, all)
	check(t, s.SaveAlerts(ctx, pki.AlertChange{Rule: "a", Turn: 1, CheckedAt: Now(), Fired: []pki.Alert{newAlert("1", "x")}}))
	check(t, s.DeleteAlertRule(ctx, "a", Now(), Event(audit.AlertRuleDelete)))
	if err := s.DeleteAlertRule(ctx, "a", Now(), Event(audit.AlertRuleDelete)); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted again: %v, want NotFound", err)
	}
	ended, err := s.Alert(ctx, "1")
	check(t, err)
	if ended.ResolvedAt.IsZero() {
		t.Error("an alert outlives its rule")
	}
}

func newAlert(id pki.AlertID, subject string) pki.Alert {
	return pki.Alert{
		ID: id, Rule: "a", Kind: pki.AlertIdentityHealth, Subject: subject, Severity: pki.SeverityWarning, Summary: "s", FiredAt: Now(),
		Labels: map[string]string{"namespace": "shop"},
	}
}

// One alert of a subject goes on at a time, and whoever has read an older state of the rule changes nothing.
func testAlerts(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateAlertRule(ctx, newRule("a"), Event(audit.AlertRuleCreate)))
	one, two := newAlert("1", "x"), newAlert("2", "y")
	check(t, s.SaveAlerts(ctx, pki.AlertChange{Rule: "a", CheckedAt: Now(), Fired: []pki.Alert{one, two}}))
	stale := pki.AlertChange{Rule: "a", CheckedAt: Now(), Fired: []pki.Alert{newAlert("3", "z")}}
	if err := s.SaveAlerts(ctx, stale); !fault.Is(err, fault.Conflict) {
		t.Errorf("an older state: %v, want Conflict", err)
	}
	check(t, s.SaveAlerts(ctx, pki.AlertChange{Rule: "a", Turn: 1, CheckedAt: Now(), Fired: []pki.Alert{newAlert("4", "x")}}))
	open, err := s.OpenAlerts(ctx, "a")
	check(t, err)
	equal(t, "open", []pki.Alert{one, two}, open)

	later := Now().Add(time.Minute)
	delivery := pki.Delivery{
		ID: "d", Channel: "c", Rule: "a", State: pki.DeliveryPending, NextAt: later, CreatedAt: later, Message: pki.Message{ID: "d", Title: "t", Time: Now()},
	}
	check(t, s.Announce(ctx, pki.AlertNews{Rule: "a", Turn: 2, At: later, Told: []pki.AlertID{"1", "2"}, Deliveries: []pki.Delivery{delivery}}))
	if err := s.Announce(ctx, pki.AlertNews{Rule: "a", Turn: 2, At: later, Deliveries: []pki.Delivery{delivery}}); !fault.Is(err, fault.Conflict) {
		t.Errorf("announced twice: %v, want Conflict", err)
	}
	check(t, s.SaveAlerts(ctx, pki.AlertChange{Rule: "a", Turn: 3, CheckedAt: later, Resolved: []pki.AlertID{"1"}}))
	open, err = s.OpenAlerts(ctx, "a")
	check(t, err)
	one.ToldAt, one.ResolvedAt, two.ToldAt = later, later, later
	equal(t, "open and untold", []pki.Alert{two, one}, open)
	check(t, s.Announce(ctx, pki.AlertNews{Rule: "a", Turn: 4, At: later, EndTold: []pki.AlertID{"1"}}))
	open, err = s.OpenAlerts(ctx, "a")
	check(t, err)
	equal(t, "open", []pki.Alert{two}, open)
	ended, err := s.Alerts(ctx, pki.AlertFilter{Rule: "a", Resolved: true})
	check(t, err)
	one.EndToldAt = later
	equal(t, "ended", []pki.Alert{one}, ended)
	removed, err := s.DeleteOldAlerts(ctx, later.Add(time.Second), 10)
	check(t, err)
	if removed != 1 {
		t.Errorf("%d removed, want 1", removed)
	}
}

// A delivery is its claimer's until the lease ends.
func testDeliveries(t *testing.T, s *store.Store) {
	ctx := t.Context()
	d := &pki.Delivery{
		ID: "d", Channel: "c", State: pki.DeliveryPending, NextAt: Now(), CreatedAt: Now(), Message: pki.Message{ID: "d", Title: "t", Time: Now()},
	}
	check(t, s.CreateDelivery(ctx, d, Event(audit.ChannelTest)))
	lease := Now().Add(time.Minute)
	claimed, err := s.ClaimDeliveries(ctx, Now(), lease, 10)
	check(t, err)
	d.Attempts = 1
	equal(t, "claimed", []pki.Delivery{*d}, claimed)
	again, err := s.ClaimDeliveries(ctx, Now(), lease, 10)
	check(t, err)
	if len(again) != 0 {
		t.Errorf("claimed twice: %v", again)
	}
	again, err = s.ClaimDeliveries(ctx, lease, lease.Add(time.Minute), 10)
	check(t, err)
	if len(again) != 1 || again[0].Attempts != 2 {
		t.Fatalf("after the lease: %v", again)
	}
	if err := s.RetryDelivery(ctx, "d", Now(), Event(audit.DeliveryRetry)); !fault.Is(err, fault.Conflict) {
		t.Errorf("retried while it is tried: %v, want Conflict", err)
	}
	d.State, d.Error, d.DoneAt, d.Attempts = pki.DeliveryFailed, "no", lease, 2
	check(t, s.FinishDelivery(ctx, d))
	failed, err := s.Deliveries(ctx, pki.DeliveryFilter{State: pki.DeliveryFailed, Channel: "c"})
	check(t, err)
	equal(t, "failed", []pki.Delivery{*d}, failed)
	check(t, s.RetryDelivery(ctx, "d", lease, Event(audit.DeliveryRetry)))
	got, err := s.Delivery(ctx, "d")
	check(t, err)
	if got.State != pki.DeliveryRetrying || got.Attempts != 0 || !got.DoneAt.IsZero() {
		t.Errorf("tried again: %+v", got)
	}
}

func testChannels(t *testing.T, s *store.Store) {
	ctx := t.Context()
	c := &pki.Channel{
		Name: "c", Kind: pki.ChannelWebhook, Enabled: true, Settings: pki.ChannelSettings{URL: "https://a.example"}, Sealed: []byte("s"),
		CreatedAt: Now(), UpdatedAt: Now(),
	}
	check(t, s.CreateChannel(ctx, c, Event(audit.ChannelCreate)))
	if err := s.CreateChannel(ctx, c, Event(audit.ChannelCreate)); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same name again: %v, want Conflict", err)
	}
	c.Enabled, c.Sealed = false, []byte("t")
	check(t, s.UpdateChannel(ctx, c, Event(audit.ChannelUpdate)))
	all, err := s.Channels(ctx)
	check(t, err)
	equal(t, "channels", []pki.Channel{*c}, all)
	waiting := &pki.Delivery{ID: "d", Channel: "c", State: pki.DeliveryPending, NextAt: Now(), CreatedAt: Now()}
	check(t, s.CreateDelivery(ctx, waiting, Event(audit.ChannelTest)))
	check(t, s.DeleteChannel(ctx, "c", Now(), Event(audit.ChannelDelete)))
	if _, err := s.Channel(ctx, "c"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a deleted one: %v, want NotFound", err)
	}
	got, err := s.Delivery(ctx, "d")
	check(t, err)
	if got.State != pki.DeliveryFailed || got.Error == "" {
		t.Errorf("what waited for it: %+v", got)
	}
}

// Identities are found by when they began to lapse, and only those of the time that is asked for.
func testLapsedBetween(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	c := f.Record(t, f.NewCertificate(t, Workload("shop", "cart").String(), Now()))
	i, err := s.Identity(t.Context(), c.Identity)
	check(t, err)
	lapsing := i.LapsingAt
	for name, want := range map[string]struct {
		status   pki.IdentityStatus
		from, to time.Time
		n        int
	}{
		"before":     {pki.IdentityLapsing, lapsing.Add(-time.Hour), lapsing.Add(-time.Second), 0},
		"in between": {pki.IdentityLapsing, lapsing.Add(-time.Second), lapsing.Add(time.Second), 1},
		"after":      {pki.IdentityLapsing, lapsing.Add(time.Second), lapsing.Add(time.Hour), 0},
		"lapsed":     {pki.IdentityLapsed, c.NotAfter.Add(-time.Second), c.NotAfter, 1},
	} {
		found, _, err := s.IdentitiesLapsedBetween(t.Context(), want.status, want.from, want.to, 0, 10)
		check(t, err)
		if len(found) != want.n {
			t.Errorf("%s: %d identities, want %d", name, len(found), want.n)
		}
	}
}
