package store_test

import (
	"os"
	"slices"
	"strconv"
	"strings"
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
	return benchNumber(b, "CERTLOOM_BENCH_CERTIFICATES", 200_000)
}

// benchWorkloads is how many identities those are of: CERTLOOM_BENCH_WORKLOADS, or 10,000.
func benchWorkloads(b *testing.B) int {
	b.Helper()
	return benchNumber(b, "CERTLOOM_BENCH_WORKLOADS", 10_000)
}

func benchNumber(b *testing.B, name string, usual int) int {
	b.Helper()
	text := os.Getenv(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// estate is a store with n certificates of 10,000 identities or so, 240,000 a day, the last one now: 95 % are mesh certificates of
// two hours, in 100 namespaces and of 20 accounts; the others are server certificates of a year. One in a thousand is
// revoked. SQL makes them, which is ten times faster than issuing.
type estate struct {
	*storetest.Fixture
	server pki.Profile
}

// newEstate makes an estate, or takes the SQLite file that CERTLOOM_BENCH_FILE names when an earlier run has made it.
func newEstate(b *testing.B, database string) *estate {
	b.Helper()
	db := benchmarked[database](b)
	if kept := os.Getenv("CERTLOOM_BENCH_FILE"); kept != "" && database == "sqlite" {
		db = storetest.SQLiteFile(kept)
	}
	s := db.Open(b)
	e := &estate{Fixture: &storetest.Fixture{Store: s}}
	profiles, err := s.Profiles(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if len(profiles) == 0 {
		e.fill(b, benchCertificates(b))
		return e
	}
	cas, err := s.CAs(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	e.CA, e.Profile, e.server = cas[0], profiles[0], profiles[1]
	return e
}

// estateTexts are what the dialects say differently.
var estateTexts = map[string]*strings.Replacer{
	"sqlite": strings.NewReplacer("RANDOM32", "randomblob(32)", "RANDOM650", "randomblob(650)", "GREATEST", "max",
		"SERIAL", "unhex(printf('%08x', t >> 1) || hex(randomblob(16)))", "ORDERID", "printf('%011x', t) || hex(randomblob(12))"),
	"postgres": strings.NewReplacer("RANDOM32", "sha256(random()::text::bytea)",
		"RANDOM650", "decode(repeat(md5(random()::text), 41), 'hex')",
		"SERIAL", "decode(lpad(to_hex(t >> 1), 8, '0') || md5(random()::text), 'hex')",
		"ORDERID", "lpad(to_hex(t), 11, '0') || md5(random()::text)"),
}

const (
	estateName = `CASE WHEN w % 20 = 0 THEN 'host-' || w || '.example.com'
		ELSE 'spiffe://cluster.local/ns/ns-' || (w % 100) || '/sa/w-' || w END`
	estateSources = `INSERT INTO source (ca_id, profile_id, credential_id, account_id)
		WITH RECURSIVE g (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM g WHERE n < 19)
		SELECT 'CA', CASE WHEN n = 0 THEN 'SERVER' ELSE 'MESH' END, '', 'account-' || n FROM g ORDER BY n`
	estateNamespaces = `INSERT INTO namespace (name, trust_domain)
		WITH RECURSIVE g (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < 99)
		SELECT 'ns-' || n, 'cluster.local' FROM g WHERE n % 20 <> 0`
	estateCertificates = `INSERT INTO certificate (id, serial, source_id, identity_id, previous, not_before, not_after, renew_at,
			issued_at, requested, granted, revoked_at, reason, order_id, key_algorithm, signature, names, user_agent, address,
			replaces, fingerprint, csr_hash, spki_hash, der)
		WITH RECURSIVE g (n) AS (SELECT CAST(FROM_N AS BIGINT) UNION ALL SELECT n + 1 FROM g WHERE n < TO_N - 1),
		r (n, w, t, life) AS (SELECT n, n % WORKLOADS, END_TIME - (TOTAL - n) * 36 / 100,
			CASE WHEN n % 20 = 0 THEN 31536000 ELSE 7200 END FROM g)
		SELECT n + 1, SERIAL, 1 + w % 20, w + 1, GREATEST(0, n + 1 - WORKLOADS), t, t + life,
			t + life / 2, t, 0, life, CASE WHEN n % 1000 = 7 THEN t + 60 ELSE 0 END, 0, ORDERID,
			'ecdsa-p256', 'ECDSA-SHA256', '{"uris":["' || (` + estateName + `) || '"]}', 'cert-manager/v1.21.2', '10.0.0.7', '',
			RANDOM32, RANDOM32, RANDOM32, RANDOM650 FROM r`
	estateIdentities = `INSERT INTO identity (id, name, newest, source_id, not_before, not_after, renew_at, lapsing_at, revoked_at,
			certificates, first_issued_at, last_issued_at)
		WITH i (w, newest) AS (SELECT identity_id - 1, max(id) FROM certificate GROUP BY identity_id)
		SELECT w + 1, ` + estateName + `, newest, 1 + w % 20, not_before, not_after, renew_at,
			not_before + (not_after - not_before) * 3 / 4, revoked_at, TOTAL / WORKLOADS, not_before, not_before
		FROM i JOIN certificate c ON c.id = i.newest`
	estateCounters = `INSERT INTO counter (name, slot, value) VALUES ('certificates', 0, TOTAL), ('identities', 0, WORKLOADS)`
)

func (e *estate) fill(b *testing.B, n int) {
	b.Helper()
	e.Fixture = storetest.Seed(b, e.Store)
	e.server = e.NewProfile(b, "server")
	if err := e.Store.CreateProfile(b.Context(), &e.server, storetest.Event(audit.ProfileCreate)); err != nil {
		b.Fatal(err)
	}
	dialect := estateTexts[e.Store.Dialect()]
	run := func(text string, from, to int) {
		b.Helper()
		text = strings.NewReplacer("FROM_N", strconv.Itoa(from), "TO_N", strconv.Itoa(to), "TOTAL", strconv.Itoa(n),
			"WORKLOADS", strconv.Itoa(benchWorkloads(b)), "END_TIME", strconv.FormatInt(storetest.Now().Unix(), 10),
			"'CA'", "'"+string(e.CA.ID)+"'", "SERVER", string(e.server.ID), "MESH", string(e.Profile.ID)).Replace(text)
		store.Run(b, e.Store, dialect.Replace(text))
	}
	run(estateSources, 0, 0)
	run(estateNamespaces, 0, 0)
	const step = 20_000
	for from := 0; from < n; from += step {
		run(estateCertificates, from, min(n, from+step))
	}
	run(estateIdentities, 0, 0)
	run(estateCounters, 0, 0)
	if e.Store.Dialect() == "postgres" {
		store.Run(b, e.Store, `SELECT setval('certificate_id', `+strconv.Itoa(n)+`), setval('identity_id_seq', `+
			strconv.Itoa(benchWorkloads(b))+`)`)
		store.Run(b, e.Store, `ANALYZE`)
	}
}

// BenchmarkSearch measures searches in a large estate, first pages and later ones.
func BenchmarkSearch(b *testing.B) {
	for name := range benchmarked {
		b.Run(name, func(b *testing.B) { newEstate(b, name).search(b) })
	}
}

func (e *estate) search(b *testing.B) {
	b.Helper()
	now := storetest.Now()
	middle, err := e.Store.Certificates(b.Context(), pki.CertificateFilter{IssuedAfter: now.Add(-10 * time.Hour), Limit: 1000}, now)
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
		"profile":              {ProfileID: e.server.ID},
		"account":              {AccountID: "account-7"},
		"CA":                   {CAID: e.CA.ID},
		"fingerprint":          {Fingerprint: one.Fingerprint[:]},
		"revoked":              {Status: pki.CertificateRevoked},
		"expired":              {Status: pki.CertificateExpired},
		"valid":                {Status: pki.CertificateValid},
		"valid, page 200":      {Status: pki.CertificateValid, Before: one.Serial},
		"renewal due":          {Status: pki.CertificateRenewalDue},
		"valid of a profile":   {Status: pki.CertificateValid, ProfileID: e.server.ID},
		"expired of namespace": {Status: pki.CertificateExpired, Namespace: "ns-7"},
		"revoked of namespace": {Status: pki.CertificateRevoked, Namespace: "ns-7"},
		"expires in a day":     {Status: pki.CertificateValid, ExpiresBefore: now.Add(24 * time.Hour)},
		"issued in a minute":   {IssuedAfter: now.Add(-time.Minute)},
	}
	for name, filter := range filters {
		filter.Limit = 100
		b.Run(name, func(b *testing.B) {
			measure(b, func() int {
				page, err := e.Store.Certificates(b.Context(), filter, now)
				if err != nil {
					b.Fatal(err)
				}
				return len(page)
			})
		})
	}
	b.Run("serial", func(b *testing.B) {
		measure(b, func() int {
			if _, err := e.Store.Certificate(b.Context(), one.Serial); err != nil {
				b.Fatal(err)
			}
			return 1
		})
	})
	b.Run("unknown key", func(b *testing.B) {
		measure(b, func() int {
			if found, err := e.Store.KeyCertified(b.Context(), [32]byte{1}); err != nil || found {
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
				page, err := e.Store.Identities(b.Context(), pki.IdentityFilter{Status: status, Limit: 100}, now)
				if err != nil {
					b.Fatal(err)
				}
				return len(page)
			})
		})
	}
}

// measure reports the slowest in a hundred, and the processor's time, beside the mean.
func measure(b *testing.B, search func() int) {
	b.Helper()
	var times []time.Duration
	found := 0
	cpu := processorTime(b)
	for b.Loop() {
		began := time.Now()
		found = search()
		times = append(times, time.Since(began))
	}
	b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/1000/float64(len(times)), "cpu-ms/op")
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(found), "found")
}

// BenchmarkRecordIntoEstate measures issuing where many certificates are stored already.
func BenchmarkRecordIntoEstate(b *testing.B) {
	for name := range benchmarked {
		b.Run(name, func(b *testing.B) {
			e := newEstate(b, name)
			b.Run("clients=16", func(b *testing.B) { recordMany(b, e.Fixture, b.N, 16, benchWorkloads(b), 1) })
			b.Run("clients=64", func(b *testing.B) { recordMany(b, e.Fixture, b.N, 64, benchWorkloads(b), 1) })
		})
	}
}
