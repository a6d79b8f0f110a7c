package certloom_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/certloom/certloom/internal/agent/certloom"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/testca"
)

const keyID = "kid-1"

// server is a Certloom server as far as an agent can tell. Times are real: what it issues lives for seconds.
type server struct {
	agentapi.UnimplementedAgentServer
	*testca.Hierarchy
	t *testing.T

	mu       sync.Mutex
	key      []byte        // of the credential
	life     time.Duration // of agents' certificates
	enrolled int
	renewed  int
	batches  [][]*agentapi.Item
	issueErr error            // of whole calls
	answer   *agentapi.Result // instead of a certificate
	block    chan struct{}    // closed lets calls of Issue go on
	domains  []string
	roots    [][]byte
	version  string
	lists    *agentapi.RevocationLists
	changed  chan struct{} // closed when the roots or lists change

	grpc     *grpc.Server
	listener *bufconn.Listener
}

func newServer(t *testing.T) *server {
	t.Helper()
	h := testca.NewWith(t, testca.Options{Now: time.Now()})
	s := &server{
		Hierarchy: h, t: t, key: []byte("0123456789abcdef0123456789abcdef"), life: time.Hour, domains: []string{"cluster.local"},
		roots: [][]byte{h.RootCert.Raw}, version: "1", changed: make(chan struct{}),
	}
	s.start()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *server) start() {
	key := testca.Key(s.t)
	leaf := s.Leaf(s.t, &x509.Certificate{
		SerialNumber: big.NewInt(7), DNSNames: []string{"certloom.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, key.Public())
	own := tls.Certificate{Certificate: [][]byte{leaf.Raw, s.IssuingCert.Raw}, PrivateKey: key}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = bufconn.Listen(1 << 20)
	s.grpc = grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{own}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: s.Pool(), MinVersion: tls.VersionTLS12,
	})))
	agentapi.RegisterAgentServer(s.grpc, s)
	go func(g *grpc.Server, l net.Listener) { _ = g.Serve(l) }(s.grpc, s.listener)
}

// announce changes what agents that wait are told.
func (s *server) announce(f func()) {
	s.with(func() {
		f()
		close(s.changed)
		s.changed = make(chan struct{})
	})
}

// stop ends the server as a crash would.
func (s *server) stop() {
	s.mu.Lock()
	g, l := s.grpc, s.listener
	s.mu.Unlock()
	l.Close()
	g.Stop()
}

func (s *server) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	return l.DialContext(ctx)
}

// with changes the server while it runs.
func (s *server) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) Challenge(context.Context, *agentapi.ChallengeRequest) (*agentapi.ChallengeResponse, error) {
	return &agentapi.ChallengeResponse{Nonce: rand.Text()}, nil
}

func (s *server) Enrol(_ context.Context, r *agentapi.EnrolRequest) (*agentapi.EnrolResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.GetKeyId() != keyID || r.GetCluster() != "cluster-1" || string(r.GetMac()) != string(agentapi.EnrolMAC(s.key, r)) {
		return nil, status.Error(codes.Unauthenticated, "the credential is not good")
	}
	s.enrolled++
	return s.admit(r.GetCsr())
}

func (s *server) Renew(ctx context.Context, r *agentapi.RenewRequest) (*agentapi.EnrolResponse, error) {
	if err := known(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed++
	return s.admit(r.GetCsr())
}

func (s *server) admit(request []byte) (*agentapi.EnrolResponse, error) {
	return &agentapi.EnrolResponse{
		Chain:   [][]byte{s.issue(request, s.life), s.IssuingCert.Raw},
		Bundle:  &agentapi.TrustBundle{Roots: s.roots, Version: s.version},
		Profile: &agentapi.Profile{Name: "mesh", TrustDomains: s.domains},
	}, nil
}

func (s *server) issue(der []byte, life time.Duration) []byte {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	return s.Leaf(s.t, &x509.Certificate{
		SerialNumber: big.NewInt(9), URIs: request.URIs, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, request.PublicKey).Raw
}

// known refuses callers without a client certificate.
func known(ctx context.Context) error {
	if from, ok := peer.FromContext(ctx); ok {
		if secure, ok := from.AuthInfo.(credentials.TLSInfo); ok && len(secure.State.VerifiedChains) > 0 {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "no client certificate")
}

func (s *server) Issue(ctx context.Context, r *agentapi.IssueRequest) (*agentapi.IssueResponse, error) {
	if err := known(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	block := s.block
	s.batches = append(s.batches, r.GetItems())
	s.mu.Unlock()
	if block != nil {
		select {
		case <-block:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.issueErr != nil {
		return nil, s.issueErr
	}
	answer := &agentapi.IssueResponse{}
	for _, item := range r.GetItems() {
		result := s.answer
		if result == nil {
			result = &agentapi.Result{Chain: [][]byte{s.issue(item.GetCsr(), time.Hour), s.IssuingCert.Raw}}
		}
		answer.Results = append(answer.Results, result)
	}
	return answer, nil
}

func (s *server) Bundle(ctx context.Context, r *agentapi.BundleRequest) (*agentapi.BundleResponse, error) {
	if err := known(ctx); err != nil {
		return nil, err
	}
	s.mu.Lock()
	changed, version, lists := s.changed, s.version, s.lists.GetVersion()
	s.mu.Unlock()
	if version == r.GetVersion() && (lists == "" || lists == r.GetCrlsVersion()) && r.GetWaitSeconds() > 0 {
		ctx, cancel := context.WithTimeout(ctx, time.Duration(r.GetWaitSeconds())*time.Second)
		defer cancel()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := &agentapi.BundleResponse{Bundle: &agentapi.TrustBundle{Roots: s.roots, Version: s.version}}
	if r.GetWithCrls() && s.lists.GetVersion() != r.GetCrlsVersion() {
		answer.Crls = s.lists
	}
	return answer, nil
}

// newIssuer makes an issuer of the server and runs it until the test ends.
func (s *server) newIssuer(change ...func(*certloom.Config)) *certloom.Issuer {
	s.t.Helper()
	config := certloom.Config{
		Server: "certloom.example:8444", Cluster: "cluster-1", TrustDomain: "cluster.local", Dial: s.dial,
		Roots: func() (*x509.CertPool, error) { return s.Pool(), nil },
		Credential: func() (certloom.Credential, error) {
			return certloom.Credential{KeyID: keyID, Key: []byte("0123456789abcdef0123456789abcdef")}, nil
		},
		Now: time.Now, Random: rand.Reader, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	for _, f := range change {
		f(&config)
	}
	made, err := certloom.New(config)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- made.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("Run: %v", err)
		}
	})
	return made
}

var errNotYet = errors.New("not yet")
