package e2e_test

import (
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestReplicas has every request of a client go to another of two servers than the one before, so that each needs the
// nonces, accounts, orders and certificates of the other, and kills one of them on the way.
func TestReplicas(t *testing.T) {
	dsn := os.Getenv(testbed.PostgresVariable)
	if dsn == "" {
		t.Logf("replicas share a PostgreSQL, and %s names none", testbed.PostgresVariable)
		return
	}
	const clients, each = 8, 50
	first := testbed.StartCertloom(t.Context(), t, testbed.Options{Postgres: testbed.FreshDatabase(t.Context(), t, dsn)})
	second := first.Replica(t.Context(), t)
	l := newLoad(t, first, clients, func() *http.Client { return testbed.Spread(t, first, second) })
	chain := make(chan []byte)
	var wait sync.WaitGroup
	for _, w := range l.workers {
		w.limit = each
		wait.Go(func() {
			if err := w.run(t.Context(), chain); err != nil {
				t.Errorf("%s: %v", w.name, err)
			}
		})
	}
	go func() {
		wait.Wait()
		close(chain)
	}()
	got := 0
	for c := range chain {
		l.keep(t, c)
		if got++; got == clients*each/2 {
			second.Kill()
		}
	}
	l.account(t, l.compare(t))
	if len(l.held) != clients*each {
		t.Errorf("clients got %d certificates, want %d", len(l.held), clients*each)
	}
	t.Logf("%d certificates through two servers, one of which was killed half-way", len(l.held))
}
