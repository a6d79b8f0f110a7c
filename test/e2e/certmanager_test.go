package e2e_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestCertManager goes through the guide that mesh operators follow: an EAB credential in a Secret, an Issuer that
// registers with it, and certificates for workloads, whose only name is a SPIFFE ID, and for istiod.
func TestCertManager(t *testing.T) {
	cluster := testbed.StartCluster(t.Context(), t)
	controller := cluster.StartController(t)
	onEachDatabase(t, func(t *testing.T, o testbed.Options) {
		m := newMesh(t, cluster, o)
		t.Run("issuer registers with the credential", m.issuerRegisters)
		t.Run("workload with nothing but a SPIFFE ID", m.workload)
		t.Run("certificate of istiod", m.istiod)
		t.Run("refuses/another trust domain", m.otherTrustDomain)
		t.Run("200 requests at once", m.burst)
		t.Run("server restarts in the middle", m.serverRestarts)
		t.Run("refuses/unknown key identifier", m.unknownKeyID)
		t.Run("refuses/revoked credential", m.revokedCredential)
		t.Run("everything is in the inventory", m.inventory)
	})
	t.Run("answers are lost behind a proxy", func(t *testing.T) { lostAnswers(t, cluster) })
	t.Run("good nonces are refused", func(t *testing.T) {
		m := newMesh(t, cluster, testbed.Options{NonceRejectPercent: 15})
		m.issuerRegisters(t)
		m.istiod(t)
	})
	t.Run("controller restarts", func(t *testing.T) {
		m := newMesh(t, cluster, testbed.Options{})
		m.issuerRegisters(t)
		if err := controller.Stop(time.Minute); err != nil {
			t.Error(err)
		}
		cluster.StartController(t)
		m.registersAgain(t)
	})
}

func (m *mesh) issuerRegisters(t *testing.T) {
	m.applyIssuer(t, "mesh-acme-issuer", m.server.ACME["istio"])
	ready := m.awaitIssuer(t, "mesh-acme-issuer", cmmeta.ConditionTrue)
	if ready.Reason != "ACMEAccountRegistered" {
		t.Errorf("reason = %s, want ACMEAccountRegistered", ready.Reason)
	}
	t.Log(m.describe(t, "issuer", "mesh-acme-issuer"))
}

func (m *mesh) workload(t *testing.T) {
	const id = "spiffe://cluster.local/ns/demo/sa/web"
	m.create(t, "web", id)
	request := m.awaitRequest(t, "web")
	if reason := requestReady(request).Reason; reason != "Issued" {
		t.Fatalf("reason = %s, want Issued\n%s", reason, m.describe(t, "certificaterequest", "web"))
	}
	leaf := m.verify(t, request.Status.Certificate)
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != id || len(leaf.DNSNames)+len(leaf.IPAddresses) != 0 {
		t.Errorf("names = %v %v %v, want only %s", leaf.URIs, leaf.DNSNames, leaf.IPAddresses, id)
	}
	if n := strings.Count(string(request.Status.Certificate), "BEGIN"); n != 2 {
		t.Errorf("chain has %d certificates, want leaf and issuing CA without the root", n)
	}
	t.Log(m.describe(t, "certificaterequest", "web"))
}

func (m *mesh) istiod(t *testing.T) {
	m.cluster.KubectlInput(t.Context(), t, fmt.Sprintf(`
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: istiod, namespace: %s}
spec:
  commonName: istiod.istio-system.svc
  dnsNames: [istiod.istio-system.svc]
  uris: [spiffe://cluster.local/ns/istio-system/sa/istiod]
  secretName: istiod-tls
  duration: 1h
  renewBefore: 30m
  privateKey: {rotationPolicy: Always, algorithm: RSA, size: 2048}
  revisionHistoryLimit: 1
  issuerRef: {name: mesh-acme-issuer, kind: Issuer, group: cert-manager.io}
`, m.namespace), "apply", "-f", "-")
	m.kubectl(t, "wait", "--for=condition=Ready", "certificate/istiod", "--timeout=60s")
	secret, err := m.cluster.Kube.CoreV1().Secrets(m.namespace).Get(t.Context(), "istiod-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	leaf := m.verify(t, secret.Data["tls.crt"])
	if err := leaf.VerifyHostname("istiod.istio-system.svc"); err != nil {
		t.Error(err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != "spiffe://cluster.local/ns/istio-system/sa/istiod" {
		t.Errorf("URIs = %v", leaf.URIs)
	}
	if len(secret.Data["tls.key"]) == 0 {
		t.Error("the Secret has no key")
	}
	t.Log(m.describe(t, "certificate", "istiod"))
}

func (m *mesh) otherTrustDomain(t *testing.T) {
	m.create(t, "stranger", "spiffe://other.example/ns/demo/sa/web")
	request := m.awaitRequest(t, "stranger")
	ready := requestReady(request)
	if ready.Reason != "Failed" {
		t.Fatalf("reason = %s, want Failed", ready.Reason)
	}
	for _, part := range []string{"spiffe://other.example/ns/demo/sa/web", "trust domain", "cluster.local"} {
		if !strings.Contains(ready.Message, part) {
			t.Errorf("message %q lacks %q", ready.Message, part)
		}
	}
	described := m.describe(t, "certificaterequest", "stranger")
	if !strings.Contains(described, "trust domain") {
		t.Error("kubectl describe does not show the reason")
	}
	t.Log(described)
}

func (m *mesh) burst(t *testing.T) {
	const many, atOnce = 200, 32
	ids := make([]string, many)
	for i := range ids {
		ids[i] = fmt.Sprintf("spiffe://cluster.local/ns/burst/sa/workload-%03d", i)
	}
	requests := m.requests(t, "burst", ids)
	started := time.Now()
	var group errgroup.Group
	group.SetLimit(atOnce)
	for _, request := range requests {
		group.Go(func() error { return m.submit(t.Context(), request) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	created := time.Since(started)
	decided := m.awaitRequests(t, "burst-", many)
	took := time.Since(started)
	for _, request := range decided {
		if reason := requestReady(&request).Reason; reason != "Issued" {
			t.Errorf("%s is %s: %s", request.Name, reason, requestReady(&request).Message)
			continue
		}
		m.verify(t, request.Status.Certificate)
	}
	t.Logf("%d CertificateRequests: made in %s, all Ready after %s: %.1f/s",
		many, created.Round(time.Millisecond), took.Round(time.Millisecond), many/took.Seconds())
}

// serverRestarts kills the server while requests are on their way: cert-manager has to finish them all when it is back.
func (m *mesh) serverRestarts(t *testing.T) {
	const many = 20
	ids := make([]string, many)
	for i := range ids {
		ids[i] = fmt.Sprintf("spiffe://cluster.local/ns/restart/sa/workload-%02d", i)
	}
	for i, request := range m.requests(t, "restart", ids) {
		if i == many/2 {
			m.server.Kill()
		}
		if err := m.submit(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	m.server.Restart(t.Context(), t)
	for _, request := range m.awaitRequests(t, "restart-", many) {
		if reason := requestReady(&request).Reason; reason != "Issued" {
			t.Errorf("%s is %s: %s", request.Name, reason, requestReady(&request).Message)
			continue
		}
		m.verify(t, request.Status.Certificate)
	}
}

func (m *mesh) unknownKeyID(t *testing.T) {
	credential := m.server.ACME["istio"]
	credential.KeyID = "nobody"
	m.applyIssuer(t, "unknown", credential)
	ready := m.awaitIssuer(t, "unknown", cmmeta.ConditionFalse)
	for _, part := range []string{"Failed to register ACME account: 403 urn:ietf:params:acme:error:unauthorized", "externalAccountBinding", "kid"} {
		if !strings.Contains(ready.Message, part) {
			t.Errorf("message %q lacks %q", ready.Message, part)
		}
	}
	t.Logf("%s: %s", ready.Reason, ready.Message)
}

// revokedCredential revokes a credential after an account was registered with it: what the account asks for next is
// refused, and so is another account.
func (m *mesh) revokedCredential(t *testing.T) {
	credential := m.server.CreateCredential(t.Context(), t, "istio", "short-lived")
	m.applyIssuer(t, "short-lived", credential)
	m.awaitIssuer(t, "short-lived", cmmeta.ConditionTrue)
	m.createFrom(t, "short-lived", "before", "spiffe://cluster.local/ns/demo/sa/before")
	if reason := requestReady(m.awaitRequest(t, "before")).Reason; reason != "Issued" {
		t.Fatalf("before the revocation the request is %s", reason)
	}
	m.server.CLI(t.Context(), t, "credential", "revoke", credential.KeyID)
	m.createFrom(t, "short-lived", "after", "spiffe://cluster.local/ns/demo/sa/after")
	ready := requestReady(m.awaitRequest(t, "after"))
	if ready.Reason != "Failed" || !strings.Contains(ready.Message, "revoked") {
		t.Errorf("after the revocation the request is %s: %s", ready.Reason, ready.Message)
	}
	m.applyIssuer(t, "too-late", credential)
	late := m.awaitIssuer(t, "too-late", cmmeta.ConditionFalse)
	if !strings.Contains(late.Message, "revoked") {
		t.Errorf("message %q does not say that the credential is revoked", late.Message)
	}
	t.Logf("request: %s\nissuer: %s", ready.Message, late.Message)
}

// registersAgain takes the issuer's memory of its account away. cert-manager registers the same key again, and then
// asks for the account by the key without the credential (mesh.md calls it the 200 path).
func (m *mesh) registersAgain(t *testing.T) {
	before := m.issuer(t, "mesh-acme-issuer").Status.ACME.URI
	m.forgetAccount(t, "mesh-acme-issuer")
	m.awaitIssuer(t, "mesh-acme-issuer", cmmeta.ConditionTrue)
	if after := m.issuer(t, "mesh-acme-issuer").Status.ACME.URI; after != before {
		t.Errorf("account = %s, want the same as before, %s", after, before)
	}
	m.create(t, "again", "spiffe://cluster.local/ns/demo/sa/again")
	request := m.awaitRequest(t, "again")
	if reason := requestReady(request).Reason; reason != "Issued" {
		t.Errorf("reason = %s, want Issued", reason)
	}
}

// lostAnswers has the server do what cert-manager asks, and a proxy answer 503 instead: once for each kind of request.
// cert-manager asks again, and there must be one certificate in the end.
func lostAnswers(t *testing.T, cluster *testbed.Cluster) {
	proxy := testbed.StartProxy(t)
	m := newMesh(t, cluster, testbed.Options{Proxy: proxy})
	m.issuerRegisters(t)
	if uri := m.issuer(t, "mesh-acme-issuer").Status.ACME.URI; !strings.HasPrefix(uri, proxy.URL) {
		t.Errorf("account = %s, want one below the public URL %s", uri, proxy.URL)
	}
	const id = "spiffe://cluster.local/ns/demo/sa/unlucky"
	kinds := []string{"new-order", "finalize", "certificate", "order"}
	proxy.LoseNext(kinds...)
	m.create(t, "unlucky", id)
	request := m.awaitRequest(t, "unlucky")
	if ready := requestReady(request); ready.Reason != "Issued" {
		t.Fatalf("reason = %s, want Issued: %s", ready.Reason, ready.Message)
	}
	leaf := m.verify(t, request.Status.Certificate)
	listed := m.server.Inventory(t.Context(), t, "--identity", id)
	if _, ok := listed[testbed.Serial(leaf)]; !ok || len(listed) != 1 {
		t.Errorf("inventory has %d certificates for %s, want the one that cert-manager got", len(listed), id)
	}
	if lost := proxy.Lost(); len(lost) != len(kinds) {
		t.Errorf("answers lost: %v, want one of each of %v", lost, kinds)
	}
}

// inventory compares what cert-manager holds with what the command line lists.
func (m *mesh) inventory(t *testing.T) {
	listed := m.server.Inventory(t.Context(), t)
	if len(m.issued) == 0 {
		t.Fatal("cert-manager got nothing")
	}
	for serial, leaf := range m.issued {
		entry, ok := listed[serial]
		if !ok {
			t.Errorf("%s (%v) is not in the inventory", serial, leaf.URIs)
			continue
		}
		if entry.Profile != "istio" || !strings.Contains(entry.UserAgent, "cert-manager") || !entry.NotAfter.Equal(leaf.NotAfter) {
			t.Errorf("inventory has %+v for %v until %s", entry, leaf.URIs, leaf.NotAfter)
		}
	}
	t.Logf("cert-manager holds %d certificates; the inventory has them all, and %d in total", len(m.issued), len(listed))
}
