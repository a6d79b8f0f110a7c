// Package alert decides when people are told: it evaluates rules, begins and ends alerts, and makes the messages that
// internal/notify delivers.
//
// It never sends anything, and holds nothing in memory between two evaluations: what it knows lies in the database, and
// each step is one transaction, so that a server may be killed at any moment without an alert being lost or told twice.
package alert

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Store keeps alerts, and reads what rules look at. SaveAlerts and Announce answer Conflict when the rule has changed since it
// was read.
type Store interface {
	AlertRules(ctx context.Context) ([]pki.AlertRule, error)
	AlertRule(ctx context.Context, name string) (*pki.AlertRule, error)
	Channels(ctx context.Context) ([]pki.Channel, error)
	OpenAlerts(ctx context.Context, rule string) ([]pki.Alert, error)
	SaveAlerts(ctx context.Context, change pki.AlertChange) error
	Announce(ctx context.Context, news pki.AlertNews) error
	DeleteOldAlerts(ctx context.Context, before time.Time, limit int) (int64, error)
}

// Facts are what rules look at. IdentitiesLapsedBetween costs as much as it finds.
type Facts interface {
	IdentitiesLapsedBetween(ctx context.Context, status pki.IdentityStatus, from, to time.Time, after int64, limit int) ([]pki.Identity, int64, error)
	Identity(ctx context.Context, name string) (*pki.Identity, error)
	Credentials(ctx context.Context) ([]pki.Credential, error)
	Refusals(ctx context.Context, now time.Time) ([]pki.Refusals, error)
}

// Config is what an Evaluator needs.
type Config struct {
	Store    Store                 // required
	Facts    Facts                 // required
	CAs      func() []*pki.CA      // required
	Profiles func() []*pki.Profile // required
	BaseURL  string                // of the console's pages in messages
	Keep     time.Duration         // how long alerts and deliveries are kept after their end; 0: 90 days
	Now      func() time.Time      // required
	Random   io.Reader             // required; of identifiers
	Logger   *slog.Logger          // nil: nothing is logged
	Registry prometheus.Registerer // nil: no metrics are exported
}

// Evaluator evaluates rules. It is safe for concurrent use, also of several processes.
type Evaluator struct {
	Config
	metrics *metrics
}

const defaultKeep = 90 * 24 * time.Hour

// New checks the configuration.
func New(c Config) (*Evaluator, error) {
	if c.Store == nil || c.Facts == nil || c.CAs == nil || c.Profiles == nil || c.Now == nil || c.Random == nil {
		return nil, errors.New("alert: Store, Facts, CAs, Profiles, Now and Random are required")
	}
	if c.Keep == 0 {
		c.Keep = defaultKeep
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	m, err := newMetrics(c.Registry)
	if err != nil {
		return nil, err
	}
	return &Evaluator{c, m}, nil
}

// Evaluate evaluates every rule that is enabled. It is a job. One rule's failure does not keep the others from theirs.
func (e *Evaluator) Evaluate(ctx context.Context) error {
	rules, err := e.Store.AlertRules(ctx)
	if err != nil {
		return fmt.Errorf("read rules: %w", err)
	}
	var errs []error
	for i := range rules {
		if !rules[i].Enabled {
			continue
		}
		err := e.one(ctx, rules[i].Name)
		switch {
		case fault.Is(err, fault.Conflict), fault.Is(err, fault.NotFound):
			// Another replica is at it, or an operator has changed it: the next evaluation sees to it.
			e.Logger.DebugContext(ctx, "alert rule changed while it was evaluated", telemetry.KeyError, err)
		case err != nil:
			errs = append(errs, fmt.Errorf("rule %s: %w", rules[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

// one evaluates a rule in two steps, each a transaction: what is the case, and what is told of it.
func (e *Evaluator) one(ctx context.Context, name string) error {
	rule, err := e.Store.AlertRule(ctx, name)
	if err != nil {
		return err
	}
	open, err := e.Store.OpenAlerts(ctx, name)
	if err != nil {
		return err
	}
	change, err := e.judge(ctx, rule, going(open))
	if err != nil {
		return err
	}
	// 1. What is the case.
	if err := e.Store.SaveAlerts(ctx, *change); err != nil {
		return err
	}
	e.metrics.fired.WithLabelValues(string(rule.Kind)).Add(float64(len(change.Fired)))
	e.metrics.resolved.WithLabelValues(string(rule.Kind)).Add(float64(len(change.Resolved)))
	rule.Turn++
	if len(change.Fired)+len(change.Resolved) > 0 {
		if open, err = e.Store.OpenAlerts(ctx, name); err != nil {
			return err
		}
	}
	// 2. What is told of it. Killed in between, the next evaluation finds the same to tell.
	return e.tell(ctx, rule, open)
}

// going are the alerts that have not ended.
func going(all []pki.Alert) []pki.Alert {
	var open []pki.Alert
	for i := range all {
		if all[i].ResolvedAt.IsZero() {
			open = append(open, all[i])
		}
	}
	return open
}

// Clean removes alerts and deliveries that ended long ago. It is a job.
func (e *Evaluator) Clean(ctx context.Context) error {
	const batch = 500
	for {
		n, err := e.Store.DeleteOldAlerts(ctx, e.Now().Add(-e.Keep), batch)
		if err != nil || n < batch {
			return err
		}
	}
}
