package storetest

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func keyHash(t *testing.T, ca *pki.CA) [32]byte {
	t.Helper()
	certificate, err := x509.ParseCertificate(ca.Certificate)
	check(t, err)
	return sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
}

// estate is a fixture with certificates of several identities, profiles and accounts.
type estate struct {
	*Fixture
	server pki.Profile
	second pki.Account
	all    []pki.Certificate // newest first
}

func newEstate(t *testing.T, s *store.Store) *estate {
	t.Helper()
	e := &estate{Fixture: Seed(t, s)}
	e.server = e.NewProfile(t, "server")
	check(t, s.CreateProfile(t.Context(), &e.server, Event(audit.ProfileCreate)))
	e.second = e.NewAccount(t, "second")
	_, _, err := s.CreateAccount(t.Context(), &e.second, 0, Event(audit.AccountCreate))
	check(t, err)
	for i := range 60 {
		at := Now().Add(time.Duration(i-60) * time.Hour)
		var c *pki.Certificate
		switch i % 5 {
		case 0:
			c = e.NewCertificate(t, fmt.Sprintf("host%d.example.com", i%3), at)
			c.ProfileID, c.CredentialID, c.AccountID = e.server.ID, "", ""
			c.NotAfter = at.AddDate(1, 0, 0)
			c.RenewAt = pki.RenewAt(c.NotBefore, c.NotAfter)
		case 1:
			other := pki.SPIFFEID{TrustDomain: "other.org", Namespace: "demo", ServiceAccount: "web"}
			c = e.NewCertificate(t, other.String(), at)
			c.AccountID = e.second.ID
		default:
			id := Workload([]string{"demo", "demo-two", "prod"}[i%3], fmt.Sprintf("w%d", i%4))
			c = e.NewCertificate(t, id.String(), at)
			c.Workload = pki.Workload{
				Cluster: []string{"east", "west"}[i%2], Namespace: id.Namespace, ServiceAccount: id.ServiceAccount,
				Pod: fmt.Sprintf("%s-%d", id.ServiceAccount, i%7), PodUID: fmt.Sprintf("uid-%d", i%7), Node: "node-1",
				ImpersonatedBy: "istio-system/ztunnel/ztunnel-x",
			}
		}
		stored := e.Record(t, c)
		if i%11 == 0 {
			check(t, s.RevokeCertificate(t.Context(), c.Serial, pki.Superseded, Now(), Event(audit.CertificateRevoke)))
			stored.RevokedAt, stored.Reason = Now(), pki.Superseded
		}
		e.all = append([]pki.Certificate{*stored}, e.all...)
	}
	return e
}

// serials are easier to compare and to read than certificates.
func serials(all []pki.Certificate) []pki.Serial {
	list := []pki.Serial{}
	for _, c := range all {
		list = append(list, c.Serial)
	}
	return list
}

// matching filters the estate as the filter's documentation says, one certificate after the other.
func (e *estate) matching(keep func(c *pki.Certificate) bool) []pki.Serial {
	kept := []pki.Serial{}
	for i := range e.all {
		if keep(&e.all[i]) {
			kept = append(kept, e.all[i].Serial)
		}
	}
	return kept
}

func namespaceOf(c *pki.Certificate) string {
	id, err := pki.ParseSPIFFEID(c.Identity)
	if err != nil {
		return ""
	}
	return id.Namespace
}

func testSearch(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	web := Workload("demo", "w3").String()
	domain := func(c *pki.Certificate, want string) bool {
		id, err := pki.ParseSPIFFEID(c.Identity)
		return err == nil && id.TrustDomain == want
	}
	middle := Now().Add(-30 * time.Hour)
	tests := map[string]struct {
		filter pki.CertificateFilter
		keep   func(c *pki.Certificate) bool
	}{
		"everything":     {pki.CertificateFilter{}, func(*pki.Certificate) bool { return true }},
		"identity":       {pki.CertificateFilter{Identity: web}, func(c *pki.Certificate) bool { return c.Identity == web }},
		"no identity":    {pki.CertificateFilter{Identity: web + "x"}, func(*pki.Certificate) bool { return false }},
		"any identity":   {pki.CertificateFilter{Identity: "*"}, func(*pki.Certificate) bool { return true }},
		"identity's TD":  {pki.CertificateFilter{Identity: "host*"}, func(c *pki.Certificate) bool { return c.Identity[0] == 'h' }},
		"namespace":      {pki.CertificateFilter{Namespace: "demo"}, func(c *pki.Certificate) bool { return namespaceOf(c) == "demo" }},
		"no namespace":   {pki.CertificateFilter{Namespace: "dem"}, func(*pki.Certificate) bool { return false }},
		"trust domain":   {pki.CertificateFilter{TrustDomain: "other.org"}, func(c *pki.Certificate) bool { return domain(c, "other.org") }},
		"seen":           {pki.CertificateFilter{Sees: []string{web}}, func(c *pki.Certificate) bool { return c.Identity == web }},
		"nothing seen":   {pki.CertificateFilter{Sees: []string{}}, func(*pki.Certificate) bool { return false }},
		"empty pattern":  {pki.CertificateFilter{Sees: []string{""}}, func(*pki.Certificate) bool { return false }},
		"all seen":       {pki.CertificateFilter{Sees: []string{web, "*"}}, func(*pki.Certificate) bool { return true }},
		"profile":        {pki.CertificateFilter{ProfileID: e.server.ID}, func(c *pki.Certificate) bool { return c.ProfileID == e.server.ID }},
		"no profile":     {pki.CertificateFilter{ProfileID: "none"}, func(*pki.Certificate) bool { return false }},
		"CA":             {pki.CertificateFilter{CAID: e.CA.ID}, func(*pki.Certificate) bool { return true }},
		"account":        {pki.CertificateFilter{AccountID: e.second.ID}, func(c *pki.Certificate) bool { return c.AccountID == e.second.ID }},
		"credential":     {pki.CertificateFilter{CredentialID: e.Credential.ID}, func(c *pki.Certificate) bool { return c.CredentialID != "" }},
		"cluster":        {pki.CertificateFilter{Cluster: "east"}, func(c *pki.Certificate) bool { return c.Workload.Cluster == "east" }},
		"no cluster":     {pki.CertificateFilter{Cluster: "eas"}, func(*pki.Certificate) bool { return false }},
		"pod":            {pki.CertificateFilter{Pod: "w2-3"}, func(c *pki.Certificate) bool { return c.Workload.Pod == "w2-3" }},
		"pods":           {pki.CertificateFilter{Pod: "w2-*"}, func(c *pki.Certificate) bool { return strings.HasPrefix(c.Workload.Pod, "w2-") }},
		"any pod":        {pki.CertificateFilter{Pod: "*"}, func(c *pki.Certificate) bool { return c.Workload.Pod != "" }},
		"fingerprint":    {pki.CertificateFilter{Fingerprint: e.all[7].Fingerprint[:]}, func(c *pki.Certificate) bool { return c.Serial == e.all[7].Serial }},
		"no fingerprint": {pki.CertificateFilter{Fingerprint: []byte{1}}, func(*pki.Certificate) bool { return false }},
		"issued after":   {pki.CertificateFilter{IssuedAfter: middle}, func(c *pki.Certificate) bool { return c.IssuedAt.After(middle) }},
		"expires before": {pki.CertificateFilter{ExpiresBefore: Now()}, func(c *pki.Certificate) bool { return c.NotAfter.Before(Now()) }},
		"namespace and trust domain": {
			pki.CertificateFilter{Namespace: "demo", TrustDomain: "cluster.local"},
			func(c *pki.Certificate) bool { return namespaceOf(c) == "demo" && domain(c, "cluster.local") },
		},
		"two namespaces seen": {
			pki.CertificateFilter{Sees: []string{
				"spiffe://cluster.local/ns/prod/*", "spiffe://cluster.local/ns/demo/*", "spiffe://cluster.local/ns/demo/sa/w1",
			}},
			func(c *pki.Certificate) bool {
				return domain(c, "cluster.local") && (namespaceOf(c) == "demo" || namespaceOf(c) == "prod")
			},
		},
		"namespace of two trust domains, one of them seen": {
			pki.CertificateFilter{Namespace: "demo", Sees: []string{"spiffe://other.org/*", "host1.example.com"}},
			func(c *pki.Certificate) bool { return domain(c, "other.org") },
		},
		"status, seen": {
			pki.CertificateFilter{Status: pki.CertificateRevoked, Sees: []string{"spiffe://cluster.local/*"}},
			func(c *pki.Certificate) bool { return domain(c, "cluster.local") && !c.RevokedAt.IsZero() },
		},
		"fingerprint, not seen": {
			pki.CertificateFilter{Fingerprint: e.all[7].Fingerprint[:], Sees: []string{"none"}},
			func(*pki.Certificate) bool { return false },
		},
		"pod, seen": {
			pki.CertificateFilter{Pod: "w2-*", Sees: []string{"spiffe://cluster.local/ns/demo/*"}},
			func(c *pki.Certificate) bool {
				return strings.HasPrefix(c.Workload.Pod, "w2-") && namespaceOf(c) == "demo" && domain(c, "cluster.local")
			},
		},
		"pod, cluster and namespace": {
			pki.CertificateFilter{Pod: "w1-*", Cluster: "west", Namespace: "demo"},
			func(c *pki.Certificate) bool {
				return strings.HasPrefix(c.Workload.Pod, "w1-") && c.Workload.Cluster == "west" && namespaceOf(c) == "demo"
			},
		},
		"cluster and time": {
			pki.CertificateFilter{Cluster: "west", IssuedAfter: middle},
			func(c *pki.Certificate) bool { return c.Workload.Cluster == "west" && c.IssuedAt.After(middle) },
		},
		"namespace and status": {
			pki.CertificateFilter{Namespace: "demo", Status: pki.CertificateExpired},
			func(c *pki.Certificate) bool {
				return namespaceOf(c) == "demo" && c.Status(Now()) == pki.CertificateExpired
			},
		},
		"account, status and time": {
			pki.CertificateFilter{AccountID: e.Account.ID, Status: pki.CertificateRevoked, IssuedAfter: middle},
			func(c *pki.Certificate) bool {
				return c.AccountID == e.Account.ID && !c.RevokedAt.IsZero() && c.IssuedAt.After(middle)
			},
		},
		"fingerprint of another profile": {
			pki.CertificateFilter{Fingerprint: e.all[7].Fingerprint[:], ProfileID: "none"},
			func(*pki.Certificate) bool { return false },
		},
	}
	for name, tt := range tests {
		tt.filter.Limit = 1000
		got, err := s.Certificates(t.Context(), tt.filter, Now())
		check(t, err)
		equal(t, name, e.matching(tt.keep), serials(got))
	}
	got, err := s.Certificates(t.Context(), pki.CertificateFilter{Limit: 1}, Now())
	check(t, err)
	equal(t, "whole certificate", e.all[:1], got)
}

// testVisible reads single records as somebody who does not see everything.
func testVisible(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	web := Workload("demo", "w3").String()
	mine := e.matching(func(c *pki.Certificate) bool { return c.Identity == web })[0]
	for name, tt := range map[string]struct {
		sees []string
		seen bool
	}{
		"everything":    {nil, true},
		"nothing":       {[]string{}, false},
		"empty pattern": {[]string{""}, false},
		"this one":      {[]string{"a.example", web}, true},
		"its namespace": {[]string{"spiffe://cluster.local/ns/demo/*", "spiffe://cluster.local/ns/prod/*"}, true},
		"another":       {[]string{"spiffe://cluster.local/ns/prod/*"}, false},
		"longer name":   {[]string{web + "x", web + "-*"}, false},
	} {
		c, err := s.VisibleCertificate(t.Context(), mine, tt.sees)
		i, errIdentity := s.VisibleIdentity(t.Context(), web, tt.sees)
		if !tt.seen {
			refused(t, err, fault.NotFound)
			refused(t, errIdentity, fault.NotFound)
			continue
		}
		if err != nil || errIdentity != nil {
			t.Errorf("%s: %v, %v", name, err, errIdentity)
			continue
		}
		equal(t, name+": certificate", mine, c.Serial)
		equal(t, name+": identity", web, i.Name)
	}
}

func testSearchPages(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	filters := map[string]pki.CertificateFilter{
		"everything":   {},
		"namespace":    {Namespace: "demo"},
		"seen":         {Sees: []string{"host*", "spiffe://cluster.local/ns/demo/*"}},
		"identity":     {Identity: Workload("demo", "w3").String()},
		"trust domain": {TrustDomain: "cluster.local"},
		"CA":           {CAID: e.CA.ID},
		"account":      {AccountID: e.Account.ID},
		"cluster":      {Cluster: "east"},
		"pods":         {Pod: "w1-*"},
		"revoked":      {Status: pki.CertificateRevoked},
		"expired":      {Status: pki.CertificateExpired},
		"valid":        {Status: pki.CertificateValid},
		"renewal due":  {Status: pki.CertificateRenewalDue},
	}
	for name, filter := range filters {
		filter.Limit = 1000
		whole, err := s.Certificates(t.Context(), filter, Now())
		check(t, err)
		if len(whole) < 3 {
			t.Errorf("%s: only %d certificates, too few to try pages", name, len(whole))
		}
		paged := []pki.Certificate{}
		for filter.Limit = 2; ; {
			page, err := s.Certificates(t.Context(), filter, Now())
			check(t, err)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			filter.Before = page[len(page)-1].Serial
		}
		equal(t, name+" in pages", serials(whole), serials(paged))
	}
}

func testSearchStatus(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	due := e.all[20].RenewAt
	for _, now := range []time.Time{Now(), due, due.Add(-time.Nanosecond), e.all[20].NotAfter, e.all[20].NotAfter.Add(time.Nanosecond)} {
		total := 0
		for _, status := range []pki.CertificateStatus{
			pki.CertificateValid, pki.CertificateRenewalDue, pki.CertificateExpired, pki.CertificateRevoked,
		} {
			got, err := s.Certificates(t.Context(), pki.CertificateFilter{Status: status, Limit: 1000}, now)
			check(t, err)
			want := e.matching(func(c *pki.Certificate) bool { return c.Status(now) == status })
			equal(t, fmt.Sprintf("%s at %s", status, now), want, serials(got))
			total += len(got)
		}
		equal(t, "certificates of all statuses", len(e.all), total)
	}
}

func testIdentities(t *testing.T, s *store.Store) {
	e := newEstate(t, s)
	all, err := s.Identities(t.Context(), pki.IdentityFilter{Limit: 1000}, Now())
	check(t, err)
	if !slices.IsSortedFunc(all, func(a, b pki.Identity) int { return cmpString(a.Name, b.Name) }) {
		t.Error("identities are not sorted by name")
	}
	web := Workload("demo", "w3")
	mine := e.matching(func(c *pki.Certificate) bool { return c.Identity == web.String() })
	one, err := s.Identity(t.Context(), web.String())
	check(t, err)
	var newest, oldest pki.Certificate
	for _, c := range e.all {
		if c.Serial == mine[0] {
			newest = c
		}
		if c.Serial == mine[len(mine)-1] {
			oldest = c
		}
	}
	equal(t, "identity", &pki.Identity{
		Name: web.String(), TrustDomain: "cluster.local", Namespace: "demo", ServiceAccount: "w3", Cluster: newest.Workload.Cluster,
		ProfileID: e.Profile.ID,
		Newest:    mine[0], NotBefore: newest.NotBefore, NotAfter: newest.NotAfter, RevokedAt: newest.RevokedAt,
		Certificates: int64(len(mine)), FirstIssuedAt: oldest.IssuedAt, LastIssuedAt: newest.IssuedAt, RenewAt: one.RenewAt, LapsingAt: one.LapsingAt,
	}, one)
	_, err = s.Identity(t.Context(), "none")
	refused(t, err, fault.NotFound)

	for name, tt := range map[string]struct {
		filter pki.IdentityFilter
		keep   func(i pki.Identity) bool
	}{
		"name":      {pki.IdentityFilter{Name: web.String()}, func(i pki.Identity) bool { return i.Name == web.String() }},
		"prefix":    {pki.IdentityFilter{Name: "host*"}, func(i pki.Identity) bool { return i.Name[0] == 'h' }},
		"namespace": {pki.IdentityFilter{Namespace: "demo"}, func(i pki.Identity) bool { return i.Namespace == "demo" }},
		"seen": {
			pki.IdentityFilter{Sees: []string{"host*", "spiffe://cluster.local/ns/demo/*"}},
			func(i pki.Identity) bool {
				return i.Name[0] == 'h' || i.Namespace == "demo" && i.TrustDomain == "cluster.local"
			},
		},
		"nothing seen": {pki.IdentityFilter{Sees: []string{}}, func(pki.Identity) bool { return false }},
		"trust domain": {pki.IdentityFilter{TrustDomain: "other.org"}, func(i pki.Identity) bool { return i.TrustDomain == "other.org" }},
		"profile":      {pki.IdentityFilter{ProfileID: e.server.ID}, func(i pki.Identity) bool { return i.ProfileID == e.server.ID }},
		"both": {
			pki.IdentityFilter{Namespace: "demo", Name: "spiffe://other.org/*"},
			func(i pki.Identity) bool { return i.Namespace == "demo" && i.TrustDomain == "other.org" },
		},
	} {
		want := slices.DeleteFunc(slices.Clone(all), func(i pki.Identity) bool { return !tt.keep(i) })
		paged := []pki.Identity{}
		for tt.filter.Limit = 1; ; {
			page, err := s.Identities(t.Context(), tt.filter, Now())
			check(t, err)
			if len(page) == 0 {
				break
			}
			paged = append(paged, page...)
			tt.filter.After = page[len(page)-1].Cursor
		}
		equal(t, name, want, paged)
	}
}

func cmpString(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

func testIdentityStatus(t *testing.T, s *store.Store) {
	newEstate(t, s)
	all, err := s.Identities(t.Context(), pki.IdentityFilter{Limit: 1000}, Now())
	check(t, err)
	for hours := range 40 {
		now := Now().Add(time.Duration(hours) * time.Hour)
		for _, status := range []pki.IdentityStatus{
			pki.IdentityOK, pki.IdentityRenewalDue, pki.IdentityLapsing, pki.IdentityLapsed,
		} {
			want := slices.DeleteFunc(slices.Clone(all), func(i pki.Identity) bool { return i.Status(now) != status })
			got, err := s.Identities(t.Context(), pki.IdentityFilter{Status: status, Limit: 1000}, now)
			check(t, err)
			if len(want) > 0 || len(got) > 0 {
				equal(t, fmt.Sprintf("%s after %d hours", status, hours), want, got)
			}
		}
	}
}

func testEvents(t *testing.T, s *store.Store) {
	var all []audit.Event // newest first
	for i, action := range []audit.Action{audit.CertificateIssue, audit.CertificateRefuse, audit.CACreate, audit.CertificateIssue} {
		ev := Event(action)
		ev.Time = Now().Add(time.Duration(i) * time.Millisecond)
		ev.Actor.ID = fmt.Sprintf("actor-%d", i%2)
		ev.Target = fmt.Sprintf("target-%d", i)
		ev.Detail = audit.Detail{
			Reason: "because", Names: &pki.Names{DNS: []string{"a.example"}}, Serial: "01",
			Changes: []audit.Change{{Field: "state", Old: "active", New: "suspended"}},
		}
		if action == audit.CertificateRefuse {
			ev.Outcome = audit.Refused
		}
		check(t, s.RecordEvent(t.Context(), ev))
		ev.ID = int64(i + 1)
		all = append([]audit.Event{ev}, all...)
	}
	for name, tt := range map[string]struct {
		filter pki.EventFilter
		want   []int
	}{
		"all":         {pki.EventFilter{}, []int{0, 1, 2, 3}},
		"action":      {pki.EventFilter{Action: "certificate.issue"}, []int{0, 3}},
		"prefix":      {pki.EventFilter{Action: "certificate.*"}, []int{0, 2, 3}},
		"rare action": {pki.EventFilter{Action: "ca.*"}, []int{1}},
		"target":      {pki.EventFilter{Target: "target-2"}, []int{1}},
		"actor":       {pki.EventFilter{Actor: "actor-0"}, []int{1, 3}},
		"actor name":  {pki.EventFilter{Actor: "suite"}, []int{0, 1, 2, 3}},
		"outcome":     {pki.EventFilter{Outcome: "refused"}, []int{2}},
		"since":       {pki.EventFilter{Since: Now().Add(2 * time.Millisecond)}, []int{0, 1}},
		"before":      {pki.EventFilter{Before: all[1].ID}, []int{2, 3}},
		"limit":       {pki.EventFilter{Limit: 2}, []int{0, 1}},
	} {
		var want []audit.Event
		for _, i := range tt.want {
			want = append(want, all[i])
		}
		equal(t, name, want, events(t, s, tt.filter))
	}
}

// testRefusalLeavesNothing lets operations that are refused share transactions with others that are not.
func testRefusalLeavesNothing(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	done := parallel(40, func(i int) bool {
		switch i % 4 {
		case 0:
			return s.UpdateAccountContact(t.Context(), "none", nil, Event(audit.AccountUpdate)) == nil
		case 1:
			again := NewCA(t, f.CA.Name)
			return s.CreateCA(t.Context(), &again, &pki.SealedKey{ID: again.KeyID}, Event(audit.CAImport)) == nil
		case 2:
			stray := f.NewCertificate(t, "stray.example", Now())
			stray.CAID = "none" // not refused with a reason: it breaks the transaction
			_, _, err := s.RecordCertificate(t.Context(), stray, pki.SPIFFEID{}, Event(audit.CertificateRefuse))
			return err == nil
		default:
			c := f.NewCertificate(t, fmt.Sprintf("h%d.example", i), Now())
			_, won, err := s.RecordCertificate(t.Context(), c, pki.SPIFFEID{}, Event(audit.CertificateIssue))
			if err != nil {
				t.Error(err)
			}
			return won
		}
	})
	equal(t, "operations that succeeded", 10, done)
	equal(t, "events of those", 10, countEvents(t, s, audit.CertificateIssue))
	for _, action := range []audit.Action{audit.AccountUpdate, audit.CAImport, audit.CertificateRefuse} {
		equal(t, "events of "+string(action), 0, countEvents(t, s, action))
	}
	_, err := s.Identity(t.Context(), "stray.example")
	refused(t, err, fault.NotFound)
}

func testNonces(t *testing.T, s *store.Store) {
	first := parallel(16, func(int) bool {
		ok, err := s.RedeemNonce(t.Context(), [16]byte{1}, Now().Add(time.Hour))
		return err == nil && ok
	})
	equal(t, "first uses", 1, first)
	ok, err := s.RedeemNonce(t.Context(), [16]byte{2}, Now().Add(2*time.Hour))
	check(t, err)
	equal(t, "another nonce", true, ok)
	n, err := s.DeleteExpiredNonces(t.Context(), Now().Add(90*time.Minute))
	check(t, err)
	equal(t, "deleted", 1, n)
	ok, err = s.RedeemNonce(t.Context(), [16]byte{2}, Now().Add(2*time.Hour))
	check(t, err)
	equal(t, "another nonce again", false, ok)
}
