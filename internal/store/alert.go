package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

const alertColumns = `SELECT id, rule, kind, subject, severity, summary, labels, fired_at, resolved_at, told_at, end_told_at FROM alert`

func scanAlert(r row) (pki.Alert, error) {
	var a pki.Alert
	var labels string
	var fired, resolved, told, ended int64
	err := r.Scan(&a.ID, &a.Rule, &a.Kind, &a.Subject, &a.Severity, &a.Summary, &labels, &fired, &resolved, &told, &ended)
	if err != nil {
		return a, err
	}
	a.FiredAt, a.ResolvedAt, a.ToldAt, a.EndToldAt = fromMicros(fired), fromMicros(resolved), fromMicros(told), fromMicros(ended)
	return a, decode("labels", labels, &a.Labels)
}

// Alerts returns alerts, the newest first.
func (s *Store) Alerts(ctx context.Context, filter pki.AlertFilter) ([]pki.Alert, error) {
	var w where
	w.equal("rule", filter.Rule)
	w.equal("subject", filter.Subject)
	if filter.Open {
		w.add("resolved_at = 0")
	}
	if filter.Resolved {
		w.add("resolved_at > 0")
	}
	if filter.Before != "" {
		w.add("id < ?", string(filter.Before))
	}
	query, args := w.build(alertColumns, "id DESC", bounded(filter.Limit))
	rows, err := s.queryOnce(ctx, query, args...)
	all, err := collect(rows, err, scanAlert)
	return all, s.readError("read alerts", err)
}

// Alert returns an alert, or NotFound.
func (s *Store) Alert(ctx context.Context, id pki.AlertID) (*pki.Alert, error) {
	a, err := scanAlert(s.queryRow(ctx, alertColumns+` WHERE id = $1`, string(id)))
	return found(s, &a, err, "alert", string(id))
}

// OpenAlerts returns a rule's alerts that go on, and behind them those whose end was not told yet.
func (s *Store) OpenAlerts(ctx context.Context, rule string) ([]pki.Alert, error) {
	rows, err := s.query(ctx, alertColumns+` WHERE rule = $1 AND resolved_at = 0
		UNION ALL `+alertColumns+` WHERE rule = $1 AND resolved_at > 0 AND told_at > 0 AND end_told_at = 0 ORDER BY 9, 1`, rule)
	all, err := collect(rows, err, scanAlert)
	return all, s.readError("read open alerts", err)
}

// SaveAlerts stores what an evaluation has found. An alert that is open already is left as it is. Conflict: the rule has
// changed since it was read, by another replica or an operator; nothing is stored then.
func (s *Store) SaveAlerts(ctx context.Context, change pki.AlertChange) error {
	labels := make([]string, len(change.Fired))
	for i := range change.Fired {
		var err error
		if labels[i], err = encode(change.Fired[i].Labels); err != nil {
			return err
		}
	}
	return s.write(ctx, "save alerts", func(ctx context.Context, t *tx) error {
		if err := t.takeTurn(ctx, change.Rule, change.Turn); err != nil {
			return err
		}
		if _, err := t.change(ctx, `UPDATE alert_rule SET checked_at = $1 WHERE name = $2`, micros(change.CheckedAt), change.Rule); err != nil {
			return fmt.Errorf("update rule: %w", err)
		}
		for i := range change.Fired {
			a := &change.Fired[i]
			_, err := t.change(ctx, `INSERT INTO alert (id, rule, kind, subject, severity, summary, labels, fired_at, resolved_at, told_at, end_told_at)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0) ON CONFLICT DO NOTHING`, string(a.ID), a.Rule, string(a.Kind), a.Subject,
				string(a.Severity), a.Summary, labels[i], micros(a.FiredAt))
			if err != nil {
				return fmt.Errorf("insert: %w", err)
			}
		}
		for _, id := range change.Resolved {
			_, err := t.change(ctx, `UPDATE alert SET resolved_at = $1 WHERE id = $2 AND resolved_at = 0`, micros(change.CheckedAt), string(id))
			if err != nil {
				return fmt.Errorf("resolve: %w", err)
			}
		}
		return nil
	})
}

// Announce stores messages together with the fact that their alerts were told: whatever is killed when, each is told,
// and by one delivery. Conflict as in SaveAlerts.
func (s *Store) Announce(ctx context.Context, news pki.AlertNews) error {
	messages, err := encodeMessages(news.Deliveries)
	if err != nil {
		return err
	}
	return s.write(ctx, "announce alerts", func(ctx context.Context, t *tx) error {
		if err := t.takeTurn(ctx, news.Rule, news.Turn); err != nil {
			return err
		}
		for _, id := range news.Told {
			if _, err := t.change(ctx, `UPDATE alert SET told_at = $1 WHERE id = $2`, micros(news.At), string(id)); err != nil {
				return fmt.Errorf("mark told: %w", err)
			}
		}
		for _, id := range news.EndTold {
			if _, err := t.change(ctx, `UPDATE alert SET end_told_at = $1 WHERE id = $2`, micros(news.At), string(id)); err != nil {
				return fmt.Errorf("mark end told: %w", err)
			}
		}
		return t.insertDeliveries(ctx, news.Deliveries, messages)
	})
}

// IdentitiesLapsedBetween returns identities, by internal number, whose dates say that they began to lapse after from and
// not after to, or, with the other status, that they lapsed. What it costs grows with those that it finds: identities that
// renew always have such dates in the future.
func (s *Store) IdentitiesLapsedBetween(
	ctx context.Context, status pki.IdentityStatus, from, to time.Time, after int64, limit int,
) (found []pki.Identity, last int64, err error) {
	column := "i.lapsing_at"
	if status == pki.IdentityLapsed {
		column = "i.not_after"
	}
	w := &where{conditions: []string{identityJoin}}
	// Revoked ones begin when they are revoked, whatever their dates.
	w.add(`i.id IN (SELECT i.id FROM identity i WHERE `+column+` >> 10 >= ? AND `+column+` >> 10 <= ? AND `+column+` > ? AND `+column+` <= ?
		UNION SELECT i.id FROM identity i WHERE i.revoked_at > 0 AND i.revoked_at > ? AND i.revoked_at <= ?)`,
		span(from), span(to), seconds(from), seconds(to), seconds(from), seconds(to))
	w.add("i.gone_at = 0") // nothing runs that needs it: no reason for alarm
	w.add("i.id > ?", after)
	query, args := w.build(`SELECT i.id, `+identitySelect[len("SELECT "):], "i.id", bounded(limit))
	rows, err := s.queryOnce(ctx, query, args...)
	found, err = collect(rows, err, func(r row) (pki.Identity, error) {
		id, one, err := scanIdentityWithID(r)
		last = id
		return one, err
	})
	return found, last, s.readError("read lapsing identities", err)
}

// DeleteOldAlerts removes alerts that ended, and deliveries that were done, before a time; at most limit of each. It
// returns how many it has removed.
func (s *Store) DeleteOldAlerts(ctx context.Context, before time.Time, limit int) (removed int64, err error) {
	err = s.write(ctx, "delete old alerts", func(ctx context.Context, t *tx) error {
		removed = 0
		for _, text := range []string{
			`DELETE FROM alert WHERE id IN (SELECT id FROM alert WHERE resolved_at > 0 AND resolved_at < $1 LIMIT $2)`,
			`DELETE FROM delivery WHERE id IN (SELECT id FROM delivery WHERE done_at > 0 AND done_at < $1 LIMIT $2)`,
		} {
			n, err := t.change(ctx, text, micros(before), int64(limit))
			if err != nil {
				return fmt.Errorf("delete: %w", err)
			}
			removed += n
		}
		return nil
	})
	return removed, err
}
