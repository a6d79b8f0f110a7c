package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// benchCertificates is how many certificates the large estate has: CERTLOOM_BENCH_CERTIFICATES, or 200,000, which
// shows whether a search walks through everything as well as 10 million do, only in less time.
func benchCertificates(b *testing.B) int {
	b.Helper()
	text := os.Getenv("CERTLOOM_BENCH_CERTIFICATES")
	if text == "" {
		return 200_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

const estateWorkloads = 10_000

// largeEstate returns an SQLite store with n certificates of 10,000 identities, 240,000 a day, the last one now: 95 % are
// mesh certificates of two hours, in 100 namespaces and of 20 accounts; the others are server certificates of a
// year. One in a thousand is revoked. SQL makes them, which is ten times faster than issuing.
func largeEstate(b *testing.B, n int) (*storetest.Fixture, pki.Profile) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "estate.db")
	if kept := os.Getenv("CERTLOOM_BENCH_FILE"); kept != "" {
		path = kept
	}
	_, missing := os.Stat(path)
	open := func() *store.Store {
		s, err := store.OpenSQLite(b.Context(), store.SQLiteConfig{Path: path, Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	s := open()
	if missing == nil {
		b.Cleanup(func() { _ = s.Close() })
		return existingEstate(b, s)
	}
	f := storetest.Seed(b, s)
	server := f.NewProfile(b, "server")
	if err := s.CreateProfile(b.Context(), &server, storetest.Event(audit.ProfileCreate)); err != nil {
		b.Fatal(err)
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	fillEstate(b, path, n, f, server)
	f.Store = open()
	b.Cleanup(func() { _ = f.Store.Close() })
	return f, server
}

// existingEstate reads what an earlier run has left.
func existingEstate(b *testing.B, s *store.Store) (*storetest.Fixture, pki.Profile) {
	b.Helper()
	f := &storetest.Fixture{Store: s}
	profiles, err := s.Profiles(b.Context())
	if err != nil || len(profiles) != 2 {
		b.Fatal(profiles, err)
	}
	cas, err := s.CAs(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	f.CA, f.Profile = cas[0], profiles[0]
	return f, profiles[1]
}

func fillEstate(b *testing.B, path string, n int, f *storetest.Fixture, server pki.Profile) {
	b.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(OFF)&_pragma=cache_size(-400000)")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	run := func(query string, args ...any) {
		b.Helper()
		if _, err := db.ExecContext(b.Context(), query, args...); err != nil {
			b.Fatalf("%v: %s", err, query)
		}
	}
	const name = `CASE WHEN w %% 20 = 0 THEN 'host-' || w || '.example.com'
		ELSE 'spiffe://cluster.local/ns/ns-' || (w %% 100) || '/sa/w-' || w END`
	end := storetest.Now().Unix()
	run(`INSERT INTO source (ca_id, profile_id, credential_id, account_id)
		WITH RECURSIVE g (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n < 19)
		SELECT $1, CASE WHEN n = 0 THEN $2 ELSE $3 END, '', 'account-' || n FROM g`, f.CA.ID, server.ID, f.Profile.ID)
	run(`INSERT INTO namespace (name, trust_domain)
		WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 99)
		SELECT 'ns-' || n, 'cluster.local' FROM g WHERE n % 20 <> 0`)
	const certificates = `INSERT INTO certificate (id, serial, source_id, identity_id, previous, not_before, not_after, renew_at,
			issued_at, requested, granted, revoked_at, reason, order_id, key_algorithm, signature, names, user_agent, address,
			replaces, fingerprint, csr_hash, spki_hash, der)
		WITH RECURSIVE g (n) AS (SELECT $1 UNION ALL SELECT n + 1 FROM g WHERE n < $2 - 1),
		r (n, w, t, life) AS (SELECT n, n %% $3, $4 - ($5 - n) * 36 / 100, CASE WHEN n %% 20 = 0 THEN 31536000 ELSE 7200 END FROM g)
		SELECT n + 1, unhex(printf('%%08x', t >> 1) || hex(randomblob(16))), 1 + w %% 20, w + 1, max(0, n + 1 - $3), t, t + life,
			t + life / 2, t, 0, life, CASE WHEN n %% 1000 = 7 THEN t + 60 ELSE 0 END, 0, printf('%%011x', t) || hex(randomblob(12)),
			'ecdsa-p256', 'ECDSA-SHA256', '{"uris":["' || (` + name + `) || '"]}', 'cert-manager/v1.21.2', '10.0.0.7', '',
			randomblob(32), randomblob(32), randomblob(32), randomblob(650) FROM r`
	const step = 100_000
	for from := 0; from < n; from += step {
		run(fmt.Sprintf(certificates), from, min(n, from+step), estateWorkloads, end, n)
	}
	run(fmt.Sprintf(`INSERT INTO identity (id, name, newest, source_id, not_before, not_after, renew_at, lapsing_at, revoked_at,
			certificates, first_issued_at, last_issued_at)
		WITH i (w, newest) AS (SELECT identity_id - 1, max(id) FROM certificate GROUP BY identity_id)
		SELECT w + 1, `+name+`, newest, 1 + w %% 20, not_before, not_after, renew_at,
			not_before + (not_after - not_before) * 3 / 4, revoked_at, $1, $2, not_before
		FROM i JOIN certificate c ON c.id = i.newest`), n/estateWorkloads, end)
	run(`INSERT INTO counter (name, slot, value) VALUES ('certificates', 0, $1), ('identities', 0, $2)`, n, estateWorkloads)
}

// BenchmarkSearch measures searches in a large estate, first pages and later ones.
func BenchmarkSearch(b *testing.B) {
	f, server := largeEstate(b, benchCertificates(b))
	now := storetest.Now()
	middle, err := f.Store.Certificates(b.Context(), pki.CertificateFilter{IssuedAfter: now.Add(-10 * time.Hour), Limit: 1000}, now)
	if err != nil || len(middle) == 0 {
		b.Fatal(len(middle), err)
	}
	one := middle[len(middle)/2]
	filters := map[string]pki.CertificateFilter{
		"newest":               {},
		"identity":             {Identity: "spiffe://cluster.local/ns/ns-7/sa/w-1207"},
		"identity prefix":      {Identity: "spiffe://cluster.local/ns/ns-7/sa/w-12*"},
		"host":                 {Identity: "host-20.example.com"},
		"namespace":            {Namespace: "ns-7"},
		"trust domain":         {TrustDomain: "cluster.local"},
		"profile":              {ProfileID: server.ID},
		"account":              {AccountID: "account-7"},
		"CA":                   {CAID: f.CA.ID},
		"fingerprint":          {Fingerprint: one.Fingerprint[:]},
		"revoked":              {Status: pki.CertificateRevoked},
		"expired":              {Status: pki.CertificateExpired},
		"valid":                {Status: pki.CertificateValid},
		"valid, page 200":      {Status: pki.CertificateValid, Before: one.Serial},
		"renewal due":          {Status: pki.CertificateRenewalDue},
		"valid of a profile":   {Status: pki.CertificateValid, ProfileID: server.ID},
		"expired of namespace": {Status: pki.CertificateExpired, Namespace: "ns-7"},
		"revoked of namespace": {Status: pki.CertificateRevoked, Namespace: "ns-7"},
		"expires in a day":     {Status: pki.CertificateValid, ExpiresBefore: now.Add(24 * time.Hour)},
		"issued in a minute":   {IssuedAfter: now.Add(-time.Minute)},
	}
	for name, filter := range filters {
		filter.Limit = 100
		b.Run(name, func(b *testing.B) {
			measure(b, func() int {
				page, err := f.Store.Certificates(b.Context(), filter, now)
				if err != nil {
					b.Fatal(err)
				}
				return len(page)
			})
		})
	}
	b.Run("serial", func(b *testing.B) {
		measure(b, func() int {
			if _, err := f.Store.Certificate(b.Context(), one.Serial); err != nil {
				b.Fatal(err)
			}
			return 1
		})
	})
	b.Run("unknown key", func(b *testing.B) {
		measure(b, func() int {
			if found, err := f.Store.KeyCertified(b.Context(), [32]byte{1}); err != nil || found {
				b.Fatal(found, err)
			}
			return 0
		})
	})
	for _, status := range []pki.IdentityStatus{
		"", pki.IdentityOK, pki.IdentityRenewalDue, pki.IdentityLapsing, pki.IdentityLapsed,
	} {
		b.Run("identities/"+string(status), func(b *testing.B) {
			measure(b, func() int {
				page, err := f.Store.Identities(b.Context(), pki.IdentityFilter{Status: status, Limit: 100}, now)
				if err != nil {
					b.Fatal(err)
				}
				return len(page)
			})
		})
	}
}

// measure reports the slowest in a hundred beside the mean.
func measure(b *testing.B, search func() int) {
	b.Helper()
	var times []time.Duration
	found := 0
	for b.Loop() {
		began := time.Now()
		found = search()
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(found), "found")
}

// BenchmarkRecordIntoEstate measures issuing where many certificates are stored already.
func BenchmarkRecordIntoEstate(b *testing.B) {
	f, _ := largeEstate(b, benchCertificates(b))
	b.Run("clients=16", func(b *testing.B) { recordMany(b, f, b.N, 16, estateWorkloads, 1) })
	b.Run("clients=64", func(b *testing.B) { recordMany(b, f, b.N, 64, estateWorkloads, 1) })
}
