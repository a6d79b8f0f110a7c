package testbed

import (
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
)

// Pebble is Let's Encrypt's test server: it keeps to RFC 8555 more strictly than any CA that people use, finishes
// orders in its own time, and refuses good nonces.
type Pebble struct {
	Credential

	CAFile   string // of its own TLS
	RootFile string // of what it issues

	process *Process
}

// StartPebble starts it. Accounts need its credential; validations resolve names with that DNS server and ask http-01
// on that port. Variables such as PEBBLE_AUTHZREUSE=100 change how mean it is.
func StartPebble(ctx context.Context, t T, resolver string, httpPort int, variables ...string) *Pebble {
	t.Helper()
	built := ensure(ctx, t, "pebble")
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir, port := Folder(t), Ports(t, 2)
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		t.Fatal(err)
	}
	p := &Pebble{
		Credential: Credential{
			DirectoryURL: fmt.Sprintf("https://localhost:%d/dir", port), KeyID: "e2e", HMACKey: base64.RawURLEncoding.EncodeToString(key),
		},
		CAFile: filepath.Join(dir, "ca.pem"), RootFile: filepath.Join(dir, "root.pem"),
	}
	if err := p.writeSettings(dir, port, httpPort); err != nil {
		t.Fatal(err)
	}
	p.process = Start(t, Program{
		Name: "pebble", Path: filepath.Join(built["pebble"], "bin", "pebble"), Dir: dir,
		Env:  append([]string{"PEBBLE_WFE_NONCEREJECT=30", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0"}, variables...),
		Args: []string{"-strict", "-config", filepath.Join(dir, "pebble.json"), "-dnsserver", resolver},
	})
	client, err := TrustingClient(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	root := fmt.Sprintf("https://localhost:%d/roots/0", port+1)
	if err := p.process.Await(ctx, answers(client, root)); err != nil {
		t.Fatal(err)
	}
	if err := download(client, root, p.RootFile); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *Pebble) writeSettings(dir string, port, httpPort int) error {
	ca, err := newAuthority("e2e-pebble")
	if err != nil {
		return err
	}
	cert, key, err := ca.leaf(pkix.Name{CommonName: "localhost"}, "localhost")
	if err != nil {
		return err
	}
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": Addr(port), "managementListenAddress": Addr(port + 1),
		"certificate": filepath.Join(dir, "server.pem"), "privateKey": filepath.Join(dir, "server.key"),
		"httpPort": httpPort, "tlsPort": httpPort, // nothing proves by TLS here
		"externalAccountBindingRequired": true, "externalAccountMACKeys": map[string]string{p.KeyID: p.HMACKey},
		"retryAfter": map[string]int{"authz": 1, "order": 1}, "keyAlgorithm": "ecdsa",
		"profiles": map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": 86400}},
	}})
	if err != nil {
		return fmt.Errorf("encode Pebble's settings: %w", err)
	}
	return writeFiles(dir, map[string][]byte{
		"ca.pem": CertificatePEM(ca.cert.Raw), "server.pem": cert, "server.key": key, "pebble.json": settings,
	})
}

// download writes what a GET answers to a file.
func download(client *http.Client, url, file string) error {
	resp, err := client.Get(url)
	if err != nil {
		return fmt.Errorf("download: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("download %s: %s, %w", url, resp.Status, err)
	}
	return os.WriteFile(file, data, 0o600)
}
