package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Store is an open database. Make it with OpenSQLite or OpenPostgres, end it with Close. Safe for concurrent use.
type Store struct {
	dialect *dialect
	path    string // of SQLite's file
	now     func() time.Time
	logger  *slog.Logger
	metrics *metrics
	reader  *sql.DB
	writer  *writer
	sources *lru.Cache[source, int64] // certificate sources by what they are; filled after commits only
	cleanup []func() error            // run by Close, last first
	texts   *statementTexts
	// questions of FinalizeFacts, to be asked together.
	questions    questions
	lapsingShare int // percent of a certificate's life
	limits       searchLimits

	statements sync.Map // query text → *sql.Stmt of reader, when the dialect prepares
	failing    atomic.Bool
	closeOnce  sync.Once
	closeErr   error
}

// settings are what both databases are opened with.
type settings struct {
	dialect    *dialect
	now        func() time.Time
	logger     *slog.Logger
	registerer prometheus.Registerer
	reader     *sql.DB
	connect    func(context.Context) (*sql.Conn, error) // a connection for a writer
	writers    int
	slots      int64 // where the writers' slots of counters begin
	lapsing    int   // share of a certificate's life after which its identity lapses, in percent; 0: the default
}

// cachedSources bounds the cache of certificate sources: one is needed for each ACME account that is busy.
const cachedSources = 16384

func newStore(set settings) (*Store, error) {
	m, err := newMetrics(set.registerer)
	if err != nil {
		return nil, err
	}
	sources, err := lru.New[source, int64](cachedSources)
	if err != nil {
		return nil, fmt.Errorf("make cache of sources: %w", err)
	}
	s := &Store{
		dialect: set.dialect, now: set.now, logger: set.logger, metrics: m, reader: set.reader, sources: sources,
		texts: newStatementTexts(set.dialect), limits: usualLimits(), lapsingShare: cmp.Or(set.lapsing, pki.DefaultLapsingShare),
	}
	s.writer = startWriter(s, set)
	return s, nil
}

// Dialect is "sqlite" or "postgres".
func (s *Store) Dialect() string { return s.dialect.name }

// Close waits for the writes that were accepted, refuses new ones with Unavailable and closes the database. It may
// be called more than once; each call returns the first one's result.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.writer.stop()
		var errs []error
		s.statements.Range(func(_, stmt any) bool {
			if prepared, ok := stmt.(*sql.Stmt); ok {
				errs = append(errs, prepared.Close())
			}
			return true
		})
		errs = append(errs, s.reader.Close())
		for i := len(s.cleanup) - 1; i >= 0; i-- {
			errs = append(errs, s.cleanup[i]())
		}
		s.closeErr = errors.Join(errs...)
	})
	return s.closeErr
}

// Ping reports whether the database answers. After a transaction that failed as a whole it also tries to write, so
// that a full disk is not reported as health, nor recovery as illness.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.queryRow(ctx, `SELECT 1`).Scan(&one); err != nil {
		return s.readError("ping", err)
	}
	if !s.failing.Load() {
		return nil
	}
	return s.write(ctx, "ping", func(ctx context.Context, t *tx) error {
		return t.count(ctx, "ping", 0)
	})
}

// query runs a reading statement on the pool. The caller closes the rows.
func (s *Store) query(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if !s.dialect.prepare {
		return s.reader.QueryContext(ctx, query, s.dialect.arguments(args)...)
	}
	stmt, err := s.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// queryOnce is query for texts that are put together from a filter. They are too many to keep prepared.
func (s *Store) queryOnce(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return s.reader.QueryContext(ctx, s.dialect.numbered(query), s.dialect.arguments(args)...)
}

// row is the part of sql.Row that callers use.
type row interface{ Scan(dest ...any) error }

type failedRow struct{ err error }

// Scan returns why there is no row.
func (f failedRow) Scan(...any) error { return f.err }

func (s *Store) queryRow(ctx context.Context, query string, args ...any) row {
	if !s.dialect.prepare {
		return s.reader.QueryRowContext(ctx, query, s.dialect.arguments(args)...)
	}
	stmt, err := s.statement(ctx, query)
	if err != nil {
		return failedRow{err}
	}
	// A context that can end makes the driver start a goroutine for each statement. Single rows are found faster
	// than that pays.
	return stmt.QueryRowContext(context.WithoutCancel(ctx), args...)
}

// statement returns the pool's prepared statement for a query text. Texts come from a closed set: lists of
// placeholders have lengths that are powers of two, and filters a bounded number of combinations.
func (s *Store) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if found, ok := s.statements.Load(query); ok {
		if stmt, ok := found.(*sql.Stmt); ok {
			return stmt, nil
		}
	}
	stmt, err := s.reader.PrepareContext(ctx, s.dialect.numbered(query))
	if err != nil {
		return nil, err
	}
	if found, loaded := s.statements.LoadOrStore(query, stmt); loaded {
		_ = stmt.Close() // another goroutine was faster
		if existing, ok := found.(*sql.Stmt); ok {
			return existing, nil
		}
	}
	return stmt, nil
}

// readError gives an error of a reading statement its kind.
func (s *Store) readError(operation string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", operation, err)
	case errors.Is(err, sql.ErrConnDone), s.dialect.down(err):
		return unavailable(fmt.Errorf("%s: %w", operation, err))
	default:
		return fmt.Errorf("%s: %w", operation, err)
	}
}

// retryAfter is what clients are told when the database is busy or away.
const retryAfter = 2 * time.Second

func unavailable(cause error) *fault.Error {
	public := "the database does not answer; try again"
	if errors.Is(cause, errQueueFull) {
		public = "more work is waiting than the database can take; try again"
	}
	e := fault.Wrap(cause, fault.Unavailable, "%s", public)
	e.RetryAfter = retryAfter
	return e
}

// found returns the row that was looked for by a name, or NotFound.
func found[T any](s *Store, one *T, err error, what, name string) (*T, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound(what, name)
	}
	if err != nil {
		return nil, s.readError("read "+what, err)
	}
	return one, nil
}

// collect reads all rows into values. It closes the rows.
func collect[T any](rows *sql.Rows, err error, scan func(row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	return all, nil
}

func scanned[T any](r row) (T, error) {
	var v T
	err := r.Scan(&v)
	return v, err
}
