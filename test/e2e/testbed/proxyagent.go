package testbed

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"strings"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"
)

// ProxyAgent gets certificates as Istio's pilot-agent does: by its CA client (security/pkg/nodeagent/caclient/providers/
// citadel/client.go), with its retries (pkg/security/retry.go) and the same library for these, no deadline, a new connection
// after each failure, and around it the loop of a proxyless workload's start (pkg/istio-agent/agent.go).
type ProxyAgent struct {
	Address  string // HOST:PORT of the service
	Roots    *x509.CertPool
	RootFile string
	ID       string // SPIFFE ID
	Token    string

	// Obtained has the certificates that it got, in order.
	Obtained []Obtained

	connection *grpc.ClientConn
	current    *Obtained // being obtained
}

// Obtained is a certificate, and what it took.
type Obtained struct {
	Leaf   *x509.Certificate
	Key    *ecdsa.PrivateKey
	Errors []error       // of attempts that failed
	Waited time.Duration // for the slowest of these
	Loops  int           // how often the call failed with all of its retries
	Took   time.Duration
}

// The outer loop of Istio's agent.
const (
	firstLoop   = 500 * time.Millisecond
	longestLoop = time.Minute
)

// Obtain gets a certificate for a new key. It goes on until it has one or ctx ends.
func (p *ProxyAgent) Obtain(ctx context.Context) error {
	began, wait := time.Now(), firstLoop
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	csr, err := p.csr(key)
	if err != nil {
		return err
	}
	p.current = &Obtained{Key: key}
	for {
		chain, err := p.call(ctx, csr)
		if err == nil {
			p.current.Took = time.Since(began)
			return p.keep(chain)
		}
		p.Close()
		p.current.Loops++
		timer := time.NewTimer(time.Duration(float64(wait) * (0.5 + mathrand.Float64())))
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("%s has no certificate: %w; %w", p.ID, context.Cause(ctx), errors.Join(p.current.Errors...))
		case <-timer.C:
			wait = min(wait*3/2, longestLoop)
		}
	}
}

func (p *ProxyAgent) csr(key *ecdsa.PrivateKey) (string, error) {
	id, err := url.Parse(p.ID)
	if err != nil {
		return "", fmt.Errorf("parse the identity: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{id}}, key)
	if err != nil {
		return "", fmt.Errorf("make a request: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// call is CSRSign of Istio's client.
func (p *ProxyAgent) call(ctx context.Context, csr string) ([]string, error) {
	if p.connection == nil {
		if err := p.connect(); err != nil {
			return nil, err
		}
	}
	extra, err := structpb.NewStruct(map[string]any{"CertSigner": ""})
	if err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "Authorization", "Bearer "+p.Token, "ClusterID", "Kubernetes")
	answer, err := istio.NewIstioCertificateServiceClient(p.connection).CreateCertificate(ctx, &istio.IstioCertificateRequest{
		Csr: csr, ValidityDuration: 24 * 60 * 60, Metadata: extra,
	})
	if err != nil {
		return nil, err
	}
	if len(answer.GetCertChain()) <= 1 {
		return nil, errors.New("invalid empty CertChain")
	}
	return answer.GetCertChain(), nil
}

func (p *ProxyAgent) connect() error {
	retries := retry.UnaryClientInterceptor(
		retry.WithMax(5), retry.WithBackoff(retry.BackoffExponentialWithJitter(100*time.Millisecond, 0.1)),
		retry.WithCodes(codes.Canceled, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Aborted, codes.Internal, codes.Unavailable),
	)
	secure := &tls.Config{RootCAs: p.Roots, ServerName: AgentName, MinVersion: tls.VersionTLS12}
	connection, err := grpc.NewClient("passthrough:///"+p.Address, grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithChainUnaryInterceptor(retries, p.note))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", p.Address, err)
	}
	p.connection = connection
	return nil
}

// note is called around each attempt.
func (p *ProxyAgent) note(ctx context.Context, method string, request, answer any, connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	began := time.Now()
	err := invoke(ctx, method, request, answer, connection, options...)
	if err != nil {
		p.current.Errors = append(p.current.Errors, err)
		p.current.Waited = max(p.current.Waited, time.Since(began))
	}
	return err
}

// keep checks an answer and notes it.
func (p *ProxyAgent) keep(chain []string) error {
	leaf, err := VerifyChain([]byte(strings.Join(chain[:len(chain)-1], "")), p.RootFile, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return err
	}
	if !p.current.Key.PublicKey.Equal(leaf.PublicKey) || len(leaf.URIs) != 1 || leaf.URIs[0].String() != p.ID {
		return fmt.Errorf("%s got a certificate for %v, or for another key", p.ID, leaf.URIs)
	}
	p.current.Leaf = leaf
	p.Obtained = append(p.Obtained, *p.current)
	return nil
}

// Close ends the connection; the next Obtain makes another.
func (p *ProxyAgent) Close() {
	if p.connection != nil {
		p.connection.Close()
		p.connection = nil
	}
}
