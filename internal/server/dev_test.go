package server_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/server"
)

// dev is a running `certloom dev`.
type dev struct {
	connection *server.Connection
	client     *http.Client
	health     string
	stop       func() // stops it and waits; fails the test if it did not end well
}

// startDev starts one on the folder. The address of a folder that was used before must be given again.
func startDev(t *testing.T, dir, listen string, workloads int) *dev {
	t.Helper()
	return startLogging(t, dir, listen, workloads, slog.New(slog.NewTextHandler(t.Output(), nil)))
}

// startLogging is startDev with a log of the test's.
func startLogging(t *testing.T, dir, listen string, workloads int, logger *slog.Logger) *dev {
	t.Helper()
	settings, err := server.DevSettings(server.DevOptions{Data: dir, Listen: listen, HTTP01Port: 5002, TLSALPN01Port: 5001, LogLevel: "warn"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	listeners, parts, err := server.StartDev(ctx, server.Config{
		Settings: settings, Version: "test", Logger: logger, Now: time.Now,
	}, rand.Reader)
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	connection, err := parts.SetUpDev(ctx)
	if err != nil {
		t.Fatal(err)
	}
	running, err := server.New(ctx, parts, listeners)
	if err != nil {
		t.Fatal(err)
	}
	if err := running.AddDemo(connection, workloads); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- running.Run(ctx) }()
	stopped := false
	stop := func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
		if err := parts.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	t.Cleanup(stop)
	root, err := os.ReadFile(connection.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(root)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &dev{
		connection: connection, stop: stop, health: "http://" + settings.Listen.Health,
		client: &http.Client{Transport: transport, Timeout: 20 * time.Second},
	}
}

// get fetches a path of the HTTPS address, or a whole URL.
func (d *dev) get(t *testing.T, path string) (status int, header http.Header, body string) {
	t.Helper()
	if strings.HasPrefix(path, "/") {
		path = d.connection.URL + path
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := d.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(raw)
}

// freeListen returns an address whose port, and the two above it, are free now.
func freeListen(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	for range 50 {
		first, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(first.Addr().String())
		number, _ := strconv.Atoi(port)
		second, err := config.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number+1)))
		third, otherErr := config.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(number+2)))
		_ = first.Close()
		if err == nil {
			_ = second.Close()
		}
		if otherErr == nil {
			_ = third.Close()
		}
		if err == nil && otherErr == nil {
			return first.Addr().String()
		}
	}
	t.Fatal("no free ports")
	return ""
}

func TestDevServes(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), freeListen(t), 0)
	tests := map[string]struct {
		path   string
		status int
		kind   string // media type
		want   string // part of the body
	}{
		"start page":    {"/start", 200, "text/html; charset=utf-8", "Certloom Dev Root CA"},
		"style":         {"/static/console.css", 200, "text/css; charset=utf-8", "--tblr-primary"},
		"unknown page":  {"/nothing", 404, "", ""},
		"directory":     {"/acme/directory", 200, "application/json", d.connection.URL + "/acme/"},
		"challenge":     {"/acme/p/challenge/directory", 200, "application/json", "newOrder"},
		"root pem":      {"/ca/root.pem", 200, "application/x-pem-file", "BEGIN CERTIFICATE"},
		"issuing cer":   {"/ca/issuing.cer", 200, "application/pkix-cert", "Certloom Dev Issuing CA"},
		"no CA":         {"/ca/none.pem", 404, "text/plain; charset=utf-8", `"none.pem"`},
		"crl":           {"/crl/issuing.crl", 200, "application/pkix-crl", "Certloom Dev Issuing CA"},
		"bundle":        {"/.well-known/spiffe/bundle/cluster.local", 200, "application/json", "x509-svid"},
		"no bundle":     {"/.well-known/spiffe/bundle/other", 404, "text/plain; charset=utf-8", `"other"`},
		"openapi":       {"/api/v1/openapi.json", 200, "", "Certloom"},
		"api signed in": {"/api/v1/certificates", 401, "application/problem+json", ""},
		"livez":         {d.health + "/livez", 200, "text/plain; charset=utf-8", "ok"},
		"readyz":        {d.health + "/readyz", 200, "text/plain; charset=utf-8", "ok"},
		"metrics":       {d.health + "/metrics", 200, "", `certloom_ca_expiry_timestamp_seconds{ca="issuing",kind="issuing"}`},
		"no profiles":   {d.health + "/debug/pprof/", 404, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			status, header, body := d.get(t, tt.path)
			if status != tt.status {
				t.Errorf("status %d, want %d: %s", status, tt.status, body)
			}
			if kind := header.Get("Content-Type"); tt.kind != "" && kind != tt.kind {
				t.Errorf("media type %q, want %q", kind, tt.kind)
			}
			if !strings.Contains(body, tt.want) {
				t.Errorf("%q is missing in %.2000s", tt.want, body)
			}
		})
	}
}

// Started again on the same folder it carries on: same credentials, same root.
func TestDevCarriesOn(t *testing.T) {
	t.Parallel()
	dir, listen := t.TempDir(), freeListen(t)
	first := startDev(t, dir, listen, 0)
	first.stop()
	second := startDev(t, dir, listen, 0)
	if first.connection.APIToken != second.connection.APIToken || first.connection.AdminPassword != second.connection.AdminPassword {
		t.Error("the administrator changed")
	}
	for name, credential := range first.connection.ACME {
		if second.connection.ACME[name] != credential {
			t.Errorf("credential of profile %s changed", name)
		}
	}
	info, err := os.Stat(filepath.Join(dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("dev.json has mode %04o", info.Mode().Perm())
	}
}

// The simulated workloads go through the whole server; what they get is in the inventory.
func TestDemoWorkloads(t *testing.T) {
	t.Parallel()
	const workloads = 3
	d := startDev(t, t.TempDir(), freeListen(t), workloads)
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	want := `certloom_issuance_total{outcome="issued",profile="istio"} ` + strconv.Itoa(workloads)
	for {
		_, _, body := d.get(t, d.health+"/metrics")
		if strings.Contains(body, want+"\n") {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%q is missing in:\n%s", want, body)
		}
	}
}
