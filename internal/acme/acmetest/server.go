package acmetest

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/acme/nonce"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/seal"
	"github.com/certloom/certloom/internal/store"
)

// Options of a server. The zero value is a server as it is by default.
type Options struct {
	ACME acme.Options
	// HTTP01Port and TLSALPN01Port are where challenges are asked; 0 for the standard ports, which a test can hardly use.
	HTTP01Port, TLSALPN01Port int
	Resolver                  string                        // DNS server of dns-01, HOST:PORT
	Validator                 acme.Validator                // instead of the real ones
	Store                     func(*store.Store) acme.Store // wraps the storage that the ACME server sees, to make it fail
	Issuer                    func(acme.Issuer) acme.Issuer // wraps the issuer, to make it fail
	Logger                    *slog.Logger
}

// Credential is an EAB credential of a profile.
type Credential struct {
	ID  pki.CredentialID
	Key []byte
}

// Server is a running server and all that it is made of.
type Server struct {
	URL      string       // base URL; the directory is at /acme/directory
	Client   *http.Client // trusts the listener's certificate, which is not of our CA
	Handler  http.Handler // what the listener serves, for requests without a network
	ACME     *acme.Server
	Clock    *Clock
	Registry *prometheus.Registry

	Store     *store.Store
	Catalog   *catalog.Catalog
	Signers   *keys.Signers
	Authority *issue.Authority
	Issuer    *issue.Issuer
	Revoker   *revoke.Revoker
	Nonces    *nonce.Nonces
	Ring      *seal.Ring

	Root, Issuing *pki.CA
	Profiles      map[string]*pki.Profile // by name, as they were made: istio, server, challenge
	Credentials   map[string]Credential   // by name of the profile

	options Options
	vault   *keys.Vault
}

// Start starts a server that ends with the test. Its profiles are
//   - istio: private-mtls, mtls-over-acme, trust domain cluster.local, DNS names under .svc and .svc.cluster.local;
//   - server: private-server, DNS names under .svc, .localhost and .example.com, pre-authorized;
//   - challenge: private-server, any name and address, validated by challenges over loopback.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{Clock: new(Clock), Registry: prometheus.NewRegistry(), options: o, Credentials: make(map[string]Credential)}
	listener := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler.ServeHTTP(w, r) }))
	listener.EnableHTTP2 = true
	s.URL = "https://" + listener.Listener.Addr().String()
	s.open(t)
	s.setUp(t)
	s.ACME = s.Replica(t, o.ACME)
	s.Handler = s.ACME.Handler()
	listener.StartTLS()
	t.Cleanup(listener.Close)
	s.Client = listener.Client()
	return s
}

// open makes the pieces, from the bottom up.
func (s *Server) open(t testing.TB) {
	t.Helper()
	dir, now := t.TempDir(), s.Clock.Now
	keyFile := filepath.Join(dir, "key")
	check(t, os.WriteFile(keyFile, randomKey(t), 0o600))
	secret := must(keys.ReadSecret("", keyFile))(t)
	vault, _, err := keys.Create(secret, rand.Reader)
	check(t, err)
	s.vault = vault
	s.Store = must(store.OpenSQLite(t.Context(), store.SQLiteConfig{
		Path: filepath.Join(dir, "certloom.db"), Logger: s.options.Logger, Registerer: s.Registry, Now: now,
	}))(t)
	t.Cleanup(func() { check(t, s.Store.Close()) })
	s.Signers = must(keys.New(keys.Config{Vault: vault, Load: s.Store.SealedKey}))(t)
	s.Catalog = must(catalog.New(catalog.Config{Store: s.Store, Vault: vault, Now: now, Random: rand.Reader, Logger: s.options.Logger}))(t)
	s.Authority = must(issue.NewAuthority(issue.AuthorityConfig{
		Store: s.Store, Vault: vault, Signers: s.Signers, Now: now, Random: rand.Reader, BaseURL: s.URL,
	}))(t)
	s.Issuer = must(issue.New(issue.Config{
		Store: s.Store, Signers: s.Signers, CA: s.Catalog.CA, Denied: s.Catalog.Denied, Now: now, Random: rand.Reader, Registerer: s.Registry,
	}))(t)
	s.Revoker = must(revoke.New(revoke.Config{
		Store: s.Store, Signers: s.Signers, CA: s.Catalog.CA, Now: now, Random: rand.Reader, Registerer: s.Registry,
		CAs: func() []*pki.CA { return s.Catalog.Snapshot().CAs() },
	}))(t)
	s.Ring = must(seal.New(map[uint32][]byte{1: randomKey(t)}, 1, rand.Reader))(t)
	s.Nonces = must(nonce.New(nonce.Config{Ring: s.Ring, Now: now, Random: rand.Reader, Registerer: s.Registry}))(t)
	run(t, s.Catalog.Run)
}

// By is who sets the server up.
func By() audit.By { return audit.By{Actor: audit.Actor{Kind: audit.System, ID: "test"}} }

// Replica returns another ACME server with the same address, storage, keys and nonces. It has no listener: use its
// Handler.
func (s *Server) Replica(t testing.TB, o acme.Options) *acme.Server {
	t.Helper()
	var storage acme.Store = s.Store
	if s.options.Store != nil {
		storage = s.options.Store(s.Store)
	}
	var issuer acme.Issuer = s.Issuer
	if s.options.Issuer != nil {
		issuer = s.options.Issuer(s.Issuer)
	}
	validator := s.options.Validator
	if validator == nil {
		validator = must(challenge.New(challenge.Config{
			HTTPPort: s.options.HTTP01Port, TLSPort: s.options.TLSALPN01Port, Resolver: s.options.Resolver,
		}))(t)
	}
	registerer := prometheus.Registerer(s.Registry)
	if s.ACME != nil {
		registerer = prometheus.NewRegistry()
	}
	server := must(acme.New(acme.Config{
		BaseURL: s.URL, Replica: "test", Catalog: s.Catalog, Store: storage, Issuer: issuer, Revoker: s.Revoker,
		Nonces: s.Nonces, Ring: s.Ring, Validator: validator, Now: s.Clock.Now, Random: rand.Reader,
		Logger: s.options.Logger, Registerer: registerer, Options: o,
	}))(t)
	run(t, server.Run)
	return server
}

// Advance moves the clock forward. What ages meanwhile is refreshed as it would have been.
func (s *Server) Advance(t testing.TB, d time.Duration) {
	t.Helper()
	s.Clock.Add(d)
	check(t, s.Catalog.Poll(t.Context()))
}

// Roots returns a pool with the root.
func (s *Server) Roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(s.Root.Certificate))(t))
	return pool
}

// run runs a task until the test ends.
func run(t testing.TB, task func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- task(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("task of the server: %v", err)
		}
	})
}

func randomKey(t testing.TB) []byte {
	t.Helper()
	key := make([]byte, seal.KeyLen)
	must(rand.Read(key))(t)
	return key
}

// check ends the test on an error.
func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// must returns a function that ends the test on an error, else gives the value.
func must[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		check(t, err)
		return value
	}
}
