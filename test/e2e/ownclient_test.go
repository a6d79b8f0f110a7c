package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestOwnClient turns it round: our ACME client against a server that is not ours, and means it. Pebble refuses three of
// ten good nonces, wants an EAB credential, and leaves orders in processing.
func TestOwnClient(t *testing.T) {
	zone, port := testbed.StartZone(t), testbed.Ports(t, 1)
	solver := responderSolver{testbed.StartResponder(t, port)}
	pebble := testbed.StartPebble(t.Context(), t, zone.Addr(), port)
	client := newOwnClient(t, pebble)
	names := []string{"own.test", "www.own.test"}
	first := ownCertificate(t, pebble, client, solver, names, "")
	again := ownCertificate(t, pebble, client, solver, names, pki.ARICertID(first.AuthorityKeyId, pki.SerialFromInt(first.SerialNumber)))
	info, err := client.RenewalInfo(t.Context(), pki.ARICertID(again.AuthorityKeyId, pki.SerialFromInt(again.SerialNumber)))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v until %s, renewal info %+v", again.DNSNames, again.NotAfter.Format(time.DateTime), info)
	if err := client.Revoke(t.Context(), again.Raw, pki.Superseded); err != nil {
		t.Error(err)
	}
	if err := client.Revoke(t.Context(), again.Raw, pki.Superseded); !acmeclient.IsProblem(err, "alreadyRevoked") {
		t.Errorf("revoked twice: %v, want alreadyRevoked", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.ChangeKey(t.Context(), key); err != nil {
		t.Error(err)
	}
	if account, err := client.Deactivate(t.Context()); err != nil || account.Status != "deactivated" {
		t.Errorf("deactivate: %+v, %v", account, err)
	}
}

func newOwnClient(t *testing.T, pebble *testbed.Pebble) *acmeclient.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	trusting, err := testbed.TrustingClient(pebble.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trusting.CloseIdleConnections)
	client, err := acmeclient.New(acmeclient.Config{
		DirectoryURL: pebble.DirectoryURL, HTTPClient: trusting, Key: key, Random: rand.Reader, UserAgent: "certloom-e2e",
	})
	if err != nil {
		t.Fatal(err)
	}
	hmacKey, err := base64.RawURLEncoding.DecodeString(pebble.HMACKey)
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Register(t.Context(), acmeclient.Registration{
		Contact: []string{"mailto:owner@example.com"}, TermsAgreed: true,
		Binding: &acmeclient.Binding{KeyID: pebble.KeyID, HMACKey: hmacKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// ownCertificate gets a certificate and verifies its chain.
func ownCertificate(
	t *testing.T, pebble *testbed.Pebble, client *acmeclient.Client, solver acmeclient.Solver, names []string, replaces string,
) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names}, key)
	if err != nil {
		t.Fatal(err)
	}
	request := acmeclient.OrderRequest{Replaces: replaces}
	for _, name := range names {
		request.Identifiers = append(request.Identifiers, pki.Identifier{Type: pki.DNS, Value: name})
	}
	issued, err := client.Obtain(t.Context(), request, csr, solver)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := testbed.VerifyChain(issued.Chain, pebble.RootFile, x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatal(err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the certificate has another key than the CSR")
	}
	return leaf
}

// responderSolver proves by http-01.
type responderSolver struct{ responder *testbed.Responder }

func (s responderSolver) Type() string { return "http-01" }

func (s responderSolver) Present(_ context.Context, task acmeclient.Task) error {
	s.responder.Set(task.Token, task.KeyAuthorization)
	return nil
}

func (s responderSolver) CleanUp(_ context.Context, task acmeclient.Task) error {
	s.responder.Clear(task.Token)
	return nil
}
