package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const accountColumns = `SELECT id, scope, thumbprint, jwk, credential_id, profile_id, status, contact, binding, created_at
	FROM account `

func scanAccount(r row) (*pki.Account, error) {
	var a pki.Account
	var contact string
	var created int64
	err := r.Scan(&a.ID, &a.Scope, &a.Thumbprint, &a.JWK, &a.CredentialID, &a.ProfileID, &a.Status, &contact, &a.Binding,
		&created)
	if err != nil {
		return nil, err
	}
	a.Binding, a.CreatedAt = unblob(a.Binding), fromMicros(created)
	return &a, decode("contact", contact, &a.Contact)
}

// CreateAccount stores an account, or returns the one that has the same key in the same scope with created false
// (RFC 8555 section 7.3.1), whatever its status. With maxAccounts > 0 a credential that has so many accounts is
// refused as Unauthorized, and so is a revoked one.
func (s *Store) CreateAccount(ctx context.Context, a *pki.Account, maxAccounts int, ev audit.Event) (
	stored *pki.Account, created bool, err error,
) {
	contact, err := encode(a.Contact)
	if err != nil {
		return nil, false, fmt.Errorf("create account: %w", err)
	}
	err = s.write(ctx, "create account", func(ctx context.Context, t *tx) error {
		created = false // this may be a second run
		stored, err = t.accountOfKey(ctx, a.Scope, a.Thumbprint)
		if err != nil || stored != nil {
			return err
		}
		if a.CredentialID != "" {
			if err := t.credentialAccepts(ctx, a.CredentialID, maxAccounts); err != nil {
				return err
			}
		}
		n, err := t.change(ctx, `INSERT INTO account (id, scope, thumbprint, jwk, credential_id, profile_id, status, contact,
				binding, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			ON CONFLICT (thumbprint, scope) DO NOTHING`,
			string(a.ID), string(a.Scope), a.Thumbprint, blob(a.JWK), string(a.CredentialID), string(a.ProfileID),
			string(a.Status), contact, blob(a.Binding), micros(a.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 { // another writer was faster
			stored, err = t.accountOfKey(ctx, a.Scope, a.Thumbprint)
			return err
		}
		created = true
		t.event(ev)
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	if created {
		stored = new(*a)
	}
	return stored, created, nil
}

// accountOfKey returns nil when no account of the scope has the key.
func (t *tx) accountOfKey(ctx context.Context, scope pki.ProfileID, thumbprint string) (*pki.Account, error) {
	a, err := scanAccount(t.queryRow(ctx, accountColumns+`WHERE thumbprint = $1 AND scope = $2`, thumbprint, string(scope)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // absent is an answer here
	}
	if err != nil {
		return nil, fmt.Errorf("look for the key: %w", err)
	}
	return a, nil
}

// Account returns an account, or NotFound.
func (s *Store) Account(ctx context.Context, id pki.AccountID) (*pki.Account, error) {
	a, err := scanAccount(s.queryRow(ctx, accountColumns+`WHERE id = $1`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("account", string(id))
	}
	return a, s.readError("read account", err)
}

// AccountByThumbprint returns the account that has the key in the scope, or NotFound.
func (s *Store) AccountByThumbprint(ctx context.Context, scope pki.ProfileID, thumbprint string) (*pki.Account, error) {
	a, err := scanAccount(s.queryRow(ctx, accountColumns+`WHERE thumbprint = $1 AND scope = $2`, thumbprint, string(scope)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "no account has this key")
	}
	return a, s.readError("read account", err)
}

// UpdateAccountContact replaces the contacts of a valid account; one that is not valid is AccountDeactivated.
func (s *Store) UpdateAccountContact(ctx context.Context, id pki.AccountID, contact []string, ev audit.Event) error {
	encoded, err := encode(contact)
	if err != nil {
		return fmt.Errorf("update account: %w", err)
	}
	return s.write(ctx, "update account", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE account SET contact = $1 WHERE id = $2 AND status = 'valid'`, encoded, string(id))
		return t.accountChanged(ctx, id, n, err, ev)
	})
}

// accountChanged ends a change that was conditional on the account being valid.
func (t *tx) accountChanged(ctx context.Context, id pki.AccountID, n int64, err error, ev audit.Event) error {
	if err != nil {
		return fmt.Errorf("update: %w", err)
	}
	if n == 0 {
		if err := t.mustExist(ctx, `SELECT count(*) FROM account WHERE id = $1`, "account", string(id)); err != nil {
			return err
		}
		return fault.New(fault.AccountDeactivated, "account %.80q is not valid any more", id)
	}
	t.event(ev)
	return nil
}

// ChangeAccountKey gives a valid account another key (RFC 8555 section 7.3.5). A key that an account of the same scope
// has is a Conflict whose Location is the identifier of that account; an account whose key is not oldThumbprint any
// more is a Conflict without one.
func (s *Store) ChangeAccountKey(ctx context.Context, id pki.AccountID, oldThumbprint, newThumbprint string,
	newJWK []byte, ev audit.Event,
) error {
	return s.write(ctx, "change account key", func(ctx context.Context, t *tx) error {
		var scope, thumbprint string
		err := t.queryRow(ctx, `SELECT scope, thumbprint FROM account WHERE id = $1`+t.forUpdate(), string(id)).
			Scan(&scope, &thumbprint)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("account", string(id))
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case thumbprint != oldThumbprint:
			return fault.New(fault.Conflict, "the account's key was changed meanwhile")
		}
		owner, err := t.accountOfKey(ctx, pki.ProfileID(scope), newThumbprint)
		if err != nil {
			return err
		}
		if owner != nil {
			conflict := fault.New(fault.Conflict, "the new key is already in use by an account")
			conflict.Location = string(owner.ID)
			return conflict
		}
		n, err := t.change(ctx, `UPDATE account SET thumbprint = $1, jwk = $2 WHERE id = $3 AND status = 'valid'`,
			newThumbprint, blob(newJWK), string(id))
		return t.accountChanged(ctx, id, n, err, ev)
	})
}

// DeactivateAccount deactivates a valid account for good (RFC 8555 section 7.3.6).
func (s *Store) DeactivateAccount(ctx context.Context, id pki.AccountID, ev audit.Event) error {
	return s.write(ctx, "deactivate account", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE account SET status = 'deactivated' WHERE id = $1 AND status = 'valid'`, string(id))
		return t.accountChanged(ctx, id, n, err, ev)
	})
}
