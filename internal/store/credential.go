package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// CreateCredential stores an EAB credential. A name that is taken in its profile is a Conflict, a profile that does
// not exist is NotFound.
func (s *Store) CreateCredential(ctx context.Context, c *pki.Credential, ev audit.Event) error {
	limit, err := encodeOptional(c.Limit)
	if err != nil {
		return fmt.Errorf("create credential: %w", err)
	}
	return s.write(ctx, "create credential", func(ctx context.Context, t *tx) error {
		profiles, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM profile WHERE id = $1`, string(c.ProfileID)))
		if err != nil {
			return fmt.Errorf("look for the profile: %w", err)
		}
		if profiles == 0 {
			return profileNotFound(c.ProfileID)
		}
		n, err := t.change(ctx, `INSERT INTO credential (id, profile_id, name, state, sealed_key, expires_at, max_accounts,
				name_limit, created_at, revoked_at, last_used_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
			ON CONFLICT DO NOTHING`,
			string(c.ID), string(c.ProfileID), c.Name, string(c.State), blob(c.SealedKey), micros(c.ExpiresAt),
			int64(c.MaxAccounts), limit, micros(c.CreatedAt), micros(c.RevokedAt), micros(c.LastUsedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "the profile has a credential named %q", c.Name).WithField("/name")
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

// RevokeCredential makes a credential useless for good. A revoked one stays as it is, without an error and without
// an event.
func (s *Store) RevokeCredential(ctx context.Context, id pki.CredentialID, at time.Time, ev audit.Event) error {
	return s.write(ctx, "revoke credential", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE credential SET state = 'revoked', revoked_at = $1
			WHERE id = $2 AND state <> 'revoked'`, micros(at), string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			return t.mustExist(ctx, `SELECT count(*) FROM credential WHERE id = $1`, "credential", string(id))
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

// mustExist returns NotFound when the query counts nothing.
func (t *tx) mustExist(ctx context.Context, query, noun, id string) error {
	n, err := scanned[int64](t.queryRow(ctx, query, id))
	switch {
	case err != nil:
		return fmt.Errorf("look for the %s: %w", noun, err)
	case n == 0:
		return notFound(noun, id)
	}
	return nil
}

func notFound(noun, id string) *fault.Error {
	return fault.New(fault.NotFound, "there is no %s %.80q", noun, id)
}

// Credentials returns all credentials, oldest first, with the number of accounts that are registered with each and not
// deactivated.
func (s *Store) Credentials(ctx context.Context) ([]pki.Credential, error) {
	rows, err := s.query(ctx, `SELECT id, profile_id, name, state, sealed_key, expires_at, max_accounts, name_limit,
		created_at, revoked_at, last_used_at,
		(SELECT count(*) FROM account WHERE account.credential_id = credential.id AND account.status = 'valid')
		FROM credential ORDER BY created_at, id`)
	all, err := collect(rows, err, func(r row) (pki.Credential, error) {
		var c pki.Credential
		var limit string
		var expires, created, revoked, used int64
		err := r.Scan(&c.ID, &c.ProfileID, &c.Name, &c.State, &c.SealedKey, &expires, &c.MaxAccounts, &limit,
			&created, &revoked, &used, &c.Accounts)
		if err != nil {
			return pki.Credential{}, err
		}
		c.ExpiresAt, c.CreatedAt = fromMicros(expires), fromMicros(created)
		c.RevokedAt, c.LastUsedAt = fromMicros(revoked), fromMicros(used)
		c.Limit, err = decodeOptional[pki.NameRules]("limit", limit)
		return c, err
	})
	return all, s.readError("read credentials", err)
}

// TouchCredential notes when a credential was last used. An earlier time than the stored one changes nothing.
func (s *Store) TouchCredential(ctx context.Context, id pki.CredentialID, at time.Time) error {
	return s.write(ctx, "touch credential", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `UPDATE credential SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1`,
			micros(at), string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		return nil
	})
}

// credentialAccepts locks the credential that a new account names, and refuses when it is revoked or has all the
// accounts that it may have. Deactivated accounts do not count.
func (t *tx) credentialAccepts(ctx context.Context, id pki.CredentialID, maxAccounts int) error {
	var state, name string
	err := t.queryRow(ctx, `SELECT state, name FROM credential WHERE id = $1`+t.forUpdate(), string(id)).Scan(&state, &name)
	switch {
	case errors.Is(err, sql.ErrNoRows) || err == nil && state != string(pki.Active):
		return fault.New(fault.Unauthorized, "EAB credential %.80q is revoked or unknown", id)
	case err != nil:
		return fmt.Errorf("read credential: %w", err)
	case maxAccounts <= 0:
		return nil
	}
	n, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM account WHERE credential_id = $1 AND status = 'valid'`,
		string(id)))
	switch {
	case err != nil:
		return fmt.Errorf("count accounts: %w", err)
	case n >= int64(maxAccounts):
		return fault.New(fault.Unauthorized, "EAB credential %q has %d of at most %d accounts", name, n, maxAccounts).
			WithHint("deactivate an account or create the credential with a higher limit")
	}
	return nil
}
