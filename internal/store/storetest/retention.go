package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// expired returns the records of all certificates of the profiles that expired before a time.
func expired(t *testing.T, s *store.Store, before time.Time, profiles ...pki.ProfileID) []int64 {
	t.Helper()
	q := pki.ExpiredQuery{Profiles: profiles, Before: before, Limit: 2}
	var all []int64
	for {
		found, err := s.ExpiredCertificates(t.Context(), q)
		check(t, err)
		all = append(all, found.Records...)
		if found.Done {
			equal(t, "at the end", true, len(found.Records) == 0)
			return all
		}
		q.After = found.Next
	}
}

// serialsOf returns the serials of an identity's certificates, newest first.
func serialsOf(t *testing.T, s *store.Store, identity string) []pki.Serial {
	t.Helper()
	all, err := s.Certificates(t.Context(), pki.CertificateFilter{Identity: identity, Limit: 100}, Now())
	check(t, err)
	serials := []pki.Serial{}
	for _, c := range all {
		serials = append(serials, c.Serial)
	}
	return serials
}

func testRollUp(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	const day = 24 * time.Hour
	issue := func(identity string, ago, life time.Duration) *pki.Certificate {
		c := f.NewCertificate(t, identity, Now().Add(-ago))
		c.NotAfter = c.IssuedAt.Add(life)
		return f.Record(t, c)
	}
	web := Workload("shop", "web").String()
	oldest := issue(web, 10*day, day)
	issue(web, 9*day, day)
	outlives := issue(web, 8*day, 100*day) // older than what is deleted after it
	issue(web, 7*day, day)
	issue(web, 6*day, day)
	recent := issue(web, 2*day, day)
	newest := issue(web, day, day)
	gone := Workload("shop", "gone").String()
	issue(gone, 30*day, day)
	kept := issue(gone, 20*day, day) // the newest of its identity
	check(t, s.RevokeCertificate(t.Context(), oldest.Serial, pki.Unspecified, Now(), Event(audit.CertificateRevoke)))

	before := Now().Add(-3 * day)
	equal(t, "of no profile", 0, len(expired(t, s, before)))
	equal(t, "of another profile", 0, len(expired(t, s, before, "another")))
	records := expired(t, s, before, "another", f.Profile.ID)
	equal(t, "expired", 6, len(records))
	n, err := s.RollUp(t.Context(), records)
	check(t, err)
	equal(t, "deleted", 5, n)
	n, err = s.RollUp(t.Context(), records)
	check(t, err)
	equal(t, "deleted again", 0, n)

	equal(t, "of an identity", []pki.Serial{newest.Serial, recent.Serial, outlives.Serial}, serialsOf(t, s, web))
	equal(t, "of one that has lapsed", []pki.Serial{kept.Serial}, serialsOf(t, s, gone))
	_, err = s.Certificate(t.Context(), oldest.Serial)
	refused(t, err, fault.NotFound)
	identity, err := s.Identity(t.Context(), web)
	check(t, err)
	equal(t, "certificates ever", int64(7), identity.Certificates)
	sum, err := s.RolledUp(t.Context(), web)
	check(t, err)
	equal(t, "left", &pki.RollUp{
		Certificates: 4, FirstIssuedAt: oldest.IssuedAt, LastIssuedAt: Now().Add(-6 * day), Algorithms: map[pki.KeyAlgorithm]int64{pki.ECDSAP256: 4},
	}, sum)
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "certificates", int64(4), stats.Certificates)
	equal(t, "revoked", int64(0), stats.Revoked)

	// Later.
	records = expired(t, s, Now().Add(-day/2), f.Profile.ID)
	n, err = s.RollUp(t.Context(), records)
	check(t, err)
	equal(t, "deleted later", 1, n)
	sum, err = s.RolledUp(t.Context(), web)
	check(t, err)
	equal(t, "all of them", int64(5), sum.Certificates)
	equal(t, "the last", recent.IssuedAt, sum.LastIssuedAt)
	equal(t, "left of the identity", []pki.Serial{newest.Serial, outlives.Serial}, serialsOf(t, s, web))
	none, err := s.RolledUp(t.Context(), "unknown")
	check(t, err)
	equal(t, "of nobody", true, none == nil)
}

// testRollUpChains deletes each subset of an identity's certificates: what is left is always found, in order.
func testRollUpChains(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	const certificates = 6
	for subset := range 1 << (certificates - 1) {
		identity := fmt.Sprintf("host-%d.example.com", subset)
		var left []pki.Serial
		var first, second []int64
		for i := range certificates {
			c := f.NewCertificate(t, identity, Now().Add(-time.Duration(certificates-i)*time.Hour))
			c.NotAfter = Now().Add(24 * time.Hour)
			chosen := subset>>i&1 == 1
			if chosen {
				c.NotAfter = Now().Add(-time.Duration(subset+1) * 24 * time.Hour)
			}
			f.Record(t, c)
			if !chosen {
				left = append([]pki.Serial{c.Serial}, left...)
			}
		}
		for i, record := range expired(t, s, Now().Add(-time.Duration(subset)*24*time.Hour-12*time.Hour), f.Profile.ID) {
			if i%2 == 0 {
				first = append(first, record)
			} else {
				second = append(second, record)
			}
		}
		for _, part := range [][]int64{first, second} {
			_, err := s.RollUp(t.Context(), part)
			check(t, err)
		}
		equal(t, identity, left, serialsOf(t, s, identity))
	}
}

func testForgetIdentities(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	issue := func(identity string, ago time.Duration) *pki.Certificate {
		c := f.NewCertificate(t, identity, Now().Add(-ago))
		c.Workload.Cluster = "east"
		return f.Record(t, c)
	}
	const day = 24 * time.Hour
	web, two, alive := Workload("shop", "web").String(), Workload("shop", "two").String(), Workload("shop", "alive").String()
	issue(web, 30*day)
	issue(two, 41*day)
	issue(two, 40*day)
	issue(alive, 0)
	forget := func() int {
		t.Helper()
		n, err := s.ForgetIdentities(t.Context(), Now().Add(-20*day), 100, Event(audit.InventoryForget))
		check(t, err)
		return n
	}
	equal(t, "forgotten", 1, forget())
	_, err := s.Identity(t.Context(), web)
	refused(t, err, fault.NotFound)
	_, err = s.Identity(t.Context(), two) // it has a certificate that was not rolled up
	check(t, err)
	_, err = s.RollUp(t.Context(), expired(t, s, Now().Add(-20*day), f.Profile.ID))
	check(t, err)
	equal(t, "forgotten then", 1, forget())
	equal(t, "in the end", 0, forget())
	found, err := s.Identities(t.Context(), pki.IdentityFilter{Text: "shop", Limit: 10}, Now())
	check(t, err)
	equal(t, "found", 1, len(found))
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "certificates", int64(1), stats.Certificates)
	equal(t, "identities", int64(1), stats.Identities)
	equal(t, "events", 2, countEvents(t, s, audit.InventoryForget))

	// It may come back.
	issue(web, 0)
	equal(t, "of a new life", 1, len(serialsOf(t, s, web)))
	sum, err := s.RolledUp(t.Context(), web)
	check(t, err)
	equal(t, "of an earlier life", true, sum == nil)
}

func testSpace(t *testing.T, s *store.Store) {
	space, err := s.Space(t.Context())
	check(t, err)
	if space.Bytes < 64<<10 || space.Free < 0 || space.Free > space.Bytes {
		t.Errorf("space is %+v", space)
	}
	more, err := s.GiveBack(t.Context())
	check(t, err)
	equal(t, "more to give back of an empty database", false, more)
}
