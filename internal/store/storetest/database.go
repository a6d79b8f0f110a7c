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

// Database opens the same database each time that Open is called. Close what it returned before.
type Database struct {
	Open func(t testing.TB) *store.Store
}

// SQLite returns an empty database in a folder of its own.
func SQLite(t testing.TB) Database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "certloom.db")
	return Database{Open: func(t testing.TB) *store.Store {
		t.Helper()
		s, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: path, Now: time.Now})
		return opened(t, s, err)
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
	return Database{Open: func(t testing.TB) *store.Store {
		t.Helper()
		s, err := store.OpenPostgres(t.Context(), store.PostgresConfig{DSN: dsn, Now: time.Now})
		return opened(t, s, err)
	}}
}

// OpenSQLite opens an empty SQLite database for the tests of another package.
func OpenSQLite(t testing.TB) *store.Store { return SQLite(t).Open(t) }

// opened closes the store when the test ends, whether or not the test has.
func opened(t testing.TB, s *store.Store, err error) *store.Store {
	t.Helper()
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
