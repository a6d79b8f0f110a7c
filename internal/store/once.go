package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// ClaimOnce stores a request unless it is there already, and returns what is stored then. Whoever finds the own claim
// in it serves the request; everybody else, on any replica, finds the claim of who does or did, with the answer if
// there is one. What has expired is replaced, and so is the claim of the same request that was started before
// abandoned and has no answer: whoever had it is gone.
func (s *Store) ClaimOnce(ctx context.Context, once pki.Once, abandoned time.Time) (*pki.Once, error) {
	var stored *pki.Once
	err := s.write(ctx, "claim request", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `INSERT INTO once (id, request, claim, started_at, expires_at, answer)
			VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO UPDATE SET request = excluded.request,
				claim = excluded.claim, started_at = excluded.started_at, expires_at = excluded.expires_at, answer = excluded.answer
			WHERE once.expires_at <= excluded.started_at
				OR once.started_at < $7 AND length(once.answer) = 0 AND once.request = excluded.request`,
			once.ID[:], once.Request[:], once.Claim[:], micros(once.StartedAt), micros(once.ExpiresAt), blob(nil), micros(abandoned))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		stored, err = scanOnce(t.queryRow(ctx, `SELECT id, request, claim, started_at, expires_at, answer FROM once
			WHERE id = $1`, once.ID[:]))
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

func scanOnce(r row) (*pki.Once, error) {
	var id, request, claim, answer []byte
	var started, expires int64
	if err := r.Scan(&id, &request, &claim, &started, &expires, &answer); err != nil {
		return nil, err
	}
	once := &pki.Once{
		ID: array(id), Request: array(request), StartedAt: fromMicros(started), ExpiresAt: fromMicros(expires), Answer: unblob(answer),
	}
	copy(once.Claim[:], claim)
	return once, nil
}

// AnswerOnce stores the answer to a claimed request. A claim that was lost meanwhile changes nothing.
func (s *Store) AnswerOnce(ctx context.Context, once pki.Once) error {
	return s.write(ctx, "keep answer", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `UPDATE once SET answer = $1 WHERE id = $2 AND claim = $3`, blob(once.Answer), once.ID[:], once.Claim[:])
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		return nil
	})
}

// ReleaseOnce forgets a claimed request, of which nothing came. A claim that was lost meanwhile changes nothing.
func (s *Store) ReleaseOnce(ctx context.Context, once pki.Once) error {
	return s.write(ctx, "release request", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `DELETE FROM once WHERE id = $1 AND claim = $2`, once.ID[:], once.Claim[:])
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		return nil
	})
}

// DeleteExpiredOnce forgets requests that have expired, and tells how many.
func (s *Store) DeleteExpiredOnce(ctx context.Context, now time.Time) (int, error) {
	deleted := 0
	err := s.write(ctx, "delete expired requests", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM once WHERE expires_at <= $1`, micros(now))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		deleted = int(n)
		return nil
	})
	return deleted, err
}
