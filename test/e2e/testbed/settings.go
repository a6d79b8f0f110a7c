package testbed

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// setUp sets the server up as an operator does, and makes the profiles and credentials of "certloom dev" by the command
// line.
func (s *Certloom) setUp(ctx context.Context, t T, o *Options) {
	t.Helper()
	if err := s.writeSecrets(o.Postgres); err != nil {
		t.Fatal(err)
	}
	publicURL := "https://" + s.listen
	if o.Proxy != nil {
		publicURL = o.Proxy.URL
	}
	settings, err := s.writeSettings(publicURL, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.run(ctx, "init", "--config", settings, "--organization", "E2E"); err != nil {
		t.Fatal(err)
	}
	s.program.Args = []string{"server", "--config", settings}
	s.launch(ctx, t)
	s.readConnection(t, filepath.Join(s.program.Dir, "data", "admin.json"), o.Proxy)
	s.CLI(ctx, t, "profile", "create", "istio", "--template", "private-mtls", "--issuing-ca", "issuing",
		"--trust-domain", "cluster.local", "--allow-namespace", "*", "--allow-dns", "**.svc", "--allow-dns", "**.svc.cluster.local")
	s.CLI(ctx, t, "profile", "create", "server", "--template", "private-server", "--issuing-ca", "issuing",
		"--allow-dns", "**.svc", "--allow-dns", "**.localhost", "--allow-dns", "**.example.com")
	s.ACME = map[string]Credential{
		"istio":  s.CreateCredential(ctx, t, "istio", "e2e"),
		"server": s.CreateCredential(ctx, t, "server", "e2e"),
	}
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

// agentAddress is that of the agents' listener, one port above, as "certloom dev" has it.
func agentAddress(listen string) string {
	host, port, _ := net.SplitHostPort(listen)
	number, _ := strconv.Atoi(port)
	return net.JoinHostPort(host, strconv.Itoa(number+1))
}

// writeSettings writes the settings file and returns its path.
func (s *Certloom) writeSettings(publicURL string, o *Options) (string, error) {
	database := "{driver: sqlite}"
	if o.Postgres != "" {
		database = "{driver: postgres, dsnFile: dsn}"
	}
	settings := fmt.Sprintf(`publicUrl: %s
dataDir: data
database: %s
keys: {keyFile: master.key}
listen: {https: %q, agent: %q, health: %q}
tls: {profile: certloom, names: [localhost, 127.0.0.1]}
acme: {nonceRejectPercent: %d}
`, publicURL, database, s.listen, agentAddress(s.listen), strings.TrimPrefix(s.health, "http://"), o.NonceRejectPercent)
	if o.Provider != nil {
		settings += o.Provider.settings()
	}
	settings += o.Settings
	if err := writeFiles(s.program.Dir, map[string][]byte{"certloom.yaml": []byte(settings)}); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Join(s.program.Dir, "data"), 0o700); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	return filepath.Join(s.program.Dir, "certloom.yaml"), nil
}
