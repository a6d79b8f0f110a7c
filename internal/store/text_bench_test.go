package store_test

import (
	"os"
	"strconv"
	"testing"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// benchIdentities is how many identities BenchmarkIdentityText has: CERTLOOM_BENCH_IDENTITIES, or 50,000.
func benchIdentities(b *testing.B) int {
	b.Helper()
	text := os.Getenv("CERTLOOM_BENCH_IDENTITIES")
	if text == "" {
		return 50_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkIdentityText measures what people type, among many identities in 1,000 namespaces. The first run makes the
// words of all of them, as after an upgrade.
func BenchmarkIdentityText(b *testing.B) {
	for name, database := range benchmarked {
		b.Run(name, func(b *testing.B) {
			s := database(b).Open(b)
			f := storetest.Seed(b, s)
			f.Record(b, f.NewCertificate(b, "seed.example", storetest.Now()))
			n := strconv.Itoa(benchIdentities(b))
			store.Run(b, s, `INSERT INTO identity (id, name, newest, source_id, not_before, not_after, renew_at, lapsing_at, revoked_at,
					certificates, first_issued_at, last_issued_at)
				WITH RECURSIVE g (n) AS (SELECT CAST(1000 AS BIGINT) UNION ALL SELECT n + 1 FROM g WHERE n < 1000 + `+n+`)
				SELECT n, 'spiffe://cluster.local/ns/team-' || (n % 1000) || '/sa/service-' || n || '-api', i.newest, i.source_id,
					i.not_before, i.not_after, i.renew_at, CASE WHEN n % 5000 = 7 THEN i.not_before ELSE i.lapsing_at END, 0, 1,
					i.first_issued_at, i.last_issued_at FROM g CROSS JOIN identity i WHERE i.name = 'seed.example'`)
			for {
				done, err := s.IndexIdentities(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if done == 0 {
					break
				}
			}
			for name, filter := range map[string]pki.IdentityFilter{
				"namespace":         {Text: "team-77"},
				"part of namespace": {Text: "77"},
				"account":           {Text: "service-4711"},
				"every one":         {Text: "api"},
				"one letter":        {Text: "t"},
				"trust domain":      {Text: "cluster.local"},
				"two terms":         {Text: "team-77 api"},
				"nothing":           {Text: "checkout"},
				"rare status":       {Text: "team-7", Status: pki.IdentityLapsing},
				"frequent status":   {Text: "team-77", Status: pki.IdentityOK},
				"seen":              {Text: "api", Sees: []string{"spiffe://cluster.local/ns/team-77/*"}},
				"much seen":         {Text: "api", Sees: []string{"spiffe://cluster.local/ns/team-1*"}},
				"serial":            {Text: "3521ecf812c12994c33cdcb7"},
			} {
				filter.Limit = 50
				b.Run(name, func(b *testing.B) {
					measure(b, func() int {
						page, err := s.Identities(b.Context(), filter, storetest.Now())
						if err != nil {
							b.Fatal(err)
						}
						return len(page)
					})
				})
			}
		})
	}
}
