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

// CreateToken stores an API token's hash and rights. Those that its user has signed in for before and that have expired go.
func (s *Store) CreateToken(ctx context.Context, token *pki.APIToken, ev audit.Event) error {
	sees, err := encodeSees(token.Sees)
	if err != nil {
		return err
	}
	return s.write(ctx, "create token", func(ctx context.Context, t *tx) error {
		if token.User != "" {
			_, err := t.change(ctx, `DELETE FROM token WHERE login = $1 AND expires_at > 0 AND expires_at < $2`, token.User, micros(token.CreatedAt))
			if err != nil {
				return fmt.Errorf("delete expired: %w", err)
			}
		}
		n, err := t.change(ctx, `INSERT INTO token (id, name, hash, role, profile_id, state, created_at, expires_at,
				last_used_at, sees, login) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
			string(token.ID), token.Name, token.Hash[:], string(token.Role), string(token.ProfileID), string(token.State),
			micros(token.CreatedAt), micros(token.ExpiresAt), micros(token.LastUsedAt), sees, token.User)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "API token %.80q exists", token.ID)
		}
		t.event(ev)
		return nil
	})
}

// RevokeToken makes a token useless for good. A revoked one stays as it is, without an error and without an event.
func (s *Store) RevokeToken(ctx context.Context, id pki.TokenID, ev audit.Event) error {
	return s.write(ctx, "revoke token", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE token SET state = 'revoked' WHERE id = $1 AND state <> 'revoked'`, string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			return t.mustExist(ctx, `SELECT count(*) FROM token WHERE id = $1`, "API token", string(id))
		}
		t.event(ev)
		return nil
	})
}

// tokenColumns take the rights of a token that somebody has signed in for from its user.
const tokenColumns = `SELECT k.id, k.name, k.hash, CASE WHEN k.login = '' THEN k.role ELSE coalesce(l.role, '') END, k.profile_id, k.state, k.created_at,
	k.expires_at, k.last_used_at, CASE WHEN k.login = '' THEN k.sees ELSE coalesce(l.sees, '') END, k.login, coalesce(l.state, '')
	FROM token k LEFT JOIN login l ON l.name = k.login AND k.login <> '' `

func scanToken(r row) (pki.APIToken, error) {
	var token pki.APIToken
	var hash []byte
	var created, expires, used int64
	var sees string
	var person pki.State
	err := r.Scan(&token.ID, &token.Name, &hash, &token.Role, &token.ProfileID, &token.State, &created, &expires, &used, &sees, &token.User, &person)
	if err != nil {
		return token, err
	}
	if token.User != "" && token.State == pki.Active && person != pki.Active {
		token.State = pki.Suspended
	}
	token.Sees, err = decodeSees(sees)
	token.Hash = array(hash)
	token.CreatedAt, token.ExpiresAt, token.LastUsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	return token, err
}

// Tokens returns all API tokens, oldest first.
func (s *Store) Tokens(ctx context.Context) ([]pki.APIToken, error) {
	rows, err := s.query(ctx, tokenColumns+`ORDER BY k.created_at, k.id`)
	all, err := collect(rows, err, scanToken)
	return all, s.readError("read tokens", err)
}

// TokenByHash returns the token of which the SHA-256 of the secret is hash, whatever its state, or NotFound.
func (s *Store) TokenByHash(ctx context.Context, hash [32]byte) (*pki.APIToken, error) {
	token, err := scanToken(s.queryRow(ctx, tokenColumns+`WHERE k.hash = $1`, hash[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "there is no such API token")
	}
	if err != nil {
		return nil, s.readError("read token", err)
	}
	return &token, nil
}

// TouchToken notes when a token was last used. An earlier time than the stored one changes nothing.
func (s *Store) TouchToken(ctx context.Context, id pki.TokenID, at time.Time) error {
	return s.write(ctx, "touch token", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `UPDATE token SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1`,
			micros(at), string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		return nil
	})
}

// encodeSees writes patterns of identities; "" for nil.
func encodeSees(patterns []string) (string, error) {
	if patterns == nil {
		return "", nil
	}
	return encode(patterns)
}

func decodeSees(raw string) ([]string, error) {
	if raw == "" {
		return nil, nil
	}
	var patterns []string
	err := decode("sees", raw, &patterns)
	return patterns, err
}
