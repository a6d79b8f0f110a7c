package acme

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// changeKey gives the account another key (RFC 8555 section 7.3.5). The account stays what it is: its URL, its orders
// and its binding. The old key is refused here at once, on other replicas when their copy has aged.
func (s *Server) changeKey(ctx context.Context, r *request) (*reply, error) {
	if len(r.payload) == 0 {
		return nil, fault.New(fault.Malformed, "payload is empty; the inner JWS is wanted (RFC 8555 section 7.3.5)")
	}
	change, err := jose.ParseInner(r.payload, r.url)
	if err != nil {
		return nil, err
	}
	switch {
	case change.Account != r.dir.accountURL(r.account.ID):
		return nil, fault.New(fault.Malformed, "inner payload has account %.200q, not that of the outer JWS (RFC 8555 section 7.3.5)", change.Account)
	case change.OldKey.Thumbprint != r.key.Thumbprint:
		return nil, fault.New(fault.Malformed, "inner payload's oldKey is not the account's key (RFC 8555 section 7.3.5)")
	case change.NewKey.Thumbprint == r.key.Thumbprint:
		return s.accountReply(http.StatusOK, r.dir, r.account), nil
	}
	certified, err := s.Store.KeyCertified(ctx, change.NewKey.SPKIHash)
	if err != nil {
		return nil, fmt.Errorf("look up key: %w", err)
	}
	if certified {
		return nil, fault.New(fault.BadPublicKey, "new key is the key of a certificate; make a new one (RFC 8555 section 11.1)")
	}
	event := s.event(r, audit.AccountKeyChange, string(r.account.ID), audit.Detail{Changes: []audit.Change{{
		Field: "thumbprint", Old: r.key.Thumbprint, New: change.NewKey.Thumbprint,
	}}})
	err = s.Store.ChangeAccountKey(ctx, r.account.ID, r.key.Thumbprint, change.NewKey.Thumbprint, change.NewKey.Canonical, event)
	// Also when it failed: the key may have been changed elsewhere.
	s.accounts.forget(r.account)
	if err != nil {
		return nil, keyTaken(err, r.dir)
	}
	changed := *r.account
	changed.Thumbprint, changed.JWK = change.NewKey.Thumbprint, change.NewKey.Canonical
	return s.accountReply(http.StatusOK, r.dir, &changed), nil
}

// keyTaken makes the URL of an account of the identifier that the store names as the key's owner.
func keyTaken(err error, d directory) error {
	conflict, ok := errors.AsType[*fault.Error](err)
	if !ok || conflict.Kind != fault.Conflict {
		return fmt.Errorf("change account key: %w", err)
	}
	told := *conflict
	if told.Location != "" {
		told.Location = d.accountURL(pki.AccountID(told.Location))
	}
	return &told
}
