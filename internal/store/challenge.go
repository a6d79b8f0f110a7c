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

// StartChallenge makes a pending challenge processing, or one that has been processing for longer than the lease, whose
// validator must have died. It returns false when there is nothing to do: somebody else validates it, it has ended, or
// its authorization is not pending. A challenge that does not exist is NotFound.
func (s *Store) StartChallenge(ctx context.Context, id pki.ChallengeID, now time.Time, lease time.Duration) (bool, error) {
	started := false
	err := s.write(ctx, "start challenge", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE challenge SET status = 'processing', started_at = $1
			WHERE id = $2 AND (status = 'pending' OR status = 'processing' AND started_at <= $3)
			AND EXISTS (SELECT 1 FROM authz a WHERE a.id = challenge.authz_id AND a.status = 'pending')`,
			seconds(now), string(id), seconds(now.Add(-lease)))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		started = n > 0
		if n == 0 {
			return t.mustExist(ctx, `SELECT count(*) FROM challenge WHERE id = $1`, "challenge", string(id))
		}
		return nil
	})
	return started, err
}

// FinishChallenge notes how a validation ended: result.Status is valid or invalid. The authorization becomes the same,
// with authzExpires when valid, and when invalid its order gets the error (RFC 8555 section 7.1.6). When the
// challenge is not processing any more or the authorization not pending, that is a Conflict and nothing changes.
// It returns the authorization as it is then.
func (s *Store) FinishChallenge(ctx context.Context, id pki.ChallengeID, result pki.Challenge, authzExpires time.Time,
	ev audit.Event,
) (*pki.Authorization, error) {
	failure, err := encodeOptional(result.Error)
	if err != nil {
		return nil, fmt.Errorf("finish challenge: %w", err)
	}
	if result.Status != pki.StatusValid && result.Status != pki.StatusInvalid {
		return nil, fmt.Errorf("finish challenge: status %q is not valid or invalid", result.Status)
	}
	var authz *pki.Authorization
	err = s.write(ctx, "finish challenge", func(ctx context.Context, t *tx) error {
		authzID, orderID, err := t.challengeInProgress(ctx, id)
		if err != nil {
			return err
		}
		_, err = t.change(ctx, `UPDATE challenge SET status = $1, validated_at = $2, error = $3 WHERE id = $4`,
			string(result.Status), seconds(result.ValidatedAt), failure, string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if result.Status == pki.StatusValid {
			_, err = t.change(ctx, `UPDATE authz SET status = 'valid', expires_at = $1 WHERE id = $2`,
				seconds(authzExpires), authzID)
		} else {
			err = t.failAuthorization(ctx, authzID, orderID, failure)
		}
		if err != nil {
			return fmt.Errorf("update authorization: %w", err)
		}
		t.event(ev)
		authz, err = t.authorization(ctx, authzID)
		return err
	})
	if err != nil {
		return nil, err
	}
	return authz, nil
}

func (t *tx) challengeInProgress(ctx context.Context, id pki.ChallengeID) (authzID, orderID string, err error) {
	var status, authzStatus string
	err = t.queryRow(ctx, `SELECT c.status, a.status, a.id, a.order_id FROM challenge c JOIN authz a ON a.id = c.authz_id
		WHERE c.id = $1`+t.forUpdate(), string(id)).Scan(&status, &authzStatus, &authzID, &orderID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", "", notFound("challenge", string(id))
	case err != nil:
		return "", "", fmt.Errorf("read: %w", err)
	case authzStatus != string(pki.StatusPending):
		return "", "", fault.New(fault.Conflict, "the authorization is %s already", authzStatus)
	case status != string(pki.StatusProcessing):
		return "", "", fault.New(fault.Conflict, "the challenge is %s, not processing", status)
	}
	return authzID, orderID, nil
}

// failAuthorization makes an authorization invalid. Of several failures, the order keeps the first.
func (t *tx) failAuthorization(ctx context.Context, authzID, orderID, failure string) error {
	if _, err := t.change(ctx, `UPDATE authz SET status = 'invalid' WHERE id = $1`, authzID); err != nil {
		return err
	}
	_, err := t.change(ctx, `UPDATE acme_order SET error = $1 WHERE id = $2 AND error = ''`, failure, orderID)
	return err
}

func (t *tx) authorization(ctx context.Context, id string) (*pki.Authorization, error) {
	rows, err := t.query(ctx, authorizationColumns+`WHERE a.id = $1 ORDER BY c.position`, id)
	all, err := authorizations(rows, err)
	if err != nil {
		return nil, fmt.Errorf("read authorization: %w", err)
	}
	if len(all) == 0 {
		return nil, notFound("authorization", id)
	}
	return &all[0], nil
}

// DeactivateAuthorization deactivates a pending or valid authorization (RFC 8555 section 7.5.2). One that is
// deactivated stays as it is, without an error and without an event; any other status is a Conflict.
func (s *Store) DeactivateAuthorization(ctx context.Context, id pki.AuthzID, ev audit.Event) error {
	return s.write(ctx, "deactivate authorization", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE authz SET status = 'deactivated' WHERE id = $1 AND status IN ('pending', 'valid')`,
			string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n > 0 {
			t.event(ev)
			return nil
		}
		status, err := scanned[string](t.queryRow(ctx, `SELECT status FROM authz WHERE id = $1`, string(id)))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("authorization", string(id))
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case status != string(pki.StatusDeactivated):
			return fault.New(fault.Conflict, "the authorization is %s; only a pending or valid one can be deactivated", status)
		}
		return nil
	})
}

// DeactivateSealedAuthorization notes that an authorization of a sealed order is deactivated. The note is kept until
// expires, when the order is of no use any more. Made again it changes nothing and leaves no event.
func (s *Store) DeactivateSealedAuthorization(ctx context.Context, order pki.OrderID, index int, expires time.Time,
	ev audit.Event,
) error {
	return s.write(ctx, "deactivate authorization", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO sealed_deactivation (order_id, position, expires_at) VALUES ($1, $2, $3)
			ON CONFLICT DO NOTHING`, string(order), int64(index), seconds(expires))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n > 0 {
			t.event(ev)
		}
		return nil
	})
}

// SealedDeactivations returns the indexes of a sealed order's deactivated authorizations, in order.
func (s *Store) SealedDeactivations(ctx context.Context, order pki.OrderID) ([]int, error) {
	rows, err := s.query(ctx, `SELECT position FROM sealed_deactivation WHERE order_id = $1 ORDER BY position`, string(order))
	all, err := collect(rows, err, scanned[int])
	return all, s.readError("read deactivations", err)
}
