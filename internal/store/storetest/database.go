package storetest

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver that creates databases

	"github.com/certloom/certloom/internal/store"
)

// Database is a database for a test.
type Database struct {
	open func(ctx context.Context) (*store.Store, error)
}

// Open opens the database, the same one each time. The store is closed when the test ends, whether or not the test has.
func (d Database) Open(t testing.TB) *store.Store {
	t.Helper()
	s, err := d.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// Try opens the database, closes it again and returns what went wrong.
func (d Database) Try(ctx context.Context) error {
	s, err := d.open(ctx)
	if err != nil {
		return err
	}
	return s.Close()
}

// Changed returns the database with a change made to each store that is opened.
func (d Database) Changed(change func(s *store.Store)) Database {
	return Database{open: func(ctx context.Context) (*store.Store, error) {
		s, err := d.open(ctx)
		if err == nil {
			change(s)
		}
		return s, err
	}}
}

// SQLite returns an empty database in a folder of its own.
func SQLite(t testing.TB) Database {
	t.Helper()
	return SQLiteFile(filepath.Join(t.TempDir(), "certloom.db"))
}

// SQLiteFile returns the database in a file, which is made when it does not exist.
func SQLiteFile(path string) Database {
	return Database{open: func(ctx context.Context) (*store.Store, error) {
		return store.OpenSQLite(ctx, store.SQLiteConfig{Path: path, Now: time.Now})
	}}
}

// postgresVariable names the server on which tests create databases.
const postgresVariable = "CERTLOOM_TEST_POSTGRES"

// NeedPostgres returns the DSN of the server that CERTLOOM_TEST_POSTGRES names. Without the variable the test fails,
// unless it runs with -short: then it is left out.
func NeedPostgres(t testing.TB) string {
	t.Helper()
	server := os.Getenv(postgresVariable)
	switch {
	case server != "":
	case testing.Short():
		t.Skip("-short leaves PostgreSQL out")
	default:
		t.Fatalf("%s is not set; `make test` starts a PostgreSQL and sets it", postgresVariable)
	}
	return server
}

// Postgres returns an empty database of that server, which is dropped in the end.
func Postgres(t testing.TB) Database {
	t.Helper()
	server := NeedPostgres(t)
	name := "certloom_" + strings.ToLower(rand.Text())
	administer(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { administer(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	dsn := withDatabase(t, server, name)
	return Database{open: func(ctx context.Context) (*store.Store, error) {
		return store.OpenPostgres(ctx, store.PostgresConfig{DSN: dsn, Now: time.Now})
	}}
}

// OpenSQLite opens an empty SQLite database for the tests of another package.
func OpenSQLite(t testing.TB) *store.Store { return SQLite(t).Open(t) }

func administer(t testing.TB, server, statement string) {
	t.Helper()
	db, err := sql.Open("pgx", server)
	if err != nil {
		t.Fatalf("%s: %v", postgresVariable, err)
	}
	defer func() { _ = db.Close() }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func withDatabase(t testing.TB, server, name string) string {
	t.Helper()
	if !strings.Contains(server, "://") {
		return fmt.Sprintf("%s dbname=%s", server, name)
	}
	address, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s: %v", postgresVariable, err)
	}
	address.Path = "/" + name
	return address.String()
}
