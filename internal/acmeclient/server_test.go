package acmeclient_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
)

// webServer solves http-01 for all names.
type webServer struct {
	mu     sync.Mutex // guards proofs
	proofs map[string]string
}

func (w *webServer) Type() string { return "http-01" }

func (w *webServer) Present(_ context.Context, task acmeclient.Task) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.proofs["/.well-known/acme-challenge/"+task.Token] = task.KeyAuthorization
	return nil
}

func (w *webServer) CleanUp(_ context.Context, task acmeclient.Task) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.proofs, "/.well-known/acme-challenge/"+task.Token)
	return nil
}

func (w *webServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, _ = rw.Write([]byte(w.proofs[r.URL.Path]))
}

// startServer starts our server in mean mode: it refuses good nonces at random.
func startServer(t *testing.T) (*acmetest.Server, *webServer) {
	t.Helper()
	solver := &webServer{proofs: map[string]string{}}
	web := httptest.NewServer(solver)
	t.Cleanup(web.Close)
	port := web.Listener.Addr().(*net.TCPAddr).Port
	return acmetest.Start(t, acmetest.Options{ACME: acme.Options{NonceRejectPercent: 20}, HTTP01Port: port}), solver
}

func clientOf(t *testing.T, s *acmetest.Server, path string) *acmeclient.Client {
	t.Helper()
	client, err := acmeclient.New(acmeclient.Config{
		DirectoryURL: s.URL + path, HTTPClient: s.Client, Key: newKey(t), Random: rand.Reader, Poll: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func first(t *testing.T, chain []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(chain)
	if block == nil {
		t.Fatalf("no PEM: %s", chain)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestAgainstServerSPIFFE(t *testing.T) {
	t.Parallel()
	s, _ := startServer(t)
	ctx, client := t.Context(), clientOf(t, s, "/acme/directory")
	credential := s.Credentials["istio"]
	account, err := client.Register(ctx, acmeclient.Registration{
		TermsAgreed: true, Binding: &acmeclient.Binding{KeyID: string(credential.ID), HMACKey: credential.Key},
	})
	if err != nil || !account.Created || account.Status != "valid" {
		t.Fatalf("Register: %+v, %v", account, err)
	}
	const id = "spiffe://cluster.local/ns/demo/sa/web"
	key := newKey(t)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/demo/sa/web"}}}, key)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := client.Obtain(ctx, acmeclient.OrderRequest{}, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	certificate := first(t, issued.Chain)
	if certificate.URIs[0].String() != id {
		t.Errorf("names %v", certificate.URIs)
	}
	ari := pki.ARICertID(certificate.AuthorityKeyId, pki.SerialFromInt(certificate.SerialNumber))
	info, err := client.RenewalInfo(ctx, ari)
	if err != nil || info.RetryAfter < time.Minute || info.Start.Before(certificate.NotBefore) {
		t.Errorf("RenewalInfo: %+v, %v", info, err)
	}
	until := s.Clock.Now().Add(time.Hour)
	renewed, err := client.Obtain(ctx, acmeclient.OrderRequest{Replaces: ari, NotAfter: until, Profile: "istio"}, request, nil)
	if err != nil || renewed.Order.Replaces != ari || !first(t, renewed.Chain).NotAfter.Equal(until.Truncate(time.Second)) {
		t.Fatalf("renewal: %+v, %v", renewed, err)
	}
	if _, err := client.NewOrder(ctx, acmeclient.OrderRequest{Replaces: ari}); !acmeclient.IsProblem(err, "alreadyReplaced") {
		t.Errorf("replaced twice: %v", err)
	}
	if err := client.ChangeKey(ctx, newKey(t)); err != nil {
		t.Fatal(err)
	}
	if err := client.Revoke(ctx, certificate.Raw, pki.Superseded); err != nil {
		t.Error(err)
	}
	if err := client.Revoke(ctx, certificate.Raw, pki.Superseded); !acmeclient.IsProblem(err, "alreadyRevoked") {
		t.Errorf("revoked twice: %v", err)
	}
	if err := client.RevokeWithKey(ctx, first(t, renewed.Chain).Raw, pki.KeyCompromise, key); err != nil {
		t.Error(err)
	}
	if got, err := client.Deactivate(ctx); err != nil || got.Status != "deactivated" {
		t.Errorf("Deactivate: %+v, %v", got, err)
	}
	if _, err := client.NewOrder(ctx, acmeclient.OrderRequest{}); !acmeclient.IsProblem(err, "unauthorized") {
		t.Errorf("order of a deactivated account: %v", err)
	}
}

func TestAgainstServerByChallenge(t *testing.T) {
	t.Parallel()
	s, solver := startServer(t)
	ctx, client := t.Context(), clientOf(t, s, "/acme/p/challenge/directory")
	if _, err := client.Register(ctx, acmeclient.Registration{Contact: []string{"mailto:a@b.example"}}); err != nil {
		t.Fatal(err)
	}
	names := []string{"a.localhost", "b.localhost"}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	order := acmeclient.OrderRequest{Identifiers: []pki.Identifier{{Type: pki.DNS, Value: names[0]}, {Type: pki.DNS, Value: names[1]}}}
	issued, err := client.Obtain(ctx, order, request, solver)
	if err != nil {
		t.Fatal(err)
	}
	if got := first(t, issued.Chain).DNSNames; len(got) != 2 || len(solver.proofs) != 0 {
		t.Errorf("names %v, %d proofs are left", got, len(solver.proofs))
	}
	order.Identifiers = []pki.Identifier{{Type: pki.DNS, Value: "nowhere.invalid"}}
	if _, err := client.Obtain(ctx, order, request, solver); !acmeclient.IsProblem(err, "dns") && !acmeclient.IsProblem(err, "connection") {
		t.Errorf("a name that is not ours: %v", err)
	}
}
