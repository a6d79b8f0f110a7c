package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// RecordEvent stores an event that belongs to no change: a refusal.
func (s *Store) RecordEvent(ctx context.Context, ev audit.Event) error {
	return s.write(ctx, "record event", func(_ context.Context, t *tx) error {
		t.event(ev)
		return nil
	})
}

const (
	eventColumns = `time, actor_kind, actor_id, actor_name, action, target, user_agent, address, request, replica, outcome,
	detail`
	eventWidth = 12
)

// flushEvents writes the events of the transaction, many in a statement, and counts the refusals among them.
func (t *tx) flushEvents(ctx context.Context) error {
	if err := t.countRefusals(ctx); err != nil {
		return err
	}
	rest := t.events
	for len(rest) > 0 {
		n := chunk(len(rest))
		args := make([]any, 0, n*eventWidth)
		for i := range rest[:n] {
			ev := &rest[i]
			detail, err := encode(ev.Detail)
			if err != nil {
				return err
			}
			args = append(args, micros(ev.Time), string(ev.Actor.Kind), ev.Actor.ID, ev.Actor.Name, string(ev.Action),
				ev.Target, ev.Client.UserAgent, ev.Client.Address, ev.Request, ev.Replica, string(ev.Outcome), detail)
		}
		if _, err := t.change(ctx, t.store().texts.events[n], args...); err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		rest = rest[n:]
	}
	return nil
}

// Events returns audit events, newest first.
func (s *Store) Events(ctx context.Context, filter pki.EventFilter) ([]audit.Event, error) {
	var w where
	w.prefix("action", filter.Action)
	w.equal("target", filter.Target)
	if filter.Actor != "" {
		w.add("(actor_id = ? OR actor_name = ?)", filter.Actor, filter.Actor)
	}
	w.equal("outcome", filter.Outcome)
	if !filter.Since.IsZero() {
		w.add("time >= ?", micros(filter.Since))
	}
	if filter.Before > 0 {
		w.add("id < ?", filter.Before)
	}
	if filter.Action != "" && !strings.HasPrefix(string(audit.CertificateIssue), strings.TrimSuffix(filter.Action, "*")) {
		w.add("action <> 'certificate.issue'") // lets the index be used that leaves these out
	}
	query, args := w.build(`SELECT id, `+eventColumns+` FROM event`, "id DESC", bounded(filter.Limit))
	rows, err := s.queryOnce(ctx, query, args...)
	all, err := collect(rows, err, scanEvent)
	return all, s.readError("read events", err)
}

func scanEvent(r row) (audit.Event, error) {
	var ev audit.Event
	var at int64
	var detail string
	err := r.Scan(&ev.ID, &at, &ev.Actor.Kind, &ev.Actor.ID, &ev.Actor.Name, &ev.Action, &ev.Target, &ev.Client.UserAgent,
		&ev.Client.Address, &ev.Request, &ev.Replica, &ev.Outcome, &detail)
	if err != nil {
		return audit.Event{}, err
	}
	ev.Time = fromMicros(at)
	return ev, decode("detail", detail, &ev.Detail)
}
