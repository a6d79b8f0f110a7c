package store

import (
	"context"
	"fmt"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// maxViews is how many saved views an owner has at most.
const maxViews = 100

// CreateView stores a saved view. Conflict: its owner has one of the name for the list, or too many.
func (s *Store) CreateView(ctx context.Context, view *pki.SavedView, ev audit.Event) error {
	filters, columns, err := encodeView(view)
	if err != nil {
		return err
	}
	return s.write(ctx, "create view", func(ctx context.Context, t *tx) error {
		owned, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM saved_view WHERE owner = $1`, view.Owner))
		if err != nil {
			return fmt.Errorf("count: %w", err)
		}
		if owned >= maxViews {
			return fault.New(fault.Conflict, "there are %d saved views of yours, which is as many as there can be", owned)
		}
		n, err := t.change(ctx, `INSERT INTO saved_view (id, owner, list, name, filters, columns, shared, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING`, string(view.ID), view.Owner, view.List, view.Name,
			filters, columns, boolean(view.Shared), micros(view.CreatedAt), micros(view.UpdatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return viewExists(view)
		}
		t.event(ev)
		return nil
	})
}

func viewExists(view *pki.SavedView) error {
	return fault.New(fault.Conflict, "there is a saved view %.80q of %s already", view.Name, view.List).WithField("/name")
}

func encodeView(view *pki.SavedView) (filters, columns string, err error) {
	if filters, err = encode(view.Filters); err != nil {
		return "", "", err
	}
	columns, err = encode(view.Columns)
	return filters, columns, err
}

// UpdateView replaces an owner's view, but for its list and when it was made. NotFound: there is no such view of the
// owner's.
func (s *Store) UpdateView(ctx context.Context, view *pki.SavedView, ev audit.Event) error {
	filters, columns, err := encodeView(view)
	if err != nil {
		return err
	}
	return s.write(ctx, "update view", func(ctx context.Context, t *tx) error {
		taken, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM saved_view
			WHERE owner = $1 AND list = $2 AND name = $3 AND id <> $4`, view.Owner, view.List, view.Name, string(view.ID)))
		if err != nil {
			return fmt.Errorf("find name: %w", err)
		}
		if taken > 0 {
			return viewExists(view)
		}
		n, err := t.change(ctx, `UPDATE saved_view SET name = $1, filters = $2, columns = $3, shared = $4, updated_at = $5
			WHERE id = $6 AND owner = $7 AND list = $8`, view.Name, filters, columns, boolean(view.Shared), micros(view.UpdatedAt),
			string(view.ID), view.Owner, view.List)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			return notFound("saved view", string(view.ID))
		}
		t.event(ev)
		return nil
	})
}

// DeleteView removes an owner's view; "" as owner: whosever it is. NotFound: there is no such view.
func (s *Store) DeleteView(ctx context.Context, id pki.ViewID, owner string, ev audit.Event) error {
	return s.write(ctx, "delete view", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM saved_view WHERE id = $1 AND (owner = $2 OR $2 = '')`, string(id), owner)
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return notFound("saved view", string(id))
		}
		t.event(ev)
		return nil
	})
}

// Views returns the views of an owner and those that are shared, by list and name.
func (s *Store) Views(ctx context.Context, owner string) ([]pki.SavedView, error) {
	rows, err := s.query(ctx, `SELECT id, owner, list, name, filters, columns, shared, created_at, updated_at FROM saved_view
		WHERE owner = $1 OR shared = 1 ORDER BY list, name, id`, owner)
	all, err := collect(rows, err, func(r row) (pki.SavedView, error) {
		var view pki.SavedView
		var filters, columns string
		var created, updated int64
		err := r.Scan(&view.ID, &view.Owner, &view.List, &view.Name, &filters, &columns, &view.Shared, &created, &updated)
		if err != nil {
			return view, err
		}
		view.CreatedAt, view.UpdatedAt = fromMicros(created), fromMicros(updated)
		if err := decode("filters", filters, &view.Filters); err != nil {
			return view, err
		}
		return view, decode("columns", columns, &view.Columns)
	})
	return all, s.readError("read views", err)
}
