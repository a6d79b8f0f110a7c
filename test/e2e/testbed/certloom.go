package testbed

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
)

// Certloom is the server under test: the real binary, its data folder and the files that a newcomer would use.
type Certloom struct {
	Connection

	process *Process
	program Program
	listen  string // HOST:PORT of ACME, API and console
	health  string // address of health and metrics
	cli     []string
	binary  string
}

// Connection is what the server wrote about how to reach it: dev.json, or admin.json of "certloom init".
type Connection struct {
	URL           string                `json:"url"`
	AdminUser     string                `json:"adminUser"`
	AdminPassword string                `json:"adminPassword"`
	APIToken      string                `json:"apiToken"`
	CAFile        string                `json:"caFile"`
	RootFile      string                `json:"rootFile"`
	ACME          map[string]Credential `json:"acme"`
	Agent         AgentCredential       `json:"agent"`
}

// AgentCredential is what certloom-agent enrols with, as dev.json has it.
type AgentCredential struct {
	URL     string `json:"url"`
	KeyID   string `json:"keyId"`
	HMACKey string `json:"hmacKey"`
}

// Credential is what an ACME client registers with, as dev.json and "certloom credential create -o json" have it.
type Credential struct {
	DirectoryURL string `json:"directoryUrl"`
	KeyID        string `json:"keyId"`
	HMACKey      string `json:"hmacKey"`
}

// Options choose how certloom runs.
type Options struct {
	// Postgres is the connection string of an empty database. Empty: SQLite.
	Postgres string
	// Proxy stands between the server and everybody else; its URL is the server's public one.
	Proxy *Proxy
	// Provider is where people can sign in as well.
	Provider *Provider
	// NonceRejectPercent has the server refuse good nonces.
	NonceRejectPercent int
	// Settings are more lines of the settings file.
	Settings string

	// The rest is of "certloom dev", which is run unless an option above is set. With one, the server is set up as in
	// production: "certloom init", profiles and credentials made by the command line, "certloom server --config".

	DNSResolver   string // HOST:PORT that validations of profile "challenge" ask
	HTTP01Port    int
	TLSALPN01Port int
	Pprof         bool
	DemoWorkloads int // simulated workloads that get and renew certificates
}

func (o *Options) production() bool {
	return o.Postgres != "" || o.Proxy != nil || o.Provider != nil || o.NonceRejectPercent > 0 || o.Settings != ""
}

// StartCertloom builds the binary of this tree and starts it on fresh data.
func StartCertloom(ctx context.Context, t T, o Options) *Certloom {
	t.Helper()
	binary, err := binaryOnce()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir := Folder(t)
	port := Ports(t, 3) // the second is the agents'
	s := &Certloom{
		binary: binary,
		listen: fmt.Sprintf("localhost:%d", port),
		health: "http://" + Addr(port+2),
		program: Program{
			Name: "certloom", Path: binary, Dir: dir,
			// Neither a developer's own settings nor his home folder matter.
			Env: []string{"HOME=" + dir, "CERTLOOM_SERVER=", "CERTLOOM_TOKEN_FILE=", "CERTLOOM_CA_FILE="},
		},
	}
	if o.Proxy != nil {
		o.Proxy.to = s.listen
	}
	if o.production() {
		s.setUp(ctx, t, &o)
		return s
	}
	data := filepath.Join(dir, "data")
	s.program.Args = []string{"dev", "--data", data, "--listen", s.listen}
	s.program.Args = append(s.program.Args, o.flags()...)
	s.launch(ctx, t)
	s.readConnection(t, filepath.Join(data, "dev.json"), nil)
	return s
}

func (o *Options) flags() []string {
	var flags []string
	if o.DNSResolver != "" {
		flags = append(flags, "--dns-resolver="+o.DNSResolver)
	}
	if o.HTTP01Port != 0 {
		flags = append(flags, fmt.Sprintf("--http01-port=%d", o.HTTP01Port))
	}
	if o.TLSALPN01Port != 0 {
		flags = append(flags, fmt.Sprintf("--tlsalpn01-port=%d", o.TLSALPN01Port))
	}
	if o.DemoWorkloads != 0 {
		flags = append(flags, fmt.Sprintf("--demo-workloads=%d", o.DemoWorkloads))
	}
	if o.Pprof {
		flags = append(flags, "--pprof")
	}
	return flags
}

// Await waits until the server says that it is ready.
func (s *Certloom) Await(ctx context.Context) error {
	return s.process.Await(ctx, answers(http.DefaultClient, s.health+"/readyz"))
}

// Restart starts the server again after Kill or Stop, and waits until it is ready.
func (s *Certloom) Restart(ctx context.Context, t T) {
	t.Helper()
	process, err := start(s.program)
	if err != nil {
		t.Fatal(err)
	}
	s.process = process
	if err := s.Await(ctx); err != nil {
		t.Fatal(err)
	}
}

// launch starts the server for the first time. Whichever process it has at the end of the test is ended then.
func (s *Certloom) launch(ctx context.Context, t T) {
	t.Helper()
	t.Cleanup(func() {
		if s.process != nil {
			s.process.finish(t)
		}
	})
	s.Restart(ctx, t)
}

// Kill ends the server as a power cut would.
func (s *Certloom) Kill() { s.process.Kill() }

// Stop ends the server in an orderly way.
func (s *Certloom) Stop(t T) {
	t.Helper()
	if err := s.process.Stop(time.Minute); err != nil {
		t.Error(err)
	}
}

// Process is the running server.
func (s *Certloom) Process() *Process { return s.process }

// Health is the base URL of /readyz, /metrics and /debug/pprof/.
func (s *Certloom) Health() string { return s.health }

// CLI runs a command of the binary against the server, as an operator would, and returns its standard output.
func (s *Certloom) CLI(ctx context.Context, t T, args ...string) []byte {
	t.Helper()
	out, err := s.run(ctx, append(args, s.cli...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *Certloom) run(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.binary, args...)
	cmd.Dir = s.program.Dir
	cmd.Env = append(os.Environ(), s.program.Env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("certloom %s: %w\n%s%s", strings.Join(args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.Bytes(), nil
}

// Inventory returns every certificate by serial, as "certloom certificate list --limit 0 -o json" prints them.
func (s *Certloom) Inventory(ctx context.Context, t T, args ...string) map[string]apiv1.Certificate {
	t.Helper()
	out := s.CLI(ctx, t, append([]string{"certificate", "list", "--limit", "0", "-o", "json"}, args...)...)
	var list []apiv1.Certificate
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatalf("certificate list -o json: %v\n%.500s", err, out)
	}
	found := make(map[string]apiv1.Certificate, len(list))
	for _, c := range list {
		if _, twice := found[c.Serial]; twice {
			t.Errorf("serial %s is in the inventory twice", c.Serial)
		}
		found[c.Serial] = c
	}
	return found
}

// HTTPClient returns a client that trusts the server.
func (s *Certloom) HTTPClient(t T) *http.Client {
	t.Helper()
	client, err := TrustingClient(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return client
}

// CreateCredential makes another EAB credential by the command line.
func (s *Certloom) CreateCredential(ctx context.Context, t T, profile, name string) Credential {
	t.Helper()
	out := s.CLI(ctx, t, "credential", "create", "--profile", profile, "--name", name, "-o", "json")
	var c Credential
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatalf("credential create -o json: %v\n%s", err, out)
	}
	return c
}

// readConnection reads what the server wrote and has the command line use it, through the proxy where there is one.
func (s *Certloom) readConnection(t T, file string, proxy *Proxy) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &s.Connection); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	if proxy != nil {
		s.CAFile = proxy.CAFile
	}
	token := filepath.Join(s.program.Dir, "token")
	if err := os.WriteFile(token, []byte(s.APIToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cli = []string{"--server", s.URL, "--token-file", token, "--ca-file", s.CAFile}
}
