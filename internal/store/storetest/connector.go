package storetest

import (
	"crypto/sha256"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func newConnector(f *Fixture, name string) *pki.Connector {
	return &pki.Connector{
		Name: name, Kind: pki.ConnectorIstio, Mode: pki.ModeCertManager, ProfileID: f.Profile.ID, CredentialID: f.Credential.ID,
		Settings: pki.ConnectorSettings{
			TrustDomain: "cluster.local", IstioNamespace: "istio-system", Dataplane: pki.Sidecar, IssuerName: "certloom", Email: "a@example.com",
		},
		CreatedBy: "suite", CreatedAt: Now(),
	}
}

func testConnectors(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	west, east := newConnector(f, "west"), newConnector(f, "East_1")
	check(t, s.CreateConnector(t.Context(), west, nil, Event(audit.ConnectorCreate)))
	check(t, s.CreateConnector(t.Context(), east, nil, Event(audit.ConnectorCreate)))
	if err := s.CreateConnector(t.Context(), west, nil, Event(audit.ConnectorCreate)); !fault.Is(err, fault.Conflict) {
		t.Errorf("the same name again: %v, want Conflict", err)
	}
	all, err := s.Connectors(t.Context())
	check(t, err)
	equal(t, "all", []pki.Connector{*east, *west}, all)
	one, err := s.Connector(t.Context(), "west")
	check(t, err)
	equal(t, "one", west, one)
	check(t, s.DeleteConnector(t.Context(), "west", Event(audit.ConnectorDelete)))
	if _, err := s.Connector(t.Context(), "west"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a deleted one: %v, want NotFound", err)
	}
	if err := s.DeleteConnector(t.Context(), "west", Event(audit.ConnectorDelete)); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted again: %v, want NotFound", err)
	}
	events, err := s.Events(t.Context(), pki.EventFilter{Action: "connector.*", Limit: 10})
	check(t, err)
	if len(events) != 3 {
		t.Errorf("%d events, want 3", len(events))
	}
}

// Of all that ask for a one-time address one gets it.
func testDownloads(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	once := pki.Download{Hash: sha256.Sum256([]byte("once")), Connector: "east", ExpiresAt: Now().Add(time.Minute)}
	late := pki.Download{Hash: sha256.Sum256([]byte("late")), Connector: "east", ExpiresAt: Now().Add(time.Second)}
	check(t, s.CreateConnector(t.Context(), newConnector(f, "east"), []pki.Download{once, late}, Event(audit.ConnectorCreate)))
	now := Now().Add(30 * time.Second)
	take := func(hash [32]byte) (string, error) {
		return s.TakeDownload(t.Context(), hash, now, Event(audit.ConnectorDownload))
	}
	var (
		wait  sync.WaitGroup
		mutex sync.Mutex
		taken int
	)
	for range 8 {
		wait.Go(func() {
			name, err := take(once.Hash)
			mutex.Lock()
			defer mutex.Unlock()
			switch {
			case err == nil && name == "east":
				taken++
			case !fault.Is(err, fault.NotFound):
				t.Errorf("got %q, %v", name, err)
			}
		})
	}
	wait.Wait()
	if taken != 1 {
		t.Errorf("%d have got it, want 1", taken)
	}
	for name, hash := range map[string][32]byte{"expired": late.Hash, "unknown": {}} {
		if _, err := take(hash); !fault.Is(err, fault.NotFound) {
			t.Errorf("%s: %v, want NotFound", name, err)
		}
	}
	events, err := s.Events(t.Context(), pki.EventFilter{Action: string(audit.ConnectorDownload), Limit: 10})
	check(t, err)
	if len(events) != 1 || events[0].Target != "east" {
		t.Errorf("events are %v, want one about east", events)
	}
}

func testConnectorFacts(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	look := func(want pki.ConnectorFacts) {
		t.Helper()
		facts, err := s.ConnectorFacts(t.Context(), f.Credential.ID, "spiffe://cluster.local/ns/", Workload("istio-system", "istiod").String())
		check(t, err)
		equal(t, "facts", want, *facts)
	}
	look(pki.ConnectorFacts{RegisteredAt: Now()})
	issue := func(name string, after time.Duration) {
		f.Record(t, f.NewCertificate(t, name, Now().Add(after)))
	}
	issue(Workload("istio-system", "istiod").String(), time.Minute)
	issue("csr.svc", 2*time.Minute)
	look(pki.ConnectorFacts{RegisteredAt: Now(), FirstAt: Now().Add(time.Minute), NewestAt: Now().Add(2 * time.Minute), Certificates: 2})
	issue(Workload("demo", "web").String(), 3*time.Minute)
	issue(Workload("demo", "web").String(), 4*time.Minute)
	issue(Workload("demo", "db").String(), 5*time.Minute)
	look(pki.ConnectorFacts{
		RegisteredAt: Now(), FirstAt: Now().Add(time.Minute), NewestAt: Now().Add(5 * time.Minute), Certificates: 5,
		Workloads: 2, FirstWorkloadAt: Now().Add(3 * time.Minute), NewestWorkloadAt: Now().Add(5 * time.Minute),
	})
}
