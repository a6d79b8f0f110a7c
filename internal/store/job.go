package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"

	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverdatabasesql"
	"github.com/riverqueue/river/riverdriver/riversqlite"
	"github.com/riverqueue/river/rivermigrate"
)

// Jobs opens what the job library keeps its queue in, with tables that are up to date. It is called once; Close closes it.
//
// In PostgreSQL the queue lies beside everything else, where replicas share it. A SQLite database has one process, and
// what must survive that process lies in our own tables: there the queue lives in memory, where it costs issuing
// neither an fsync nor a wait for the write lock.
func (s *Store) Jobs(ctx context.Context) (riverdriver.Driver[*sql.Tx], error) {
	if s.dialect.name == "postgres" {
		driver := riverdatabasesql.New(s.reader)
		return driver, s.migrateJobs(ctx, driver)
	}
	// Named after the database, since a process may have several open; shared, so that the kept connection keeps it.
	dsn := (&url.URL{Scheme: "file", Path: s.path + ".jobs", RawQuery: "mode=memory&cache=shared&_pragma=busy_timeout(10000)"}).String()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("open queue of jobs: %w", err)
	}
	db.SetMaxOpenConns(1)
	keeper, err := sql.Open("sqlite", dsn)
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open queue of jobs: %w", err)
	}
	kept, err := keeper.Conn(ctx) // for as long as it is open, so is the memory
	if err != nil {
		_, _ = db.Close(), keeper.Close()
		return nil, fmt.Errorf("open queue of jobs: %w", err)
	}
	s.cleanup = append(s.cleanup, keeper.Close, kept.Close, db.Close)
	driver := riversqlite.New(db)
	return driver, migrateQueue(ctx, driver, s.logger)
}

// migrateJobs brings the queue's tables in PostgreSQL up to date, one replica at a time.
func (s *Store) migrateJobs(ctx context.Context, driver riverdriver.Driver[*sql.Tx]) (err error) {
	conn, err := s.reader.Conn(ctx)
	if err != nil {
		return s.readError("migrate jobs", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return s.readError("wait for other replicas", err)
	}
	defer func() {
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
		err = errors.Join(err, unlock)
	}()
	return migrateQueue(ctx, driver, s.logger)
}

func migrateQueue(ctx context.Context, driver riverdriver.Driver[*sql.Tx], logger *slog.Logger) error {
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("migrate queue of jobs: %w", err)
	}
	result, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	if err != nil {
		return fmt.Errorf("migrate queue of jobs: %w", err)
	}
	if n := len(result.Versions); n > 0 {
		logger.DebugContext(ctx, "queue of jobs brought up to date", "migrations", n)
	}
	return nil
}
