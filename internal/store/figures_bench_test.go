package store_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// BenchmarkFigures measures what a dashboard asks for: the walk through all identities, which one task takes every few
// seconds, and what is counted, with a day of it from two replicas, 50 clusters and ten reasons of refusals.
func BenchmarkFigures(b *testing.B) {
	for name := range benchmarked {
		b.Run(name, func(b *testing.B) {
			e := newEstate(b, name)
			now := storetest.Now()
			happened(b, e.Store, now)
			for what, ask := range map[string]func() (int, error){
				"identities": func() (int, error) {
					f, err := e.Store.IdentityFigures(b.Context(), nil, now)
					return int(f.Total()), err
				},
				"identities of a namespace": func() (int, error) {
					f, err := e.Store.IdentityFigures(b.Context(), []string{"spiffe://cluster.local/ns/ns-7/*"}, now)
					return int(f.Total()), err
				},
				"issued": func() (int, error) {
					minutes, err := e.Store.Issued(b.Context(), 24*60, now)
					return len(minutes), err
				},
				"clusters": func() (int, error) {
					clusters, err := e.Store.ClustersIssued(b.Context(), now)
					return len(clusters), err
				},
				"refusals": func() (int, error) {
					refusals, err := e.Store.Refusals(b.Context(), now)
					return len(refusals), err
				},
			} {
				b.Run(what, func(b *testing.B) {
					measure(b, func() int {
						n, err := ask()
						if err != nil {
							b.Fatal(err)
						}
						return n
					})
				})
			}
		})
	}
}

// happened writes the counters of a day.
func happened(b *testing.B, s *store.Store, now time.Time) {
	b.Helper()
	var values []string
	add := func(prefix string, step time.Duration, kept time.Duration, rest ...string) {
		for at := now.Add(-kept).Truncate(step); !at.After(now); at = at.Add(step) {
			for _, r := range rest {
				for slot := range 2 {
					values = append(values, fmt.Sprintf("('%s%010d%s', %d, 7)", prefix, at.Unix(), r, 1000+slot))
				}
			}
		}
	}
	var clusters, reasons []string
	for i := range 50 {
		clusters = append(clusters, fmt.Sprintf("/cluster-%d", i))
	}
	for i := range 10 {
		reasons = append(reasons, fmt.Sprintf("/certificate.refuse/problem%d", i))
	}
	add("issued/", time.Minute, 25*time.Hour, "")
	add("cluster/", 5*time.Minute, 2*time.Hour, clusters...)
	add("refused/", 5*time.Minute, 25*time.Hour, reasons...)
	for len(values) > 0 {
		n := min(500, len(values))
		store.Run(b, s, `INSERT INTO counter (name, slot, value) VALUES `+strings.Join(values[:n], ", ")+` ON CONFLICT DO NOTHING`)
		values = values[n:]
	}
	store.Run(b, s, `UPDATE identity SET cluster = 'cluster-' || (id % 50) WHERE cluster = ''`)
}
