package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const ruleColumns = `SELECT name, kind, enabled, severity, settings, checked_at, turn, created_at, updated_at FROM alert_rule `

func scanRule(r row) (pki.AlertRule, error) {
	var rule pki.AlertRule
	var settings string
	var checked, created, updated int64
	err := r.Scan(&rule.Name, &rule.Kind, &rule.Enabled, &rule.Severity, &settings, &checked, &rule.Turn, &created, &updated)
	if err != nil {
		return rule, err
	}
	rule.CheckedAt, rule.CreatedAt, rule.UpdatedAt = fromMicros(checked), fromMicros(created), fromMicros(updated)
	return rule, decode("settings", settings, &rule.Settings)
}

// AlertRules returns all rules by name.
func (s *Store) AlertRules(ctx context.Context) ([]pki.AlertRule, error) {
	rows, err := s.query(ctx, ruleColumns+`ORDER BY name`)
	all, err := collect(rows, err, scanRule)
	return all, s.readError("read alert rules", err)
}

// AlertRule returns a rule by name, or NotFound.
func (s *Store) AlertRule(ctx context.Context, name string) (*pki.AlertRule, error) {
	rule, err := scanRule(s.queryRow(ctx, ruleColumns+`WHERE name = $1`, name))
	return found(s, &rule, err, "alert rule", name)
}

// CreateAlertRule stores a rule. Conflict: there is one of the name.
func (s *Store) CreateAlertRule(ctx context.Context, rule *pki.AlertRule, ev audit.Event) error {
	settings, err := encode(rule.Settings)
	if err != nil {
		return err
	}
	return s.write(ctx, "create alert rule", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO alert_rule (name, kind, enabled, severity, settings, checked_at, turn, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, 0, 0, $6, $7) ON CONFLICT DO NOTHING`, rule.Name, string(rule.Kind), boolean(rule.Enabled),
			string(rule.Severity), settings, micros(rule.CreatedAt), micros(rule.UpdatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "there is an alert rule %q already", rule.Name).WithField("/name")
		}
		t.event(ev)
		return nil
	})
}

// UpdateAlertRule replaces a rule, but for its kind, how far it was evaluated, and when it was made. NotFound: there is none of
// the name.
func (s *Store) UpdateAlertRule(ctx context.Context, rule *pki.AlertRule, ev audit.Event) error {
	settings, err := encode(rule.Settings)
	if err != nil {
		return err
	}
	return s.write(ctx, "update alert rule", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE alert_rule SET enabled = $1, severity = $2, settings = $3, updated_at = $4, turn = turn + 1 WHERE name = $5`,
			boolean(rule.Enabled), string(rule.Severity), settings, micros(rule.UpdatedAt), rule.Name)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			return notFound("alert rule", rule.Name)
		}
		t.event(ev)
		return nil
	})
}

// DeleteAlertRule removes a rule and ends its alerts, which nobody is told. NotFound: there is none of the name.
func (s *Store) DeleteAlertRule(ctx context.Context, name string, at time.Time, ev audit.Event) error {
	return s.write(ctx, "delete alert rule", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM alert_rule WHERE name = $1`, name)
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return notFound("alert rule", name)
		}
		_, err = t.change(ctx, `UPDATE alert SET resolved_at = $1, end_told_at = $1 WHERE rule = $2 AND resolved_at = 0`, micros(at), name)
		if err != nil {
			return fmt.Errorf("end alerts: %w", err)
		}
		t.event(ev)
		return nil
	})
}

// takeTurn lets one of those go on that have read the rule at the same time.
func (t *tx) takeTurn(ctx context.Context, rule string, turn int64) error {
	n, err := t.change(ctx, `UPDATE alert_rule SET turn = turn + 1 WHERE name = $1 AND turn = $2`, rule, turn)
	if err != nil {
		return fmt.Errorf("take turn: %w", err)
	}
	if n == 0 {
		return fault.New(fault.Conflict, "alert rule %q has changed in the meantime", rule)
	}
	return nil
}
