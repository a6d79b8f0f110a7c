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

const deliveryColumns = `SELECT id, channel, rule, state, attempts, next_at, error, message, created_at, done_at FROM delivery`

func scanDelivery(r row) (pki.Delivery, error) {
	var d pki.Delivery
	var message string
	var next, created, done int64
	if err := r.Scan(&d.ID, &d.Channel, &d.Rule, &d.State, &d.Attempts, &next, &d.Error, &message, &created, &done); err != nil {
		return d, err
	}
	d.NextAt, d.CreatedAt, d.DoneAt = fromMicros(next), fromMicros(created), fromMicros(done)
	return d, decode("message", message, &d.Message)
}

func encodeMessages(deliveries []pki.Delivery) ([]string, error) {
	all := make([]string, len(deliveries))
	for i := range deliveries {
		var err error
		if all[i], err = encode(deliveries[i].Message); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (t *tx) insertDeliveries(ctx context.Context, deliveries []pki.Delivery, messages []string) error {
	for i := range deliveries {
		d := &deliveries[i]
		_, err := t.change(ctx, `INSERT INTO delivery (id, channel, rule, state, attempts, next_at, error, message, created_at, done_at)
			VALUES ($1, $2, $3, $4, 0, $5, '', $6, $7, 0)`, string(d.ID), d.Channel, d.Rule, string(d.State), micros(d.NextAt), messages[i],
			micros(d.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert delivery: %w", err)
		}
	}
	return nil
}

// Deliveries returns deliveries, the newest first.
func (s *Store) Deliveries(ctx context.Context, filter pki.DeliveryFilter) ([]pki.Delivery, error) {
	var w where
	w.equal("channel", filter.Channel)
	w.equal("rule", filter.Rule)
	w.equal("state", string(filter.State))
	if filter.Before != "" {
		w.add("id < ?", string(filter.Before))
	}
	query, args := w.build(deliveryColumns, "id DESC", bounded(filter.Limit))
	rows, err := s.queryOnce(ctx, query, args...)
	all, err := collect(rows, err, scanDelivery)
	return all, s.readError("read deliveries", err)
}

// Delivery returns a delivery, or NotFound.
func (s *Store) Delivery(ctx context.Context, id pki.DeliveryID) (*pki.Delivery, error) {
	d, err := scanDelivery(s.queryRow(ctx, deliveryColumns+` WHERE id = $1`, string(id)))
	return found(s, &d, err, "delivery", string(id))
}

// CreateDelivery stores a message that no alert led to: a test.
func (s *Store) CreateDelivery(ctx context.Context, d *pki.Delivery, ev audit.Event) error {
	messages, err := encodeMessages([]pki.Delivery{*d})
	if err != nil {
		return err
	}
	return s.write(ctx, "create delivery", func(ctx context.Context, t *tx) error {
		t.event(ev)
		return t.insertDeliveries(ctx, []pki.Delivery{*d}, messages)
	})
}

// ClaimDeliveries takes deliveries that are due, and counts the attempt. Nobody else gets them until the lease ends: then
// whoever has taken them is believed dead.
func (s *Store) ClaimDeliveries(ctx context.Context, now, lease time.Time, limit int) ([]pki.Delivery, error) {
	rows, err := s.query(ctx, deliveryColumns+` WHERE done_at = 0 AND next_at <= $1 ORDER BY next_at LIMIT $2`, micros(now), int64(limit))
	due, err := collect(rows, err, scanDelivery)
	if err != nil || len(due) == 0 {
		return nil, s.readError("read due deliveries", err)
	}
	var claimed []pki.Delivery
	err = s.write(ctx, "claim deliveries", func(ctx context.Context, t *tx) error {
		claimed = nil
		for i := range due {
			n, err := t.change(ctx, `UPDATE delivery SET next_at = $1, attempts = attempts + 1 WHERE id = $2 AND done_at = 0 AND next_at = $3`,
				micros(lease), string(due[i].ID), micros(due[i].NextAt))
			if err != nil {
				return fmt.Errorf("claim: %w", err)
			}
			if n == 1 {
				one := due[i]
				one.Attempts++
				claimed = append(claimed, one)
			}
		}
		return nil
	})
	return claimed, err
}

// FinishDelivery stores how an attempt has ended. One that is done stays as it is.
func (s *Store) FinishDelivery(ctx context.Context, d *pki.Delivery) error {
	return s.write(ctx, "finish delivery", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `UPDATE delivery SET state = $1, next_at = $2, error = $3, done_at = $4, attempts = $5 WHERE id = $6 AND done_at = 0`,
			string(d.State), micros(d.NextAt), d.Error, micros(d.DoneAt), int64(d.Attempts), string(d.ID))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		return nil
	})
}

// RetryDelivery makes a delivery that has failed due again, with attempts counted from none. Conflict: it has not failed.
func (s *Store) RetryDelivery(ctx context.Context, id pki.DeliveryID, at time.Time, ev audit.Event) error {
	return s.write(ctx, "retry delivery", func(ctx context.Context, t *tx) error {
		known, err := scanned[string](t.queryRow(ctx, `SELECT state FROM delivery WHERE id = $1`, string(id)))
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("delivery", string(id))
		case err != nil:
			return fmt.Errorf("read: %w", err)
		case known != string(pki.DeliveryFailed):
			return fault.New(fault.Conflict, "delivery %q is %s; only one that has failed is tried again", id, known)
		}
		_, err = t.change(ctx, `UPDATE delivery SET state = 'retrying', attempts = 0, next_at = $1, done_at = 0
			WHERE id = $2 AND state = 'failed'`, micros(at), string(id))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		t.event(ev)
		return nil
	})
}
