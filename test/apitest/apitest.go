// Package apitest starts complete REST API servers for tests: real storage in a SQLite file, real keys, real issuance,
// behind TLS on a loopback port. Only tests may import it.
package apitest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/api"
	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/figures"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/notify"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/testca"
)

// Clock is a clock that tests set.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the time.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// World is a server with everything below it. It has a root "root" and an issuing CA "issuing"; profiles "istio"
// (private-mtls, mTLS over ACME), "web" (private-server, ACME) and "ci" (private-mtls, REST API); a token for each role,
// the requester's for "ci"; and a user "admin".
type World struct {
	Clock     *Clock
	Store     *store.Store
	Catalog   *catalog.Catalog
	Auth      *auth.Authenticator
	Authority *issue.Authority
	Issuer    *issue.Issuer
	Revoker   *revoke.Revoker
	Server    *httptest.Server
	Log       *Log
	Tokens    map[pki.Role]string
	Password  string // of user "admin"
	BaseURL   string // in what the server hands out
	Dir       string // of the database and the key
}

// Log is what the server has logged.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write is for the logger.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// New starts a server, which ends with the test.
func New(t testing.TB) *World {
	t.Helper()
	w := &World{
		Clock: &Clock{now: testca.Now()}, Log: &Log{}, Tokens: map[pki.Role]string{}, BaseURL: "https://ca.example",
		Password: "correct horse battery",
	}
	w.assemble(t)
	w.configure(t)
	return w
}

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func (w *World) assemble(t testing.TB) {
	t.Helper()
	ctx, dir, now := t.Context(), t.TempDir(), w.Clock.Now
	w.Dir = dir
	keyFile := filepath.Join(dir, "key")
	if err := os.WriteFile(keyFile, []byte(rand.Text() + rand.Text())[:32], 0o600); err != nil {
		t.Fatal(err)
	}
	secret := must[keys.Secret](t)(keys.ReadSecret("", keyFile))
	vault, _, err := keys.Create(secret, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w.Store = must[*store.Store](t)(store.OpenSQLite(ctx, store.SQLiteConfig{Path: filepath.Join(dir, "certloom.db"), Now: now}))
	t.Cleanup(func() {
		if err := w.Store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	logger := slog.New(slog.NewTextHandler(w.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	signers := must[*keys.Signers](t)(keys.New(keys.Config{Vault: vault, Load: w.Store.SealedKey}))
	w.Catalog = must[*catalog.Catalog](t)(catalog.New(catalog.Config{Store: w.Store, Vault: vault, Now: now, Random: rand.Reader, Logger: logger}))
	w.Auth = must[*auth.Authenticator](t)(auth.New(auth.Config{Store: w.Store, Vault: vault, Now: now, Random: rand.Reader, Logger: logger}))
	registry := prometheus.NewRegistry()
	w.Issuer = must[*issue.Issuer](t)(issue.New(issue.Config{
		Store: w.Store, Signers: signers, CA: w.Catalog.CA, Denied: w.denied, Now: now, Random: rand.Reader, Registerer: registry,
	}))
	w.Authority = must[*issue.Authority](t)(issue.NewAuthority(issue.AuthorityConfig{
		Store: w.Store, Vault: vault, Signers: signers, Now: now, Random: rand.Reader, BaseURL: w.BaseURL,
	}))
	w.Revoker = must[*revoke.Revoker](t)(revoke.New(revoke.Config{
		Store: w.Store, Signers: signers, CA: w.Catalog.CA, CAs: func() []*pki.CA { return w.Catalog.Snapshot().CAs() },
		Now: now, Random: rand.Reader, Registerer: registry,
	}))
	notifier := must[*notify.Notifier](t)(notify.New(notify.Config{Store: w.Store, Vault: vault, Now: now, BaseURL: w.BaseURL}))
	server := must[*api.Server](t)(api.New(api.Config{
		Notifier: notifier,
		BaseURL:  w.BaseURL, AgentURL: "https://ca.example:8444", Version: "1.2.3", Catalog: w.Catalog, Auth: w.Auth, Store: w.Store, Figures: w.figures(t), Authority: w.Authority,
		Issuer: w.Issuer, Revoker: w.Revoker, Vault: vault, Now: now, Random: rand.Reader, Logger: logger,
	}))
	handler, connect := (&document{handler: server.Handler()}).judge(t, server.Handler()), server.Connect()
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Date", now().UTC().Format(http.TimeFormat)) // the server's clock is the test's, also for clients
		if strings.HasPrefix(r.URL.Path, "/connect/") {
			connect.ServeHTTP(rw, r)
			return
		}
		handler.ServeHTTP(rw, r)
	}))
	w.Server.EnableHTTP2 = true
	w.Server.Config.ErrorLog = slog.NewLogLogger(logger.Handler(), slog.LevelError)
	w.Server.StartTLS()
	t.Cleanup(w.Server.Close)
}

// figures starts the task that takes them.
func (w *World) figures(t testing.TB) *figures.Keeper {
	t.Helper()
	keeper := must[*figures.Keeper](t)(figures.New(figures.Config{
		Store: w.Store, CAs: func() []*pki.CA { return w.Catalog.Snapshot().CAs() }, Now: w.Clock.Now,
	}))
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var running sync.WaitGroup
	running.Go(func() {
		if err := keeper.Run(ctx); err != nil {
			t.Errorf("figures: %v", err)
		}
	})
	t.Cleanup(func() { stop(); running.Wait() }) // before the store closes
	return keeper
}

// System is who sets tests up.
func System() audit.By { return audit.By{Actor: audit.Actor{Kind: audit.System, Name: "test"}} }

func (w *World) configure(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	root := must[*pki.CA](t)(w.Authority.CreateRoot(ctx, issue.Options{Name: "root"}, System()))
	must[*pki.CA](t)(w.Authority.CreateIssuing(ctx, issue.IssuingOptions{Options: issue.Options{Name: "issuing"}, Parent: root.ID}, System()))
	if err := w.Catalog.Load(ctx); err != nil {
		t.Fatal(err)
	}
	mesh := pki.NameRules{
		SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}},
		DNS:    pki.DNSRules{Allow: []string{"**.svc"}},
	}
	w.Profile(t, "istio", pki.PrivateMTLS, pki.MTLSOverACME, mesh)
	w.Profile(t, "web", pki.PrivateServer, pki.ACMEClient, pki.NameRules{DNS: pki.DNSRules{Allow: []string{"**.example.com"}}})
	ci := w.Profile(t, "ci", pki.PrivateMTLS, pki.RESTAPI, mesh)
	for _, role := range auth.Roles() {
		request := auth.NewToken{Name: string(role), Role: role}
		switch role {
		case pki.RoleRequester:
			request.ProfileID = ci.ID
		case pki.RoleNamespaceViewer:
			request.Sees = []string{"spiffe://cluster.local/ns/shop/*"}
		}
		secret, _, err := w.Auth.CreateToken(ctx, request, System())
		if err != nil {
			t.Fatal(err)
		}
		w.Tokens[role] = secret
	}
	if _, err := w.Auth.CreateUser(ctx, auth.NewUser{Name: "admin", Password: w.Password, Role: pki.RoleAdmin}, System()); err != nil {
		t.Fatal(err)
	}
}

// Profile makes a certificate profile under "issuing".
func (w *World) Profile(t testing.TB, name string, template pki.Template, method pki.EnrollmentMethod, names pki.NameRules) *pki.Profile {
	t.Helper()
	ca, ok := w.Catalog.Snapshot().CAByName("issuing")
	if !ok {
		t.Fatal("there is no CA issuing")
	}
	rules, _ := policy.TemplateRules(template)
	rules.Names = names
	rules.Validity.JitterPercent = 0
	return must[*pki.Profile](t)(w.Catalog.CreateProfile(t.Context(), pki.Profile{
		Name: name, Template: template, Method: method, IssuingCA: ca.ID, Rules: rules,
	}, System()))
}

// Issue makes a certificate under a profile, as its enrollment method would.
func (w *World) Issue(t testing.TB, profile string, names testca.Request) *pki.Certificate {
	t.Helper()
	p, ok := w.Catalog.Snapshot().ProfileByName(profile)
	if !ok {
		t.Fatalf("there is no profile %q", profile)
	}
	request := must[*csr.Request](t)(csr.Parse(testca.CSR(t, names)))
	ids := must[[]pki.Identifier](t)(policy.Requested(request))
	r := issue.Request{
		Profile: p, CSR: request, Identifiers: ids, Actor: System().Actor,
		Client: pki.Client{UserAgent: "test/1.0", Address: "192.0.2.1"},
	}
	if p.Method != pki.RESTAPI {
		r.Credential = w.Credential(t, p)
	}
	return must[*pki.Certificate](t)(w.Issuer.Issue(t.Context(), r))
}

// Credential returns the credential "client" of a profile, made when it is not there yet.
func (w *World) Credential(t testing.TB, p *pki.Profile) *pki.Credential {
	t.Helper()
	for _, c := range w.Catalog.Snapshot().CredentialsOf(p.ID) {
		if c.Name == "client" {
			return c
		}
	}
	c, _, err := w.Catalog.CreateCredential(t.Context(), catalog.NewCredential{ProfileID: p.ID, Name: "client"}, System())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Client returns a client of the API with the token of a role; "" is no token.
func (w *World) Client(t testing.TB, role pki.Role) *apiv1.Client {
	t.Helper()
	return w.ClientWith(t, w.Tokens[role])
}

// ClientWith returns a client with any token.
func (w *World) ClientWith(t testing.TB, token string) *apiv1.Client {
	t.Helper()
	return must[*apiv1.Client](t)(apiv1.NewClient(apiv1.ClientConfig{
		Server: w.Server.URL, Token: token, HTTP: w.Server.Client(), UserAgent: "apitest/1.0",
	}))
}

// RootPEM is what verifies the server's own certificate.
func (w *World) RootPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Server.Certificate().Raw})
}

// Answer is the answer to a raw request.
type Answer struct {
	Status  int
	Header  http.Header
	Body    []byte
	Problem apiv1.Problem // when it is one
}

// Do sends a raw request. The body is JSON unless header says otherwise; nil is none.
func (w *World) Do(t testing.TB, method, path, token string, body io.Reader, header http.Header) Answer {
	t.Helper()
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, w.Server.URL+apiv1.Prefix+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := w.Server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer := Answer{Status: response.StatusCode, Header: response.Header}
	if answer.Body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	if response.Header.Get("Content-Type") == apiv1.ProblemType {
		if err := json.Unmarshal(answer.Body, &answer.Problem); err != nil {
			t.Fatalf("problem document: %v", err)
		}
	}
	return answer
}

// Events returns the audit events of an action, newest first.
func (w *World) Events(t testing.TB, action audit.Action) []audit.Event {
	t.Helper()
	return must[[]audit.Event](t)(w.Store.Events(t.Context(), pki.EventFilter{Action: string(action), Limit: 1000}))
}

// denied asks the deny list as it is now: nothing here polls it, and tests move the clock.
func (w *World) denied(names *pki.Names, workload *pki.Workload) error {
	if err := w.Catalog.Poll(context.Background()); err != nil {
		return err
	}
	return w.Catalog.Denied(names, workload)
}
