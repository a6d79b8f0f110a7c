package acme

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// accountView is the account object (RFC 8555 section 7.1.2).
type accountView struct {
	Status  pki.ACMEStatus  `json:"status"`
	Contact []string        `json:"contact,omitempty"`
	Binding json.RawMessage `json:"externalAccountBinding,omitempty"`
	Orders  string          `json:"orders"`
}

func (s *Server) accountReply(status int, d directory, a *pki.Account) *reply {
	at := d.accountURL(a.ID)
	return &reply{status: status, location: at, body: accountView{
		Status: a.Status, Contact: a.Contact, Binding: a.Binding, Orders: at + "/orders",
	}}
}

// accountRequest is the payload of newAccount (RFC 8555 section 7.3). Other members are ignored.
type accountRequest struct {
	Contact              []string        `json:"contact"`
	TermsOfServiceAgreed bool            `json:"termsOfServiceAgreed"`
	OnlyReturnExisting   bool            `json:"onlyReturnExisting"`
	Binding              json.RawMessage `json:"externalAccountBinding"`
}

// newAccount registers an account, or returns the one that the key has: then everything else of the request is
// ignored, also a binding that could not be used any more (RFC 8555 section 7.3.1).
func (s *Server) newAccount(ctx context.Context, r *request) (*reply, error) {
	var asked accountRequest
	if err := r.decode(&asked); err != nil {
		return nil, err
	}
	known, err := s.accounts.find(ctx, r.dir.scope, r.key.Thumbprint)
	if err == nil {
		return s.existingAccount(r, known.account)
	}
	if !fault.Is(err, fault.NotFound) {
		return nil, fmt.Errorf("look up account: %w", err)
	}
	if asked.OnlyReturnExisting {
		return nil, fault.New(fault.AccountDoesNotExist, "there is no account with this key in this directory")
	}
	answer, err := s.register(ctx, r, &asked)
	if err != nil {
		s.auditRefusal(ctx, r, s.event(r, audit.AccountRefuse, r.key.Thumbprint, audit.Detail{}), err)
	}
	return answer, err
}

// existingAccount answers with an account that has been there, unless it may not be used.
func (s *Server) existingAccount(r *request, a *pki.Account) (*reply, error) {
	if err := usable(a); err != nil {
		return nil, err
	}
	return s.accountReply(http.StatusOK, r.dir, a), nil
}

// register makes a new account.
func (s *Server) register(ctx context.Context, r *request, asked *accountRequest) (*reply, error) {
	if err := checkContact(asked.Contact); err != nil {
		return nil, err
	}
	if s.Options.TermsOfService != "" && !asked.TermsOfServiceAgreed {
		return nil, fault.New(fault.UserActionRequired, "termsOfServiceAgreed is not true; the terms are at %s", s.Options.TermsOfService)
	}
	enrolled, err := s.enroll(ctx, r, asked.Binding)
	if err != nil {
		return nil, err
	}
	// RFC 8555 section 11.1 the other way round: who holds the key of a certificate must not act for an account.
	certified, err := s.Store.KeyCertified(ctx, r.key.SPKIHash)
	if err != nil {
		return nil, fmt.Errorf("look up key: %w", err)
	}
	if certified {
		return nil, fault.New(fault.BadPublicKey, "account key is the key of a certificate; make a new one (RFC 8555 section 11.1)")
	}
	id, err := newID[pki.AccountID](s, r.now)
	if err != nil {
		return nil, err
	}
	a := &pki.Account{
		ID: id, Scope: r.dir.scope, Thumbprint: r.key.Thumbprint, JWK: r.key.Canonical, ProfileID: enrolled.profile.ID,
		Status: pki.StatusValid, Contact: asked.Contact, CreatedAt: r.now,
	}
	limit := 0
	if enrolled.credential != nil {
		a.CredentialID, a.Binding, limit = enrolled.credential.ID, asked.Binding, enrolled.credential.MaxAccounts
	}
	detail := audit.Detail{Account: id, Profile: a.ProfileID, Credential: a.CredentialID}
	event := s.event(r, audit.AccountCreate, string(id), detail)
	event.Actor = audit.Actor{Kind: audit.Account, ID: string(id)} // its key has signed the request
	stored, created, err := s.Store.CreateAccount(ctx, a, limit, event)
	if err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	if !created {
		return s.existingAccount(r, stored)
	}
	s.touch(ctx, a.CredentialID, r.now)
	return s.accountReply(http.StatusCreated, r.dir, stored), nil
}

// enrollment is what an account may be registered for.
type enrollment struct {
	profile    *pki.Profile
	credential *pki.Credential // nil in a directory without EAB
}

// enroll finds out what the new account may have: what its EAB credential says, or the profile of the directory. A
// binding that is not needed is verified all the same, since its sender relies on it.
func (s *Server) enroll(ctx context.Context, r *request, raw json.RawMessage) (enrollment, error) {
	snapshot, err := s.Catalog.Current()
	if err != nil {
		return enrollment{}, err
	}
	if len(raw) == 0 || string(raw) == "null" {
		if p, ok := snapshot.Profile(r.dir.scope); ok {
			return enrollment{profile: p}, nil
		}
		return enrollment{}, fault.New(fault.ExternalAccountRequired, "externalAccountBinding is missing; this directory needs an EAB credential").
			WithHint("certloom credential create --profile PROFILE --name NAME")
	}
	binding, err := jose.ParseBinding(raw, r.url, r.key)
	if err != nil {
		return enrollment{}, err
	}
	c, known := snapshot.Credential(pki.CredentialID(binding.KID))
	var secret []byte
	if known {
		r.credential = c.ID
		if secret, err = s.Catalog.CredentialKey(ctx, c); err != nil {
			return enrollment{}, fmt.Errorf("open credential: %w", err)
		}
	}
	// Without a secret this does the same work and fails the same way, so that nobody learns which kids exist.
	if err := binding.Verify(secret); err != nil {
		return enrollment{}, err
	}
	if err := usableCredential(c, r.now); err != nil {
		return enrollment{}, err
	}
	p, ok := snapshot.Profile(c.ProfileID)
	switch {
	case !ok || !overACME(p):
		return enrollment{}, fault.New(fault.Unauthorized, "EAB credential %q is not for ACME", c.Name)
	case r.dir.scope != "" && p.ID != r.dir.scope:
		return enrollment{}, fault.New(fault.Unauthorized, "EAB credential %q does not belong to the profile of this directory", c.Name)
	}
	return enrollment{profile: p, credential: c}, nil
}

// accountChange is the payload of a request to an account (RFC 8555 sections 7.3.2 and 7.3.6). A nil contact is left as
// it is; an empty one is removed. Other members and other statuses are ignored.
type accountChange struct {
	Contact *[]string `json:"contact"`
	Status  string    `json:"status"`
}

// updateAccount reads, changes or deactivates the account that signed.
func (s *Server) updateAccount(ctx context.Context, r *request) (*reply, error) {
	if err := ownAccount(r); err != nil {
		return nil, err
	}
	var change accountChange
	if len(r.payload) > 0 {
		if err := r.decode(&change); err != nil {
			return nil, err
		}
	}
	changed := *r.account
	switch {
	case change.Status == string(pki.StatusDeactivated):
		if err := s.Store.DeactivateAccount(ctx, r.account.ID, s.event(r, audit.AccountDeactivate, string(r.account.ID), audit.Detail{})); err != nil {
			return nil, fmt.Errorf("deactivate account: %w", err)
		}
		changed.Status = pki.StatusDeactivated
		s.accounts.forget(r.account)
	case change.Contact != nil:
		if err := checkContact(*change.Contact); err != nil {
			return nil, err
		}
		event := s.event(r, audit.AccountUpdate, string(r.account.ID), audit.Detail{Changes: []audit.Change{{
			Field: "contact", Old: strings.Join(r.account.Contact, " "), New: strings.Join(*change.Contact, " "),
		}}})
		if err := s.Store.UpdateAccountContact(ctx, r.account.ID, *change.Contact, event); err != nil {
			return nil, fmt.Errorf("update account: %w", err)
		}
		changed.Contact = *change.Contact
		s.accounts.forget(r.account)
	}
	return s.accountReply(http.StatusOK, r.dir, &changed), nil
}

// ownAccount refuses a request to the account of somebody else, whether it exists or not.
func ownAccount(r *request) error {
	if r.http.PathValue("id") == string(r.account.ID) {
		return nil
	}
	return fault.New(fault.NotFound, "there is no account at this URL that this key may see")
}
