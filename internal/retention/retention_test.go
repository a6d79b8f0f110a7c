package retention_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/retention"
	"github.com/certloom/certloom/internal/store/storetest"
)

const day = 24 * time.Hour

// bench is a Keeper on a database, with a clock.
type bench struct {
	*storetest.Fixture
	profiles []*pki.Profile
	now      time.Time
	keeper   *retention.Keeper
	registry *prometheus.Registry
}

func start(t *testing.T, change func(c *retention.Config)) *bench {
	t.Helper()
	b := &bench{Fixture: storetest.Seed(t, storetest.OpenSQLite(t)), now: storetest.Now(), registry: prometheus.NewRegistry()}
	b.profiles = []*pki.Profile{&b.Profile}
	config := retention.Config{
		Store: b.Store, Profiles: func() []*pki.Profile { return b.profiles }, Now: func() time.Time { return b.now },
		Certificates: 30 * day, Identities: 365 * day, Floor: day, Registerer: b.registry,
	}
	if change != nil {
		change(&config)
	}
	keeper, err := retention.New(config)
	if err != nil {
		t.Fatal(err)
	}
	b.keeper = keeper
	return b
}

// issue records n certificates of an identity, each for a day, an hour apart; the last expires now.
func (b *bench) issue(t *testing.T, identity string, profile pki.ProfileID, n int) {
	t.Helper()
	for i := range n {
		c := b.NewCertificate(t, identity, b.now.Add(-day-time.Duration(n-1-i)*time.Hour))
		c.ProfileID = profile
		b.Record(t, c)
	}
}

func (b *bench) run(t *testing.T) {
	t.Helper()
	if err := b.keeper.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// left checks how many certificates an identity has.
func (b *bench) left(t *testing.T, identity string, want int) {
	t.Helper()
	found, err := b.Store.Certificates(t.Context(), pki.CertificateFilter{Identity: identity, Limit: 1000}, b.now)
	if err != nil || len(found) != want {
		t.Errorf("%s at %s: %d certificates, want %d (%v)", identity, b.now, len(found), want, err)
	}
}

func TestKeptForATime(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	short := b.NewProfile(t, "short")
	short.Rules.Retention = pki.Duration(2 * day)
	if err := b.Store.CreateProfile(t.Context(), &short, storetest.Event(audit.ProfileCreate)); err != nil {
		t.Fatal(err)
	}
	b.profiles = append(b.profiles, &short)
	b.issue(t, "usual.example.com", b.Profile.ID, 200)
	b.issue(t, "short.example.com", short.ID, 200)
	began := b.now
	for _, step := range []struct {
		after        time.Duration
		usual, short int
	}{
		{0, 200, 49}, {day, 200, 25}, {2*day + 30*time.Minute, 200, 1}, {20 * day, 200, 1}, {30 * day, 1, 1}, {60 * day, 1, 1}, {366 * day, 0, 0},
	} {
		b.now = began.Add(step.after)
		b.run(t)
		b.left(t, "usual.example.com", step.usual)
		b.left(t, "short.example.com", step.short)
	}
	events, err := b.Store.Events(t.Context(), pki.EventFilter{Action: string(audit.InventoryRollUp), Limit: 10})
	if err != nil || len(events) == 0 {
		t.Fatal(len(events), err)
	}
	sum := 0
	for _, ev := range events {
		n, err := strconv.Atoi(ev.Detail.Changes[0].Old)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	if sum != 398 {
		t.Errorf("events tell of %d certificates, want 398", sum)
	}
	if n, err := testutil.GatherAndCount(b.registry); err != nil || n != 4 {
		t.Errorf("%d metrics, %v", n, err)
	}
}

func TestFloor(t *testing.T) {
	t.Parallel()
	b := start(t, func(c *retention.Config) { c.Floor = 20 * day })
	b.Profile.Rules.Retention = pki.Duration(day)
	b.issue(t, "a.example.com", b.Profile.ID, 3)
	began := b.now
	b.now = began.Add(19 * day)
	b.run(t)
	b.left(t, "a.example.com", 3)
	b.now = began.Add(21 * day)
	b.run(t)
	b.left(t, "a.example.com", 1)
}

// Who shortens how long certificates are kept need not wait for those that were passed already.
func TestShortened(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	b.issue(t, "a.example.com", b.Profile.ID, 3)
	b.now = b.now.Add(20 * day)
	b.run(t)
	b.left(t, "a.example.com", 3)
	changed := b.Profile
	changed.Rules.Retention = pki.Duration(5 * day)
	b.profiles = []*pki.Profile{&changed}
	b.run(t)
	b.left(t, "a.example.com", 1)
}

// What was the newest certificate of an identity when its time came goes later.
func TestNewestLater(t *testing.T) {
	t.Parallel()
	b := start(t, nil)
	b.issue(t, "a.example.com", b.Profile.ID, 1)
	b.now = b.now.Add(40 * day)
	b.run(t)
	b.issue(t, "a.example.com", b.Profile.ID, 1)
	b.now = b.now.Add(8 * day)
	b.run(t)
	b.left(t, "a.example.com", 1)
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := retention.New(retention.Config{}); err == nil {
		t.Error("a Keeper of nothing was made")
	}
}
