package certmanager_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/certloom/certloom/internal/agent/certmanager"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

const (
	namespace = "istio-system"
	web       = "spiffe://cluster.local/ns/demo/sa/web"
)

func resource(name string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "cert-manager.io", Version: "v1", Resource: name}
}

func configMaps() schema.GroupVersionResource {
	return schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
}

// lab is an API server with cert-manager, in a bubble of synctest.
type lab struct {
	*api

	t  *testing.T
	ca *testca.Hierarchy
}

// newLab returns a lab in which Issuer "istio-ca" is ready and signs everything.
func newLab(t *testing.T) *lab {
	l := &lab{api: newAPI(), t: t, ca: testca.NewWith(t, testca.Options{Now: time.Now()})}
	l.issuer("istio-ca", "True", "")
	l.created = l.sign
	return l
}

// issuer stores an Issuer whose condition Ready has that status.
func (l *lab) issuer(name, ready, why string) {
	l.put(key{resource("issuers"), namespace, name}, &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"name": name, "namespace": namespace},
		"status":   map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": ready, "reason": "Because", "message": why}}},
	}})
}

// conditions gives a request conditions, each "type=status", reason, message.
func (l *lab) conditions(object *unstructured.Unstructured, list ...any) {
	l.status(object, map[string]any{"conditions": list})
}

func condition(kind, status, reason, message string) map[string]any {
	return map[string]any{"type": kind, "status": status, "reason": reason, "message": message}
}

// status changes the status of a request that is still there.
func (l *lab) status(object *unstructured.Unstructured, status map[string]any) {
	k := key{resource("certificaterequests"), object.GetNamespace(), object.GetName()}
	l.mu.Lock()
	_, there := l.objects[k]
	l.mu.Unlock()
	if there {
		object.Object["status"] = status
		l.put(k, object)
	}
}

// leaf signs the CSR of a request.
func (l *lab) leaf(object *unstructured.Unstructured) []byte {
	text, _, _ := unstructured.NestedString(object.Object, "spec", "request")
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		l.t.Error(err)
	}
	block, _ := pem.Decode(raw)
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		l.t.Error(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: request.URIs, DNSNames: request.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, l.ca.IssuingCert, request.PublicKey, l.ca.IssuingKey)
	if err != nil {
		l.t.Error(err)
	}
	return der
}

func certificates(list ...[]byte) string {
	var text []byte
	for _, der := range list {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return base64.StdEncoding.EncodeToString(text)
}

// sign is what cert-manager and its CA issuer do.
func (l *lab) sign(object *unstructured.Unstructured) {
	l.conditions(object, condition("Approved", "True", "cert-manager.io", ""))
	l.status(object, map[string]any{
		"certificate": certificates(l.leaf(object), l.ca.IssuingCert.Raw, l.ca.RootCert.Raw), "ca": certificates(l.ca.RootCert.Raw),
	})
}

// start runs an issuer until stop is called, which every test does before its bubble ends.
func (l *lab) start(change func(*certmanager.Config)) (made *certmanager.Issuer, stop func()) {
	l.t.Helper()
	config := certmanager.Config{
		Client: l.api, Namespace: namespace, Issuer: certmanager.Ref{Name: "istio-ca", Kind: "Issuer", Group: "cert-manager.io"},
		Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&config)
	}
	made, err := certmanager.New(config)
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- made.Run(ctx) }()
	synctest.Wait()
	return made, func() {
		cancel()
		l.hangUp()
		if err := <-done; err != nil {
			l.t.Error(err)
		}
	}
}

// ask asks for the certificate of a workload, with the deadline that callers have.
func (l *lab) ask(i *certmanager.Issuer) ([][]byte, error) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return i.Issue(ctx, issuer.Request{CSR: testca.CSR(l.t, testca.Request{URIs: []string{web}}), Lifetime: 50 * time.Minute})
}

// refused checks that nothing is issued, with a fault of that kind.
func (l *lab) refused(i *certmanager.Issuer, kind fault.Kind) {
	l.t.Helper()
	chain, err := l.ask(i)
	found, ok := errors.AsType[*fault.Error](err)
	if !ok || found.Kind != kind {
		l.t.Errorf("got %d certificates and %v, want fault %v", len(chain), err, kind)
	}
}

func metaCreate() metav1.CreateOptions { return metav1.CreateOptions{} }

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// pass lets time pass, which takes none in a bubble of synctest.
func pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
