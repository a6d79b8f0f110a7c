package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
)

// PostgresConfig says how to open a PostgreSQL database.
type PostgresConfig struct {
	DSN        string                // postgres://user:password@host:port/database?sslmode=..., or key=value pairs
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
	Now        func() time.Time      // the clock
	// LapsingShare is after which part of a certificate's life, in percent, its identity lapses; 0: 75.
	LapsingShare int
}

// Connections of one process. Each writer has one for itself.
const (
	postgresWriters = 4
	postgresReaders = 12
)

// migrationLock is the key of the advisory lock under which one replica at a time migrates. Any constant will do that
// nothing else in the database uses.
const migrationLock = 0x63657274_6c6f6f6d // "certloom"

// OpenPostgres opens a PostgreSQL database and brings its schema up to date. Any number of processes may have it open.
// Call Close in the end. Errors never hold the DSN's password.
func OpenPostgres(ctx context.Context, cfg PostgresConfig) (*Store, error) {
	if cfg.DSN == "" || cfg.Now == nil {
		return nil, errors.New("open PostgreSQL: DSN and clock are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	parsed, err := pgx.ParseConfig(cfg.DSN)
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL DSN: %w", err) // pgx leaves the password out
	}
	if parsed.RuntimeParams["application_name"] == "" {
		parsed.RuntimeParams["application_name"] = "certloom"
	}
	// A commit must be on the disk when it returns, whatever the server's default is.
	parsed.RuntimeParams["synchronous_commit"] = "on"
	// A replica whose machine is gone leaves its transactions open. Their locks must end soon, not when TCP notices.
	parsed.RuntimeParams["idle_in_transaction_session_timeout"] = "30s"
	if parsed.ValidateConnect == nil {
		// Of several hosts, and of one whose name moves, only the primary will do: a standby may not know yet that a
		// credential was revoked.
		parsed.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	}
	db := stdlib.OpenDB(*parsed)
	db.SetMaxOpenConns(postgresWriters + postgresReaders)
	db.SetMaxIdleConns(postgresWriters + postgresReaders)
	d := postgresDialect()
	applied, err := migratePostgres(ctx, db, d, cfg.Now())
	if err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("open PostgreSQL database %q on %s: %w", parsed.Database, parsed.Host, err)
	}
	if applied > 0 {
		cfg.Logger.InfoContext(ctx, "database schema brought up to date", "migrations", applied)
	}
	s, err := newStore(settings{
		dialect: d, now: cfg.Now, logger: cfg.Logger, registerer: cfg.Registerer,
		reader: db, connect: db.Conn, writers: postgresWriters, slots: replicaSlots(cfg.Now()), lapsing: cfg.LapsingShare,
	})
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return s, nil
}

// replicaSlots chooses where this process's counters begin. Two replicas that happen to share a slot count correctly,
// only slower.
func replicaSlots(now time.Time) int64 {
	const replicas = 64
	return (int64(os.Getpid()) ^ now.UnixMicro()) % replicas * postgresWriters
}

func migratePostgres(ctx context.Context, db *sql.DB, d *dialect, now time.Time) (applied int, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		return 0, fmt.Errorf("wait for other replicas: %w", err)
	}
	defer func() {
		_, unlock := conn.ExecContext(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock($1)`, int64(migrationLock))
		err = errors.Join(err, unlock)
	}()
	return migrate(ctx, conn, d, now)
}
