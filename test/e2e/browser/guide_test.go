package browser_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	cmacme "github.com/cert-manager/cert-manager/pkg/apis/acme/v1"
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/browser"
	"github.com/certloom/certloom/test/e2e/testbed"
)

const firstIdentity = "spiffe://mesh.example/ns/orders/sa/api"

// TestGuide does what the guide of mesh operators has a new user do: signs in, makes a profile from a template and a
// credential under it, downloads the root and the package for Istio, and applies that, as it is, to a cluster with cert-manager.
// The first certificate appears in the inventory by itself. Without scripts, an ACME client with the credential stands in for
// the cluster, and the page is loaded again.
func TestGuide(t *testing.T) {
	t.Run("with scripts", func(t *testing.T) {
		cluster := testbed.StartCluster(t.Context(), t)
		cluster.StartController(t)
		guide(t, browser.Settings{}, func(_ *testbed.Certloom, g *guided) { applied(t, cluster, g) })
	})
	t.Run("without scripts", func(t *testing.T) {
		guide(t, browser.Settings{NoScripts: true}, func(server *testbed.Certloom, g *guided) { obtain(t, server, g.credential, g.roots) })
	})
}

// guided is what the console has given to its user.
type guided struct {
	credential testbed.Credential
	roots      *x509.CertPool
	root       []byte            // PEM
	files      map[string][]byte // of the package
}

func guide(t *testing.T, settings browser.Settings, issue func(*testbed.Certloom, *guided)) {
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{})
	chromium := browser.StartChromium(t.Context(), t, server, settings)
	tab := chromium.NewTab(t)
	tab.SignIn(server.AdminUser, server.AdminPassword)

	makeProfile(tab)
	got := &guided{credential: makeCredential(t, tab, server)}
	got.downloadRoot(t, tab)
	got.downloadPackage(t, tab, server)

	tab.Open("/inventory?q=orders")
	if text := tab.Text("main"); strings.Contains(text, firstIdentity) {
		t.Fatalf("the identity is there before its certificate is:\n%s", text)
	}
	watched := chromium.NewTab(t)
	if !settings.NoScripts {
		browser.Evaluate[bool](tab, "window.sameDocument = true")
		watched.Open("/integrations/connectors/prod-eu")
	}
	issue(server, got)
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
	if !settings.NoScripts {
		watched.Wait("the connector to turn green by itself", "document.querySelectorAll('#progress li.text-success').length === 4")
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
	copied := browser.Evaluate[string](tab, `[...document.querySelectorAll('[data-copy]')].find(b => b.textContent.includes('Copy all'))?.dataset.copy ?? ''`)
	for _, piece := range []string{shown.DirectoryURL, shown.KeyID, shown.HMACKey} {
		if !strings.Contains(copied, piece) {
			t.Errorf("Copy all copies\n%s\nwithout %q", copied, piece)
		}
	}
	tab.Open("/policies/credentials")
	if text := tab.Text("main"); !strings.Contains(text, "first-cluster") || strings.Contains(text, shown.HMACKey) {
		t.Errorf("the list does not have the credential, or has its key:\n%s", text)
	}
	return shown
}

// downloadRoot downloads the root by the link on its page.
func (g *guided) downloadRoot(t *testing.T, tab *browser.Tab) {
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
	g.root, g.roots = data, x509.NewCertPool()
	g.roots.AddCert(root)
}

// downloadPackage makes a connector and downloads its package by the button on its page.
func (g *guided) downloadPackage(t *testing.T, tab *browser.Tab, server *testbed.Certloom) {
	t.Helper()
	tab.Click(`nav a[href="/integrations/connectors"]`)
	tab.Wait("the connectors", "location.pathname === '/integrations/connectors'")
	tab.Click(`main a[href="/integrations/connectors/add"]`)
	tab.Click(`main a[href="/integrations/connectors/add/istio"]`)
	tab.Wait("the form", "location.pathname === '/integrations/connectors/add/istio'")
	tab.Fill(`[name="/name"]`, "prod-eu")
	tab.Choose(`[name="/profile"]`, "guide")
	tab.Fill(`[name="/credential"]`, "prod-eu")
	tab.Choose(`[name="/mode"]`, "cert-manager")
	tab.Click("main form button.btn-primary")
	tab.Wait("the package", `document.querySelector('main a[download][href^="/connect/"], header a[download][href^="/connect/"], a[download][href^="/connect/"]')`)
	for _, piece := range []string{"kubectl apply", "helm", "istiod"} {
		if !strings.Contains(tab.Text("main"), piece) {
			t.Errorf("the page of the package does not have %q", piece)
		}
	}
	data := tab.Download(`a[download][href^="/connect/"]`, "certloom-istio-prod-eu.zip")
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatalf("the package is no ZIP: %v", err)
	}
	g.files = make(map[string][]byte)
	for _, file := range archive.File {
		content, err := fs.ReadFile(archive, file.Name)
		if err != nil {
			t.Fatal(err)
		}
		g.files[path.Base(file.Name)] = content
	}
	for _, name := range []string{"README.md", "istio-operator.yaml"} {
		if len(g.files[name]) == 0 {
			t.Errorf("the package has no %s", name)
		}
	}
	g.checkPackage(t, server)
}

// checkPackage reads the package's manifests as a cluster does: the issuer asks this server with the credential that was made
// for it, and the root is the one that was downloaded.
func (g *guided) checkPackage(t *testing.T, server *testbed.Certloom) {
	t.Helper()
	var credentials []apiv1.Credential
	if err := json.Unmarshal(server.CLI(t.Context(), t, "credential", "list", "--profile", "guide", "-o", "json"), &credentials); err != nil {
		t.Fatal(err)
	}
	made := slices.IndexFunc(credentials, func(c apiv1.Credential) bool { return c.Name == "prod-eu" })
	if made < 0 {
		t.Fatalf("no credential was made for the connector: %+v", credentials)
	}
	var acme *cmacme.ACMEIssuer
	roots := 0
	for _, o := range g.objects(t) {
		switch o.Kind {
		case "Issuer":
			acme = o.Spec.ACME
		case "Secret":
			for key, value := range o.Data {
				content, err := base64.StdEncoding.DecodeString(value)
				if err != nil {
					t.Errorf("%s: %v", key, err)
				}
				o.StringData[key] = string(content)
			}
			for key, value := range o.StringData {
				roots += g.countRoot(t, key, value)
			}
		}
	}
	if acme == nil || acme.ExternalAccountBinding == nil {
		t.Fatal("the package has no Issuer with a credential")
	}
	if acme.Server != server.URL+"/acme/directory" || acme.ExternalAccountBinding.KeyID != credentials[made].KeyID {
		t.Errorf("the Issuer asks %s as %s; it should be %s", acme.Server, acme.ExternalAccountBinding.KeyID, credentials[made].KeyID)
	}
	if roots == 0 {
		t.Error("no Secret of the package has the root")
	}
}

// object is what is looked at of an object of a manifest.
type object struct {
	Kind       string            `json:"kind"`
	Spec       cmapi.IssuerSpec  `json:"spec"`
	Data       map[string]string `json:"data"`
	StringData map[string]string `json:"stringData"`
}

// objects reads all manifests.
func (g *guided) objects(t *testing.T) []object {
	t.Helper()
	var found []object
	for _, name := range g.manifests() {
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(g.files[name]), 4096)
		for {
			o := object{StringData: make(map[string]string)}
			err := decoder.Decode(&o)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			found = append(found, o)
		}
	}
	return found
}

// manifests are the files that are applied, in their order.
func (g *guided) manifests() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(g.files)) {
		if name[0] >= '0' && name[0] <= '9' && strings.HasSuffix(name, ".yaml") {
			names = append(names, name)
		}
	}
	return names
}

// countRoot is 1 for a certificate, which must be the root that was downloaded, and 0 for everything else.
func (g *guided) countRoot(t *testing.T, where, value string) int {
	t.Helper()
	if !strings.Contains(value, "BEGIN CERTIFICATE") {
		return 0
	}
	if strings.TrimSpace(value) != strings.TrimSpace(string(g.root)) {
		t.Errorf("%s has another certificate than the root that was downloaded:\n%s", where, value)
	}
	return 1
}

// applied applies the package's manifests as they are, and asks as istio-csr does for the first workload.
func applied(t *testing.T, cluster *testbed.Cluster, g *guided) {
	t.Helper()
	for _, name := range g.manifests() {
		cluster.KubectlInput(t.Context(), t, string(g.files[name]), "apply", "--filename", "-")
	}
	id, err := url.Parse(firstIdentity)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		t.Fatal(err)
	}
	requests := cluster.CertManager.CertmanagerV1().CertificateRequests("istio-system")
	made, err := requests.Create(t.Context(), &cmapi.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "istio-csr-first", Annotations: map[string]string{"istio.cert-manager.io/identities": firstIdentity}},
		Spec: cmapi.CertificateRequestSpec{
			Request:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}),
			IssuerRef: cmmeta.IssuerReference{Name: "certloom", Kind: "Issuer", Group: "cert-manager.io"},
			Usages:    []cmapi.KeyUsage{cmapi.UsageClientAuth, cmapi.UsageServerAuth},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = testbed.Poll(t.Context(), 100*time.Millisecond, func(ctx context.Context) error {
		made, err = requests.Get(ctx, made.Name, metav1.GetOptions{})
		if err == nil && len(made.Status.Certificate) == 0 {
			err = fmt.Errorf("no certificate yet: %+v", made.Status.Conditions)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	verify(t, made.Status.Certificate, g.roots)
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
