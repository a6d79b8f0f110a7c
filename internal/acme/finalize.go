package acme

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

// finalize turns an order into a certificate and answers when that is done (RFC 8555 section 7.4): there is no
// "processing", which many clients handle badly. A refusal leaves the order ready. Repeated with the same CSR, on any
// replica and also while the first call still runs, it answers with the one certificate; issue and the store see to
// that.
func (s *Server) finalize(ctx context.Context, r *request) (*reply, error) {
	o, err := s.findOrder(ctx, r, r.http.PathValue("id"))
	if err != nil {
		return nil, err
	}
	leave, err := s.admission.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	if err := s.checkReady(ctx, r, o); err != nil {
		s.auditRefusal(ctx, r, s.event(r, audit.CertificateRefuse, string(o.ID), audit.Detail{Order: o.ID}), err)
		return nil, err
	}
	parsed, err := s.readCSR(r)
	if err != nil {
		s.auditRefusal(ctx, r, s.event(r, audit.CertificateRefuse, string(o.ID), audit.Detail{Order: o.ID}), err)
		return nil, err
	}
	if err := s.issue(ctx, r, o, parsed); err != nil {
		return nil, err
	}
	return s.orderReply(http.StatusOK, r, o), nil
}

// checkReady refuses an order that cannot be finalized, as far as that can be told without asking the store. Whether
// its names are proved, and whether it has its certificate, is left to issue, which asks the store anyhow.
func (s *Server) checkReady(ctx context.Context, r *request, o *order) error {
	if cached, ok := s.certificates.cached(o.ID); ok {
		o.certificate = cached
	}
	if !s.Options.StrictFinalize && !r.now.After(o.Expires) {
		return nil
	}
	if err := s.settle(ctx, o, r.now); err != nil {
		return err
	}
	switch status := o.status(r.now); {
	case status == pki.StatusReady, status == pki.StatusValid && !s.Options.StrictFinalize:
		return nil
	case status == pki.StatusInvalid && r.now.After(o.Expires):
		return fault.New(fault.OrderNotReady, "order expired at %s; make a new one", stamp(o.Expires))
	default:
		return fault.New(fault.OrderNotReady, "order is %s, not ready (RFC 8555 section 7.4)", status)
	}
}

// issue makes the order's certificate, or finds the one that it has.
func (s *Server) issue(ctx context.Context, r *request, o *order, parsed *csr.Request) error {
	if o.certificate != nil && o.certificate.CSRHash == parsed.Hash {
		return nil
	}
	snapshot, err := s.Catalog.Current()
	if err != nil {
		return err
	}
	p, c, err := enrolled(snapshot, r.account, r.now)
	switch {
	case err != nil:
	case p.ID != o.ProfileID:
		err = fault.New(fault.InvalidProfile, "order is for another profile than the account's")
	case r.account.CredentialID != o.CredentialID:
		err = fault.New(fault.Unauthorized, "order was made with another EAB credential than the account's")
	case len(o.Challenges) == 0 && p.Rules.Challenges != nil:
		err = s.checkProved(ctx, r, o, p)
	}
	if err != nil {
		s.auditRefusal(ctx, r, s.event(r, audit.CertificateRefuse, string(o.ID), audit.Detail{Order: o.ID, Names: &parsed.Names}), err)
		return err
	}
	certificate, err := s.Issuer.Issue(ctx, issue.Request{
		Profile: p, Credential: c, Account: r.account, Order: o.ID, Identifiers: o.Identifiers, ByChallenge: len(o.Challenges) > 0,
		NotBefore: o.NotBefore, NotAfter: o.NotAfter, Replaces: o.Replaces, CSR: parsed,
		Client: r.client, Actor: r.actor(), RequestID: r.id,
	})
	if err != nil {
		return fmt.Errorf("issue: %w", err)
	}
	o.certificate = certificate
	s.certificates.add(certificate)
	s.touch(ctx, o.CredentialID, r.now)
	return nil
}

// checkProved refuses an order whose names were never proved, when its profile has come to validate them by
// challenge. What was issued before that stays.
func (s *Server) checkProved(ctx context.Context, r *request, o *order, p *pki.Profile) error {
	if err := s.settle(ctx, o, r.now); err != nil {
		return err
	}
	if o.certificate != nil {
		return nil
	}
	return fault.New(fault.OrderNotReady, "profile %q validates names by challenge since the order was made; make a new order", p.Name)
}

// readCSR reads the payload of finalize.
func (s *Server) readCSR(r *request) (*csr.Request, error) {
	var asked struct {
		CSR *string `json:"csr"`
	}
	if err := r.decode(&asked); err != nil {
		return nil, err
	}
	if asked.CSR == nil {
		return nil, fault.New(fault.Malformed, "csr is missing (RFC 8555 section 7.4)")
	}
	text := *asked.CSR
	if s.Options.LenientCSRPadding {
		text = strings.TrimRight(text, "=")
	}
	der, ok := decodeBase64(text)
	if !ok {
		return nil, fault.New(fault.Malformed, "csr is not base64url without padding (RFC 8555 section 7.4)")
	}
	return csr.Parse(der)
}

// decodeBase64 reads base64url in its one spelling: no padding, no line ends, no stray bits (RFC 8555 section 6.1).
func decodeBase64(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return raw, err == nil
}
