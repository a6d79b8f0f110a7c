package store

import (
	"context"
	"fmt"
	"time"
)

// RedeemNonce notes that a nonce was used and reports whether it was the first time, on any replica.
func (s *Store) RedeemNonce(ctx context.Context, id [16]byte, expires time.Time) (bool, error) {
	first := false
	err := s.write(ctx, "redeem nonce", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO nonce (id, expires_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`,
			id[:], seconds(expires))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		first = n > 0
		return nil
	})
	return first, err
}

// DeleteExpiredNonces forgets nonces that are refused for their age by now, and tells how many.
func (s *Store) DeleteExpiredNonces(ctx context.Context, now time.Time) (int, error) {
	deleted := 0
	err := s.write(ctx, "delete expired nonces", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM nonce WHERE expires_at >> 10 <= $1 AND expires_at < $2`, span(now), seconds(now))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		deleted = int(n)
		return nil
	})
	return deleted, err
}
