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

const (
	proofColumns = `order_id, position, account_id, name, type, status, at, error, deactivated, expires_at`
	insertProof  = `INSERT INTO proof (` + proofColumns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (order_id, position) DO UPDATE SET `
)

// Proofs returns what has become of an order's authorizations, in the order of its identifiers. Those of which nothing
// has are not in the list.
func (s *Store) Proofs(ctx context.Context, order pki.OrderID) ([]pki.Proof, error) {
	rows, err := s.query(ctx, `SELECT `+proofColumns+` FROM proof WHERE order_id = $1 ORDER BY position`, string(order))
	all, err := collect(rows, err, scanProof)
	return all, s.readError("read proofs", err)
}

// ProvedNames returns the names whose control an account has proved by challenge in orders that have not expired, those
// of the newest orders first, at most limit.
func (s *Store) ProvedNames(ctx context.Context, account pki.AccountID, now time.Time, limit int) ([]string, error) {
	rows, err := s.query(ctx, `SELECT name FROM proof WHERE account_id = $1 AND status = 'valid' AND deactivated = 0
		AND expires_at >= $2 ORDER BY order_id DESC LIMIT $3`, string(account), seconds(now), int64(limit))
	all, err := collect(rows, err, scanned[string])
	return all, s.readError("read proved names", err)
}

// StartProof notes that a challenge is being validated since p.At. It returns false, and changes nothing, when the
// authorization is decided, or when a validation of it was noted less than the lease ago.
func (s *Store) StartProof(ctx context.Context, p pki.Proof, lease time.Duration) (bool, error) {
	p.Status, p.Error, p.Deactivated = pki.StatusProcessing, nil, false
	stale := seconds(p.At.Add(-lease))
	return s.putProof(ctx, "start proof", &p, `type = excluded.type, at = excluded.at
		WHERE proof.status = 'processing' AND proof.deactivated = 0 AND proof.at <= $11`, nil, stale)
}

// FinishProof notes how a validation ended: p.Status is valid or invalid. When the authorization is decided already or
// deactivated, that is a Conflict and nothing changes.
func (s *Store) FinishProof(ctx context.Context, p pki.Proof, ev audit.Event) error {
	if p.Status != pki.StatusValid && p.Status != pki.StatusInvalid {
		return fmt.Errorf("finish proof: status %q is not valid or invalid", p.Status)
	}
	p.Deactivated = false
	stored, err := s.putProof(ctx, "finish proof", &p, `type = excluded.type, status = excluded.status, at = excluded.at,
		error = excluded.error WHERE proof.status = 'processing' AND proof.deactivated = 0`, &ev)
	if err == nil && !stored {
		return fault.New(fault.Conflict, "the authorization is decided already")
	}
	return err
}

// DeactivateAuthorization notes that the client gave an authorization up (RFC 8555 section 7.5.2). One that is
// deactivated stays as it is, without an event; one that is invalid is a Conflict.
func (s *Store) DeactivateAuthorization(ctx context.Context, p pki.Proof, ev audit.Event) error {
	p.Type, p.Status, p.Error, p.Deactivated = "", "", nil, true
	stored, err := s.putProof(ctx, "deactivate authorization", &p, `deactivated = 1
		WHERE proof.status <> 'invalid' AND proof.deactivated = 0`, &ev)
	if err != nil || stored {
		return err
	}
	gone, err := scanned[bool](s.queryRow(ctx, `SELECT deactivated = 1 FROM proof WHERE order_id = $1 AND position = $2`,
		string(p.OrderID), int64(p.Index)))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s.readError("read proof", err)
	}
	if !gone {
		return fault.New(fault.Conflict, "the authorization is invalid; only a pending or valid one can be deactivated")
	}
	return nil
}

// putProof inserts a proof or changes the one that is there, and reports whether it did. The event, if there is one,
// is recorded with the change.
func (s *Store) putProof(ctx context.Context, name string, p *pki.Proof, change string, ev *audit.Event, more ...any) (bool, error) {
	failure, err := encodeOptional(p.Error)
	if err != nil {
		return false, fmt.Errorf("%s: %w", name, err)
	}
	args := append([]any{
		string(p.OrderID), int64(p.Index), string(p.AccountID), p.Name, p.Type, string(p.Status), seconds(p.At), failure,
		boolean(p.Deactivated), seconds(p.Expires),
	}, more...)
	stored := false
	err = s.write(ctx, name, func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, insertProof+change, args...)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if stored = n > 0; stored && ev != nil {
			t.event(*ev)
		}
		return nil
	})
	return stored && err == nil, err
}

func scanProof(r row) (pki.Proof, error) {
	var p pki.Proof
	var at, deactivated, expires int64
	var failure string
	err := r.Scan(&p.OrderID, &p.Index, &p.AccountID, &p.Name, &p.Type, &p.Status, &at, &failure, &deactivated, &expires)
	if err != nil {
		return pki.Proof{}, err
	}
	p.At, p.Expires, p.Deactivated = fromSeconds(at), fromSeconds(expires), deactivated != 0
	p.Error, err = decodeOptional[pki.Problem]("error of a proof", failure)
	return p, err
}

// deleteProofs deletes proofs of orders that expired before the given time, looking at the oldest ones only.
func (t *tx) deleteProofs(ctx context.Context, before time.Time, limit int) (int, error) {
	rows, err := t.query(ctx, `SELECT order_id FROM (SELECT order_id, expires_at FROM proof ORDER BY order_id, position LIMIT $1) oldest
		WHERE expires_at < $2`, int64(limit), seconds(before))
	orders, err := collect(rows, err, scanned[string])
	if err != nil {
		return 0, fmt.Errorf("find proofs: %w", err)
	}
	deleted := 0
	for _, id := range orders {
		n, err := t.change(ctx, `DELETE FROM proof WHERE order_id = $1`, id)
		if err != nil {
			return 0, fmt.Errorf("delete proofs: %w", err)
		}
		deleted += int(n)
	}
	return deleted, nil
}
