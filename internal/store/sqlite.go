package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"modernc.org/sqlite"
)

// SQLiteConfig says how to open a SQLite database.
type SQLiteConfig struct {
	Path       string                // of the database file; made with mode 0600 when missing, in a folder that exists
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: none
	Now        func() time.Time      // the clock
	// LapsingShare is after which part of a certificate's life, in percent, its identity lapses; 0: 75.
	LapsingShare int
}

// Sizes of SQLite's page caches, in KiB. The writer's holds the parts of indexes that inserts touch; readers find most
// pages in the operating system's cache. There are more readers than cores, so that a few long lists at once do not
// keep finalize waiting.
const (
	writerCache = 32 << 10
	readerCache = 2 << 10
	readers     = 12
)

// OpenSQLite opens the database file, making it and bringing its schema up to date as needed. A file that another
// process has open is refused: SQLite would allow it, but there must be one writer. Call Close in the end.
func OpenSQLite(ctx context.Context, cfg SQLiteConfig) (_ *Store, err error) {
	if cfg.Path == "" || cfg.Now == nil {
		return nil, errors.New("open SQLite: path and clock are required")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open SQLite: %w", err)
	}
	var undo []func() error
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				_ = undo[i]()
			}
		}
	}()
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	undo = append(undo, lock.Close)
	if err := createPrivate(path); err != nil {
		return nil, err
	}
	useKernelWell()
	d := sqliteDialect()
	writer, reader, err := openPools(path)
	if err != nil {
		return nil, err
	}
	undo = append(undo, writer.Close, reader.Close)
	applied, err := migrateSQLite(ctx, writer, d, cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if applied > 0 {
		cfg.Logger.InfoContext(ctx, "database schema brought up to date", "migrations", applied)
	}
	s, err := newStore(settings{
		dialect: d, now: cfg.Now, logger: cfg.Logger, registerer: cfg.Registerer,
		reader: reader, connect: writer.Conn, writers: 1, lapsing: cfg.LapsingShare,
	})
	if err != nil {
		return nil, err
	}
	s.path, s.cleanup = path, []func() error{lock.Close, writer.Close}
	return s, nil
}

// createPrivate makes the file so that nobody else can read it, also not for a moment. SQLite gives its other files
// the same mode.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return fmt.Errorf("create database: %w", err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("create database: %w", err)
	}
	return nil
}

// useKernelWell chooses two things that the driver leaves as they always were, for the whole process. Where the
// system has neither, the driver goes on without.
//
// fdatasync makes a commit as durable as fsync does, without the journal's write for the file's timestamps. OFD locks
// do not vanish when something else in the process closes the same file (a backup, say), as POSIX locks do.
func useKernelWell() {
	_, _ = sqlite.Fdatasync(true)
	_, _ = sqlite.OFDLocking(true)
}

// openPools opens one connection that writes and a few that read.
func openPools(path string) (writer, reader *sql.DB, err error) {
	writer, err = sql.Open("sqlite", sqliteDSN(path, writerCache, nil))
	if err != nil {
		return nil, nil, fmt.Errorf("open database: %w", err)
	}
	writer.SetMaxOpenConns(1)
	reader, err = sql.Open("sqlite", sqliteDSN(path, readerCache, []string{"query_only(1)"}))
	if err != nil {
		_ = writer.Close()
		return nil, nil, fmt.Errorf("open database: %w", err)
	}
	reader.SetMaxOpenConns(readers)
	reader.SetMaxIdleConns(readers)
	return writer, reader, nil
}

// checkpointPages is the length of the write-ahead log, in pages of 4 KiB, at which a commit also moves it into the
// database. Longer than the usual 1,000: pages that many commits write (the ends of indexes) are then moved once.
const checkpointPages = 4000

// sqliteDSN is the file with its pragmas, busy_timeout first, so that the others wait for a lock instead of failing.
func sqliteDSN(path string, cache int, more []string) string {
	pragmas := append([]string{
		"busy_timeout(10000)",
		"auto_vacuum(INCREMENTAL)", // of a new file: what is deleted can be given back
		"journal_mode(WAL)",
		"synchronous(FULL)", // a commit is on the disk when it returns; NORMAL may lose the last ones with the power
		"foreign_keys(1)",
		"trusted_schema(0)",
		"temp_store(MEMORY)",
		"cache_size(-" + strconv.Itoa(cache) + ")",
		"wal_autocheckpoint(" + strconv.Itoa(checkpointPages) + ")",
		"journal_size_limit(67108864)", // after a burst the log shrinks to 64 MiB
	}, more...)
	query := url.Values{"_pragma": pragmas, "_dqs": {"0"}, "_defensive": {"1"}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}

func migrateSQLite(ctx context.Context, writer *sql.DB, d *dialect, now time.Time) (int, error) {
	conn, err := writer.Conn(ctx)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	return migrate(ctx, conn, d, now)
}
