package testbed

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// PostgresVariable names the environment variable with the connection string of a PostgreSQL server that the tests may
// make databases in.
const PostgresVariable = "CERTLOOM_TEST_POSTGRES"

// FreshDatabase makes an empty database on the server that dsn names and drops it after the test.
func FreshDatabase(ctx context.Context, t T, dsn string) string {
	t.Helper()
	name := "certloom_e2e_" + strings.ToLower(rand.Text())
	if err := execute(ctx, dsn, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		if err := execute(ctx, dsn, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
	})
	fresh, err := url.Parse(dsn)
	if err != nil {
		t.Fatalf("%s must be a URL: %v", PostgresVariable, err)
	}
	fresh.Path = "/" + name
	return fresh.String()
}

func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Replica starts another server on the same database and keys. It answers for the same public URL on an address of its
// own, so that only a client that dials it gets to it: see Spread.
func (s *Certloom) Replica(ctx context.Context, t T) *Certloom {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir, port := Folder(t), Ports(t, 3)
	r := &Certloom{
		Connection: s.Connection, binary: s.binary, cli: s.cli, listen: fmt.Sprintf("localhost:%d", port),
		health: "http://" + Addr(port+2), program: Program{Name: "certloom", Path: s.binary, Dir: dir, Env: s.program.Env},
	}
	for _, name := range []string{"dsn", "master.key"} {
		if err := os.Link(filepath.Join(s.program.Dir, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	settings, err := r.writeSettings(s.URL, &Options{Postgres: "given"})
	if err != nil {
		t.Fatal(err)
	}
	r.program.Args = []string{"server", "--config", settings}
	r.launch(ctx, t)
	return r
}
