package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const channelColumns = `SELECT name, kind, enabled, settings, sealed, created_at, updated_at FROM channel `

func scanChannel(r row) (pki.Channel, error) {
	var c pki.Channel
	var settings string
	var created, updated int64
	if err := r.Scan(&c.Name, &c.Kind, &c.Enabled, &settings, &c.Sealed, &created, &updated); err != nil {
		return c, err
	}
	c.CreatedAt, c.UpdatedAt = fromMicros(created), fromMicros(updated)
	return c, decode("settings", settings, &c.Settings)
}

// Channels returns all channels by name.
func (s *Store) Channels(ctx context.Context) ([]pki.Channel, error) {
	rows, err := s.query(ctx, channelColumns+`ORDER BY name`)
	all, err := collect(rows, err, scanChannel)
	return all, s.readError("read channels", err)
}

// Channel returns a channel by name, or NotFound.
func (s *Store) Channel(ctx context.Context, name string) (*pki.Channel, error) {
	c, err := scanChannel(s.queryRow(ctx, channelColumns+`WHERE name = $1`, name))
	return found(s, &c, err, "channel", name)
}

// CreateChannel stores a channel. Conflict: there is one of the name.
func (s *Store) CreateChannel(ctx context.Context, c *pki.Channel, ev audit.Event) error {
	settings, err := encode(c.Settings)
	if err != nil {
		return err
	}
	return s.write(ctx, "create channel", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO channel (name, kind, enabled, settings, sealed, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, c.Name, string(c.Kind), boolean(c.Enabled), settings, blob(c.Sealed),
			micros(c.CreatedAt), micros(c.UpdatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "there is a channel %q already", c.Name).WithField("/name")
		}
		t.event(ev)
		return nil
	})
}

// UpdateChannel replaces a channel, but for its kind and when it was made. NotFound: there is none of the name.
func (s *Store) UpdateChannel(ctx context.Context, c *pki.Channel, ev audit.Event) error {
	settings, err := encode(c.Settings)
	if err != nil {
		return err
	}
	return s.write(ctx, "update channel", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE channel SET enabled = $1, settings = $2, sealed = $3, updated_at = $4 WHERE name = $5`,
			boolean(c.Enabled), settings, blob(c.Sealed), micros(c.UpdatedAt), c.Name)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			return notFound("channel", c.Name)
		}
		t.event(ev)
		return nil
	})
}

// DeleteChannel removes a channel; what waits for it has failed. NotFound: there is none of the name.
func (s *Store) DeleteChannel(ctx context.Context, name string, at time.Time, ev audit.Event) error {
	return s.write(ctx, "delete channel", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `DELETE FROM channel WHERE name = $1`, name)
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return notFound("channel", name)
		}
		_, err = t.change(ctx, `UPDATE delivery SET state = 'failed', error = 'the channel was deleted', done_at = $1 WHERE channel = $2 AND done_at = 0`,
			micros(at), name)
		if err != nil {
			return fmt.Errorf("end deliveries: %w", err)
		}
		t.event(ev)
		return nil
	})
}
