package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// eventually polls for half a minute.
func eventually(t *testing.T, check func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := testbed.Poll(ctx, 100*time.Millisecond, check); err != nil {
		t.Error(err)
	}
}

func (f *field) rootMap(ctx context.Context, namespace string) (*corev1.ConfigMap, error) {
	return f.cluster.Kube.CoreV1().ConfigMaps(namespace).Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
}

// holdsRoot checks the ConfigMap of a namespace.
func (f *field) holdsRoot(namespace string) func(context.Context) error {
	return func(ctx context.Context) error {
		got, err := f.rootMap(ctx, namespace)
		if err != nil {
			return err
		}
		root, err := os.ReadFile(f.server.RootFile)
		if err != nil {
			return err
		}
		want, _ := pem.Decode(root)
		have, _ := pem.Decode([]byte(got.Data["root-cert.pem"]))
		if have == nil || string(have.Bytes) != string(want.Bytes) || len(got.Data) != 1 || got.Labels["istio.io/config"] != "true" {
			return fmt.Errorf("namespace %s has %v %.60q", namespace, got.Labels, got.Data)
		}
		return nil
	}
}

func (f *field) testRootMap(t *testing.T) {
	ctx := t.Context()
	for _, namespace := range []string{"default", "kube-system", "demo"} {
		eventually(t, f.holdsRoot(namespace))
	}
	f.cluster.Kubectl(ctx, t, "create", "namespace", "later")
	eventually(t, f.holdsRoot("later"))
	f.cluster.Kubectl(ctx, t, "delete", "configmap", "istio-ca-root-cert", "--namespace", "later")
	eventually(t, f.holdsRoot("later"))
	f.cluster.Kubectl(ctx, t, "patch", "configmap", "istio-ca-root-cert", "--namespace", "demo", "--type=merge", "--patch",
		`{"data":{"root-cert.pem":"wrong","more":"x"},"metadata":{"labels":{"istio.io/config":null}}}`)
	eventually(t, f.holdsRoot("demo"))
}

func (f *field) testIstiodSecret(t *testing.T) {
	ctx := t.Context()
	var found *corev1.Secret
	check := func(ctx context.Context) error {
		var err error
		if found, err = f.cluster.Kube.CoreV1().Secrets("istio-system").Get(ctx, "istiod-tls", metav1.GetOptions{}); err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(found.Data["tls.crt"], found.Data["tls.key"])
		if err != nil {
			return err
		}
		if _, err := testbed.VerifyChain(found.Data["tls.crt"], f.server.RootFile, x509.ExtKeyUsageServerAuth); err != nil {
			return err
		}
		if !slices.Contains(pair.Leaf.DNSNames, "istiod.istio-system.svc") || len(pair.Leaf.URIs) != 1 ||
			pair.Leaf.URIs[0].String() != "spiffe://cluster.local/ns/istio-system/sa/istiod-service-account" {
			return fmt.Errorf("the certificate is for %v %v", pair.Leaf.DNSNames, pair.Leaf.URIs)
		}
		roots, err := f.rootMap(ctx, "default")
		if err != nil {
			return err
		}
		if found.Type != corev1.SecretTypeTLS || string(found.Data["ca.crt"]) != roots.Data["root-cert.pem"] {
			return fmt.Errorf("type %s, ca.crt %.80q", found.Type, found.Data["ca.crt"])
		}
		return nil
	}
	eventually(t, check)
	before := found.Data["tls.crt"]
	f.cluster.Kubectl(ctx, t, "delete", "secret", "istiod-tls", "--namespace", "istio-system")
	eventually(t, check)
	if string(found.Data["tls.crt"]) == string(before) {
		t.Error("the Secret was made again with the old certificate")
	}
	f.cluster.Kubectl(ctx, t, "patch", "secret", "istiod-tls", "--namespace", "istio-system", "--type=merge", "--patch", `{"data":{"ca.crt":null}}`)
	eventually(t, check)
	kept := string(found.Data["tls.crt"])
	f.cluster.Kubectl(ctx, t, "patch", "secret", "istiod-tls", "--namespace", "istio-system", "--type=merge", "--patch", `{"data":{"ca.crt":"eA=="}}`)
	eventually(t, check)
	if string(found.Data["tls.crt"]) != kept {
		t.Error("the certificate was replaced when only the roots were wrong")
	}
}

// testClientCertificate renews with the certificate of before, as VMs do.
func (f *field) testClientCertificate(t *testing.T) {
	account, pod := f.workload(t, "renewing")
	id := identityOf(account)
	key := newECKey(t)
	token := f.cluster.Token(t.Context(), t, account, pod, "istio-ca")
	chain := f.create(t, f.callers["local"], testbed.Ask{Token: token, CSR: requestWith(t, key, id)}, codes.OK)
	own := keyPair(t, key, chain)
	known := f.agents["local"].Connect(t, own)
	f.checkLayout(t, f.create(t, known, testbed.Ask{CSR: spiffeRequest(t, id), Seconds: 86400}, codes.OK), id)
	f.create(t, known, testbed.Ask{CSR: spiffeRequest(t, id+"x")}, codes.Unauthenticated)
	f.create(t, known, testbed.Ask{CSR: spiffeRequest(t, id), Impersonate: id}, codes.Unauthenticated)
	f.create(t, f.agents["review"].Connect(t, own), testbed.Ask{CSR: spiffeRequest(t, id)}, codes.Unauthenticated)

	foreign := selfSigned(t, key, id)
	stranger := f.agents["local"].Connect(t, foreign)
	f.create(t, stranger, testbed.Ask{CSR: spiffeRequest(t, id)}, codes.Unauthenticated)
	f.create(t, stranger, testbed.Ask{Token: token, CSR: spiffeRequest(t, id)}, codes.OK)
}

// requestWith makes a CSR of a key that the test keeps.
func requestWith(t *testing.T, key *ecdsa.PrivateKey, id string) []byte {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

// selfSigned is a certificate for the identity that no root of the mesh has signed.
func selfSigned(t *testing.T, key *ecdsa.PrivateKey, id string) tls.Certificate {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: newSerial(t), URIs: []*url.URL{uri}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// testOperation shows readiness that means "can issue", liveness that does not, metrics, and an orderly end.
func (f *field) testOperation(t *testing.T) {
	agent := f.agents["review"]
	if code, text := get(t, agent.Health+"/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %s", code, text)
	}
	code, text := get(t, agent.Metrics)
	for _, want := range []string{`certloom_agent_requests_total{code="OK"}`, "certloom_agent_upstream_batch_size", "certloom_agent_serving_expiry_timestamp_seconds"} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("/metrics: %d without %s", code, want)
		}
	}
	f.server.Kill()
	eventually(t, func(context.Context) error {
		if code, text := get(t, agent.Health+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "[-] issuer") {
			return fmt.Errorf("/readyz without a server: %d %s", code, text)
		}
		return nil
	})
	if code, _ := get(t, agent.Health+"/livez"); code != http.StatusOK {
		t.Errorf("/livez without a server: %d", code)
	}
	f.server.Restart(t.Context(), t)
	eventually(t, func(context.Context) error {
		if code, text := get(t, agent.Health+"/readyz"); code != http.StatusOK {
			return errors.New(text)
		}
		return nil
	})
	if err := agent.Process().Stop(20 * time.Second); err != nil {
		t.Errorf("%v\n%s", err, agent.Process().Tail())
	}
}

// testPermissions shows that what deploy/agent/rbac.yaml allows was enough for everything before.
func (f *field) testPermissions(t *testing.T) {
	for name, agent := range f.agents {
		if log := agent.Process().Log(); strings.Contains(log, "forbidden") {
			t.Errorf("%s: deploy/agent/rbac.yaml does not allow what the agent does:\n%s", name, log)
		}
	}
}

func get(t *testing.T, address string) (int, string) {
	t.Helper()
	response, err := http.Get(address)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
