package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// patience is how long cert-manager may take for anything. Its first retry after a server that was away comes after
// 5 s, its third after 35 s.
const patience = 3 * time.Minute

// mesh is a namespace with an issuer of one server.
type mesh struct {
	cluster   *testbed.Cluster
	server    *testbed.Certloom
	namespace string
	issued    map[string]*x509.Certificate // what cert-manager got, by serial in hexadecimal
}

func newMesh(t *testing.T, cluster *testbed.Cluster, o testbed.Options) *mesh {
	t.Helper()
	m := &mesh{
		cluster: cluster, server: testbed.StartCertloom(t.Context(), t, o),
		namespace: "istio-system-" + strings.ToLower(rand.Text()[:8]), issued: map[string]*x509.Certificate{},
	}
	m.cluster.Kubectl(t.Context(), t, "create", "namespace", m.namespace)
	return m
}

func (m *mesh) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return m.cluster.Kubectl(t.Context(), t, append([]string{"--namespace", m.namespace}, args...)...)
}

func (m *mesh) describe(t *testing.T, kind, name string) string {
	t.Helper()
	return "$ kubectl describe " + kind + " " + name + "\n" + m.kubectl(t, "describe", kind, name)
}

// applyIssuer does what the guide says: a Secret with the HMAC key, and an Issuer that names it.
func (m *mesh) applyIssuer(t *testing.T, name string, credential testbed.Credential) {
	t.Helper()
	m.kubectl(t, "create", "secret", "generic", name+"-eab", "--from-literal", "secret="+credential.HMACKey)
	ca, err := os.ReadFile(m.server.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	m.cluster.KubectlInput(t.Context(), t, fmt.Sprintf(`
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  acme:
    server: %[3]s
    email: mesh-owner@example.com
    caBundle: %[4]s
    privateKeySecretRef: {name: %[1]s-account}
    externalAccountBinding: {keyID: %[5]q, keySecretRef: {name: %[1]s-eab, key: secret}}
    enableDurationFeature: true
    solvers: []
`, name, m.namespace, credential.DirectoryURL, base64.StdEncoding.EncodeToString(ca), credential.KeyID), "apply", "-f", "-")
}

func (m *mesh) issuer(t *testing.T, name string) *cmapi.Issuer {
	t.Helper()
	issuer, err := m.cluster.CertManager.CertmanagerV1().Issuers(m.namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

// awaitIssuer waits until the issuer's Ready condition is what is wanted, and returns the condition.
func (m *mesh) awaitIssuer(t *testing.T, name string, want cmmeta.ConditionStatus) cmapi.IssuerCondition {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var ready cmapi.IssuerCondition
	err := testbed.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		issuer, err := m.cluster.CertManager.CertmanagerV1().Issuers(m.namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range issuer.Status.Conditions {
			ready = condition
			if condition.Type == cmapi.IssuerConditionReady && condition.Status == want {
				return nil
			}
		}
		return fmt.Errorf("issuer %s is %s %s: %s", name, ready.Status, ready.Reason, ready.Message)
	})
	if err != nil {
		t.Fatal(err)
	}
	return ready
}

// forgetAccount removes what the issuer's status says of its account, as a restored backup would.
func (m *mesh) forgetAccount(t *testing.T, name string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": nil, "acme": nil}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.cluster.CertManager.CertmanagerV1().Issuers(m.namespace).
		Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
}

// create makes a CertificateRequest as istio-csr does for a workload: a CSR with an empty subject and one URI.
func (m *mesh) create(t *testing.T, name, id string) {
	t.Helper()
	m.createFrom(t, "mesh-acme-issuer", name, id)
}

func (m *mesh) createFrom(t *testing.T, issuer, name, id string) {
	t.Helper()
	if err := m.submit(t.Context(), m.request(t, issuer, name, id)); err != nil {
		t.Fatal(err)
	}
}

// requests makes objects, not yet submitted, whose names begin with prefix.
func (m *mesh) requests(t *testing.T, prefix string, ids []string) []*cmapi.CertificateRequest {
	t.Helper()
	made := make([]*cmapi.CertificateRequest, len(ids))
	for i, id := range ids {
		made[i] = m.request(t, "mesh-acme-issuer", fmt.Sprintf("%s-%03d", prefix, i), id)
	}
	return made
}

func (m *mesh) request(t *testing.T, issuer, name, id string) *cmapi.CertificateRequest {
	t.Helper()
	return &cmapi.CertificateRequest{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: m.namespace, Annotations: map[string]string{"istio.cert-manager.io/identities": id},
		},
		Spec: cmapi.CertificateRequestSpec{
			Request: spiffeRequest(t, id), IssuerRef: cmmeta.IssuerReference{Name: issuer, Kind: "Issuer", Group: "cert-manager.io"},
			Duration: &metav1.Duration{Duration: time.Hour},
			Usages:   []cmapi.KeyUsage{cmapi.UsageClientAuth, cmapi.UsageServerAuth},
		},
	}
}

func (m *mesh) submit(ctx context.Context, request *cmapi.CertificateRequest) error {
	_, err := m.cluster.CertManager.CertmanagerV1().CertificateRequests(m.namespace).
		Create(ctx, request, metav1.CreateOptions{})
	return err
}

// spiffeRequest is a CSR in PEM whose only name is the SPIFFE ID.
func spiffeRequest(t *testing.T, id string) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
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

// awaitRequest waits until the request has been decided one way or the other.
func (m *mesh) awaitRequest(t *testing.T, name string) *cmapi.CertificateRequest {
	t.Helper()
	return &m.awaitRequests(t, name, 1)[0]
}

// awaitRequests waits until n requests whose names begin with prefix have been decided.
func (m *mesh) awaitRequests(t *testing.T, prefix string, n int) []cmapi.CertificateRequest {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var decided []cmapi.CertificateRequest
	err := testbed.Poll(ctx, 250*time.Millisecond, func(ctx context.Context) error {
		all, err := m.cluster.CertManager.CertmanagerV1().CertificateRequests(m.namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		decided = decided[:0]
		for _, request := range all.Items {
			reason := requestReady(&request).Reason
			if strings.HasPrefix(request.Name, prefix) && (reason == "Issued" || reason == "Failed" || reason == "Denied") {
				decided = append(decided, request)
			}
		}
		if len(decided) < n {
			return fmt.Errorf("%d of %d requests %s* are decided", len(decided), n, prefix)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, m.kubectl(t, "get", "certificaterequests,orders"))
	}
	return decided
}

// requestReady returns the request's Ready condition, an empty one when it has none.
func requestReady(request *cmapi.CertificateRequest) cmapi.CertificateRequestCondition {
	for _, condition := range request.Status.Conditions {
		if condition.Type == cmapi.CertificateRequestConditionReady {
			return condition
		}
	}
	return cmapi.CertificateRequestCondition{}
}

// verify checks a chain in PEM against the server's root, for both ends of TLS, notes its leaf and returns it.
func (m *mesh) verify(t *testing.T, chain []byte) *x509.Certificate {
	t.Helper()
	leaf, err := testbed.VerifyChain(chain, m.server.RootFile, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatal(err)
	}
	m.issued[testbed.Serial(leaf)] = leaf
	return leaf
}
