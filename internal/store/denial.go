package store

import (
	"context"
	"fmt"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// CreateDenial puts an entry on the deny list. It replaces what there is for the same identity or Pod; entries that have
// ended are removed meanwhile.
func (s *Store) CreateDenial(ctx context.Context, d *pki.Denial, ev audit.Event) error {
	return s.write(ctx, "create denial", func(ctx context.Context, t *tx) error {
		if _, err := t.change(ctx, `DELETE FROM denial WHERE until > 0 AND until <= $1`, seconds(d.CreatedAt)); err != nil {
			return fmt.Errorf("delete old ones: %w", err)
		}
		_, err := t.change(ctx, `INSERT INTO denial (id, identity, cluster, namespace, pod, note, until, created_by, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
			ON CONFLICT (identity, cluster, namespace, pod) DO UPDATE SET id = excluded.id, note = excluded.note,
				until = excluded.until, created_by = excluded.created_by, created_at = excluded.created_at`,
			string(d.ID), d.Identity, d.Cluster, d.Namespace, d.Pod, d.Note, seconds(d.Until), d.CreatedBy, seconds(d.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

// DeleteDenial takes an entry off the deny list, or answers NotFound.
func (s *Store) DeleteDenial(ctx context.Context, id pki.DenialID, ev audit.Event) error {
	return s.write(ctx, "delete denial", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM denial WHERE id = $1`, string(id))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return notFound("denial", string(id))
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

// Denials returns the deny list, oldest first.
func (s *Store) Denials(ctx context.Context) ([]pki.Denial, error) {
	rows, err := s.query(ctx, `SELECT id, identity, cluster, namespace, pod, note, until, created_by, created_at FROM denial ORDER BY id`)
	all, err := collect(rows, err, func(r row) (pki.Denial, error) {
		var d pki.Denial
		var until, created int64
		err := r.Scan(&d.ID, &d.Identity, &d.Cluster, &d.Namespace, &d.Pod, &d.Note, &until, &d.CreatedBy, &created)
		d.Until, d.CreatedAt = fromSeconds(until), fromSeconds(created)
		return d, err
	})
	return all, s.readError("read denials", err)
}
