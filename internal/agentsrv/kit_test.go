package agentsrv_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/agentsrv"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
)

// lab is a server for agents over TLS on loopback, on top of real storage and a real CA.
type lab struct {
	*acmetest.Server
	address    string
	roots      *x509.CertPool // of the listener
	mesh       *pki.Profile
	credential acmetest.Credential
	registry   *prometheus.Registry
	stop       func() error
}

// newLab starts a lab. change may be nil.
func newLab(t testing.TB, change func(*agentsrv.Config)) *lab {
	t.Helper()
	l := &lab{Server: acmetest.Start(t, acmetest.Options{}), registry: prometheus.NewRegistry()}
	l.mesh = l.AddProfile(t, "mesh", pki.PrivateMTLS, pki.Agent, func(rules *pki.ProfileRules) {
		rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}, Deny: []string{"kube-system/*"}}
		rules.Names.DNS.Allow = []string{"**.svc"}
	})
	l.credential = l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "east"})
	config := agentsrv.Config{
		Catalog: l.Catalog, Store: l.Store, Issuer: l.Issuer, Nonces: l.Nonces, Now: l.Clock.Now, Random: rand.Reader,
		CRL: l.Revoker.CRL, Logger: slog.New(slog.DiscardHandler), Registerer: l.registry, Replica: "test",
	}
	if change != nil {
		change(&config)
	}
	server, err := agentsrv.New(config)
	check(t, err)
	var network net.ListenConfig
	listener, err := network.Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	l.address = listener.Addr().String()
	own, roots := selfSigned(t, &x509.Certificate{
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	l.roots = roots
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- server.Serve(ctx, listener, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{own}}, 5*time.Second)
	}()
	ended := false
	l.stop = func() error {
		if ended {
			return nil
		}
		ended = true
		cancel()
		return <-done
	}
	t.Cleanup(func() { check(t, l.stop()) })
	return l
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	return key
}

// selfSigned makes a certificate that nobody here has issued, for a new key.
func selfSigned(t testing.TB, template *x509.Certificate) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key := newKey(t)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(1)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	check(t, err)
	parsed, err := x509.ParseCertificate(der)
	check(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// dial connects with a client certificate, or without one.
func (l *lab) dial(t testing.TB, certificates ...tls.Certificate) agentapi.AgentClient {
	t.Helper()
	connection, err := grpc.NewClient(l.address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: l.roots,
		// Whatever the server asks for: what it does not like should reach it.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certificates) == 0 {
				return new(tls.Certificate), nil
			}
			return &certificates[0], nil
		},
	})), grpc.WithUserAgent("certloom-agent/test"))
	check(t, err)
	t.Cleanup(func() { check(t, connection.Close()) })
	return agentapi.NewAgentClient(connection)
}

// request makes a CSR for a new key.
func request(t testing.TB, template *x509.CertificateRequest) (der []byte, key crypto.Signer) {
	t.Helper()
	made := newKey(t)
	der, err := x509.CreateCertificateRequest(rand.Reader, template, made)
	check(t, err)
	return der, made
}

// enrolment returns a good request to enrol, and the key of its CSR.
func (l *lab) enrolment(t testing.TB, client agentapi.AgentClient, credential acmetest.Credential) (*agentapi.EnrolRequest, crypto.Signer) {
	t.Helper()
	challenge, err := client.Challenge(t.Context(), &agentapi.ChallengeRequest{})
	check(t, err)
	der, key := request(t, &x509.CertificateRequest{})
	in := &agentapi.EnrolRequest{KeyId: string(credential.ID), Nonce: challenge.GetNonce(), Cluster: "east-1", Csr: der}
	in.Mac = agentapi.EnrolMAC(credential.Key, in)
	return in, key
}

// enrol returns the certificate of a new agent.
func (l *lab) enrol(t testing.TB, credential acmetest.Credential) tls.Certificate {
	t.Helper()
	client := l.dial(t)
	in, key := l.enrolment(t, client, credential)
	out, err := client.Enrol(t.Context(), in)
	check(t, err)
	return tls.Certificate{Certificate: out.GetChain(), PrivateKey: key}
}

// agent returns a client that has enrolled.
func (l *lab) agent(t testing.TB) agentapi.AgentClient {
	t.Helper()
	return l.dial(t, l.enrol(t, l.credential))
}

// workload returns an item for a workload's certificate.
func workload(t testing.TB, namespace, account string) *agentapi.Item {
	t.Helper()
	der, _ := request(t, meshRequest(t, "spiffe://cluster.local/ns/"+namespace+"/sa/"+account))
	return &agentapi.Item{Csr: der, LifetimeSeconds: 3600, Caller: &agentapi.Caller{
		Namespace: namespace, ServiceAccount: account, Pod: account + "-7d4b9-x2x", PodUid: "6a8f8c5e-6d3c-4f7f-9a55-0d6f3a0a4b11", Node: "node-1",
	}}
}

// meshRequest is a CSR as Istio's agents send it: one URI, and an organization that is empty.
func meshRequest(t testing.TB, uri string) *x509.CertificateRequest {
	t.Helper()
	parsed, err := url.Parse(uri)
	check(t, err)
	return &x509.CertificateRequest{Subject: pkix.Name{Organization: []string{""}}, URIs: []*url.URL{parsed}}
}

// issueOne asks for one certificate.
func issueOne(t testing.TB, client agentapi.AgentClient, item *agentapi.Item) *agentapi.Result {
	t.Helper()
	out, err := client.Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{item}})
	check(t, err)
	if len(out.GetResults()) != 1 {
		t.Fatalf("%d results for one item", len(out.GetResults()))
	}
	return out.GetResults()[0]
}

// certificate reads the first certificate of a chain.
func certificate(t testing.TB, chain [][]byte) *x509.Certificate {
	t.Helper()
	if len(chain) == 0 {
		t.Fatal("no certificate")
	}
	parsed, err := x509.ParseCertificate(chain[0])
	check(t, err)
	return parsed
}

func serial(t testing.TB, chain [][]byte) pki.Serial {
	t.Helper()
	return pki.SerialFromInt(certificate(t, chain).SerialNumber)
}

// refused checks the code of an error.
func refused(t testing.TB, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("got %s (%v), want %s", got, err, want)
	}
}

func clone[T proto.Message](t testing.TB, message T) T {
	t.Helper()
	copied, ok := proto.Clone(message).(T)
	if !ok {
		t.Fatal("clone has another type")
	}
	return copied
}

// meshTemplate is a certificate with one URI, for CAs that are not ours.
func meshTemplate(t testing.TB, uri string) *x509.Certificate {
	t.Helper()
	return &x509.Certificate{URIs: meshRequest(t, uri).URIs, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
}
