package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// What happens is counted by the minute, and forgotten after a day.
func testHappened(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	issue := func(at time.Time, cluster string) {
		c := f.NewCertificate(t, fmt.Sprintf("%s%d.example", cluster, at.Unix()), at)
		c.Workload.Cluster = cluster
		f.Record(t, c)
	}
	now := Now().Add(30 * time.Second)
	for _, ago := range []time.Duration{0, 10 * time.Second, time.Minute, 59 * time.Minute, 61 * time.Minute, 26 * time.Hour} {
		issue(now.Add(-ago), "")
	}
	issue(now, "east")
	issue(now.Add(-time.Hour), "east/1") // a name may have what separates
	issue(now.Add(-2*time.Hour), "west")
	refuse := func(ago time.Duration, action audit.Action, problem string) {
		ev := Event(action)
		ev.Time, ev.Outcome, ev.Detail.Problem = now.Add(-ago), audit.Refused, problem
		check(t, s.RecordEvent(t.Context(), ev))
	}
	refuse(0, audit.CertificateRefuse, "badCSR")
	refuse(2*time.Hour, audit.CertificateRefuse, "badCSR")
	refuse(26*time.Hour, audit.CertificateRefuse, "badCSR")
	refuse(time.Minute, audit.LoginRefuse, "")
	check(t, s.RecordEvent(t.Context(), Event(audit.OrderCreate))) // no refusal

	look := func(label string) {
		minutes, err := s.Issued(t.Context(), 24*60, now)
		check(t, err)
		want := make([]int64, 24*60)
		last := len(want) - 1
		want[last], want[last-1], want[last-59], want[last-60], want[last-61], want[last-120] = 3, 1, 1, 1, 1, 1
		equal(t, label+" minutes", want, minutes)
		refusals, err := s.Refusals(t.Context(), now)
		check(t, err)
		equal(t, label+" refusals", []pki.Refusals{
			{Action: "certificate.refuse", Problem: "badCSR", LastHour: 1, LastDay: 2},
			{Action: "login.refuse", LastHour: 1, LastDay: 1},
		}, refusals)
		clusters, err := s.ClustersIssued(t.Context(), now)
		check(t, err)
		equal(t, label+" clusters", map[string]int64{"east": 1, "east/1": 1}, clusters)
	}
	look("before")
	check(t, s.ForgetCounts(t.Context(), now))
	look("after")
	minutes, err := s.Issued(t.Context(), 27*60, now)
	check(t, err)
	sum := int64(0)
	for _, n := range minutes {
		sum += n
	}
	equal(t, "kept", int64(8), sum)
}

func testFigures(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	figures := func(sees []string) *pki.IdentityFigures {
		t.Helper()
		found, err := s.IdentityFigures(t.Context(), sees, Now())
		check(t, err)
		return found
	}
	empty := figures(nil)
	equal(t, "none", int64(0), empty.Total())
	equal(t, "classes of none", len(pki.LeftClasses()), len(empty.Left))

	issue := func(name, cluster string, lived, left time.Duration) *pki.Certificate {
		t.Helper()
		begin := Now().Add(-lived)
		c := f.NewCertificate(t, name, begin)
		c.NotBefore, c.NotAfter, c.IssuedAt = begin, Now().Add(left), begin
		c.RenewAt = pki.RenewAt(c.NotBefore, c.NotAfter)
		c.Workload.Cluster = cluster
		return f.Record(t, c)
	}
	const day = 24 * time.Hour
	issue("a.example", "east", 100*time.Hour, -time.Hour) // an older one, which does not count
	issue("a.example", "east", time.Hour, 23*time.Hour)   // ok
	issue("b.example", "east", 14*time.Hour, 10*time.Hour)
	issue("c.example", "west", 90*day, 10*day) // lapsing
	issue("d.example", "west", 19*time.Hour, 1*time.Hour)
	issue("e.example", "", 2*time.Hour, -time.Hour) // lapsed
	issue("f.example", "", time.Hour, 300*day)
	revoked := issue("g.example", "", time.Hour, 300*day)
	check(t, s.RevokeCertificate(t.Context(), revoked.Serial, pki.Superseded, Now(), Event(audit.CertificateRevoke)))

	all := figures(nil)
	equal(t, "statuses", map[pki.IdentityStatus]int64{
		pki.IdentityOK: 2, pki.IdentityRenewalDue: 1, pki.IdentityLapsing: 2, pki.IdentityLapsed: 2,
	}, all.Statuses)
	equal(t, "left", []int64{2, 0, 1, 0, 2}, all.Left)       // 10 %: c, d; 50 %: b
	equal(t, "ends", []int64{1, 0, 2, 0, 1, 0, 1}, all.Ends) // 1 h: d; 24 h: a, b; 30 d: c; longer: f
	equal(t, "clusters", []pki.ClusterFigures{
		{Identities: 3, Lapsed: 2, LastIssued: Now().Add(-time.Hour)},
		{Name: "east", Identities: 2, LastIssued: Now().Add(-time.Hour)},
		{Name: "west", Identities: 2, Lapsing: 2, LastIssued: Now().Add(-19 * time.Hour)},
	}, all.Clusters)
	var names []string
	for _, i := range all.Lapsing {
		names = append(names, i.Name)
	}
	equal(t, "lapsing", []string{"d.example", "c.example"}, names)

	some := figures([]string{"a.*", "c.example"})
	equal(t, "seen", int64(2), some.Total())
	equal(t, "seen lapsing", 1, len(some.Lapsing))
	equal(t, "nothing seen", int64(0), figures([]string{}).Total())
}
