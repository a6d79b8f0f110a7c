package agentsrv

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// agent is who calls.
type agent struct {
	credential *pki.Credential
	profile    *pki.Profile
	cluster    string
}

// known is what the inventory has told of an agent's certificate.
type known struct {
	credential pki.CredentialID
	cluster    string
	notAfter   time.Time
	revoked    bool
	at         time.Time // when it told
}

// knownFor is how long that is believed: a certificate that was revoked works for that much longer. The credential is
// looked at with each call, and once more for each certificate.
const knownFor = time.Second

// authenticate finds out which agent calls. Unauthenticated: enrol again; Unauthorized: that would not help.
func (s *Server) authenticate(ctx context.Context, c *call) error {
	credential, err := s.identify(ctx, c)
	if err != nil {
		s.refuse(ctx, c, credential, err)
	}
	return err
}

// identify is authenticate without its audit event. It returns the credential that the caller claims, if any.
func (s *Server) identify(ctx context.Context, c *call) (pki.CredentialID, error) {
	if c.tls == nil || len(c.tls.State.PeerCertificates) == 0 {
		return "", unauthenticated("this call needs the agent's client certificate")
	}
	certificate := c.tls.State.PeerCertificates[0]
	claimed, err := claim(certificate)
	if err != nil {
		return "", err
	}
	found, err := s.lookUp(ctx, certificate, c.now)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && found.credential != claimed:
		return claimed, unauthenticated("the client certificate was not issued here")
	case err != nil:
		return claimed, fmt.Errorf("look up agent's certificate: %w", err)
	case found.revoked:
		return claimed, unauthenticated("the client certificate was revoked")
	case c.now.After(found.notAfter):
		return claimed, unauthenticated("the client certificate expired at %s", found.notAfter.Format(time.RFC3339))
	}
	snapshot, err := s.config.Catalog.Current()
	if err != nil {
		return claimed, err
	}
	c.agent, err = agentOf(snapshot, claimed, c.now)
	if err != nil {
		return claimed, err
	}
	c.agent.cluster = found.cluster
	return claimed, nil
}

func unauthenticated(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...).WithHint("the agent has to enrol again")
}

// claim reads the credential of which a certificate says that it is its agent's.
func claim(certificate *x509.Certificate) (pki.CredentialID, error) {
	if len(certificate.URIs) != 1 {
		return "", unauthenticated("the client certificate is not an agent's: it has %d URIs", len(certificate.URIs))
	}
	_, id, err := pki.ParseAgentURI(certificate.URIs[0].String())
	if err != nil {
		return "", unauthenticated("the client certificate is not an agent's: %v", err)
	}
	return id, nil
}

// lookUp asks the inventory for a certificate, by its serial; it must be the same byte for byte. NotFound otherwise.
func (s *Server) lookUp(ctx context.Context, certificate *x509.Certificate, now time.Time) (*known, error) {
	fingerprint := sha256.Sum256(certificate.Raw)
	if cached, ok := s.agents.Get(fingerprint); ok && now.Sub(cached.at) < knownFor && !now.Before(cached.at) {
		return cached, nil
	}
	row, err := s.config.Store.Certificate(ctx, pki.SerialFromInt(certificate.SerialNumber))
	if err != nil {
		return nil, err
	}
	if row.Fingerprint != fingerprint {
		return nil, fault.New(fault.NotFound, "certificate with this serial is another one")
	}
	found := &known{
		credential: row.CredentialID, cluster: row.Workload.Cluster, notAfter: row.NotAfter, revoked: !row.RevokedAt.IsZero(), at: now,
	}
	s.agents.Add(fingerprint, found)
	return found, nil
}

// agentOf returns the agent of a credential, if the credential may be used and is for agents.
func agentOf(snapshot *catalog.Snapshot, id pki.CredentialID, now time.Time) (*agent, error) {
	c, ok := snapshot.Credential(id)
	if !ok || !c.Usable(now) {
		return nil, fault.New(fault.Unauthorized, "EAB credential %q is revoked or has expired", id).
			WithHint("make another one: certloom credential create")
	}
	p, ok := snapshot.Profile(c.ProfileID)
	if !ok || p.Method != pki.Agent {
		return nil, fault.New(fault.Unauthorized, "EAB credential %q is not for agents: its profile does not have enrollment method %s", c.Name, pki.Agent)
	}
	return &agent{credential: c, profile: p}, nil
}
