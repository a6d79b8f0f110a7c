package storetest

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func testDenials(t *testing.T, s *store.Store) {
	create := func(d pki.Denial) {
		t.Helper()
		check(t, s.CreateDenial(t.Context(), &d, Event(audit.IdentityDeny)))
	}
	list := func(what string, want ...pki.Denial) {
		t.Helper()
		got, err := s.Denials(t.Context())
		check(t, err)
		equal(t, what, want, got)
	}
	version, err := s.CatalogVersion(t.Context())
	check(t, err)
	list("at first")
	identity := pki.Denial{ID: "1", Identity: "spiffe://cluster.local/ns/a/sa/b", Note: "why", Until: Now().Add(time.Hour), CreatedBy: "ada", CreatedAt: Now()}
	pod := pki.Denial{ID: "2", Cluster: "east", Namespace: "a", Pod: "b", CreatedAt: Now()}
	create(identity)
	create(pod)
	list("two", identity, pod)
	again := identity
	again.ID, again.Note, again.Until = "3", "another", time.Time{}
	create(again)
	list("replaced", pod, again)
	short := pki.Denial{ID: "4", Identity: "a.example.com", Until: Now().Add(time.Minute), CreatedAt: Now()}
	create(short)
	late := pki.Denial{ID: "5", Identity: "b.example.com", CreatedAt: Now().Add(time.Minute)}
	create(late)
	list("without what has ended", pod, again, late)
	check(t, s.DeleteDenial(t.Context(), pod.ID, Event(audit.IdentityAllow)))
	refused(t, s.DeleteDenial(t.Context(), pod.ID, Event(audit.IdentityAllow)), fault.NotFound)
	list("deleted", again, late)
	now, err := s.CatalogVersion(t.Context())
	check(t, err)
	equal(t, "versions passed", int64(6), now-version)
	equal(t, "events", []int{5, 1}, []int{countEvents(t, s, audit.IdentityDeny), countEvents(t, s, audit.IdentityAllow)})
}
