package testbed

import (
	"context"
	"crypto/rand"
	"encoding/base64"
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

// startOnPostgres sets the server up as an operator does, and makes the profiles and credentials of "certloom dev" by
// the command line.
func (s *Certloom) startOnPostgres(ctx context.Context, t T, dsn string) {
	t.Helper()
	if err := s.writeSecrets(dsn); err != nil {
		t.Fatal(err)
	}
	settings, err := s.writeSettings("https://" + s.listen)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(ctx, "init", "--config", settings, "--organization", "E2E"); err != nil {
		t.Fatal(err)
	}
	s.program.Args = []string{"server", "--config", settings}
	s.launch(ctx, t)
	s.readConnection(t, filepath.Join(s.program.Dir, "data", "admin.json"))
	s.CLI(ctx, t, "profile", "create", "istio", "--template", "private-mtls", "--issuing-ca", "issuing",
		"--trust-domain", "cluster.local", "--allow-namespace", "*", "--allow-dns", "**.svc", "--allow-dns", "**.svc.cluster.local")
	s.CLI(ctx, t, "profile", "create", "server", "--template", "private-server", "--issuing-ca", "issuing",
		"--allow-dns", "**.svc", "--allow-dns", "**.localhost", "--allow-dns", "**.example.com")
	s.ACME = map[string]Credential{
		"istio":  s.CreateCredential(ctx, t, "istio", "e2e"),
		"server": s.CreateCredential(ctx, t, "server", "e2e"),
	}
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
	settings, err := r.writeSettings(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.program.Args = []string{"server", "--config", settings}
	r.launch(ctx, t)
	return r
}

// writeSecrets writes the files that the settings name.
func (s *Certloom) writeSecrets(dsn string) error {
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	return writeFiles(s.program.Dir, map[string][]byte{
		"dsn": []byte(dsn + "\n"), "master.key": []byte(base64.StdEncoding.EncodeToString(key) + "\n"),
	})
}

// writeSettings writes the settings file and returns its path.
func (s *Certloom) writeSettings(publicURL string) (string, error) {
	settings := fmt.Sprintf(`publicUrl: %s
dataDir: data
database: {driver: postgres, dsnFile: dsn}
keys: {keyFile: master.key}
listen: {https: %q, health: %q}
tls: {profile: certloom, names: [localhost, 127.0.0.1]}
`, publicURL, s.listen, strings.TrimPrefix(s.health, "http://"))
	if err := writeFiles(s.program.Dir, map[string][]byte{"certloom.yaml": []byte(settings)}); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(s.program.Dir, "data"), 0o700); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	return filepath.Join(s.program.Dir, "certloom.yaml"), nil
}
