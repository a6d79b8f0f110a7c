package publish_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/publish"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// source is a CA, in real time.
type source struct {
	*testca.Hierarchy

	mu     sync.Mutex
	bundle *issuer.Bundle
	err    error
	issued int
}

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{Hierarchy: testca.NewWith(t, testca.Options{Now: time.Now()})}
	s.trust(t, s.RootCert.Raw)
	return s
}

func (s *source) trust(t *testing.T, roots ...[]byte) {
	t.Helper()
	bundle, err := issuer.NewBundle(roots)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bundle = bundle
}

func (s *source) Bundle() *issuer.Bundle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bundle
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.issued
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

func (s *source) Issue(_ context.Context, r issuer.Request) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.issued++
	request, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(s.issued)), URIs: request.URIs, DNSNames: request.DNSNames,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(r.Lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}, s.IssuingCert, request.PublicKey, s.IssuingKey)
	return [][]byte{der, s.IssuingCert.Raw}, err
}

func space(name string, phase corev1.NamespacePhase, labels map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Status: corev1.NamespaceStatus{Phase: phase}}
}

// run runs a publisher until the test, or what it returns, ends it.
func run(t *testing.T, s *source, client *fake.Clientset, change ...func(*publish.Config)) func() {
	t.Helper()
	config := publish.Config{
		Client: client, Source: s, LeaseNamespace: "istio-system", LeaseName: publish.LeaseName, Identity: rand.Text(), RootMap: "istio-ca-root-cert", Workers: 2,
		Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&config)
	}
	publisher, err := publish.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- publisher.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-ticker.C:
		}
	}
}

func holds(t *testing.T, client *fake.Clientset, namespace string, s *source) func() error {
	t.Helper()
	return func() error {
		got, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if len(got.Data) != 1 || got.Data["root-cert.pem"] != s.Bundle().PEM || got.Labels["istio.io/config"] != "true" || len(got.BinaryData) > 0 {
			return fmt.Errorf("%s has %v, %.50q", namespace, got.Labels, got.Data)
		}
		return nil
	}
}

func TestRootMaps(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	wrong := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "wrong", Name: "istio-ca-root-cert", Labels: map[string]string{"mine": "kept"}},
		Data:       map[string]string{"root-cert.pem": "x", "more": "y"}, BinaryData: map[string][]byte{"b": {1}},
	}
	client := fake.NewClientset(space("one", "", nil), space("wrong", corev1.NamespaceActive, nil), space("going", corev1.NamespaceTerminating, nil), wrong)
	run(t, s, client)
	eventually(t, holds(t, client, "one", s))
	eventually(t, holds(t, client, "wrong", s))
	repaired, err := client.CoreV1().ConfigMaps("wrong").Get(t.Context(), "istio-ca-root-cert", metav1.GetOptions{})
	if err != nil || repaired.Labels["mine"] != "kept" {
		t.Errorf("the labels of somebody else are %v, %v", repaired.Labels, err)
	}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), space("later", corev1.NamespaceActive, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, holds(t, client, "later", s))
	if err := client.CoreV1().ConfigMaps("one").Delete(t.Context(), "istio-ca-root-cert", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, holds(t, client, "one", s))
	// A second root reaches every namespace.
	s.trust(t, s.RootCert.Raw, testca.New(t).RootCert.Raw)
	for _, namespace := range []string{"one", "wrong", "later"} {
		eventually(t, holds(t, client, namespace, s))
	}
	if got := holds(t, client, "going", s)(); got == nil {
		t.Error("a namespace that is being deleted got a ConfigMap")
	}
}

func TestSelector(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	client := fake.NewClientset(space("in", "", map[string]string{"mesh": "yes"}), space("out", "", nil))
	run(t, s, client, func(c *publish.Config) { c.Selector = "mesh=yes" })
	eventually(t, holds(t, client, "in", s))
	if holds(t, client, "out", s)() == nil {
		t.Error("a namespace that is not selected got a ConfigMap")
	}
}

func istiod(c *publish.Config) {
	c.Istiod = &publish.Istiod{
		Namespace: "istio-system", Secret: "istiod-tls", TrustDomain: "cluster.local", Revisions: []string{"default", "canary"},
		MoreNames: []string{"istiod.example.com"}, Lifetime: time.Hour,
	}
	c.Dial = func(context.Context, string) error { return nil }
}

// secret reads istiod's Secret and checks that it is complete.
func secret(t *testing.T, client *fake.Clientset, s *source, to **corev1.Secret) func() error {
	t.Helper()
	return func() error {
		got, err := client.CoreV1().Secrets("istio-system").Get(t.Context(), "istiod-tls", metav1.GetOptions{})
		if err != nil {
			return err
		}
		pair, err := tls.X509KeyPair(got.Data["tls.crt"], got.Data["tls.key"])
		if err != nil {
			return err
		}
		want := []string{
			"istio-pilot.istio-system.svc", "istiod-canary.istio-system.svc", "istiod-remote.istio-system.svc", "istiod.example.com", "istiod.istio-system.svc",
		}
		names := slices.Sorted(slices.Values(pair.Leaf.DNSNames))
		if !slices.Equal(names, want) || pair.Leaf.URIs[0].String() != "spiffe://cluster.local/ns/istio-system/sa/istiod-service-account" {
			return fmt.Errorf("the certificate is for %v %v", names, pair.Leaf.URIs)
		}
		if got.Type != corev1.SecretTypeTLS || string(got.Data["ca.crt"]) != s.Bundle().PEM || len(pair.Certificate) != 2 {
			return fmt.Errorf("type %s, ca.crt %.40q, %d certificates", got.Type, got.Data["ca.crt"], len(pair.Certificate))
		}
		*to = got
		return nil
	}
}

func TestIstiod(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	client := fake.NewClientset(space("istio-system", "", nil))
	run(t, s, client, istiod)
	var found *corev1.Secret
	eventually(t, secret(t, client, s, &found))
	first := string(found.Data["tls.crt"])

	// New roots reach it without another certificate.
	s.trust(t, s.RootCert.Raw, testca.New(t).RootCert.Raw)
	if _, err := client.CoreV1().Secrets("istio-system").Update(t.Context(), found, metav1.UpdateOptions{}); err != nil { // so that it is looked at now
		t.Fatal(err)
	}
	eventually(t, secret(t, client, s, &found))
	if string(found.Data["tls.crt"]) != first || s.count() != 1 {
		t.Error("another certificate was issued because the roots changed")
	}

	// Damage is repaired; a certificate that is there is kept while there is no other.
	s.fail(fault.New(fault.Unavailable, "gone"))
	if err := client.CoreV1().Secrets("istio-system").Delete(t.Context(), "istiod-tls", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	s.fail(nil)
	eventually(t, secret(t, client, s, &found))
	if string(found.Data["tls.crt"]) == first {
		t.Error("the old certificate came back")
	}
}

func TestIstiodTakesOver(t *testing.T) {
	t.Parallel()
	for name, existing := range map[string]*corev1.Secret{
		"other-type": {ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-tls"}, Type: corev1.SecretTypeOpaque},
		"garbage": {
			ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-tls"}, Type: corev1.SecretTypeTLS,
			Data: map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("y")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSource(t)
			client := fake.NewClientset(space("istio-system", "", nil), existing)
			run(t, s, client, istiod)
			var found *corev1.Secret
			eventually(t, secret(t, client, s, &found))
		})
	}
}

// A Secret of cert-manager's is left alone.
func TestIstiodOfCertManager(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	client := fake.NewClientset(space("istio-system", "", nil), &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: "istiod-tls", Annotations: map[string]string{"cert-manager.io/certificate-name": "istiod"},
		},
	})
	run(t, s, client, istiod)
	eventually(t, holds(t, client, "istio-system", s)) // so it runs
	got, err := client.CoreV1().Secrets("istio-system").Get(t.Context(), "istiod-tls", metav1.GetOptions{})
	if err != nil || len(got.Data) > 0 || s.count() > 0 {
		t.Errorf("got %v, %v", got, err)
	}
}

// A certificate is renewed before it ends.
func TestIstiodRenewal(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	client := fake.NewClientset(space("istio-system", "", nil))
	run(t, s, client, istiod, func(c *publish.Config) { c.Istiod.RenewBefore = time.Hour + 59*time.Second })
	eventually(t, func() error {
		if s.count() < 3 {
			return errors.New("not renewed")
		}
		return nil
	})
}

// Of two replicas one writes, and the other does when the first has ended.
func TestLeader(t *testing.T) {
	t.Parallel()
	s := newSource(t)
	objects := []runtime.Object{space("istio-system", "", nil)}
	client := fake.NewClientset(objects...)
	stop := run(t, s, client, istiod)
	eventually(t, holds(t, client, "istio-system", s))
	run(t, s, client, istiod)
	var found *corev1.Secret
	eventually(t, secret(t, client, s, &found))
	if s.count() != 1 {
		t.Errorf("%d certificates for istiod", s.count())
	}
	stop()
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), space("later", corev1.NamespaceActive, nil), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, holds(t, client, "later", s))
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, config := range []publish.Config{{}, {Client: fake.NewClientset(), Source: newSource(t), Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()}} {
		if _, err := publish.New(config); err == nil || !strings.Contains(err.Error(), "missing") {
			t.Errorf("got %v", err)
		}
	}
}
