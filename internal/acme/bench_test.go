package acme_test

import (
	"net/http"
	"testing"

	"github.com/certloom/certloom/internal/acme/acmetest"
)

// BenchmarkSPIFFEOrder is what one mesh certificate costs: newOrder, finalize, download and a read of the order, with
// 16 clients at once, real storage and no network. The clients' signatures are in the time.
func BenchmarkSPIFFEOrder(b *testing.B) {
	s := acmetest.Start(b, acmetest.Options{})
	c := s.Register(b, "istio")
	csr := make([][]byte, 64)
	for i := range csr {
		csr[i] = acmetest.WorkloadCSR(b, workload)
	}
	b.ReportAllocs()
	b.SetParallelism(8)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			o := c.NewOrder(b)
			answer := c.Finalize(b, o, csr[i%len(csr)])
			if answer.Status != http.StatusOK {
				b.Errorf("finalize: %d %s", answer.Status, answer.Body)
				return
			}
			if answer := c.Read(b, answer.Order(b).Certificate); answer.Status != http.StatusOK {
				b.Errorf("download: %d %s", answer.Status, answer.Body)
			}
			if answer := c.Read(b, o.URL); answer.Status != http.StatusOK {
				b.Errorf("order: %d %s", answer.Status, answer.Body)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
}

// BenchmarkNewNonce is the most frequent request of clients that keep no nonces.
func BenchmarkNewNonce(b *testing.B) {
	s := acmetest.Start(b, acmetest.Options{})
	c := s.NewClient(b)
	b.ReportAllocs()
	for b.Loop() {
		c.Get(b, c.Prefix+"/new-nonce")
	}
}
