package e2e_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

var errAccepted = errors.New("a certificate was given")

// requestOf makes a CSR in PEM.
func requestOf(t *testing.T, template *x509.CertificateRequest, uris ...string) []byte {
	t.Helper()
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, newECKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// testRequests has what istio-csr's own end-to-end suite has, and the shapes of Istio's clients.
func (f *field) testRequests(t *testing.T) {
	account, pod := f.workload(t, "requests")
	token := f.cluster.Token(t.Context(), t, account, pod, "istio-ca")
	id := identityOf(account)
	organization, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		RawSubject: []byte{0x30, 0x0d, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x13, 0x02, 'e', 'x'},
	}, newECKey(t))
	if err != nil {
		t.Fatal(err)
	}
	forged, _ := pem.Decode(requestOf(t, &x509.CertificateRequest{}, id))
	forged.Bytes[len(forged.Bytes)-1] ^= 1 // in the signature
	emptyOrganization := []byte{0x30, 0x0b, 0x31, 0x09, 0x30, 0x07, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x13, 0x00}
	for name, ask := range map[string]struct {
		csr  []byte
		want codes.Code
	}{
		"accepts/ztunnel":            {requestOf(t, &x509.CertificateRequest{}, id), codes.OK},
		"accepts/pilot-agent":        {requestOf(t, &x509.CertificateRequest{RawSubject: emptyOrganization}, id), codes.OK},
		"refuses/nothing":            {nil, codes.Unauthenticated},
		"refuses/not-pem":            {[]byte("abc"), codes.Unauthenticated},
		"refuses/no-name":            {requestOf(t, &x509.CertificateRequest{}), codes.Unauthenticated},
		"refuses/other-identity":     {requestOf(t, &x509.CertificateRequest{}, id+"x"), codes.Unauthenticated},
		"refuses/other-trust-domain": {requestOf(t, &x509.CertificateRequest{}, strings.Replace(id, "cluster.local", "other", 1)), codes.Unauthenticated},
		"refuses/two-identities":     {requestOf(t, &x509.CertificateRequest{}, id, id+"x"), codes.Unauthenticated},
		"refuses/dns-name":           {requestOf(t, &x509.CertificateRequest{DNSNames: []string{"a.demo.svc"}}, id), codes.Unauthenticated},
		"refuses/common-name":        {requestOf(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}}, id), codes.Unauthenticated},
		"refuses/e-mail":             {requestOf(t, &x509.CertificateRequest{EmailAddresses: []string{"a@b.example"}}, id), codes.Unauthenticated},
		"refuses/organization":       {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: organization}), codes.Unauthenticated},
		"refuses/forged":             {pem.EncodeToMemory(forged), codes.Unauthenticated},
		"refuses/half-a-megabyte":    {[]byte(strings.Repeat("A", 512<<10)), codes.Unauthenticated},
		"refuses/basic-constraints": {requestOf(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{
			{Id: []int{2, 5, 29, 19}, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}},
		}}, id), codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			f.create(t, f.callers["local"], testbed.Ask{Token: token, CSR: ask.csr}, ask.want)
		})
	}
	t.Run("layout", func(t *testing.T) {
		chain := f.create(t, f.callers["local"], testbed.Ask{Token: token, CSR: spiffeRequest(t, id), Seconds: 86400}, codes.OK)
		f.checkLayout(t, chain, id)
	})
}

// checkLayout checks an answer as Istio's clients read it.
func (f *field) checkLayout(t *testing.T, chain []string, id string) {
	t.Helper()
	if len(chain) < 2 {
		t.Fatalf("%d elements", len(chain))
	}
	for i, element := range chain {
		block, rest := pem.Decode([]byte(element))
		if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 || !strings.HasSuffix(element, "\n") {
			t.Errorf("element %d is not one certificate in PEM: %q", i, element)
		}
	}
	leaf, err := testbed.VerifyChain([]byte(strings.Join(chain[:len(chain)-1], "")), f.server.RootFile, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatal(err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id {
		t.Errorf("leaf is for %v", leaf.URIs)
	}
	if life := time.Until(leaf.NotAfter); life > time.Hour || life < 50*time.Minute {
		t.Errorf("a day was asked for, an hour is the longest, but the certificate has %s left", life)
	}
	root, err := os.ReadFile(f.server.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := pem.Decode(root)
	if got, _ := pem.Decode([]byte(chain[len(chain)-1])); got == nil || string(got.Bytes) != string(want.Bytes) {
		t.Error("the last element is not the root")
	}
}

func (f *field) testImpersonation(t *testing.T) {
	ctx := t.Context()
	proxyAccount := f.cluster.CreateAccount(ctx, t, "istio-system", "ztunnel")
	proxy := f.cluster.CreatePod(ctx, t, "istio-system", "ztunnel-1", "ztunnel", "node-1")
	token := f.cluster.Token(ctx, t, proxyAccount, proxy, "istio-ca")
	here := f.cluster.CreateAccount(ctx, t, "demo", "here")
	f.cluster.CreatePod(ctx, t, "demo", "here", "here", "node-1")
	there := f.cluster.CreateAccount(ctx, t, "demo", "there")
	f.cluster.CreatePod(ctx, t, "demo", "there", "there", "node-2")
	finished := f.cluster.CreateAccount(ctx, t, "demo", "finished")
	f.cluster.CreatePod(ctx, t, "demo", "finished", "finished", "node-1")
	f.cluster.Kubectl(ctx, t, "patch", "pod", "finished", "--namespace", "demo", "--subresource", "status", "--patch", `{"status":{"phase":"Succeeded"}}`)

	for name, ask := range map[string]struct {
		token, impersonate, csr string
		want                    codes.Code
	}{
		"accepts/same-node":           {token, identityOf(here), identityOf(here), codes.OK},
		"accepts/itself":              {token, "", identityOf(proxyAccount), codes.OK},
		"refuses/other-node":          {token, identityOf(there), identityOf(there), codes.Unauthenticated},
		"refuses/finished-pod":        {token, identityOf(finished), identityOf(finished), codes.Unauthenticated},
		"refuses/no-such-pod":         {token, identityOf(here) + "x", identityOf(here) + "x", codes.Unauthenticated},
		"refuses/foreign-domain":      {token, strings.Replace(identityOf(here), "cluster.local", "other", 1), identityOf(here), codes.Unauthenticated},
		"refuses/other-csr":           {token, identityOf(here), identityOf(there), codes.Unauthenticated},
		"refuses/own-csr":             {token, identityOf(here), identityOf(proxyAccount), codes.Unauthenticated},
		"refuses/not-an-identity":     {token, "here", identityOf(here), codes.Unauthenticated},
		"refuses/proxy-bound-to-none": {f.cluster.Token(ctx, t, proxyAccount, nil, "istio-ca"), identityOf(here), identityOf(here), codes.Unauthenticated},
		"refuses/not-trusted":         {f.cluster.Token(ctx, t, here, nil, "istio-ca"), identityOf(here), identityOf(here), codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			f.create(t, f.callers["local"], testbed.Ask{Token: ask.token, Impersonate: ask.impersonate, CSR: spiffeRequest(t, ask.csr)}, ask.want)
		})
	}
}

// testInventory shows that the server knows who asked, and that a Pod is told why it was refused.
func (f *field) testInventory(t *testing.T) {
	account, pod := f.workload(t, "inventory")
	token := f.cluster.Token(t.Context(), t, account, pod, "istio-ca")
	chain := f.create(t, f.callers["local"], testbed.Ask{Token: token, CSR: spiffeRequest(t, identityOf(account))}, codes.OK)
	block, _ := pem.Decode([]byte(chain[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	got := string(f.server.CLI(t.Context(), t, "certificate", "get", testbed.Serial(leaf), "-o", "json"))
	for _, want := range []string{`"Kubernetes"`, `"inventory"`, string(pod.UID), `"node-1"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the inventory does not have %s:\n%s", want, got)
		}
	}
	f.create(t, f.callers["local"], testbed.Ask{Token: token, Cluster: "elsewhere", CSR: spiffeRequest(t, identityOf(account))}, codes.Unauthenticated)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = testbed.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		events, err := f.cluster.Kube.CoreV1().Events("demo").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=inventory"})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if strings.Contains(event.Message, `"elsewhere"`) && strings.Contains(event.Message, `"Kubernetes"`) {
				return nil
			}
		}
		return errors.New("no Event says which cluster ID was sent and which is expected")
	})
	if err != nil {
		t.Error(err)
	}
}

// testServerGone shows that callers are told quickly, with a code that Istio retries, and that the agent recovers.
func (f *field) testServerGone(t *testing.T) {
	account, pod := f.workload(t, "gone")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, ask, codes.OK)
	f.server.Kill()
	began := time.Now()
	_, err := f.callers["local"].Create(t.Context(), ask)
	if took := time.Since(began); status.Code(err) != codes.Unavailable || took > 6*time.Second {
		t.Errorf("got %v after %s", err, took)
	}
	f.server.Restart(t.Context(), t)
	f.both(t, ask, codes.OK)
	for name, agent := range f.agents {
		if err := agent.Await(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
