package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// CreateOrder stores an order that is too large for a sealed token.
func (s *Store) CreateOrder(ctx context.Context, o *pki.Order, ev audit.Event) error {
	identifiers, err := encode(o.Identifiers)
	if err != nil {
		return fmt.Errorf("create order: %w", err)
	}
	challenges, err := encode(o.Challenges)
	if err != nil {
		return fmt.Errorf("create order: %w", err)
	}
	return s.write(ctx, "create order", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `INSERT INTO acme_order (id, account_id, credential_id, profile_id, identifiers, challenges,
				not_before, not_after, replaces, expires_at, created_at, settled)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)`,
			string(o.ID), string(o.AccountID), string(o.CredentialID), string(o.ProfileID), identifiers, challenges,
			seconds(o.NotBefore), seconds(o.NotAfter), o.Replaces, seconds(o.Expires), seconds(o.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		t.event(ev)
		return nil
	})
}

// Order returns an order that has a row, or NotFound.
func (s *Store) Order(ctx context.Context, id pki.OrderID) (*pki.Order, error) {
	o, err := scanOrder(s.queryRow(ctx, `SELECT id, account_id, credential_id, profile_id, identifiers, challenges,
		not_before, not_after, replaces, expires_at, created_at FROM acme_order WHERE id = $1`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("order", string(id))
	}
	return o, s.readError("read order", err)
}

func scanOrder(r row) (*pki.Order, error) {
	var o pki.Order
	var identifiers, challenges string
	var notBefore, notAfter, expires, created int64
	err := r.Scan(&o.ID, &o.AccountID, &o.CredentialID, &o.ProfileID, &identifiers, &challenges, &notBefore, &notAfter,
		&o.Replaces, &expires, &created)
	if err != nil {
		return nil, err
	}
	o.NotBefore, o.NotAfter = fromSeconds(notBefore), fromSeconds(notAfter)
	o.Expires, o.CreatedAt = fromSeconds(expires), fromSeconds(created)
	if err := decode("challenges", challenges, &o.Challenges); err != nil {
		return nil, err
	}
	return &o, decode("identifiers", identifiers, &o.Identifiers)
}

// AccountOrders returns identifiers of an account's orders before the given one ("" for the newest), newest first:
// those that have rows and those sealed ones that led to a certificate.
func (s *Store) AccountOrders(ctx context.Context, account pki.AccountID, before pki.OrderID, limit int) (
	[]pki.OrderID, error,
) {
	if before == "" {
		before = "~" // sorts after every identifier
	}
	rows, err := s.query(ctx, `SELECT id FROM acme_order WHERE account_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3`,
		string(account), string(before), int64(limit))
	ids, err := collect(rows, err, scanned[pki.OrderID])
	if err != nil {
		return nil, s.readError("read orders", err)
	}
	finalized, err := s.finalizedOrders(ctx, account, before, limit)
	if err != nil {
		return nil, s.readError("read orders", err)
	}
	ids = append(ids, finalized...)
	slices.SortFunc(ids, func(a, b pki.OrderID) int { return -compare(a, b) })
	ids = slices.Compact(ids) // an order with a row may also have a certificate
	return ids[:min(limit, len(ids))], nil
}

func compare[T ~string](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// finalizedOrders finds an account's orders among the certificates. The newest orders of all accounts are looked
// through first: an account that is busy has enough of them. Others have few, which can be sorted.
func (s *Store) finalizedOrders(ctx context.Context, account pki.AccountID, before pki.OrderID, limit int) (
	[]pki.OrderID, error,
) {
	edge, err := scanned[string](s.queryRow(ctx, `SELECT order_id FROM certificate WHERE order_id <> '' AND order_id < $1
		ORDER BY order_id DESC LIMIT 1 OFFSET $2`, string(before), int64(s.limits.orders)))
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return nil, err
	}
	found, err := s.ordersBetween(ctx, account, edge, before, limit)
	if err != nil || len(found) >= limit || edge == "" {
		return found, err
	}
	few, err := scanned[int64](s.queryRow(ctx, `SELECT count(*) FROM (SELECT 1 FROM certificate
		WHERE source_id IN (SELECT id FROM source WHERE account_id = $1) LIMIT $2) few`,
		string(account), int64(s.limits.candidates+1)))
	if err != nil {
		return nil, err
	}
	if few > int64(s.limits.candidates) {
		return s.ordersBetween(ctx, account, "", before, limit)
	}
	// The empty string makes SQLite sort what it finds by source, instead of walking through all orders.
	rows, err := s.query(ctx, `SELECT order_id FROM certificate
		WHERE source_id IN (SELECT id FROM source WHERE account_id = $1) AND order_id <> '' AND order_id < $2
		ORDER BY order_id || '' DESC LIMIT $3`, string(account), string(before), int64(limit))
	return collect(rows, err, scanned[pki.OrderID])
}

// ordersBetween walks through the orders of all accounts, the newest first.
func (s *Store) ordersBetween(ctx context.Context, account pki.AccountID, low string, before pki.OrderID, limit int) (
	[]pki.OrderID, error,
) {
	rows, err := s.query(ctx, `SELECT c.order_id FROM certificate c CROSS JOIN source s
		WHERE s.id = c.source_id AND s.account_id = $1 AND c.order_id <> '' AND c.order_id >= $2 AND c.order_id < $3
		ORDER BY c.order_id DESC LIMIT $4`, string(account), low, string(before), int64(limit))
	return collect(rows, err, scanned[pki.OrderID])
}

// DeleteExpiredOrders deletes up to limit orders that expired before the given time without leading to a certificate,
// notes of those with one that they need not be looked at again, and deletes about as many proofs of expired orders. It
// tells how many of all. Call it until it returns 0.
func (s *Store) DeleteExpiredOrders(ctx context.Context, before time.Time, limit int) (int, error) {
	done := 0
	err := s.write(ctx, "delete expired orders", func(ctx context.Context, t *tx) error {
		orders, err := t.expiredOrders(ctx, before, limit)
		if err != nil {
			return err
		}
		for _, o := range orders {
			if o.settled {
				_, err = t.change(ctx, `UPDATE acme_order SET settled = 1 WHERE id = $1`, o.id)
			} else {
				_, err = t.change(ctx, `DELETE FROM acme_order WHERE id = $1`, o.id)
			}
			if err != nil {
				return fmt.Errorf("order %s: %w", o.id, err)
			}
		}
		proofs, err := t.deleteProofs(ctx, before, limit)
		if err != nil {
			return err
		}
		done = len(orders) + proofs
		return nil
	})
	return done, err
}

type expiredOrder struct {
	id      string
	settled bool
}

func (t *tx) expiredOrders(ctx context.Context, before time.Time, limit int) ([]expiredOrder, error) {
	rows, err := t.query(ctx, `SELECT o.id,
			EXISTS (SELECT 1 FROM certificate c WHERE c.order_id = o.id AND c.order_id <> '')
		FROM acme_order o WHERE o.expires_at >> 10 <= $1 AND o.expires_at < $2 AND o.settled = 0 ORDER BY o.expires_at >> 10
		LIMIT $3`+t.forUpdate(), span(before), seconds(before), int64(limit))
	orders, err := collect(rows, err, func(r row) (expiredOrder, error) {
		var o expiredOrder
		err := r.Scan(&o.id, &o.settled)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("find: %w", err)
	}
	return orders, nil
}
