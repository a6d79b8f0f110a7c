package caservice

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
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
	cluster string // the name that it has for the cluster
	// identities are what it may have certificates for.
	identities []string
	// subject is empty for a caller who is known by a certificate.
	subject token.Subject
}

// pod names the Pod for the log.
func (c *caller) pod() string {
	if c.subject.Pod == "" {
		return ""
	}
	return c.subject.Namespace + "/" + c.subject.Pod
}

func denied(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...)
}

// authenticate finds out who calls: by the client certificate when that is allowed and good, otherwise by the token.
func (a *attempt) authenticate(ctx context.Context) error {
	from, _ := peer.FromContext(ctx)
	if from != nil && from.Addr != nil {
		a.caller.address = from.Addr.String()
	}
	header, _ := metadata.FromIncomingContext(ctx)
	if ids := header.Get("clusterid"); len(ids) == 1 {
		a.caller.cluster = ids[0]
	}
	byCertificate := a.fromCertificate(from)
	if byCertificate == nil {
		return nil
	}
	err := a.fromToken(ctx, header)
	if errors.Is(err, errNoToken) && a.service.config.ClientCertificates {
		return byCertificate // the caller relied on its certificate
	}
	return err
}

// fromCertificate identifies a caller by its certificate. That the caller has the key was proved in the handshake.
func (a *attempt) fromCertificate(from *peer.Peer) error {
	if !a.service.config.ClientCertificates {
		return denied("client certificates are not accepted")
	}
	if from == nil {
		return denied("the connection is not known")
	}
	secure, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(secure.State.PeerCertificates) == 0 {
		return denied("the caller has neither a client certificate nor a token")
	}
	bundle := a.service.config.Issuer.Bundle()
	if bundle == nil {
		return fault.New(fault.Unavailable, "the trust bundle to check client certificates with is not known yet")
	}
	identity, err := a.service.certified(secure.State.PeerCertificates, bundle.Pool)
	if err != nil {
		return err
	}
	a.caller.identities = []string{identity}
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
	subject, err := a.service.config.Tokens.Verify(ctx, raw)
	a.caller.subject = subject
	if err != nil {
		return err
	}
	// After the token, so that the Pod can be told: a cluster ID that does not match is the commonest mistake of set-ups.
	if known := a.service.config.ClusterIDs; a.caller.cluster != "" && !slices.Contains(known, a.caller.cluster) {
		return denied("the caller's cluster ID is %.200q; %q is expected (--cluster-id here, global.multiCluster.clusterName in Istio)",
			a.caller.cluster, known)
	}
	identity := pki.SPIFFEID{
		TrustDomain: a.service.config.TrustDomain, Namespace: subject.Namespace, ServiceAccount: subject.ServiceAccount,
	}
	if _, err := pki.ParseSPIFFEID(identity.String()); err != nil {
		return fault.Wrap(err, fault.Unauthenticated, "the token's ServiceAccount makes no identity")
	}
	a.caller.identities = []string{identity.String()}
	return nil
}
