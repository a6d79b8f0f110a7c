package acme

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
)

// revocationRequest is the payload of revokeCert (RFC 8555 section 7.6).
type revocationRequest struct {
	Certificate *string         `json:"certificate"`
	Reason      json.RawMessage `json:"reason"`
}

// revokeCertificate revokes a certificate for whoever may: its account, another account of the same EAB credential, one
// that holds authorizations for all of its names, or its key.
func (s *Server) revokeCertificate(ctx context.Context, r *request) (*reply, error) {
	var asked revocationRequest
	if err := r.decode(&asked); err != nil {
		return nil, err
	}
	if asked.Certificate == nil {
		return nil, fault.New(fault.Malformed, "certificate is missing (RFC 8555 section 7.6)")
	}
	der, ok := decodeBase64(*asked.Certificate)
	if !ok || len(der) == 0 || der[0] != derSequence {
		return nil, fault.New(fault.Malformed, "certificate is not DER in base64url without padding (RFC 8555 section 7.6)")
	}
	reason, err := parseReason(asked.Reason)
	if err != nil {
		return nil, err
	}
	// The whole certificate is compared, not its serial: another CA may have used that.
	fingerprint := sha256.Sum256(der)
	certificate, err := s.Store.CertificateByFingerprint(ctx, fingerprint[:])
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "certificate is not one that was issued here")
	}
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	if err := s.mayRevoke(ctx, r, certificate); err != nil {
		s.auditRefusal(ctx, r, s.event(r, audit.RevocationRefuse, string(certificate.Serial), audit.Detail{Serial: certificate.Serial}), err)
		return nil, err
	}
	err = s.Revoker.Revoke(ctx, revoke.Request{
		Serial: certificate.Serial, Reason: reason, Actor: r.actor(), Client: r.client, RequestID: r.id,
	})
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	return &reply{status: http.StatusOK}, nil
}

// derSequence is the first byte of every certificate.
const derSequence = 0x30

// parseReason reads a CRLReason; absent or null is 0. Only whole numbers count: a JSON parser that cut 2.5 to 2 would
// give the wrong reason.
func parseReason(raw json.RawMessage) (pki.RevocationReason, error) {
	text := strings.TrimSpace(string(raw))
	if text == "" || text == "null" {
		return pki.Unspecified, nil
	}
	number, err := strconv.Atoi(text)
	if err != nil || strconv.Itoa(number) != text {
		// -1 is no reason either; the refusal lists those that are.
		return 0, revoke.CheckReason(-1)
	}
	return pki.RevocationReason(number), revoke.CheckReason(pki.RevocationReason(number))
}

// mayRevoke refuses a signer that has nothing to do with the certificate (RFC 8555 section 7.6).
func (s *Server) mayRevoke(ctx context.Context, r *request, c *pki.Certificate) error {
	switch {
	case r.account == nil && r.key.SPKIHash == c.SPKIHash:
		return nil
	case r.account == nil:
		return fault.New(fault.Unauthorized, "JWS was not signed by the certificate's key; an account signs with its URL as \"kid\"")
	case mayReplace(r.account, c):
		return nil
	}
	authorized, err := s.authorizedFor(ctx, r, c)
	switch {
	case err != nil:
		return fmt.Errorf("look up authorizations: %w", err)
	case !authorized:
		return fault.New(fault.Unauthorized, "account did not order this certificate and holds no authorizations for its names")
	}
	return nil
}

// namesSearched is how many of the names that an account has proved newest are searched. Who revokes with them has just
// proved them.
const namesSearched = 1000

// authorizedFor reports whether the account holds valid authorizations for all names of a certificate. Only what was
// proved by a challenge counts; a SPIFFE ID cannot be.
func (s *Server) authorizedFor(ctx context.Context, r *request, c *pki.Certificate) (bool, error) {
	if len(c.Names.URIs) > 0 || len(c.Names.DNS)+len(c.Names.IPs) == 0 {
		return false, nil
	}
	missing := make(map[string]bool)
	for _, name := range c.Names.DNS {
		missing[name] = true
	}
	for _, address := range c.Names.IPs {
		missing[address] = true
	}
	p, ok := s.Catalog.Snapshot().Profile(r.account.ProfileID)
	if !ok || p.Rules.Challenges == nil {
		return false, nil
	}
	proved, err := s.Store.ProvedNames(ctx, r.account.ID, r.now, namesSearched)
	if err != nil {
		return false, err
	}
	for _, name := range proved {
		delete(missing, name)
	}
	return len(missing) == 0, nil
}
