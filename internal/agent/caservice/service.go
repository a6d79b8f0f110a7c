package caservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Issuer is what the service needs of an issuer.Issuer.
type Issuer interface {
	Issue(ctx context.Context, r issuer.Request) ([][]byte, error)
	Bundle() *issuer.Bundle
}

// NodeAccount is a ServiceAccount whose Pods may ask for the identities of other Pods on their node (Istio's ztunnel).
type NodeAccount struct {
	Namespace, Name string
}

// Config is what a Service needs.
type Config struct {
	Issuer   Issuer
	Clusters Clusters

	TrustDomain string
	// MaxLifetime bounds certificates, and is the lifetime of those for which none is asked.
	MaxLifetime time.Duration
	// Timeout bounds a call: Istio's agents wait for ever.
	Timeout time.Duration
	// ClientCertificates lets callers be known by a certificate of the mesh.
	ClientCertificates bool
	// NodeAccounts may impersonate; empty: nobody.
	NodeAccounts []NodeAccount

	Now    func() time.Time
	Random io.Reader
	// Jitter returns a number in [0, 1), different each time.
	Jitter     func() float64
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Service implements the gRPC service. Safe for concurrent use.
type Service struct {
	istio.UnimplementedIstioCertificateServiceServer

	config   Config
	metrics  *metrics
	inflight inflight
	// upstreamVerifies: the issuer verifies the CSRs' signatures, which would cost a fifth of our time.
	upstreamVerifies bool
}

// New checks the configuration.
func New(config Config) (*Service, error) {
	var problems []error
	for _, required := range []struct {
		name    string
		missing bool
	}{
		{"Issuer", config.Issuer == nil},
		{"Clusters", config.Clusters == nil},
		{"MaxLifetime", config.MaxLifetime <= 0},
		{"Timeout", config.Timeout <= 0},
		{"Now", config.Now == nil},
		{"Random", config.Random == nil},
		{"Jitter", config.Jitter == nil},
		{"Logger", config.Logger == nil},
		{"Registerer", config.Registerer == nil},
	} {
		if required.missing {
			problems = append(problems, fmt.Errorf("certificate service: %s is missing", required.name))
		}
	}
	if err := pki.CheckTrustDomain(config.TrustDomain); err != nil {
		problems = append(problems, fmt.Errorf("certificate service: %w", err))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	numbers, err := newMetrics(config.Registerer)
	if err != nil {
		return nil, err
	}
	verifier, ok := config.Issuer.(issuer.Verifier)
	return &Service{config: config, metrics: numbers, upstreamVerifies: ok && verifier.VerifiesCSRs()}, nil
}

// The sentences that callers get: those of istio-csr and istiod, which say nothing.
const (
	notAuthenticated = "request authenticate failure"
	notSigned        = "failed to sign certificate request"
	notVerified      = "failed to parse and verify signed certificate from issuer"
)

// problem is why a call failed: what the caller gets, and what the log gets.
type problem struct {
	code     codes.Code
	sentence string
	cause    error
}

func (p *problem) Error() string { return p.cause.Error() }
func (p *problem) Unwrap() error { return p.cause }

// CreateCertificate implements the service. Steps:
//
//  1. who calls: a certificate of the mesh, or a token;
//  2. for whom: itself, or a workload on its node;
//  3. the CSR names exactly that identity, and its key signed it (which the issuer verifies when it says so);
//  4. the issuer issues;
//  5. what it issued is what was asked for.
func (s *Service) CreateCertificate(ctx context.Context, r *istio.IstioCertificateRequest) (*istio.IstioCertificateResponse, error) {
	began := s.config.Now()
	ctx, cancel := context.WithTimeout(ctx, s.config.Timeout)
	defer cancel()
	a := &attempt{service: s, request: r}
	s.inflight.begin(a, began)
	defer s.inflight.end(a)
	response, err := a.run(ctx)
	if err != nil {
		err = a.fail(ctx, err)
	}
	a.finish(ctx, err, s.config.Now().Sub(began))
	return response, err
}

// authFailure makes the answer to a caller who could not be authenticated or asks for what is not its own.
func authFailure(err error) *problem {
	if fault.Is(err, fault.Unavailable) || isContext(err) {
		return &problem{code: codes.Unavailable, sentence: notAuthenticated, cause: err}
	}
	return &problem{code: codes.Unauthenticated, sentence: notAuthenticated, cause: err}
}

// signFailure makes the answer to a caller whose certificate was not issued.
func signFailure(err error) *problem {
	code := codes.PermissionDenied // the CA refuses: asking again does not help
	switch fault.From(err).Kind {
	case fault.Unavailable:
		code = codes.Unavailable
	case fault.RateLimited:
		code = codes.ResourceExhausted
	case fault.Internal:
		code = codes.Internal
	default:
	}
	return &problem{code: code, sentence: notSigned, cause: err}
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// fail turns the error of an attempt into the caller's status.
func (a *attempt) fail(ctx context.Context, err error) error {
	found, ok := errors.AsType[*problem](err)
	if !ok {
		found = &problem{code: codes.Internal, sentence: notSigned, cause: err}
	}
	a.cause = found.cause
	if errors.Is(context.Cause(ctx), context.Canceled) {
		return status.FromContextError(context.Canceled).Err() //nolint:wrapcheck // nobody is left to read it
	}
	return status.Error(found.code, found.sentence)
}
