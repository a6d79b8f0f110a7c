package caservice

import (
	"context"
	"crypto/x509"
	"errors"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// caller is who calls.
type caller struct {
	address string
	cluster string // the name that it has for its cluster
	// identities are what it may have certificates for.
	identities []string
	// subject is empty, and home nil, for a caller who is known by a certificate.
	subject token.Subject
	home    Cluster
	// certificate is that certificate. Whether it still counts, its CA says when it is asked to issue.
	certificate *x509.Certificate
}

// pod names the Pod for the log.
func (c *caller) pod() string {
	if c.subject.Pod == "" {
		return ""
	}
	return c.subject.Namespace + "/" + c.subject.Pod
}

// where names the caller's cluster for the inventory. What a caller with a certificate says of its cluster is not known
// to be true.
func (c *caller) where() string {
	if c.home == nil {
		return ""
	}
	return c.home.Name()
}

func denied(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...)
}

// authenticate finds out who calls: by the token, otherwise by the client certificate when that is allowed. Istio's own
// CA asks certificates first. Who has both is the same workload, and here only the token is judged with what the cluster
// knows now: a certificate has to be judged by the CA, which answers when it is too late to try the token. So a workload
// whose certificate was revoked still gets one with its token, and a virtual machine whose token has expired with its
// certificate.
func (a *attempt) authenticate(ctx context.Context) error {
	from, _ := peer.FromContext(ctx)
	if from != nil && from.Addr != nil {
		a.caller.address = from.Addr.String()
	}
	header, _ := metadata.FromIncomingContext(ctx)
	a.caller.cluster = claimedCluster(header)
	byToken := a.fromToken(ctx, header)
	if byToken == nil || !a.service.config.ClientCertificates {
		return byToken
	}
	byCertificate := a.fromCertificate(from)
	switch {
	case errors.Is(byCertificate, errNoCertificate):
		return byToken
	case byCertificate == nil || errors.Is(byToken, errNoToken):
		return byCertificate
	default:
		return neither(byToken, byCertificate)
	}
}

// neither is the reason of a call of which token and certificate are refused. Asking again helps if it helps one of them.
func neither(byToken, byCertificate error) error {
	kind := fault.Unauthenticated
	for _, err := range []error{byToken, byCertificate} {
		if fault.Is(err, fault.Unavailable) || isContext(err) {
			kind = fault.Unavailable
		}
	}
	return fault.Wrap(errors.Join(byToken, byCertificate), kind, "%s; %s", fault.From(byToken).Public, fault.From(byCertificate).Public)
}

// errNoCertificate is the reason of a connection without a client certificate.
var errNoCertificate = errors.New("the caller has no client certificate")

// fromCertificate identifies a caller by its certificate. That the caller has the key was proved in the handshake.
func (a *attempt) fromCertificate(from *peer.Peer) error {
	if from == nil {
		return errNoCertificate
	}
	secure, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(secure.State.PeerCertificates) == 0 {
		return errNoCertificate
	}
	bundle := a.service.config.Issuer.Bundle()
	if bundle == nil {
		return fault.New(fault.Unavailable, "the trust bundle to check client certificates with is not known yet")
	}
	identity, err := a.service.certified(secure.State.PeerCertificates, bundle.Pool)
	if err != nil {
		return err
	}
	a.caller.identities, a.caller.certificate = []string{identity}, secure.State.PeerCertificates[0]
	a.caller.subject, a.caller.home = token.Subject{}, nil // of a token that was refused: nothing in it counts
	return nil
}

// certified returns the identity that a client's certificate is for.
func (s *Service) certified(chain []*x509.Certificate, roots *x509.CertPool) (string, error) {
	leaf, between := chain[0], x509.NewCertPool()
	for _, ca := range chain[1:] {
		between.AddCert(ca)
	}
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: s.config.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return "", fault.Wrap(err, fault.Unauthenticated, "the client certificate does not lead to a root of the trust bundle")
	}
	if len(leaf.URIs) != 1 {
		return "", denied("the client certificate has %d URIs, not 1", len(leaf.URIs))
	}
	identity, err := pki.ParseSPIFFEID(leaf.URIs[0].String())
	if err != nil {
		return "", fault.Wrap(err, fault.Unauthenticated, "the client certificate is not a workload's")
	}
	if identity.TrustDomain != s.config.TrustDomain {
		return "", denied("the client certificate is of trust domain %.200q, not %q", identity.TrustDomain, s.config.TrustDomain)
	}
	return identity.String(), nil
}

// errNoToken is the reason of a call without a token.
var errNoToken = errors.New("the call has no bearer token")

// fromToken identifies a caller by its bearer token.
func (a *attempt) fromToken(ctx context.Context, header metadata.MD) error {
	raw := ""
	for _, value := range header.Get("authorization") {
		if text, ok := strings.CutPrefix(value, "Bearer "); ok {
			raw = text
			break
		}
	}
	if raw == "" {
		return errNoToken
	}
	if err := a.verify(ctx, raw); err != nil {
		return err
	}
	subject := a.caller.subject
	identity := pki.SPIFFEID{
		TrustDomain: a.service.config.TrustDomain, Namespace: subject.Namespace, ServiceAccount: subject.ServiceAccount,
	}
	if _, err := pki.ParseSPIFFEID(identity.String()); err != nil {
		return fault.Wrap(err, fault.Unauthenticated, "the token's ServiceAccount makes no identity")
	}
	a.caller.identities = []string{identity.String()}
	return nil
}
