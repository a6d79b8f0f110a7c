package acme_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/agent/acme"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

const secretName = "certloom-agent-acme-account"

// secrets are the Secrets of a namespace, with the API server's promises: a name is created once, and an update of what has
// changed since it was read is a conflict.
type secrets struct {
	mu      sync.Mutex
	stored  map[string]*corev1.Secret
	version int
	down    bool
}

func (s *secrets) do(work func() (*corev1.Secret, error)) (*corev1.Secret, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return nil, apierrors.NewServiceUnavailable("the API server is down")
	}
	secret, err := work()
	return secret.DeepCopy(), err
}

func resource() schema.GroupResource { return schema.GroupResource{Resource: "secrets"} }

func (s *secrets) Get(_ context.Context, name string, _ metav1.GetOptions) (*corev1.Secret, error) {
	return s.do(func() (*corev1.Secret, error) {
		if found := s.stored[name]; found != nil {
			return found, nil
		}
		return nil, apierrors.NewNotFound(resource(), name)
	})
}

func (s *secrets) Create(_ context.Context, secret *corev1.Secret, _ metav1.CreateOptions) (*corev1.Secret, error) {
	return s.do(func() (*corev1.Secret, error) {
		if s.stored[secret.Name] != nil {
			return nil, apierrors.NewAlreadyExists(resource(), secret.Name)
		}
		return s.put(secret), nil
	})
}

func (s *secrets) Update(_ context.Context, secret *corev1.Secret, _ metav1.UpdateOptions) (*corev1.Secret, error) {
	return s.do(func() (*corev1.Secret, error) {
		old := s.stored[secret.Name]
		if old == nil {
			return nil, apierrors.NewNotFound(resource(), secret.Name)
		}
		if old.ResourceVersion != secret.ResourceVersion {
			return nil, apierrors.NewConflict(resource(), secret.Name, fmt.Errorf("it has changed"))
		}
		return s.put(secret), nil
	})
}

func (s *secrets) put(secret *corev1.Secret) *corev1.Secret {
	s.version++
	stored := secret.DeepCopy()
	stored.Namespace, stored.ResourceVersion = "istio-system", strconv.Itoa(s.version)
	s.stored[secret.Name] = stored
	return stored
}

// data returns what the Secret holds.
func (s *secrets) data() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.stored[secretName]; found != nil {
		return maps.Clone(found.Data)
	}
	return nil
}

func (s *secrets) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// lab is a CA, which is our server with somebody in between, and an API server.
type lab struct {
	t testing.TB
	*acmetest.Server
	secrets *secrets

	mu       sync.Mutex
	binding  *acmeclient.Binding
	requests []string // "METHOD /path"
	created  int      // accounts
	ended    int      // accounts
	// before may answer instead of the server, and after may change the server's answer.
	before func(w http.ResponseWriter, r *http.Request) bool
	after  func(r *http.Request, answer *httptest.ResponseRecorder)
}

func newLab(t testing.TB, o acmetest.Options) *lab {
	t.Helper()
	l := &lab{t: t, Server: acmetest.Start(t, o), secrets: &secrets{stored: map[string]*corev1.Secret{}}}
	l.use(l.Credentials["istio"])
	l.Handler = http.HandlerFunc(l.serve)
	return l
}

func (l *lab) serve(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	before, after := l.before, l.after
	l.requests = append(l.requests, r.Method+" "+r.URL.Path)
	l.mu.Unlock()
	if before != nil && before(w, r) {
		return
	}
	answer := httptest.NewRecorder()
	l.ACME.Handler().ServeHTTP(answer, r)
	if after != nil {
		after(r, answer)
	}
	if strings.HasSuffix(r.URL.Path, "/new-account") && answer.Code == http.StatusCreated {
		l.change(func() { l.created++ })
	}
	if strings.Contains(answer.Body.String(), `"status":"deactivated"`) {
		l.change(func() { l.ended++ })
	}
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(answer.Body.Bytes())
}

func (l *lab) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// seen counts the requests whose path ends like this.
func (l *lab) seen(suffix string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, request := range l.requests {
		if strings.HasSuffix(request, suffix) {
			n++
		}
	}
	return n
}

// use gives the agents an EAB credential.
func (l *lab) use(c acmetest.Credential) {
	l.change(func() { l.binding = &acmeclient.Binding{KeyID: string(c.ID), HMACKey: c.Key} })
}

// newCredential makes another one of the profile istio.
func (l *lab) newCredential(name string) acmetest.Credential {
	return l.AddCredential(l.t, catalog.NewCredential{ProfileID: l.Profiles["istio"].ID, Name: name})
}

// accounts returns how many have been made.
func (l *lab) accounts() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.created
}

// deactivated returns how many have been deactivated.
func (l *lab) deactivated() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

func (l *lab) rootFile() *issuer.RootFile {
	l.t.Helper()
	path := filepath.Join(l.t.TempDir(), "root.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.Root.Certificate})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	roots, err := issuer.NewRootFile(issuer.RootFileConfig{Path: path, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		l.t.Fatal(err)
	}
	return roots
}

// replica is an issuer that runs until the test ends.
type replica struct {
	*acme.Issuer
	registry *prometheus.Registry
}

func (l *lab) config() acme.Config {
	transport, ok := l.Client.Transport.(*http.Transport)
	if !ok {
		l.t.Fatal("the server's client has another transport")
	}
	return acme.Config{
		DirectoryURL: l.URL + "/acme/directory",
		TLSRoots:     func() (*x509.CertPool, error) { return transport.TLSClientConfig.RootCAs, nil },
		Binding: func() (*acmeclient.Binding, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.binding, nil
		},
		Secret: secretName, Secrets: l.secrets, Roots: l.rootFile(), Own: []string{"agent.istio-system.svc"}, Ping: 50 * time.Millisecond,
		Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
}

func (l *lab) start(change ...func(*acme.Config)) *replica {
	l.t.Helper()
	config := l.config()
	registry := prometheus.NewRegistry()
	config.Registerer = registry
	for _, f := range change {
		f(&config)
	}
	made, err := acme.New(config)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- made.Run(ctx) }()
	l.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			l.t.Errorf("Run: %v", err)
		}
	})
	return &replica{Issuer: made, registry: registry}
}

// startStopped runs an issuer for a while; what comes out of the channel is what Run returned.
func (l *lab) startStopped(d time.Duration) <-chan error {
	l.t.Helper()
	made, err := acme.New(l.config())
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- made.Run(ctx)
	}()
	return done
}

// breakConnections has the CA break every connection, as a host does that is shut down.
func (l *lab) breakConnections(broken bool) {
	l.change(func() {
		l.before = nil
		if broken {
			l.before = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
		}
	})
}

// ready waits until an issuer is ready.
func (l *lab) ready(i *replica) {
	l.t.Helper()
	eventually(l.t, i.Ready)
}

// ask asks for a certificate and checks it as the agent does.
func (l *lab) ask(i *replica, lifetime time.Duration, uri string, dns ...string) (*x509.Certificate, error) {
	l.t.Helper()
	request, want := newRequest(l.t, uri, dns...)
	chain, err := i.Issue(l.t.Context(), issuer.Request{CSR: request, Lifetime: lifetime})
	if err != nil {
		return nil, err
	}
	leaf, err := i.Bundle().Check(chain, want, time.Now())
	if err != nil {
		l.t.Errorf("a certificate that is not good: %v", err)
	}
	if len(chain) != 2 {
		l.t.Errorf("a chain of %d certificates", len(chain))
	}
	return leaf, nil
}

func newRequest(t testing.TB, uri string, dns ...string) ([]byte, issuer.Wanted) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.CertificateRequest{DNSNames: dns}
	var want issuer.Wanted
	want.Names.DNS = slices.Sorted(slices.Values(dns))
	if uri != "" {
		parsed, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs, want.Names.URIs = []*url.URL{parsed}, []string{uri}
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	if want.SPKI, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		t.Fatal(err)
	}
	return request, want
}

func eventually(t testing.TB, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(10 * time.Millisecond)
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

// issued returns how many certificates the CA has made for workloads and agents.
func (l *lab) issued() int {
	l.t.Helper()
	list, err := l.Store.Certificates(l.t.Context(), pki.CertificateFilter{}, time.Now())
	if err != nil {
		l.t.Fatal(err)
	}
	return len(list)
}

func (l *lab) pem(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// payload returns what a request's JWS says, and leaves the body to be read again.
func payload(r *http.Request) []byte {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	var jws struct{ Payload string }
	_ = json.Unmarshal(body, &jws)
	text, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
	return text
}

// refuse answers with a problem document.
func refuse(w http.ResponseWriter, code int, kind, detail string, retryAfter int) {
	w.Header().Set("Content-Type", "application/problem+json")
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":%q,"status":%d}`, kind, detail, code)
}
