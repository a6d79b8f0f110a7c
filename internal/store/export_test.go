package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"
	"testing"
)

// Narrow makes the store take few certificates for many, so that its searches take the paths that a large estate needs.
func Narrow(s *Store) {
	s.limits = searchLimits{
		chains: 2, sources: 1, window: 4, candidates: 6, identityWindow: 2, identityCandidates: 3, orders: 2,
	}
}

// Migrations returns the numbers and names of a dialect's migrations.
func Migrations(t testing.TB, dialect string) []string {
	t.Helper()
	all, err := migrations(dialect)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range all {
		names = append(names, itoa(int(m.number))+" "+m.name)
	}
	return names
}

// QueueLimit is how many operations may wait.
const QueueLimit = queueLimit

// Block keeps a writer busy until release is called. It returns when the writer is.
func Block(t testing.TB, s *Store) (release func()) {
	t.Helper()
	began, end, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- s.write(context.Background(), "block", func(context.Context, *tx) error {
			close(began)
			<-end
			return nil
		})
	}()
	<-began
	return func() {
		close(end)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// Waiting returns how many operations wait.
func Waiting(s *Store) int { return len(s.writer.queue) }

// Run runs a statement on a writer's connection.
func Run(t testing.TB, s *Store, statement string) {
	t.Helper()
	err := s.write(t.Context(), "test", func(ctx context.Context, tx *tx) error {
		_, err := tx.session.conn.ExecContext(ctx, statement)
		tx.wrote = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Count returns what a query counts.
func Count(t testing.TB, s *Store, query string) int64 {
	t.Helper()
	n, err := scanned[int64](s.queryRow(t.Context(), query))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Text returns the text that a query selects.
func Text(t testing.TB, s *Store, query string) string {
	t.Helper()
	text, err := scanned[string](s.queryRow(t.Context(), query))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Writers is how many writers a store has.
func Writers(s *Store) int {
	if s.dialect.prepare {
		return 1
	}
	return postgresWriters
}

// Statement runs a statement in the transaction of an operation.
type Statement func(query string, args ...any) error

// Write runs an operation of the test's. alone says that it does not share its transaction.
func Write(ctx context.Context, s *Store, run func(alone bool, statement Statement) error) error {
	return s.write(ctx, "test", func(ctx context.Context, t *tx) error {
		return run(t.alone, func(query string, args ...any) error {
			_, err := t.session.conn.ExecContext(ctx, query, args...)
			t.wrote = true
			return err
		})
	})
}

// Disconnect makes every later connection of the writers fail, and returns how many were tried.
func Disconnect(s *Store) *atomic.Int64 {
	tried := new(atomic.Int64)
	s.writer.connect = func(context.Context) (*sql.Conn, error) {
		tried.Add(1)
		return nil, driver.ErrBadConn
	}
	return tried
}

// WriterText returns what a query selects on a writer's connection, within a transaction.
func WriterText(t testing.TB, s *Store, query string) string {
	t.Helper()
	var text string
	err := s.write(t.Context(), "test", func(ctx context.Context, tx *tx) error {
		return tx.session.conn.QueryRowContext(ctx, query).Scan(&text)
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}
