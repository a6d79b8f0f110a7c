// Package issuer owns the step from "this workload may have this certificate" to the certificate: the one small
// interface that everything else in the agent is written against, and its implementations.
//
// It must never decide who a caller is, and nothing here can sign with a CA key. What comes back from a CA is checked
// by whoever asked (Bundle.Check).
package issuer

import (
	"context"
	"crypto/x509"
	"time"
)

// Issuer gets certificates from a CA. Implementations are safe for concurrent use and say in Issue how soon they give
// up: callers give deadlines, but an overloaded or absent CA must be told quickly.
type Issuer interface {
	// Issue returns the certificate and the CA certificates above it in DER, leaf first, root left out. Errors are
	// *fault.Error: Unavailable and RateLimited when trying again later may help, Internal when something is wrong with
	// us or the CA, any other kind when the CA refuses the request for good.
	Issue(ctx context.Context, r Request) ([][]byte, error)
	// Bundle returns the roots that clients must trust now, nil before they are known.
	Bundle() *Bundle
	// Ready returns nil when a certificate could be issued now, as far as is known.
	Ready() error
	// Run keeps the connection, credentials and bundle fresh until ctx ends.
	Run(ctx context.Context) error
}

// Verifier is implemented by issuers whose CA verifies, before it issues, that a CSR was signed by its own key, and refuses
// the request for good when it was not. Callers of others do that themselves.
type Verifier interface {
	VerifiesCSRs() bool
}

// Request asks for one certificate.
type Request struct {
	CSR      []byte // DER, already read and found good; its signature only where the issuer is no Verifier
	Lifetime time.Duration
	Caller   Caller
}

// Caller is the workload that a certificate is for, for the inventory and the audit log of the CA.
type Caller struct {
	Namespace      string
	ServiceAccount string
	Pod            string // "" when it is not known
	PodUID         string
	Node           string
	// ImpersonatedBy is NAMESPACE/SERVICE_ACCOUNT/POD of the node proxy that asked for the workload, "" when it asked itself.
	ImpersonatedBy string
	// Cluster is the workload's cluster by its name, "" for the one that the agent is configured with.
	Cluster string
	// Certificate is the client certificate by which the workload is known, nil when it had a token. An issuer whose CA
	// knows its certificates lets the CA decide whether this one still counts, and returns fault.Unauthenticated if not.
	Certificate *x509.Certificate
}
