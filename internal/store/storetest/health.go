package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// testHealth lets identities renew at their own pace: each is judged by its own history.
func testHealth(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	const life = 100 * time.Minute
	now := Now()
	issue := func(name string, ago time.Duration) {
		c := f.NewCertificate(t, name, now.Add(-ago))
		c.NotBefore, c.NotAfter, c.Workload.Cluster = c.IssuedAt, c.IssuedAt.Add(life), "east"
		f.Record(t, c)
	}
	early, late, first := Workload("shop", "early").String(), Workload("shop", "late").String(), Workload("shop", "first").String()
	for _, ago := range []time.Duration{280, 200, 120, 78} { // in minutes
		issue(early, ago*time.Minute)
	}
	for _, ago := range []time.Duration{324, 242, 160, 78} {
		issue(late, ago*time.Minute)
	}
	issue(first, 78*time.Minute)
	status := func(want map[string]pki.IdentityStatus) {
		t.Helper()
		for name, status := range want {
			i, err := s.Identity(t.Context(), name)
			check(t, err)
			equal(t, name, status, i.Status(now))
			found, err := s.Identities(t.Context(), pki.IdentityFilter{Status: status, Limit: 10}, now)
			check(t, err)
			names := []string{}
			for _, i := range found {
				names = append(names, i.Name)
			}
			if !slices.Contains(names, name) {
				t.Errorf("%s is not among those that are %s: %v", name, status, names)
			}
		}
	}
	// The first has renewed at 80, 80 and 42 of 100 minutes, the second always at 82.
	status(map[string]pki.IdentityStatus{early: pki.IdentityRenewalDue, late: pki.IdentityOK, first: pki.IdentityLapsing})

	event := func(string) audit.Event { return Event(audit.IdentityRetire) }
	marked, err := s.Retire(t.Context(), "", []string{first, early, "unknown"}, now, event)
	check(t, err)
	equal(t, "retired", []string{first, early}, marked)
	marked, err = s.Retire(t.Context(), "", []string{first}, now, event)
	check(t, err)
	equal(t, "retired again", 0, len(marked))
	marked, err = s.Retire(t.Context(), "west", []string{late}, now, event)
	check(t, err)
	equal(t, "retired by another cluster", 0, len(marked))
	equal(t, "events", 2, countEvents(t, s, audit.IdentityRetire))
	status(map[string]pki.IdentityStatus{early: pki.IdentityGone, late: pki.IdentityOK, first: pki.IdentityGone})
	figures, err := s.IdentityFigures(t.Context(), nil, now)
	check(t, err)
	equal(t, "figures", map[pki.IdentityStatus]int64{pki.IdentityOK: 1, pki.IdentityGone: 2}, figures.Statuses)
	overdue := func() []string {
		t.Helper()
		names := []string{}
		for {
			behind := ""
			if len(names) > 0 {
				behind = names[len(names)-1]
			}
			found, err := s.Overdue(t.Context(), "east", "cluster.local", now, behind, 1)
			check(t, err)
			if len(found) == 0 {
				return names
			}
			names = append(names, found[0].Name)
		}
	}
	equal(t, "overdue", []string{early, first}, overdue())
	marked, err = s.Restore(t.Context(), "east", []string{early, late}, func(string) audit.Event { return Event(audit.IdentityRestore) })
	check(t, err)
	equal(t, "restored", []string{early}, marked)
	issue(first, 0)
	status(map[string]pki.IdentityStatus{early: pki.IdentityRenewalDue, first: pki.IdentityOK})
	equal(t, "overdue then", []string{early}, overdue())
	other, err := s.Overdue(t.Context(), "west", "cluster.local", now, "", 10)
	check(t, err)
	equal(t, "of another cluster", 0, len(other))
}
