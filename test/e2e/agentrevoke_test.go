package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// testRevokedCertificate shows that a client certificate stops counting at once when it is revoked, and so does what was
// renewed from it, while a token still counts; and that the agent has the CRL that says so.
func (f *field) testRevokedCertificate(t *testing.T) {
	account, pod := f.workload(t, "stolen")
	id, caller := identityOf(account), f.agents["local"]
	token := f.cluster.Token(t.Context(), t, account, pod, "istio-ca")
	eventually(t, func(context.Context) error { return hasLists(t, caller) })

	first := newECKey(t)
	shown := keyPair(t, first, f.create(t, f.callers["local"], testbed.Ask{Token: token, CSR: requestWith(t, first, id)}, codes.OK))
	second := newECKey(t)
	renewed := keyPair(t, second, f.create(t, caller.Connect(t, shown), testbed.Ask{CSR: requestWith(t, second, id)}, codes.OK))
	serial := testbed.Serial(leafOf(t, shown))
	if got := string(f.server.CLI(t.Context(), t, "certificate", "get", testbed.Serial(leafOf(t, renewed)), "-o", "json")); !strings.Contains(got, `"presented": "`+serial+`"`) {
		t.Errorf("the inventory does not say by which certificate the workload was known:\n%s", got)
	}

	f.server.CLI(t.Context(), t, "certificate", "revoke", serial, "--reason", "keyCompromise")
	for _, own := range []tls.Certificate{shown, renewed} {
		f.create(t, caller.Connect(t, own), testbed.Ask{CSR: spiffeRequest(t, id)}, codes.Unauthenticated)
		f.create(t, caller.Connect(t, own), testbed.Ask{CSR: spiffeRequest(t, id), Token: token}, codes.OK)
	}
}

// testOtherCA shows that a certificate of a CA below the same root which is not the server's own is no proof.
func (f *field) testOtherCA(t *testing.T) {
	account, _ := f.workload(t, "elsewhere")
	id := identityOf(account)
	f.server.CLI(t.Context(), t, "ca", "create-issuing", "mesh", "--parent", "root", "--path-length", "1")
	f.server.CLI(t.Context(), t, "profile", "create", "istiod-ca", "--template", "mesh-intermediate", "--issuing-ca", "mesh", "--method", "rest-api")
	key := newECKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Istio CA"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "request.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	var above [][]byte
	rest := f.server.CLI(t.Context(), t, "certificate", "request", "--profile", "istiod-ca", "--csr", file)
	for block, after := pem.Decode(rest); block != nil; block, after = pem.Decode(after) {
		above = append(above, block.Bytes)
	}
	ca, err := x509.ParseCertificate(above[0])
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	own := newECKey(t)
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: newSerial(t), URIs: []*url.URL{uri}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, own.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	shown := tls.Certificate{Certificate: append([][]byte{leaf}, above...), PrivateKey: own}
	f.create(t, f.agents["local"].Connect(t, shown), testbed.Ask{CSR: spiffeRequest(t, id)}, codes.Unauthenticated)
	// It is the server that knows it is none of its own: for the agent the chain is good.
	if log := f.agents["local"].Process().Log(); !strings.Contains(log, "not in the inventory") {
		t.Error("the log does not say why")
	}
	// There is a CA now whose CRL nobody here can make: no lists are better than some.
	eventually(t, func(context.Context) error {
		if err := hasLists(t, f.agents["local"]); err == nil {
			return fmt.Errorf("the agent has CRLs: %w", errAccepted)
		}
		return nil
	})
}

// hasLists returns why an agent has no CRLs.
func hasLists(t *testing.T, agent *testbed.Agent) error {
	t.Helper()
	_, text := get(t, agent.Metrics)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "certloom_agent_crl_expiry_timestamp_seconds "); ok {
			end, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err == nil && end < float64(time.Now().Unix()) {
				err = fmt.Errorf("CRLs end at %v", end)
			}
			return err
		}
	}
	return errors.New("no metric tells of CRLs")
}

// keyPair is what an answer of the agent is for TLS: the last element of the chain is the roots.
func keyPair(t *testing.T, key *ecdsa.PrivateKey, chain []string) tls.Certificate {
	t.Helper()
	own := tls.Certificate{PrivateKey: key}
	for _, element := range chain[:len(chain)-1] {
		block, _ := pem.Decode([]byte(element))
		own.Certificate = append(own.Certificate, block.Bytes)
	}
	return own
}

func leafOf(t *testing.T, own tls.Certificate) *x509.Certificate {
	t.Helper()
	leaf, err := x509.ParseCertificate(own.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}
