package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store/storetest"
)

// BenchmarkRollUp deletes what expired at least a day before in a large estate, 64 certificates an operation, and gives the
// room back. It runs once: -benchtime 1x.
func BenchmarkRollUp(b *testing.B) {
	for name := range benchmarked {
		b.Run(name, func(b *testing.B) {
			e := newEstate(b, name)
			for b.Loop() {
				e.rollUp(b, storetest.Now().Add(-24*time.Hour))
			}
		})
	}
}

func (e *estate) rollUp(b *testing.B, before time.Time) {
	b.Helper()
	size := e.space(b)
	q := pki.ExpiredQuery{Profiles: []pki.ProfileID{e.Profile.ID, e.server.ID}, Before: before, Limit: 16384}
	var times []time.Duration
	deleted := 0
	began := time.Now()
	for done := false; !done; {
		found, err := e.Store.ExpiredCertificates(b.Context(), q)
		if err != nil {
			b.Fatal(err)
		}
		for chunk := range slices.Chunk(found.Records, 64) {
			start := time.Now()
			n, err := e.Store.RollUp(b.Context(), chunk)
			if err != nil {
				b.Fatal(err)
			}
			deleted += n
			times = append(times, time.Since(start))
		}
		q.After, done = found.Next, found.Done
	}
	took := time.Since(began)
	if len(times) == 0 {
		b.Fatal("nothing has expired; the estate is too small")
	}
	for more := true; more; {
		var err error
		if more, err = e.Store.GiveBack(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(times)
	const mega = 1 << 20
	b.ReportMetric(float64(deleted), "deleted")
	b.ReportMetric(float64(deleted)/took.Seconds(), "deleted/s")
	b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(size.Bytes/mega), "MiB-before")
	b.ReportMetric(float64(e.space(b).Bytes/mega), "MiB-after")
	b.ReportMetric((time.Since(began) - took).Seconds(), "give-back-s")
}

func (e *estate) space(b *testing.B) pki.Space {
	b.Helper()
	space, err := e.Store.Space(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return space
}
