package catalog_test

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// shelf is a store that can only be read, and told to fail.
type shelf struct {
	catalog.Store
	mu       sync.Mutex
	version  int64
	profiles []pki.Profile
	fails    error
	reads    int // of the whole
}

func (s *shelf) set(change func(*shelf)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *shelf) CatalogVersion(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version, s.fails
}

func (s *shelf) CAs(context.Context) ([]pki.CA, error) { return nil, nil }

func (s *shelf) Profiles(context.Context) ([]pki.Profile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return append([]pki.Profile(nil), s.profiles...), s.fails
}

func (s *shelf) Denials(context.Context) ([]pki.Denial, error) { return nil, nil }

func (s *shelf) Credentials(context.Context) ([]pki.Credential, error) { return nil, nil }

// plain is a vault that seals nothing.
type plain struct{}

func (plain) Seal(_, _ string, text []byte) ([]byte, error)   { return text, nil }
func (plain) Unseal(_, _ string, text []byte) ([]byte, error) { return text, nil }

func newCatalog(t *testing.T, store catalog.Store, now func() time.Time) *catalog.Catalog {
	t.Helper()
	c, err := catalog.New(catalog.Config{Store: store, Vault: plain{}, Now: now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRunFollowsChanges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{version: 1, profiles: []pki.Profile{{ID: "1", Name: "one"}}}
		c := newCatalog(t, store, time.Now)
		if _, err := c.Current(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("before the first load: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()
		if _, ok := c.Snapshot().ProfileByName("one"); !ok {
			t.Error("Run does not load at once")
		}
		old := c.Snapshot()
		store.set(func(s *shelf) { s.version, s.profiles = 2, []pki.Profile{{ID: "2", Name: "two"}} })
		<-time.After(1100 * time.Millisecond) // of the bubble's clock
		synctest.Wait()
		if _, ok := c.Snapshot().ProfileByName("two"); !ok {
			t.Error("a change is not seen within a second")
		}
		if _, ok := old.ProfileByName("one"); !ok || len(old.Profiles()) != 1 {
			t.Error("a snapshot has changed")
		}
		reads := store.reads
		<-time.After(time.Minute)
		synctest.Wait()
		if store.reads != reads {
			t.Errorf("read %d times without a change", store.reads-reads)
		}
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
	})
}

func TestFailsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{version: 1}
		c := newCatalog(t, store, time.Now)
		go func() { _ = c.Run(t.Context()) }()
		synctest.Wait()
		if err := c.Healthy(); err != nil {
			t.Fatal(err)
		}
		store.set(func(s *shelf) { s.fails = errors.New("the disk burns") })
		<-time.After(9 * time.Second)
		if err := c.Healthy(); err != nil {
			t.Errorf("a database that is away for a moment: %v", err)
		}
		<-time.After(3 * time.Second)
		err := c.Healthy()
		if !fault.Is(err, fault.Unavailable) || strings.Contains(err.Error(), "burns") {
			t.Errorf("a database that is away: %v", err)
		}
		if age, known := c.Age(); !known || age < 11*time.Second {
			t.Errorf("age %s", age)
		}
		if c.Snapshot() == nil {
			t.Error("nothing to show")
		}
		store.set(func(s *shelf) { s.fails = nil })
		<-time.After(2 * time.Second)
		if err := c.Healthy(); err != nil {
			t.Errorf("a database that is back: %v", err)
		}
	})
}

// hanging is a shelf whose reads hang, as those of a connection to a machine that is gone do, until they are given up.
type hanging struct {
	*shelf
	hangs atomic.Bool
}

func (h *hanging) CatalogVersion(ctx context.Context) (int64, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return h.shelf.CatalogVersion(ctx)
}

// A connection that hangs is given up, so that the catalog is current again soon after the database is back.
func TestComesBackFromReadsThatHang(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &hanging{shelf: &shelf{version: 1}}
		c := newCatalog(t, store, time.Now)
		store.hangs.Store(true)
		began := time.Now()
		if err := c.Load(t.Context()); err == nil || time.Since(began) > 10*time.Second {
			t.Errorf("a load returned %v after %s", err, time.Since(began))
		}
		store.hangs.Store(false)
		go func() { _ = c.Run(t.Context()) }()
		synctest.Wait()
		store.hangs.Store(true)
		<-time.After(time.Minute)
		if err := c.Healthy(); !fault.Is(err, fault.Unavailable) {
			t.Errorf("a database that hangs: %v", err)
		}
		store.hangs.Store(false)
		<-time.After(10 * time.Second)
		if err := c.Healthy(); err != nil {
			t.Errorf("a database that is back: %v", err)
		}
	})
}

func TestRefusesConfig(t *testing.T) {
	t.Parallel()
	good := catalog.Config{Store: &shelf{}, Vault: plain{}, Now: time.Now, Random: rand.Reader}
	for name, change := range map[string]func(*catalog.Config){
		"refuses/no-store":       func(c *catalog.Config) { c.Store = nil },
		"refuses/no-vault":       func(c *catalog.Config) { c.Vault = nil },
		"refuses/no-clock":       func(c *catalog.Config) { c.Now = nil },
		"refuses/no-randomness":  func(c *catalog.Config) { c.Random = nil },
		"refuses/negative":       func(c *catalog.Config) { c.Refresh = -1 },
		"refuses/always-too-old": func(c *catalog.Config) { c.Refresh, c.MaxAge = time.Minute, time.Second },
	} {
		config := good
		change(&config)
		if _, err := catalog.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestReplicas changes on one and looks at the other.
func TestReplicas(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx := t.Context()
	other := newCatalog(t, w.Store, w.Clock.Now)
	if err := other.Load(ctx); err != nil {
		t.Fatal(err)
	}
	p, _ := w.Catalog.Snapshot().ProfileByName("istio")
	credential := w.Credential(t, p)
	if _, ok := other.Snapshot().Credential(credential.ID); ok {
		t.Fatal("the other replica knows it already")
	}
	if err := other.Poll(ctx); err != nil {
		t.Fatal(err)
	}
	if c, ok := other.Snapshot().Credential(credential.ID); !ok || !c.Usable(w.Clock.Now()) {
		t.Error("the other replica does not see the credential")
	}
	if _, err := w.Catalog.RevokeCredential(ctx, credential.ID, apitest.System()); err != nil {
		t.Fatal(err)
	}
	if c, _ := w.Catalog.Snapshot().Credential(credential.ID); c.Usable(w.Clock.Now()) {
		t.Error("this replica still uses it")
	}
	if err := other.Poll(ctx); err != nil {
		t.Fatal(err)
	}
	if c, _ := other.Snapshot().Credential(credential.ID); c.Usable(w.Clock.Now()) {
		t.Error("the other replica still uses it")
	}
	// A state is set on what the profile is now, whatever this replica has seen of it.
	changed := *p
	changed.Rules.MaxNames = 7
	if _, err := w.Catalog.UpdateProfile(ctx, changed, apitest.System()); err != nil {
		t.Fatal(err)
	}
	suspended, err := other.SetProfileState(ctx, p.ID, pki.Suspended, apitest.System())
	if err != nil || suspended.Rules.MaxNames != 7 || suspended.Version != p.Version+2 {
		t.Errorf("suspended %+v, %v", suspended, err)
	}
}

func TestRefusesToChangeWhatIsFixed(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx := t.Context()
	p, _ := w.Catalog.Snapshot().ProfileByName("istio")
	changed := *p
	changed.Name, changed.Template, changed.Rules.MaxNames = "mesh", pki.PrivateServer, 0
	_, err := w.Catalog.UpdateProfile(ctx, changed, apitest.System())
	for _, field := range []string{"/name", "/template", "/rules/maxNames"} {
		if !hasField(err, field) {
			t.Errorf("no word of %s: %v", field, err)
		}
	}
	changed = *p
	changed.ID = "nope"
	if _, err := w.Catalog.UpdateProfile(ctx, changed, apitest.System()); !fault.Is(err, fault.NotFound) {
		t.Errorf("a profile that is not there: %v", err)
	}
	for _, state := range []pki.State{"", pki.Revoked, pki.Pending, "on"} {
		if _, err := w.Catalog.SetProfileState(ctx, p.ID, state, apitest.System()); !fault.Is(err, fault.Malformed) {
			t.Errorf("state %q: %v", state, err)
		}
	}
}

// hasField looks for a field in joined errors.
func hasField(err error, field string) bool {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, part := range joined.Unwrap() {
			if hasField(part, field) {
				return true
			}
		}
	}
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Field == field
}

func TestSnapshotsAreSorted(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx := t.Context()
	for _, pair := range []string{"web/b", "istio/z", "web/a", "istio/a"} {
		profile, name, _ := strings.Cut(pair, "/")
		p, _ := w.Catalog.Snapshot().ProfileByName(profile)
		if _, _, err := w.Catalog.CreateCredential(ctx, catalog.NewCredential{ProfileID: p.ID, Name: name}, apitest.System()); err != nil {
			t.Fatal(err)
		}
	}
	view := w.Catalog.Snapshot()
	var got []string
	for _, c := range view.Credentials() {
		p, _ := view.Profile(c.ProfileID)
		got = append(got, p.Name+"/"+c.Name)
	}
	if diff := cmp.Diff([]string{"istio/a", "istio/z", "web/a", "web/b"}, got); diff != "" {
		t.Error(diff)
	}
	p, _ := view.ProfileByName("web")
	if of := view.CredentialsOf(p.ID); len(of) != 2 || of[0].Name != "a" {
		t.Errorf("credentials of web: %+v", of)
	}
	if ca, ok := w.Catalog.CA(p.IssuingCA); !ok || ca.Name != "issuing" {
		t.Errorf("CA %+v", ca)
	}
}

// TestEventsSayWhatChanged reads the events of a CA's and a credential's life.
func TestEventsSayWhatChanged(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx := t.Context()
	by := audit.By{Actor: audit.Actor{Kind: audit.Token, ID: "1", Name: "ann"}, Client: pki.Client{Address: "192.0.2.7"}, Request: "r-1"}
	p, _ := w.Catalog.Snapshot().ProfileByName("istio")
	c, key, err := w.Catalog.CreateCredential(ctx, catalog.NewCredential{
		ProfileID: p.ID, Name: "c", ExpiresAt: w.Clock.Now().Add(time.Hour), MaxAccounts: 2,
		Limit: &pki.NameRules{DNS: pki.DNSRules{Allow: []string{"a.svc"}}},
	}, by)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Catalog.CredentialKey(ctx, c); err != nil || string(got) != string(key) {
		t.Errorf("key: %v", err)
	}
	event := w.Events(t, audit.CredentialCreate)[0]
	want := []audit.Change{
		{Field: "/expiresAt", New: "2026-03-10T13:00:00Z"},
		{Field: "/limit/dns/allow", New: `["a.svc"]`},
		{Field: "/maxAccounts", New: "2"},
		{Field: "/name", New: "c"},
		{Field: "/state", New: "active"},
	}
	if diff := cmp.Diff(want, event.Detail.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if event.Actor != by.Actor || event.Client.Address != "192.0.2.7" || event.Request != "r-1" || event.Detail.Credential != c.ID || event.Detail.Profile != p.ID {
		t.Errorf("event %+v", event)
	}
	// Another credential's key must not open with this one's name: what is sealed names whose it is.
	other := *c
	other.ID = "other"
	if _, err := w.Catalog.CredentialKey(ctx, &other); err == nil {
		t.Error("a sealed key opens under another KID")
	}
}
