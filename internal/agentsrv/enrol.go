package agentsrv

import (
	"context"
	"crypto/hmac"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

// enrol makes a certificate for an agent that proves to have a credential's HMAC key.
func (s *Server) enrol(ctx context.Context, c *call, in *agentapi.EnrolRequest) (*agentapi.EnrolResponse, error) {
	id := pki.CredentialID(in.GetKeyId())
	if !pki.ValidID(in.GetKeyId()) {
		id = "" // it may be anything, and is recorded
	}
	proved, err := s.prove(ctx, c, in)
	if err != nil {
		s.refuse(ctx, c, id, err)
		return nil, err
	}
	c.agent = proved
	return s.certify(ctx, c, in.GetCsr())
}

// prove checks the request's MAC, then its nonce, so that nobody can use up a nonce that he only saw, and then whether
// the credential may be used, so that nobody learns that without having it.
func (s *Server) prove(ctx context.Context, c *call, in *agentapi.EnrolRequest) (*agent, error) {
	if err := checkLabel("cluster", in.GetCluster(), maxCluster); err != nil {
		return nil, err
	}
	snapshot, err := s.config.Catalog.Current()
	if err != nil {
		return nil, err
	}
	credential, exists := snapshot.Credential(pki.CredentialID(in.GetKeyId()))
	// Without a key this does the same work and fails the same way, so that nobody learns which key IDs exist.
	key := []byte("nobody")
	if exists {
		if key, err = s.config.Catalog.CredentialKey(ctx, credential); err != nil {
			return nil, fmt.Errorf("open credential: %w", err)
		}
	}
	if fits := hmac.Equal(agentapi.EnrolMAC(key, in), in.GetMac()); !fits || !exists {
		return nil, fault.New(fault.Unauthenticated, "key ID and MAC of the enrolment do not belong together: the credential is not one of this server, or its HMAC key is another").
			WithHint("compare the agent's credential file with: certloom credential list")
	}
	if err := s.config.Nonces.Redeem(ctx, in.GetNonce()); err != nil {
		if fault.Is(err, fault.BadNonce) {
			return nil, fault.Wrap(err, fault.BadNonce, "nonce was used already or is too old; ask for another")
		}
		return nil, err
	}
	found, err := agentOf(snapshot, credential.ID, c.now)
	if err != nil {
		return nil, err
	}
	found.cluster = in.GetCluster()
	return found, nil
}

// certify issues the agent's own certificate for the key in a CSR.
func (s *Server) certify(ctx context.Context, c *call, der []byte) (*agentapi.EnrolResponse, error) {
	request, err := csr.Parse(der)
	if err != nil {
		s.refuse(ctx, c, c.agent.credential.ID, err)
		return nil, err
	}
	made, err := s.config.Issuer.Issue(ctx, issue.Request{
		Profile: c.agent.profile, Credential: c.agent.credential, CSR: request, Agent: true,
		Workload: pki.Workload{Cluster: c.agent.cluster}, Client: c.client, Actor: c.actor(), RequestID: c.id,
	})
	if err != nil {
		return nil, err
	}
	chain, err := s.config.Issuer.Chain(made, false)
	if err != nil {
		return nil, err
	}
	s.touch(ctx, c)
	snapshot, err := s.config.Catalog.Current()
	if err != nil {
		return nil, err
	}
	return &agentapi.EnrolResponse{
		Chain:  chain,
		Bundle: bundleOf(snapshot, c.agent.profile),
		Profile: &agentapi.Profile{
			Name:               c.agent.profile.Name,
			TrustDomains:       c.agent.profile.Rules.Names.SPIFFE.TrustDomains,
			MaxLifetimeSeconds: int64(time.Duration(c.agent.profile.Rules.Validity.Max) / time.Second),
		},
	}, nil
}

// touchInterval is how exactly a credential's last use is known.
const touchInterval = time.Minute

// touch notes that the caller's credential was used. A use that could not be stored is stored with the next one.
func (s *Server) touch(ctx context.Context, c *call) {
	id := c.agent.credential.ID
	if last, ok := s.touches.Get(id); ok && c.now.Sub(last) < touchInterval {
		return
	}
	s.touches.Add(id, c.now)
	if err := s.config.Store.TouchCredential(ctx, id, c.now); err != nil {
		s.touches.Remove(id)
	}
}
