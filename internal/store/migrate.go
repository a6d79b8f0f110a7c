package store

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations
var migrationFiles embed.FS

// migration is one step of the schema. Steps are never changed once released; they only add.
type migration struct {
	number int64
	name   string
	text   string
}

// migrations reads the steps of a dialect, in order. Their file names are NUMBER_NAME.sql.
func migrations(dialect string) ([]migration, error) {
	folder := path.Join("migrations", dialect)
	entries, err := fs.ReadDir(migrationFiles, folder)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	var all []migration
	for _, entry := range entries {
		number, name, _ := strings.Cut(strings.TrimSuffix(entry.Name(), ".sql"), "_")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: its name does not begin with a number", entry.Name())
		}
		text, err := fs.ReadFile(migrationFiles, path.Join(folder, entry.Name()))
		if err != nil {
			return nil, fmt.Errorf("read migration: %w", err)
		}
		all = append(all, migration{number: n, name: name, text: string(text)})
	}
	slices.SortFunc(all, func(a, b migration) int { return int(a.number - b.number) })
	return all, nil
}

// migrate brings the database to the newest step that this program knows, each in a transaction of its own. The
// caller holds a lock against other processes. A database that is newer is refused: an older program might do harm.
func migrate(ctx context.Context, conn *sql.Conn, d *dialect, now time.Time) (applied int, err error) {
	all, err := migrations(d.name)
	if err != nil {
		return 0, err
	}
	// Not quite the same type in both; INTEGER is 64 bits in SQLite, and the number is small.
	_, err = conn.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS migration (
		number INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)`)
	if err != nil {
		return 0, fmt.Errorf("create table of migrations: %w", err)
	}
	var current int64
	if err := conn.QueryRowContext(ctx, `SELECT coalesce(max(number), 0) FROM migration`).Scan(&current); err != nil {
		return 0, fmt.Errorf("read migrations: %w", err)
	}
	if newest := all[len(all)-1].number; current > newest {
		return 0, fmt.Errorf("the database has schema version %d, but this program knows only up to %d; "+
			"start a newer certloom, or restore a backup made with this one", current, newest)
	}
	for _, step := range all {
		if step.number <= current {
			continue
		}
		if err := step.apply(ctx, conn, d, now); err != nil {
			return applied, fmt.Errorf("migration %04d_%s: %w", step.number, step.name, err)
		}
		applied++
	}
	return applied, nil
}

func (m migration) apply(ctx context.Context, conn *sql.Conn, d *dialect, now time.Time) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, m.text); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	_, err = tx.ExecContext(ctx, d.numbered(`INSERT INTO migration (number, name, applied_at) VALUES ($1, $2, $3)`),
		m.number, m.name, now.UnixMicro())
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
