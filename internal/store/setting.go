package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Setting returns the value of a name that PutSettingOnce has stored, or NotFound.
func (s *Store) Setting(ctx context.Context, name string) ([]byte, error) {
	value, err := scanned[[]byte](s.queryRow(ctx, `SELECT value FROM setting WHERE name = $1`, name))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "setting %.80q is not stored", name)
	}
	return value, s.readError("read setting", err)
}

// PutSettingOnce stores the value unless the name has one, and returns what is stored then: of replicas that start at
// once, all get the value of the first.
func (s *Store) PutSettingOnce(ctx context.Context, name string, value []byte) ([]byte, error) {
	var stored []byte
	err := s.write(ctx, "put setting", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`,
			name, blob(value))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		stored, err = scanned[[]byte](t.queryRow(ctx, `SELECT value FROM setting WHERE name = $1`, name))
		if err != nil {
			return fmt.Errorf("read back: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return stored, nil
}

// SealKeys returns the ring of keys for nonces and order tokens, oldest first.
func (s *Store) SealKeys(ctx context.Context) ([]pki.SealKey, error) {
	rows, err := s.query(ctx, `SELECT id, sealed, created_at FROM seal_key ORDER BY id`)
	keys, err := collect(rows, err, func(r row) (pki.SealKey, error) {
		var key pki.SealKey
		var id, created int64
		err := r.Scan(&id, &key.Sealed, &created)
		key.ID, key.CreatedAt = uint32(id), fromMicros(created)
		return key, err
	})
	return keys, s.readError("read seal keys", err)
}

// AddSealKey adds a key to the ring. An ID that is taken is a Conflict: another replica has added a key.
func (s *Store) AddSealKey(ctx context.Context, key pki.SealKey) error {
	return s.write(ctx, "add seal key", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO seal_key (id, sealed, created_at) VALUES ($1, $2, $3)
			ON CONFLICT (id) DO NOTHING`, int64(key.ID), blob(key.Sealed), micros(key.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "seal key %d exists", key.ID)
		}
		return nil
	})
}

// CatalogVersion changes whenever a CA, a profile or a credential does; a cache of them is current while it does not.
func (s *Store) CatalogVersion(ctx context.Context) (int64, error) {
	version, err := scanned[int64](s.queryRow(ctx,
		`SELECT CAST(coalesce(sum(value), 0) AS BIGINT) FROM counter WHERE name = 'catalog'`))
	return version, s.readError("read catalog version", err)
}

// catalogChanged makes caches of the catalog read it again.
func (t *tx) catalogChanged(ctx context.Context) error { return t.count(ctx, "catalog", 1) }
