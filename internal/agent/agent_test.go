package agent_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/certloom/certloom/internal/agent"
	"github.com/certloom/certloom/internal/testca"
)

// settings are good ones, with ports of the moment and a server that nobody runs.
func settings(t *testing.T) agent.Settings {
	t.Helper()
	file := filepath.Join(t.TempDir(), "credential.json")
	raw, err := json.Marshal(map[string]string{
		"agentUrl": "https://127.0.0.1:1", "keyId": "kid", "hmacKey": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return agent.Settings{
		Issuer: agent.IssuerCertloom, Certloom: agent.CertloomSettings{CredentialFile: file},
		ServingAddress: free(t), HealthAddress: free(t), MetricsAddress: free(t), ReadinessPath: "/readyz",
		ServingNames: []string{"agent.svc"}, ServingLifetime: time.Hour, TrustDomain: "cluster.local", ClusterIDs: []string{"Kubernetes"},
		MaxLifetime: time.Hour, TokenReview: true, TokenAudiences: []string{"istio-ca"},
		LeaseNamespace: "istio-system", RootMap: "istio-ca-root-cert", Workers: 1,
	}
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newAgent(t *testing.T, s agent.Settings) (*agent.Agent, error) {
	t.Helper()
	return agent.New(t.Context(), agent.Config{
		Settings: s, Kube: fake.NewClientset(), Now: time.Now, Random: rand.Reader, Jitter: func() float64 { return 0 },
		Logger: slog.New(slog.DiscardHandler),
	})
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + address)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// Without a server the agent lives, is not ready and says why; it ends when it is told to.
func TestWithoutServer(t *testing.T) {
	t.Parallel()
	s := settings(t)
	a, err := newAgent(t, s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, func() error {
		code, text := get(t, s.HealthAddress+"/readyz")
		for _, want := range []string{"[-] issuer: server 127.0.0.1:1:", "[-] serving certificate:", "[+] cluster", "[+] running"} {
			if code != http.StatusServiceUnavailable || !strings.Contains(text, want) {
				return fmt.Errorf("/readyz without %q: %d %s", want, code, text)
			}
		}
		return nil
	})
	if code, text := get(t, s.HealthAddress+"/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %s", code, text)
	}
	if code, text := get(t, s.MetricsAddress+"/metrics"); code != http.StatusOK || !strings.Contains(text, "certloom_agent_upstream_queue_length 0") {
		t.Errorf("/metrics: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Profiles are served when they are asked for, and not otherwise.
func TestProfiles(t *testing.T) {
	t.Parallel()
	for wanted, want := range map[bool]int{false: http.StatusNotFound, true: http.StatusOK} {
		s := settings(t)
		s.Pprof = wanted
		a, err := newAgent(t, s)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		eventually(t, func() error {
			if code, text := get(t, s.MetricsAddress+"/debug/pprof/goroutine?debug=1"); code != want {
				return fmt.Errorf("wanted: %v, got %d %.80s", wanted, code, text)
			}
			return nil
		})
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// An agent that stops says that it is not ready, and takes connections for a while longer.
func TestShutdownDelay(t *testing.T) {
	t.Parallel()
	s := settings(t)
	s.ShutdownDelay = 2 * time.Second
	a, err := newAgent(t, s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	readiness := func(want string) func() error {
		return func() error {
			if _, text := get(t, s.HealthAddress+"/readyz"); !strings.Contains(text, want) {
				return fmt.Errorf("/readyz: %s", text)
			}
			return nil
		}
	}
	eventually(t, readiness("[+] running"))
	cancel()
	stopped := time.Now()
	eventually(t, readiness("[-] running"))
	connection, err := net.Dial("tcp", s.ServingAddress)
	if err != nil {
		t.Errorf("a new caller is refused while the replica is still known: %v", err)
	} else {
		connection.Close()
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(stopped); took < s.ShutdownDelay {
		t.Errorf("the agent ended after %s", took)
	}
}

// acmeSettings are those of an agent in front of an ACME CA that nobody runs.
func acmeSettings(t *testing.T) agent.Settings {
	t.Helper()
	s := settings(t)
	dir := t.TempDir()
	s.Issuer, s.RootCAFile = agent.IssuerACME, filepath.Join(dir, "root.pem")
	s.ACME = agent.ACMESettings{CredentialFile: filepath.Join(dir, "credential.json"), AccountSecret: "account", Concurrency: 1}
	for file, text := range map[string]string{
		s.RootCAFile:          string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: testca.NewWith(t, testca.Options{Now: time.Now()}).RootCert.Raw})),
		s.ACME.CredentialFile: `{"directoryUrl":"https://127.0.0.1:1/acme/directory","keyId":"kid","hmacKey":"MDEyMzQ1Njc4OWFiY2RlZg=="}`,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestSettingsACME(t *testing.T) {
	t.Parallel()
	s := acmeSettings(t)
	if err := s.Check(); err != nil || s.ACME.DirectoryURL != "https://127.0.0.1:1/acme/directory" || s.ACME.AccountNamespace != "istio-system" {
		t.Errorf("%v: %+v", err, s.ACME)
	}
	s = acmeSettings(t)
	s.ACME.DirectoryURL = "https://elsewhere/dir" // for a proxy, say
	if err := s.Check(); err != nil || s.ACME.DirectoryURL != "https://elsewhere/dir" {
		t.Errorf("%v: %+v", err, s.ACME)
	}
	s = acmeSettings(t)
	s.ACME.CredentialFile, s.ACME.DirectoryURL = "", "https://a/dir" // a CA that wants none
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// Without an ACME CA the agent lives and says what it misses, as without a server.
func TestWithoutACME(t *testing.T) {
	t.Parallel()
	s := acmeSettings(t)
	a, err := newAgent(t, s)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	eventually(t, func() error {
		code, text := get(t, s.HealthAddress+"/readyz")
		if want := "[-] issuer: ACME CA https://127.0.0.1:1/acme/directory: "; code != http.StatusServiceUnavailable || !strings.Contains(text, want) {
			return fmt.Errorf("/readyz without %q: %d %s", want, code, text)
		}
		return nil
	})
	if code, text := get(t, s.MetricsAddress+"/metrics"); code != http.StatusOK || !strings.Contains(text, "certloom_agent_acme_suspended 1") ||
		!strings.Contains(text, "certloom_agent_root_file_good 1") {
		t.Errorf("/metrics: %d", code)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// An address that is taken ends the start, and leaves nothing bound.
func TestAddressTaken(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := settings(t)
	s.MetricsAddress = taken.Addr().String()
	if _, err := newAgent(t, s); err == nil || !strings.Contains(err.Error(), "--metrics-port") {
		t.Errorf("got %v", err)
	}
	again, err := net.Listen("tcp", s.ServingAddress)
	if err != nil {
		t.Fatalf("the other address is still bound: %v", err)
	}
	again.Close()
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := settings(t)
	s.TrustDomain = "team@example.com" // a Google service account, which Istio writes with a dot
	if err := s.Check(); err != nil || s.Certloom.Server != "127.0.0.1:1" || s.TrustDomain != "team.example.com" {
		t.Errorf("%v: server %q, trust domain %q", err, s.Certloom.Server, s.TrustDomain)
	}
	for server, want := range map[string]string{
		"https://certloom.example.com:8444": "certloom.example.com:8444", "certloom.example.com:8444/": "certloom.example.com:8444", "https://[::1]:8444": "[::1]:8444",
		"http://certloom.example.com:8444": "", "https://certloom.example.com": "", "https://a:1/path": "", "https://u@a:1": "", ":8444": "",
	} {
		s := settings(t)
		s.Certloom.Server = server
		if err := s.Check(); (err == nil) != (want != "") || err == nil && s.Certloom.Server != want {
			t.Errorf("%s: %q, %v", server, s.Certloom.Server, err)
		}
	}
	if err := (&agent.Settings{}).Check(); err == nil {
		t.Error("empty settings were accepted")
	}
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-ticker.C:
		}
	}
}
