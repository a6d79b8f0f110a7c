package api_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

func certificateOf(t *testing.T, text string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatalf("no PEM in %q", text)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCAs(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	two := 2
	root, err := client.CreateCA(ctx, apiv1.CreateCA{
		Name: "mesh-root", Kind: "root", KeyAlgorithm: "ecdsa-p384", CommonName: "Mesh Root", Organization: "Example", Validity: "15y",
		PathLength: &two, Constraints: &apiv1.Constraints{TrustDomains: []string{"cluster.local"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if root.Kind != "root" || root.State != "active" || root.Subject != "CN=Mesh Root,O=Example" || *root.PathLength != 2 ||
		root.Constraints == nil || root.Constraints.TrustDomains[0] != "cluster.local" {
		t.Errorf("root %+v", root)
	}
	issuing, err := client.CreateCA(ctx, apiv1.CreateCA{Name: "mesh", Kind: "issuing", Parent: "mesh-root"})
	if err != nil {
		t.Fatal(err)
	}
	if issuing.Parent != "mesh-root" || len(issuing.Settings.CRLURLs) != 1 || !strings.HasPrefix(issuing.Settings.CRLURLs[0], w.BaseURL+"/crl/") {
		t.Errorf("issuing %+v", issuing)
	}
	if err := certificateOf(t, issuing.PEM).CheckSignatureFrom(certificateOf(t, root.PEM)); err != nil {
		t.Error(err)
	}
	if issuing.ChainPEM != root.PEM {
		t.Error("the chain of the issuing CA is not the root")
	}
	page, err := client.CAs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, ca := range page.Items {
		names = append(names, ca.Name)
	}
	if diff := cmp.Diff([]string{"issuing", "mesh", "mesh-root", "root"}, names); diff != "" {
		t.Error(diff)
	}
	byID, err := client.CA(ctx, issuing.ID)
	if err != nil || byID.Name != "mesh" {
		t.Errorf("by identifier: %v, %v", byID, err)
	}
}

func TestCAStates(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	suspended, err := client.SuspendCA(ctx, "issuing")
	if err != nil || suspended.State != "suspended" {
		t.Fatalf("suspend: %+v, %v", suspended, err)
	}
	if _, err := client.CreateCertificate(ctx, apiv1.CreateCertificate{Profile: "ci", CSR: csrPEM(t, testca.Request{URIs: []string{testca.SPIFFE}})}); err == nil {
		t.Error("a suspended CA issues")
	}
	if _, err := client.SuspendCA(ctx, "issuing"); err != nil {
		t.Errorf("suspend again: %v", err)
	}
	if active, err := client.ActivateCA(ctx, "issuing"); err != nil || active.State != "active" {
		t.Errorf("activate: %+v, %v", active, err)
	}
	events := w.Events(t, "ca.suspend")
	if len(events) != 1 || events[0].Target != "issuing" || events[0].Actor.Name != "admin" || events[0].Client.UserAgent != "apitest/1.0" {
		t.Errorf("events %+v", events)
	}
}

func TestCASettings(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	ca, err := client.UpdateCASettings(ctx, "issuing", apiv1.CASettings{CRLURLs: []string{"http://pki.example/a.crl"}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(apiv1.CASettings{CRLURLs: []string{"http://pki.example/a.crl"}, OCSPURLs: []string{}, IssuerURLs: []string{}}, ca.Settings); diff != "" {
		t.Error(diff)
	}
	if changes := w.Events(t, "ca.update")[0].Detail.Changes; len(changes) != 3 || changes[0].New != `["http://pki.example/a.crl"]` {
		t.Errorf("changes %+v", changes)
	}
	answer := w.Do(t, http.MethodPut, "/cas/issuing/settings", w.Tokens[pki.RoleAdmin], strings.NewReader(
		`{"crlUrls":["ftp://x.example/a"],"ocspUrls":["http://u:p@x.example/"],"issuerUrls":["x","http://x.example/a","http://x.example/#b"]}`), nil)
	want := []string{"/crlUrls/0", "/issuerUrls/0", "/issuerUrls/2", "/ocspUrls/0"}
	if diff := cmp.Diff(want, fields(answer.Problem)); diff != "" || answer.Status != http.StatusBadRequest {
		t.Errorf("status %d (-want +got):\n%s", answer.Status, diff)
	}
}

// TestOutsideRoot takes an issuing CA from its CSR to its first leaf.
func TestOutsideRoot(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	pending, err := client.CreateCA(ctx, apiv1.CreateCA{Name: "below", Kind: "issuing", CommonName: "Below"})
	if err != nil || pending.State != "pending" || pending.PEM != "" {
		t.Fatalf("pending %+v, %v", pending, err)
	}
	out, err := client.CACSR(ctx, "below")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.ActivateCA(ctx, "below"); statusOf(err) != http.StatusConflict {
		t.Errorf("activate a pending CA: %v", err)
	}
	if _, err := client.CreateProfile(ctx, apiv1.CreateProfile{Name: "p", Template: "private-server", IssuingCA: "below"}); statusOf(err) != http.StatusBadRequest {
		t.Errorf("profile of a pending CA: %v", err)
	}
	outside, key := outsideRoot(t, w.Clock.Now())
	block, _ := pem.Decode([]byte(out.PEM))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	chain := signBelow(t, request, outside, key)
	if _, err := client.InstallCertificate(ctx, "below", apiv1.InstallCertificate{Chain: certPEM(outside.Raw)}); statusOf(err) != http.StatusBadRequest {
		t.Errorf("install a certificate of another key: %v", err)
	}
	installed, err := client.InstallCertificate(ctx, "below", apiv1.InstallCertificate{Chain: chain})
	if err != nil || installed.State != "active" || installed.Issuer != "CN=Outside" {
		t.Fatalf("install: %+v, %v", installed, err)
	}
	if _, err := client.InstallCertificate(ctx, "issuing", apiv1.InstallCertificate{Chain: chain}); statusOf(err) != http.StatusConflict {
		t.Errorf("install for a CA of ours: %v", err)
	}
}

func outsideRoot(t *testing.T, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := testca.Key(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Outside"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return root, key
}

func signBelow(t *testing.T, request *x509.CertificateRequest, root *x509.Certificate, key *ecdsa.PrivateKey) string {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: request.Subject, NotBefore: root.NotBefore, NotAfter: root.NotAfter.AddDate(-5, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, root, request.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return certPEM(der) + certPEM(root.Raw)
}

func certPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestImportCA(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	h := testca.New(t)
	der, err := x509.MarshalPKCS8PrivateKey(h.IssuingKey)
	if err != nil {
		t.Fatal(err)
	}
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	chain := certPEM(h.IssuingCert.Raw) + certPEM(h.RootCert.Raw)
	ca, err := client.ImportCA(ctx, apiv1.ImportCA{Name: "old", Chain: chain, Key: key})
	if err != nil || ca.Kind != "issuing" || ca.State != "active" {
		t.Fatalf("import: %+v, %v", ca, err)
	}
	if _, err := client.ImportCA(ctx, apiv1.ImportCA{Name: "old-2", Chain: chain, Key: key}); statusOf(err) != http.StatusConflict {
		t.Errorf("import it again: %v", err)
	}
	_, err = client.ImportCA(ctx, apiv1.ImportCA{Name: "old-3", Chain: certPEM(h.RootCert.Raw), Key: key})
	if statusOf(err) != http.StatusBadRequest || strings.Contains(err.Error(), key) {
		t.Errorf("import with another CA's key: %v", err)
	}
	if strings.Contains(w.Log.String(), key) {
		t.Error("the log has the private key")
	}
	if events := w.Events(t, "ca.import"); len(events) != 1 || events[0].Actor.Name != "admin" {
		t.Errorf("events %+v", events)
	}
}

func TestRefusesCAs(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	cases := map[string]struct {
		body   string
		status int
		fields []string
	}{
		"refuses/kind":                 {`{"name":"x","kind":"leaf"}`, 400, []string{"/kind"}},
		"refuses/name":                 {`{"name":"X y","kind":"root"}`, 400, []string{"/name"}},
		"refuses/taken-name":           {`{"name":"root","kind":"root"}`, 409, nil},
		"refuses/root-with-parent":     {`{"name":"x","kind":"root","parent":"root"}`, 400, []string{"/parent"}},
		"refuses/unknown-parent":       {`{"name":"x","kind":"issuing","parent":"nope"}`, 400, []string{"/parent"}},
		"refuses/several":              {`{"name":"x","kind":"issuing","parent":"nope","validity":"soon","settings":{"crlUrls":["x"]}}`, 400, []string{"/parent", "/settings/crlUrls/0", "/validity"}},
		"refuses/key":                  {`{"name":"x","kind":"root","keyAlgorithm":"rsa-2048"}`, 400, []string{"/keyAlgorithm"}},
		"refuses/too-long":             {`{"name":"x","kind":"issuing","parent":"root","validity":"50y"}`, 400, []string{"/validity"}},
		"refuses/parent-without-depth": {`{"name":"x","kind":"issuing","parent":"issuing"}`, 409, []string{"/parent"}},
		"refuses/trust-domain":         {`{"name":"x","kind":"root","constraints":{"trustDomains":["A B"]}}`, 400, []string{"/constraints/trustDomains/0"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodPost, "/cas", w.Tokens[pki.RoleAdmin], strings.NewReader(c.body), nil)
			if answer.Status != c.status {
				t.Fatalf("status %d, want %d: %s", answer.Status, c.status, answer.Body)
			}
			if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" && c.fields != nil {
				t.Errorf("fields (-want +got):\n%s\n%s", diff, answer.Body)
			}
		})
	}
}
