package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// waitFor lets other goroutines run until the condition holds.
func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func countEvents(t *testing.T, s *store.Store) int64 {
	t.Helper()
	return store.Count(t, s, `SELECT count(*) FROM event`)
}

func TestFullQueueIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	s, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{
		Path: filepath.Join(t.TempDir(), "a.db"), Now: time.Now, Registerer: registry,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	release := store.Block(t, s)
	var wg sync.WaitGroup
	for range store.QueueLimit {
		wg.Go(func() {
			if err := s.RecordEvent(context.Background(), storetest.Event(audit.OrderRefuse)); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "a full queue", func() bool { return store.Waiting(s) == store.QueueLimit })
	err = s.RecordEvent(t.Context(), storetest.Event(audit.OrderRefuse))
	if !fault.Is(err, fault.Unavailable) || fault.From(err).RetryAfter <= 0 {
		t.Errorf("got %v, want Unavailable with a time to try again", err)
	}
	release()
	wg.Wait()
	if got := countEvents(t, s); got != store.QueueLimit {
		t.Errorf("%d events stored, want %d", got, store.QueueLimit)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP certloom_store_queue_full_total Operations refused because too many were waiting to be written.
# TYPE certloom_store_queue_full_total counter
certloom_store_queue_full_total 1
`), "certloom_store_queue_full_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "certloom_store_batch_size"); n != 1 || err != nil {
		t.Error(n, err)
	}
}

func TestGivenUpWhileWaitingIsNotExecuted(t *testing.T) {
	t.Parallel()
	s := storetest.OpenSQLite(t)
	release := store.Block(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error)
	go func() { result <- s.RecordEvent(ctx, storetest.Event(audit.OrderRefuse)) }()
	waitFor(t, "the operation to wait", func() bool { return store.Waiting(s) == 1 })
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	release()
	if err := s.RecordEvent(t.Context(), storetest.Event(audit.OrderRefuse)); err != nil {
		t.Fatal(err)
	}
	if got := countEvents(t, s); got != 1 {
		t.Errorf("%d events stored, want the second one only", got)
	}
}

func TestCloseStoresWhatWasAccepted(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	release := store.Block(t, s)
	const accepted = 50
	var wg sync.WaitGroup
	for range accepted {
		wg.Go(func() {
			if err := s.RecordEvent(context.Background(), storetest.Event(audit.OrderRefuse)); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "the operations to wait", func() bool { return store.Waiting(s) == accepted })
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	release()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	wg.Wait()
	if got := countEvents(t, db.Open(t)); got != accepted {
		t.Errorf("%d events stored, want %d", got, accepted)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	s := storetest.OpenSQLite(t)
	f := storetest.Seed(t, s)
	store.Run(t, s, `PRAGMA max_page_count = 1`) // no more pages than there are
	var stored []*pki.Certificate
	var failure error
	for i := 0; failure == nil && i < 10_000; i++ {
		c := f.NewCertificate(t, fmt.Sprintf("h%d.example", i), storetest.Now())
		if _, _, failure = s.RecordCertificate(t.Context(), c, pki.SPIFFEID{}, storetest.Event(audit.CertificateIssue)); failure == nil {
			stored = append(stored, c)
		}
	}
	if !fault.Is(failure, fault.Unavailable) {
		t.Fatalf("got %v, want Unavailable", failure)
	}
	if err := s.Ping(t.Context()); err != nil && !fault.Is(err, fault.Unavailable) {
		t.Errorf("ping: %v", err)
	}
	for _, c := range stored {
		if _, err := s.Certificate(t.Context(), c.Serial); err != nil {
			t.Errorf("reading while the disk is full: %v", err)
		}
	}
	store.Run(t, s, `PRAGMA max_page_count = 1000000`)
	f.Record(t, f.NewCertificate(t, "after.example", storetest.Now()))
	if err := s.Ping(t.Context()); err != nil {
		t.Errorf("ping after there is room again: %v", err)
	}
	if got, want := countEvents(t, s), int64(len(stored)+1+4); got != want { // 4 of the fixture
		t.Errorf("%d events stored, want %d", got, want)
	}
}

// TestBrokenConnections ends all connections of the server's side, as its restart does.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	s := storetest.Postgres(t).Open(t)
	f := storetest.Seed(t, s)
	for range 3 {
		store.Count(t, s, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		for i := range 8 {
			f.Record(t, f.NewCertificate(t, fmt.Sprintf("h%d.example", i), storetest.Now()))
		}
		if err := s.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
