package browser_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/url"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/test/e2e/browser"
	"github.com/certloom/certloom/test/e2e/testbed"
)

const firstIdentity = "spiffe://mesh.example/ns/orders/sa/api"

// TestGuide does what the guide of mesh operators has a new user do: signs in, makes a profile from a template and a
// credential under it, downloads the root, and hands what the page showed to an ACME client. The first certificate
// appears in the inventory by itself.
func TestGuide(t *testing.T) {
	t.Run("with scripts", func(t *testing.T) { guide(t, browser.Settings{}) })
	t.Run("without scripts", func(t *testing.T) { guide(t, browser.Settings{NoScripts: true}) })
}

func guide(t *testing.T, settings browser.Settings) {
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{})
	chromium := browser.StartChromium(t.Context(), t, server, settings)
	tab := chromium.NewTab(t)
	tab.SignIn(server.AdminUser, server.AdminPassword)

	makeProfile(tab)
	credential := makeCredential(t, tab, server)
	root := downloadRoot(t, tab)

	tab.Open("/inventory?q=orders")
	if text := tab.Text("main"); strings.Contains(text, firstIdentity) {
		t.Fatalf("the identity is there before its certificate is:\n%s", text)
	}
	if !settings.NoScripts {
		browser.Evaluate[bool](tab, "window.sameDocument = true")
	}
	obtain(t, server, credential, root)
	if settings.NoScripts {
		tab.Open("/inventory?q=orders")
	}
	tab.Wait("the certificate in the inventory", `document.querySelector('main table').innerText.includes('`+firstIdentity+`')`)
	if !settings.NoScripts && !browser.Evaluate[bool](tab, "window.sameDocument === true") {
		t.Error("the page was loaded again")
	}
	tab.Click("main table tbody a.name")
	tab.Wait("the identity's page", "location.pathname === '/inventory/identity'")
	if text := tab.Text("main"); !strings.Contains(text, "guide") {
		t.Errorf("the identity's page does not name its profile:\n%s", text)
	}
}

// makeProfile goes from the base templates to a profile, by what is written on the page.
func makeProfile(tab *browser.Tab) {
	tab.Click(`nav a[href="/policies/templates"]`)
	tab.Wait("the templates", "location.pathname === '/policies/templates'")
	tab.Click(`main a[href*="template=private-mtls"]`)
	tab.Wait("the form", "location.pathname === '/policies/profiles/new'")
	tab.Fill(`[name="/name"]`, "guide")
	tab.Fill(`[name="/rules/names/spiffe/trustDomains"]`, "mesh.example")
	tab.Fill(`[name="/rules/names/spiffe/allow"]`, "orders/*")
	tab.Click(`main form[action="/policies/profiles/new"] button.btn-primary`)
	tab.Wait("the profile's page", "location.pathname === '/policies/profiles/guide'")
}

// makeCredential makes a credential and reads it from the page, which shows it once.
func makeCredential(t *testing.T, tab *browser.Tab, server *testbed.Certloom) testbed.Credential {
	t.Helper()
	tab.Click(`main a[href^="/policies/credentials/new"]`)
	tab.Wait("the form", "location.pathname === '/policies/credentials/new'")
	tab.Fill(`[name="/name"]`, "first-cluster")
	tab.Click("main form button.btn-primary")
	tab.Wait("the credential", "document.querySelector('#hmac-key')")
	shown := testbed.Credential{
		DirectoryURL: strings.TrimSpace(tab.Text("#directory code")),
		KeyID:        strings.TrimSpace(tab.Text("#key-id code")),
		HMACKey:      strings.TrimSpace(tab.Text("#hmac-key code")),
	}
	if shown.DirectoryURL != server.URL+"/acme/directory" || shown.KeyID == "" || len(shown.HMACKey) != 43 {
		t.Fatalf("the page does not show a credential:\n%s", tab.Text("main"))
	}
	for _, piece := range []string{"kubectl create secret", "kind: Issuer"} {
		if !strings.Contains(tab.Text("main"), piece) {
			t.Errorf("the page does not have %q", piece)
		}
	}
	tab.Open("/policies/credentials")
	if text := tab.Text("main"); !strings.Contains(text, "first-cluster") || strings.Contains(text, shown.HMACKey) {
		t.Errorf("the list does not have the credential, or has its key:\n%s", text)
	}
	return shown
}

// downloadRoot downloads the root by the link on its page.
func downloadRoot(t *testing.T, tab *browser.Tab) *x509.CertPool {
	t.Helper()
	tab.Click(`nav a[href="/authorities"]`)
	data := tab.Download(`main a[download="root.pem"]`, "root.pem")
	block, _ := pem.Decode(data)
	if block == nil {
		t.Fatalf("root.pem is no certificate: %q", data)
	}
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := root.CheckSignatureFrom(root); err != nil {
		t.Errorf("root.pem is no root: %v", err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool
}

// obtain is a workload's ACME client: it has what the console showed, and nothing else.
func obtain(t *testing.T, server *testbed.Certloom, credential testbed.Credential, roots *x509.CertPool) {
	t.Helper()
	account, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	client, err := acmeclient.New(acmeclient.Config{
		DirectoryURL: credential.DirectoryURL, HTTPClient: server.HTTPClient(t), Key: account, Random: rand.Reader, UserAgent: "guide",
	})
	if err != nil {
		t.Fatal(err)
	}
	hmacKey, err := base64.RawURLEncoding.DecodeString(credential.HMACKey)
	if err != nil {
		t.Fatal(err)
	}
	binding := &acmeclient.Binding{KeyID: credential.KeyID, HMACKey: hmacKey}
	if _, err := client.Register(t.Context(), acmeclient.Registration{Binding: binding}); err != nil {
		t.Fatal(err)
	}
	id, err := url.Parse(firstIdentity)
	if err != nil {
		t.Fatal(err)
	}
	workload, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, workload)
	if err != nil {
		t.Fatal(err)
	}
	issued, err := client.Obtain(t.Context(), acmeclient.OrderRequest{}, csr, nil)
	if err != nil {
		t.Fatal(err)
	}
	verify(t, issued.Chain, roots)
}

// verify checks that a chain leads to the root that was downloaded.
func verify(t *testing.T, chain []byte, roots *x509.CertPool) {
	t.Helper()
	var leaf *x509.Certificate
	between := x509.NewCertPool()
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if leaf == nil {
			leaf = certificate
		} else {
			between.AddCert(certificate)
		}
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Error(err)
	}
}
