package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// both runs a test on each database.
func both(t *testing.T, test func(t *testing.T, s *store.Store)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, storetest.SQLite(t).Open(t))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		storetest.NeedPostgres(t)
		test(t, storetest.Postgres(t).Open(t))
	})
}

// together runs functions that write so that all they write first shares a transaction. Each function makes one
// write, in the order given.
func together(t *testing.T, s *store.Store, writes ...func()) {
	t.Helper()
	var releases []func()
	for range store.Writers(s) {
		releases = append(releases, store.Block(t, s))
	}
	var group sync.WaitGroup
	for i, write := range writes {
		group.Go(write)
		waitFor(t, "a write to wait", func() bool { return store.Waiting(s) == i+1 })
	}
	releases[0]() // one writer takes them all
	group.Wait()
	for _, release := range releases[1:] {
		release()
	}
}

// event returns a function that records an event, which must succeed.
func event(t *testing.T, s *store.Store) func() {
	t.Helper()
	return func() {
		if err := s.RecordEvent(context.Background(), storetest.Event(audit.OrderRefuse)); err != nil {
			t.Errorf("a write that shared a transaction: %v", err)
		}
	}
}

var errPoison = errors.New("statement that cannot be")

// TestPanicInAnOperation: neither the process nor the other operations pay for it.
func TestPanicInAnOperation(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *store.Store) {
		var failure error
		together(t, s, event(t, s), func() {
			failure = store.Write(context.Background(), s, func(bool, store.Statement) error { panic("at the disco") })
		}, event(t, s))
		if failure == nil || fault.From(failure).Kind != fault.Internal {
			t.Errorf("the operation that panicked: %v, want an internal error", failure)
		}
		event(t, s)()
		if got := countEvents(t, s); got != 3 {
			t.Errorf("%d events stored, want 3", got)
		}
	})
}

// TestErrorOfOneOperation: an error that is not the database's fault is not taken for an outage, and hits no other.
func TestErrorOfOneOperation(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *store.Store) {
		var failure error
		together(t, s, event(t, s), func() {
			failure = store.Write(context.Background(), s, func(bool, store.Statement) error { return errPoison })
		}, event(t, s))
		if !errors.Is(failure, errPoison) || fault.From(failure).Kind != fault.Internal {
			t.Errorf("the operation that failed: %v, want its own error", failure)
		}
		if got := countEvents(t, s); got != 2 {
			t.Errorf("%d events stored, want 2", got)
		}
	})
}

// TestOutageWhileOperationsRunOneByOne: the rest of them do not wait for one attempt to connect each.
func TestOutageWhileOperationsRunOneByOne(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	s := storetest.Postgres(t).Open(t)
	var tried *atomic.Int64
	writes := []func(){func() {
		tried = store.Disconnect(s)
		err := store.Write(context.Background(), s, func(alone bool, statement store.Statement) error {
			if !alone {
				return errPoison
			}
			return statement(`SELECT pg_terminate_backend(pg_backend_pid())`)
		})
		if !fault.Is(err, fault.Unavailable) {
			t.Errorf("the operation whose connection broke: %v, want Unavailable", err)
		}
	}}
	const others = 20
	for range others {
		writes = append(writes, func() {
			err := s.RecordEvent(context.Background(), storetest.Event(audit.OrderRefuse))
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("an operation behind it: %v, want Unavailable", err)
			}
		})
	}
	together(t, s, writes...)
	if n := tried.Load(); n > 2 {
		t.Errorf("tried to connect %d times for %d operations", n, others)
	}
}

// TestDeadlock: the operation that PostgreSQL ends, so that the other can go on, is run again.
func TestDeadlock(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	s := storetest.Postgres(t).Open(t)
	var both, group sync.WaitGroup
	both.Add(2)
	for i := range 2 {
		group.Go(func() {
			first := true
			err := store.Write(context.Background(), s, func(_ bool, statement store.Statement) error {
				if err := statement(`SELECT pg_advisory_xact_lock($1)`, i); err != nil {
					return err
				}
				if first {
					first = false
					both.Done()
					both.Wait()
				}
				return statement(`SELECT pg_advisory_xact_lock($1)`, 1-i)
			})
			if err != nil {
				t.Errorf("operation %d: %v", i, err)
			}
		})
	}
	group.Wait()
}

// TestHiddenError: PostgreSQL answers the COMMIT of a transaction in which a statement failed with a ROLLBACK and no
// error. An operation that hides such a failure must not be taken for done, nor the others that shared the transaction.
func TestHiddenError(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *store.Store) {
		var hidden error
		together(t, s, event(t, s), func() {
			hidden = store.Write(context.Background(), s, func(_ bool, statement store.Statement) error {
				_ = statement(`INSERT INTO no_such_table VALUES (1)`)
				return nil
			})
		}, event(t, s))
		if got := countEvents(t, s); got != 2 {
			t.Errorf("%d events stored of 2 that were said to be", got)
		}
		if s.Dialect() == "postgres" && hidden == nil {
			t.Error("nothing of the operation is stored, but it was said to be")
		}
	})
}

// TestAccountMadeElsewhereMeanwhile: an operation that runs again must not remember what its first run thought.
func TestAccountMadeElsewhereMeanwhile(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	db := storetest.Postgres(t)
	s, other := db.Open(t), db.Open(t)
	f := storetest.Seed(t, s)
	mine, theirs := f.NewAccount(t, "one key"), f.NewAccount(t, "one key")
	together(t, s, func() {
		err := store.Write(context.Background(), s, func(alone bool, _ store.Statement) error {
			if !alone {
				return nil
			}
			_, created, err := other.CreateAccount(context.Background(), &theirs, 0, storetest.Event(audit.AccountCreate))
			if !created {
				t.Error("the other replica was not first")
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}, func() {
		stored, created, err := s.CreateAccount(context.Background(), &mine, 0, storetest.Event(audit.AccountCreate))
		if err != nil || created || stored.ID != theirs.ID {
			t.Errorf("account %v, created %t, error %v; want the other replica's", stored, created, err)
		}
	}, func() {
		_ = store.Write(context.Background(), s, func(bool, store.Statement) error { return errPoison })
	})
}

// TestCertificateNeedsItsEvent: the two are stored together or not at all.
func TestCertificateNeedsItsEvent(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *store.Store) {
		f := storetest.Seed(t, s)
		store.Run(t, s, map[string]string{
			"sqlite": `CREATE TRIGGER full BEFORE INSERT ON event WHEN new.action = 'certificate.issue'
				BEGIN SELECT raise(ABORT, 'no'); END`,
			"postgres": `ALTER TABLE event ADD CONSTRAINT "full" CHECK (action <> 'certificate.issue')`,
		}[s.Dialect()])
		writes := []func(){event(t, s)}
		for i := range 3 {
			c := f.NewCertificate(t, fmt.Sprintf("h%d.example", i), storetest.Now())
			writes = append(writes, func() {
				stored, won, err := s.RecordCertificate(context.Background(), c, pki.SPIFFEID{}, storetest.Event(audit.CertificateIssue))
				if err == nil || won || stored != nil {
					t.Errorf("stored %v, won %t, error %v without its event", stored, won, err)
				}
			})
		}
		together(t, s, writes...)
		for _, table := range []string{"certificate", "identity"} {
			if n := store.Count(t, s, "SELECT count(*) FROM "+table); n != 0 {
				t.Errorf("%d rows in %s without an event", n, table)
			}
		}
	})
}

// TestCommitsAreDurable looks at the settings that make a commit survive what comes after it, whatever the server's own
// are: those of the server of the tests are the opposite.
func TestCommitsAreDurable(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *store.Store) {
		want := map[string]map[string]string{
			"sqlite": {
				`SELECT synchronous FROM pragma_synchronous`:   "2", // FULL
				`SELECT journal_mode FROM pragma_journal_mode`: "wal",
			},
			"postgres": {
				`SHOW synchronous_commit`: "on",
				// A replica whose machine died must not keep its locks until TCP notices.
				`SHOW idle_in_transaction_session_timeout`: "30s",
				`SHOW transaction_isolation`:               "read committed",
			},
		}[s.Dialect()]
		for query, want := range want {
			if got := store.WriterText(t, s, query); got != want {
				t.Errorf("%s: %q, want %q", query, got, want)
			}
		}
	})
}
