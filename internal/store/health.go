package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// Retire marks identities as gone, in one transaction with an event for each: nothing runs that needs them, and nobody is
// told when they lapse. A new certificate ends that. It returns those that were marked; what is gone already, or is not
// there, is passed over, and with a cluster, what was last seen in another one.
func (s *Store) Retire(ctx context.Context, cluster string, names []string, at time.Time, event func(name string) audit.Event) ([]string, error) {
	return s.mark(ctx, "retire identities", cluster, names, `UPDATE identity SET gone_at = $1 WHERE name = $2 AND gone_at = 0 AND ($3 = '' OR cluster = $3)`, seconds(at), event)
}

// Restore takes the mark away.
func (s *Store) Restore(ctx context.Context, cluster string, names []string, event func(name string) audit.Event) ([]string, error) {
	return s.mark(ctx, "restore identities", cluster, names, `UPDATE identity SET gone_at = $1 WHERE name = $2 AND gone_at > 0 AND ($3 = '' OR cluster = $3)`, 0, event)
}

func (s *Store) mark(ctx context.Context, what, cluster string, names []string, change string, at int64, event func(string) audit.Event) ([]string, error) {
	var marked []string
	err := s.write(ctx, what, func(ctx context.Context, t *tx) error {
		marked = nil
		for _, name := range names {
			n, err := t.change(ctx, change, at, name, cluster)
			if err != nil {
				return fmt.Errorf("update %.100q: %w", name, err)
			}
			if n > 0 {
				marked = append(marked, name)
				t.event(event(name))
			}
		}
		return nil
	})
	return marked, err
}

// Overdue returns identities of a cluster, below a trust domain, whose newest certificate should have been replaced by the
// given time, or that are marked as gone; by name, behind the given one. An agent's report of what runs decides about those.
func (s *Store) Overdue(ctx context.Context, cluster, trustDomain string, now time.Time, behind string, limit int) ([]pki.Identity, error) {
	head := "spiffe://" + trustDomain + "/"
	w := &where{conditions: []string{identityJoin}}
	nameRange{low: head, high: after(head)}.conditions(w)
	w.equal("i.cluster", cluster)
	if behind != "" {
		w.add("i.name > ?", behind)
	}
	w.add("(i.renew_at < ? OR i.gone_at > 0)", secondsUp(now))
	query, args := w.build(identitySelect, "i.name", bounded(limit))
	rows, err := s.queryOnce(ctx, query, args...)
	all, err := collect(rows, err, scanIdentity)
	return all, s.readError("read overdue identities", err)
}
