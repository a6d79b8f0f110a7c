package store_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store/storetest"
)

// benchmarked are the databases of the benchmarks.
var benchmarked = map[string]func(testing.TB) storetest.Database{"sqlite": storetest.SQLite, "postgres": storetest.Postgres}

// BenchmarkRecordCertificate measures what an issuance costs the store, with as many at once as there are clients. The
// metric cpu-us/op is this process's processor time: with PostgreSQL, that of the server comes on top.
func BenchmarkRecordCertificate(b *testing.B) {
	for name, fresh := range benchmarked {
		for _, clients := range []int{1, 16, 64} {
			b.Run(fmt.Sprintf("%s/clients=%d", name, clients), func(b *testing.B) {
				f := storetest.Seed(b, fresh(b).Open(b))
				recordMany(b, f, b.N, clients, 10_000, 0)
			})
		}
	}
}

// recordMany stores n certificates of the given number of workloads.
func recordMany(b *testing.B, f *storetest.Fixture, n, clients, workloads, offset int) {
	b.Helper()
	type work struct {
		certificate *pki.Certificate
		id          pki.SPIFFEID
		event       audit.Event
	}
	all := make([]work, n)
	for i := range all {
		id := storetest.Workload(fmt.Sprintf("ns-%d", i%100), fmt.Sprintf("workload-%d", (offset+i)%workloads))
		c := f.NewCertificate(b, id.String(), storetest.Now().Add(time.Duration(offset+i)*time.Millisecond))
		c.DER = c.DER[:650]
		c.NotAfter = c.NotAfter.Add(-time.Duration(i%100) * time.Minute) // jitter
		c.RenewAt = pki.RenewAt(c.NotBefore, c.NotAfter)
		ev := storetest.Event(audit.CertificateIssue)
		ev.Target, ev.Actor.ID = string(c.Serial), string(f.Account.ID)
		ev.Detail = audit.Detail{
			Profile: c.ProfileID, Credential: c.CredentialID, Account: c.AccountID, Order: c.OrderID, Names: &c.Names,
			CSRHash: fmt.Sprintf("%x", c.CSRHash),
		}
		all[i] = work{c, id, ev}
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	latencies := make([]time.Duration, n)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := processorTime(b)
	for range clients {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				w := all[i]
				began := time.Now()
				if _, won, err := f.Store.RecordCertificate(context.Background(), w.certificate, w.id, w.event); err != nil || !won {
					b.Errorf("won %t, error %v", won, err)
					return
				}
				latencies[i] = time.Since(began)
			}
		})
	}
	wg.Wait()
	slices.Sort(latencies)
	for name, share := range map[string]int{"p50-ms": 50, "p99-ms": 99} {
		b.ReportMetric(float64(latencies[n*share/100].Microseconds())/1000, name)
	}
	b.ReportMetric(float64(latencies[n-1].Microseconds())/1000, "max-ms")
	b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/float64(n), "cpu-us/op")
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "op/s")
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkFinalizeFacts measures the one query of each finalize.
func BenchmarkFinalizeFacts(b *testing.B) {
	for name, fresh := range benchmarked {
		b.Run(name, func(b *testing.B) {
			f := storetest.Seed(b, fresh(b).Open(b))
			b.ReportAllocs()
			cpu := processorTime(b)
			for b.Loop() {
				facts, err := f.Store.FinalizeFacts(b.Context(), "order", f.Account.ID, f.Credential.ID, f.Profile.ID, "thumbprint",
					[32]byte{1}, storetest.Now())
				if err != nil || !facts.ProfileActive {
					b.Fatal(facts, err)
				}
			}
			b.ReportMetric(float64((processorTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}
