package caservice_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// lab is a service with everything around it, all in memory.
type lab struct {
	*testca.Hierarchy
	service *caservice.Service

	mu       sync.Mutex
	asked    []issuer.Request
	issueErr error
	change   func(*x509.Certificate) // of what the CA signs
	replace  func([][]byte) [][]byte // of the chain that it returns
	bundle   *issuer.Bundle
	hang     bool

	near, far *place // the agent's own cluster, and "far"
	farErr    error
}

// place is a cluster of the lab.
type place struct {
	name    string
	pods    []kube.Pod
	podsErr error
	told    []string
}

func (p *place) Name() string { return p.name }

func (p *place) Tell(pod kube.Pod, _, sentence string) {
	p.told = append(p.told, pod.Namespace+"/"+pod.Name+": "+sentence)
}

// Verify knows the tokens of the lab; those of the cluster far away begin with its name.
func (p *place) Verify(_ context.Context, raw string) (token.Subject, error) {
	web := token.Subject{Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "uid-web-0"}
	raw, ours := strings.CutPrefix(raw, p.name)
	if !ours {
		return token.Subject{}, fault.New(fault.Unauthenticated, "signed by a key of another cluster")
	}
	switch raw {
	case "web":
		return web, nil
	case "web-expired":
		return web, fault.New(fault.Unauthenticated, "the token expired")
	case "ztunnel":
		return token.Subject{Namespace: "istio-system", ServiceAccount: "ztunnel", Pod: "ztunnel-0", PodUID: "uid-ztunnel-0", Node: "node-1"}, nil
	case "ztunnel-expired":
		return token.Subject{Namespace: "istio-system", ServiceAccount: "ztunnel", Pod: "ztunnel-0", PodUID: "uid-ztunnel-0", Node: "node-1"},
			fault.New(fault.Unauthenticated, "the token expired")
	case "ztunnel-unbound":
		return token.Subject{Namespace: "istio-system", ServiceAccount: "ztunnel"}, nil
	case "ztunnel-of-before":
		return token.Subject{Namespace: "istio-system", ServiceAccount: "ztunnel", Pod: "ztunnel-0", PodUID: "older"}, nil
	case "api-down":
		return token.Subject{}, fault.New(fault.Unavailable, "no answer")
	case "panic":
		panic("in the verifier")
	default:
		return token.Subject{}, fault.New(fault.Unauthenticated, "forged")
	}
}

func (p *place) Pod(_ context.Context, namespace, name, _ string) (kube.Pod, error) {
	if p.podsErr != nil {
		return kube.Pod{}, p.podsErr
	}
	for _, pod := range p.pods {
		if pod.Namespace == namespace && pod.Name == name {
			return pod, nil
		}
	}
	return kube.Pod{}, fault.New(fault.NotFound, "no such Pod")
}

func (p *place) RunsOn(_ context.Context, node, namespace, account string) ([]kube.Pod, error) {
	if p.podsErr != nil {
		return nil, p.podsErr
	}
	var found []kube.Pod
	for _, pod := range p.pods {
		if pod.Node == node && pod.Namespace == namespace && pod.ServiceAccount == account && !pod.Finished {
			found = append(found, pod)
		}
	}
	return found, nil
}

// find is what the service is given as its Clusters.
func (l *lab) find(id string) (caservice.Cluster, error) {
	switch id {
	case "", "Kubernetes", "alias":
		return l.near, nil
	case "far":
		return l.far, l.farErr
	default:
		return nil, fault.New(fault.Unauthenticated, "the caller's cluster ID is %.200q; \"Kubernetes\" is expected", id)
	}
}

func (l *lab) Bundle() *issuer.Bundle { return l.bundle }

// Issue signs whatever the CSR asks for.
func (l *lab) Issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, r)
	if l.hang {
		<-ctx.Done()
		return nil, fault.Wrap(ctx.Err(), fault.Unavailable, "no answer in time")
	}
	if l.issueErr != nil {
		return nil, l.issueErr
	}
	request, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: request.URIs, NotBefore: testca.Now().Add(-time.Minute), NotAfter: testca.Now().Add(r.Lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if l.change != nil {
		l.change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, l.IssuingCert, request.PublicKey, l.IssuingKey)
	if err != nil {
		return nil, err
	}
	chain := [][]byte{der, l.IssuingCert.Raw}
	if l.replace != nil {
		chain = l.replace(chain)
	}
	return chain, nil
}

func newLab(t testing.TB, change ...func(*caservice.Config)) *lab {
	t.Helper()
	l := &lab{Hierarchy: testca.New(t), near: &place{pods: []kube.Pod{
		{Namespace: "istio-system", Name: "ztunnel-0", UID: "uid-ztunnel-0", ServiceAccount: "ztunnel", Node: "node-1"},
		{Namespace: "demo", Name: "web-0", UID: "uid-web-0", ServiceAccount: "web", Node: "node-1"},
		{Namespace: "demo", Name: "db-0", UID: "uid-db-0", ServiceAccount: "db", Node: "node-2"},
		{Namespace: "demo", Name: "job-0", UID: "uid-job-0", ServiceAccount: "job", Node: "node-1", Finished: true},
	}}, far: &place{name: "far", pods: []kube.Pod{
		{Namespace: "istio-system", Name: "ztunnel-0", UID: "uid-ztunnel-0", ServiceAccount: "ztunnel", Node: "node-1"},
		{Namespace: "demo", Name: "db-0", UID: "uid-db-1", ServiceAccount: "db", Node: "node-1"},
	}}}
	var err error
	if l.bundle, err = issuer.NewBundle([][]byte{l.RootCert.Raw}); err != nil {
		t.Fatal(err)
	}
	config := caservice.Config{
		Issuer: l, Clusters: l.find, TrustDomain: "cluster.local",
		NodeAccounts: []caservice.NodeAccount{{Namespace: "istio-system", Name: "ztunnel"}},
		MaxLifetime:  time.Hour, Timeout: 10 * time.Second, Now: testca.Now, Random: rand.Reader, Jitter: func() float64 { return 0 },
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&config)
	}
	if l.service, err = caservice.New(config); err != nil {
		t.Fatal(err)
	}
	return l
}

// ask is a call.
type ask struct {
	token, header, cluster string
	csr                    []byte // DER
	text                   string // instead of csr, as it is
	seconds                int64
	impersonate            string
}

func (l *lab) call(t testing.TB, a ask) ([]string, error) {
	t.Helper()
	header := metadata.MD{}
	if a.header == "" && a.token != "" {
		a.header = "Bearer " + a.token
	}
	if a.header != "" {
		header.Set("authorization", a.header)
	}
	if a.cluster != "" {
		header.Set("clusterid", strings.Split(a.cluster, ",")...)
	}
	request := &istio.IstioCertificateRequest{Csr: a.text, ValidityDuration: a.seconds}
	if a.csr != nil {
		request.Csr = pemOf(a.csr)
	}
	if a.impersonate != "" {
		var err error
		if request.Metadata, err = structpb.NewStruct(map[string]any{"ImpersonatedIdentity": a.impersonate}); err != nil {
			t.Fatal(err)
		}
	}
	answer, err := l.service.CreateCertificate(metadata.NewIncomingContext(t.Context(), header), request)
	return answer.GetCertChain(), err
}

func spiffe(t testing.TB, ids ...string) []byte {
	t.Helper()
	return testca.CSR(t, testca.Request{URIs: ids})
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

const web = "spiffe://cluster.local/ns/demo/sa/web"

var errBroken = errors.New("broken")
