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

// CreateSession stores a session, and forgets those that have expired.
func (s *Store) CreateSession(ctx context.Context, made *pki.Session, ev audit.Event) error {
	return s.write(ctx, "create session", func(ctx context.Context, t *tx) error {
		if _, err := t.change(ctx, `DELETE FROM session WHERE expires_at < $1`, micros(made.CreatedAt)); err != nil {
			return fmt.Errorf("delete expired: %w", err)
		}
		_, err := t.change(ctx, `INSERT INTO session (id, hash, login, created_at, expires_at, last_used_at, user_agent, address)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			string(made.ID), made.Hash[:], made.User, micros(made.CreatedAt), micros(made.ExpiresAt), micros(made.LastUsedAt),
			made.Client.UserAgent, made.Client.Address)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		t.event(ev)
		return nil
	})
}

const sessionColumns = `SELECT id, hash, login, created_at, expires_at, last_used_at, user_agent, address FROM session `

func scanSession(r row) (pki.Session, error) {
	var found pki.Session
	var hash []byte
	var created, expires, used int64
	err := r.Scan(&found.ID, &hash, &found.User, &created, &expires, &used, &found.Client.UserAgent, &found.Client.Address)
	found.Hash = array(hash)
	found.CreatedAt, found.ExpiresAt, found.LastUsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	return found, err
}

// Sessions returns all sessions, oldest first; of one person, if user is not "".
func (s *Store) Sessions(ctx context.Context, user string) ([]pki.Session, error) {
	rows, err := s.query(ctx, sessionColumns+`WHERE $1 = '' OR login = $1 ORDER BY created_at, id`, user)
	all, err := collect(rows, err, scanSession)
	return all, s.readError("read sessions", err)
}

// SessionByHash returns the session of which the SHA-256 of the secret is hash, or NotFound.
func (s *Store) SessionByHash(ctx context.Context, hash [32]byte) (*pki.Session, error) {
	found, err := scanSession(s.queryRow(ctx, sessionColumns+`WHERE hash = $1`, hash[:]))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "there is no such session")
	}
	if err != nil {
		return nil, s.readError("read session", err)
	}
	return &found, nil
}

// TouchSession notes when a session was last used. An earlier time than the stored one changes nothing.
func (s *Store) TouchSession(ctx context.Context, id pki.SessionID, at time.Time) error {
	return s.write(ctx, "touch session", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `UPDATE session SET last_used_at = $1 WHERE id = $2 AND last_used_at < $1`, micros(at), string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		return nil
	})
}

// EndSession removes a session. One that is not there any more is no error, and no event.
func (s *Store) EndSession(ctx context.Context, id pki.SessionID, ev audit.Event) error {
	return s.write(ctx, "end session", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM session WHERE id = $1`, string(id))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n > 0 {
			t.event(ev)
		}
		return nil
	})
}
