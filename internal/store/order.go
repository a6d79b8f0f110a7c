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

// CreateOrder stores an order with its authorizations and their challenges.
func (s *Store) CreateOrder(ctx context.Context, o *pki.Order, ev audit.Event) error {
	identifiers, err := encode(o.Identifiers)
	if err != nil {
		return fmt.Errorf("create order: %w", err)
	}
	failure, err := encodeOptional(o.Error)
	if err != nil {
		return fmt.Errorf("create order: %w", err)
	}
	return s.write(ctx, "create order", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `INSERT INTO acme_order (id, account_id, credential_id, profile_id, identifiers, not_before,
				not_after, replaces, expires_at, created_at, error, settled)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0)`,
			string(o.ID), string(o.AccountID), string(o.CredentialID), string(o.ProfileID), identifiers,
			seconds(o.NotBefore), seconds(o.NotAfter), o.Replaces, seconds(o.Expires), seconds(o.CreatedAt), failure)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		for position := range o.Authorizations {
			if err := t.createAuthorization(ctx, o, position); err != nil {
				return err
			}
		}
		t.event(ev)
		return nil
	})
}

func (t *tx) createAuthorization(ctx context.Context, o *pki.Order, position int) error {
	a := &o.Authorizations[position]
	_, err := t.change(ctx, `INSERT INTO authz (id, order_id, account_id, position, type, value, wildcard, status,
			expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		string(a.ID), string(o.ID), string(o.AccountID), int64(position), string(a.Identifier.Type), a.Identifier.Value,
		boolean(a.Wildcard), string(a.Status), seconds(a.Expires))
	if err != nil {
		return fmt.Errorf("insert authorization: %w", err)
	}
	for i := range a.Challenges {
		c := &a.Challenges[i]
		failure, err := encodeOptional(c.Error)
		if err != nil {
			return err
		}
		_, err = t.change(ctx, `INSERT INTO challenge (id, authz_id, position, type, token, status, started_at, validated_at,
				error) VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8)`,
			string(c.ID), string(a.ID), int64(i), c.Type, c.Token, string(c.Status), seconds(c.ValidatedAt), failure)
		if err != nil {
			return fmt.Errorf("insert challenge: %w", err)
		}
	}
	return nil
}

// Order returns an order that has a row, with its authorizations and their challenges, or NotFound.
func (s *Store) Order(ctx context.Context, id pki.OrderID) (*pki.Order, error) {
	o, err := scanOrder(s.queryRow(ctx, `SELECT id, account_id, credential_id, profile_id, identifiers, not_before,
		not_after, replaces, expires_at, created_at, error FROM acme_order WHERE id = $1`, string(id)))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("order", string(id))
	}
	if err != nil {
		return nil, s.readError("read order", err)
	}
	rows, err := s.query(ctx, authorizationColumns+`WHERE a.order_id = $1 ORDER BY a.position, c.position`, string(id))
	o.Authorizations, err = authorizations(rows, err)
	return o, s.readError("read order", err)
}

func scanOrder(r row) (*pki.Order, error) {
	var o pki.Order
	var identifiers, failure string
	var notBefore, notAfter, expires, created int64
	err := r.Scan(&o.ID, &o.AccountID, &o.CredentialID, &o.ProfileID, &identifiers, &notBefore, &notAfter, &o.Replaces,
		&expires, &created, &failure)
	if err != nil {
		return nil, err
	}
	o.NotBefore, o.NotAfter = fromSeconds(notBefore), fromSeconds(notAfter)
	o.Expires, o.CreatedAt = fromSeconds(expires), fromSeconds(created)
	if o.Error, err = decodeOptional[pki.Problem]("order error", failure); err != nil {
		return nil, err
	}
	return &o, decode("identifiers", identifiers, &o.Identifiers)
}

// authorizationColumns selects authorizations, one row for each of their challenges.
const authorizationColumns = `SELECT a.id, a.order_id, a.account_id, a.type, a.value, a.wildcard, a.status, a.expires_at,
	coalesce(c.id, ''), coalesce(c.type, ''), coalesce(c.token, ''), coalesce(c.status, ''), coalesce(c.validated_at, 0),
	coalesce(c.error, '')
	FROM authz a LEFT JOIN challenge c ON c.authz_id = a.id `

type authorizationRow struct {
	authorization pki.Authorization
	challenge     pki.Challenge
}

// authorizations gathers rows of authorizationColumns, which come authorization by authorization.
func authorizations(rows *sql.Rows, err error) ([]pki.Authorization, error) {
	lines, err := collect(rows, err, scanAuthorizationRow)
	if err != nil {
		return nil, err
	}
	var all []pki.Authorization
	for _, line := range lines {
		if len(all) == 0 || all[len(all)-1].ID != line.authorization.ID {
			all = append(all, line.authorization)
		}
		if last := &all[len(all)-1]; line.challenge.ID != "" {
			last.Challenges = append(last.Challenges, line.challenge)
		}
	}
	return all, nil
}

func scanAuthorizationRow(r row) (authorizationRow, error) {
	var line authorizationRow
	a, c := &line.authorization, &line.challenge
	var wildcard, expires, validated int64
	var failure string
	err := r.Scan(&a.ID, &a.OrderID, &a.AccountID, &a.Identifier.Type, &a.Identifier.Value, &wildcard, &a.Status, &expires,
		&c.ID, &c.Type, &c.Token, &c.Status, &validated, &failure)
	if err != nil {
		return authorizationRow{}, err
	}
	a.Wildcard, a.Expires = wildcard != 0, fromSeconds(expires)
	c.AuthzID, c.ValidatedAt = a.ID, fromSeconds(validated)
	c.Error, err = decodeOptional[pki.Problem]("challenge error", failure)
	return line, err
}

// Authorization returns an authorization that has a row, with its challenges, or NotFound.
func (s *Store) Authorization(ctx context.Context, id pki.AuthzID) (*pki.Authorization, error) {
	rows, err := s.query(ctx, authorizationColumns+`WHERE a.id = $1 ORDER BY c.position`, string(id))
	all, err := authorizations(rows, err)
	if err != nil {
		return nil, s.readError("read authorization", err)
	}
	if len(all) == 0 {
		return nil, notFound("authorization", string(id))
	}
	return &all[0], nil
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
// with what belongs to them, and tells how many. Call it until it returns 0.
func (s *Store) DeleteExpiredOrders(ctx context.Context, before time.Time, limit int) (int, error) {
	deleted := 0
	err := s.write(ctx, "delete expired orders", func(ctx context.Context, t *tx) error {
		deleted = 0
		orders, err := t.expiredOrders(ctx, before, limit)
		if err != nil {
			return err
		}
		for _, o := range orders {
			if o.settled {
				_, err = t.change(ctx, `UPDATE acme_order SET settled = 1 WHERE id = $1`, o.id)
			} else {
				err = t.deleteOrder(ctx, o.id)
				deleted++
			}
			if err != nil {
				return fmt.Errorf("order %s: %w", o.id, err)
			}
		}
		n, err := t.change(ctx, `DELETE FROM sealed_deactivation WHERE expires_at < $1`, seconds(before))
		if err != nil {
			return fmt.Errorf("delete deactivations: %w", err)
		}
		deleted += int(n)
		return nil
	})
	return deleted, err
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

func (t *tx) deleteOrder(ctx context.Context, id string) error {
	for _, statement := range []string{
		`DELETE FROM challenge WHERE authz_id IN (SELECT id FROM authz WHERE order_id = $1)`,
		`DELETE FROM authz WHERE order_id = $1`,
		`DELETE FROM acme_order WHERE id = $1`,
	} {
		if _, err := t.change(ctx, statement, id); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
	}
	return nil
}
