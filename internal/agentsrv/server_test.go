package agentsrv_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/agentsrv"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

func TestBundle(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	first, err := client.Bundle(t.Context(), &agentapi.BundleRequest{Version: "other", WaitSeconds: 60})
	check(t, err)
	if roots := first.GetBundle().GetRoots(); len(roots) != 1 || string(roots[0]) != string(l.Root.Certificate) || first.GetBundle().GetVersion() == "" {
		t.Fatalf("bundle is %v", first.GetBundle())
	}
	same, err := client.Bundle(t.Context(), &agentapi.BundleRequest{Version: first.GetBundle().GetVersion()})
	check(t, err)
	if same.GetBundle().GetVersion() != first.GetBundle().GetVersion() {
		t.Error("the version changes by itself")
	}
	for _, wait := range []int64{-1, 61} {
		_, err = client.Bundle(t.Context(), &agentapi.BundleRequest{WaitSeconds: wait})
		refused(t, err, codes.InvalidArgument)
	}
}

// An agent that waits is told of another root soon after that becomes one of its trust domain.
func TestBundleWaits(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	first, err := client.Bundle(t.Context(), &agentapi.BundleRequest{})
	check(t, err)
	got := make(chan *agentapi.BundleResponse, 1)
	go func() {
		second, err := client.Bundle(t.Context(), &agentapi.BundleRequest{Version: first.GetBundle().GetVersion(), WaitSeconds: 60})
		if err != nil {
			t.Error(err)
		}
		got <- second
	}()
	root, err := l.Authority.CreateRoot(t.Context(), issue.Options{Name: "root-2", CommonName: "Second Root"}, acmetest.By())
	check(t, err)
	l.Issuing, err = l.Authority.CreateIssuing(t.Context(), issue.IssuingOptions{
		Options: issue.Options{Name: "issuing-2", CommonName: "Second Issuing CA"}, Parent: root.ID,
	}, acmetest.By())
	check(t, err)
	check(t, l.Catalog.Load(t.Context()))
	l.AddProfile(t, "mesh-2", pki.PrivateMTLS, pki.Agent, func(rules *pki.ProfileRules) { rules.Names = l.mesh.Rules.Names })
	second := <-got
	if len(second.GetBundle().GetRoots()) != 2 || second.GetBundle().GetVersion() == first.GetBundle().GetVersion() {
		t.Errorf("bundle is %v", second)
	}
}

// A server that stops does not wait for agents that wait.
func TestStopEndsWaiting(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	first, err := client.Bundle(t.Context(), &agentapi.BundleRequest{})
	check(t, err)
	got := make(chan error, 1)
	go func() {
		_, err := client.Bundle(t.Context(), &agentapi.BundleRequest{Version: first.GetBundle().GetVersion(), WaitSeconds: 60})
		got <- err
	}()
	// Whether the call has arrived by then or not, stopping takes no minute.
	check(t, l.stop())
	<-got
}

// TestStopWhileCallsRun starts and stops servers while agents call them: calls are answered, or not taken at all.
func TestStopWhileCallsRun(t *testing.T) {
	t.Parallel()
	for range 5 {
		l := newLab(t, nil)
		client := l.agent(t)
		results := make(chan error)
		const calls = 8
		for range calls {
			go func() {
				var err error
				for err == nil {
					_, err = client.Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{workload(t, "demo", "web")}})
				}
				results <- err
			}()
		}
		check(t, l.stop())
		for range calls {
			refused(t, <-results, codes.Unavailable)
		}
	}
}

// A call that does not end is broken off after the time for draining.
func TestStopBreaksOff(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	entered := make(chan struct{})
	server, err := agentsrv.New(agentsrv.Config{
		Catalog: l.Catalog, Store: l.Store, Nonces: l.Nonces, CRL: l.Revoker.CRL, Now: l.Clock.Now, Random: rand.Reader, Timeout: time.Hour,
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		Issuer: interposed{l.Issuer, func(ctx context.Context) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		}},
	})
	check(t, err)
	var network net.ListenConfig
	listener, err := network.Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	own, roots := selfSigned(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(ctx, listener, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}}, 10*time.Millisecond)
	}()
	agent := l.enrol(t, l.credential)
	l.address, l.roots = listener.Addr().String(), roots
	client := l.dial(t, agent)
	called := make(chan error, 1)
	go func() {
		_, err := client.Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{workload(t, "demo", "web")}})
		called <- err
	}()
	<-entered
	cancel()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("Serve returned %v", err)
	}
	refused(t, <-called, codes.Unavailable)
}

func TestTransport(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	for name, transport := range map[string]credentials.TransportCredentials{
		"refuses/plaintext": insecure.NewCredentials(),
		"refuses/tls-1.1":   credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11, RootCAs: l.roots}),
	} {
		connection, err := grpc.NewClient(l.address, grpc.WithTransportCredentials(transport))
		check(t, err)
		_, err = agentapi.NewAgentClient(connection).Challenge(t.Context(), &agentapi.ChallengeRequest{})
		if err == nil {
			t.Errorf("%s: served", name)
		}
		check(t, connection.Close())
	}
	_, err := l.agent(t).Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{{Csr: make([]byte, 2<<20)}}})
	refused(t, err, codes.ResourceExhausted) // more than a message may have
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	good := func() agentsrv.Config {
		return agentsrv.Config{
			Catalog: l.Catalog, Store: l.Store, Issuer: l.Issuer, Nonces: l.Nonces, Now: l.Clock.Now, Random: rand.Reader,
			CRL: l.Revoker.CRL, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		}
	}
	if _, err := agentsrv.New(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*agentsrv.Config){
		"refuses/no-catalog":       func(c *agentsrv.Config) { c.Catalog = nil },
		"refuses/no-store":         func(c *agentsrv.Config) { c.Store = nil },
		"refuses/no-issuer":        func(c *agentsrv.Config) { c.Issuer = nil },
		"refuses/no-nonces":        func(c *agentsrv.Config) { c.Nonces = nil },
		"refuses/no-crls":          func(c *agentsrv.Config) { c.CRL = nil },
		"refuses/no-clock":         func(c *agentsrv.Config) { c.Now = nil },
		"refuses/no-randomness":    func(c *agentsrv.Config) { c.Random = nil },
		"refuses/no-logger":        func(c *agentsrv.Config) { c.Logger = nil },
		"refuses/no-registerer":    func(c *agentsrv.Config) { c.Registerer = nil },
		"refuses/few-items":        func(c *agentsrv.Config) { c.MaxItems = 10 },
		"refuses/negative-timeout": func(c *agentsrv.Config) { c.Timeout = -1 },
		"refuses/bad-randomness":   func(c *agentsrv.Config) { c.Random = broken{} },
		"refuses/registered-twice": func(c *agentsrv.Config) { c.Registerer = l.registry },
	} {
		c := good()
		change(&c)
		if _, err := agentsrv.New(c); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("no randomness") }
