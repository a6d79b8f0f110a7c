package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const importedColumns = `m.id, m.fingerprint, m.name, m.subject, m.issuer, m.serial, m.names, m.is_ca, m.not_before, m.not_after,
	m.key_algorithm, m.signature, m.level, m.findings, m.uploaded, m.created_at`

// AddImported stores a certificate of another CA that somebody has uploaded, with its event. It returns false when it was
// there already; one that only a scan had found stays from then on.
func (s *Store) AddImported(ctx context.Context, c *pki.Imported, ev audit.Event) (added bool, err error) {
	err = s.write(ctx, "import certificate", func(ctx context.Context, t *tx) error {
		var id int64
		if id, added, err = t.addImported(ctx, c); err != nil {
			return err
		}
		if !added {
			n, err := t.change(ctx, `UPDATE imported SET uploaded = 1 WHERE id = $1 AND uploaded = 0`, id)
			if err != nil || n == 0 {
				return err
			}
		}
		t.event(ev)
		return nil
	})
	return added, err
}

// addImported stores a certificate unless it is there.
func (t *tx) addImported(ctx context.Context, c *pki.Imported) (id int64, added bool, err error) {
	names, err := encode(c.Names)
	if err != nil {
		return 0, false, err
	}
	findings, err := encode(c.Rating.Findings)
	if err != nil {
		return 0, false, err
	}
	n, err := t.change(ctx, `INSERT INTO imported (fingerprint, name, subject, issuer, serial, names, is_ca, not_before, not_after, key_algorithm,
			signature, level, findings, der, uploaded, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT (fingerprint) DO NOTHING`,
		c.Fingerprint[:], c.Name, c.Subject, c.Issuer, c.Serial, names, boolean(c.IsCA), seconds(c.NotBefore), seconds(c.NotAfter), c.KeyAlgorithm,
		c.Signature, string(c.Rating.Level), findings, blob(c.DER), boolean(c.Uploaded), micros(c.CreatedAt))
	if err != nil {
		return 0, false, fmt.Errorf("insert: %w", err)
	}
	id, err = scanned[int64](t.queryRow(ctx, `SELECT id FROM imported WHERE fingerprint = $1`, c.Fingerprint[:]))
	if err != nil {
		return 0, false, fmt.Errorf("read back: %w", err)
	}
	return id, n > 0, nil
}

// SeeEndpoint notes that a certificate is at a place, storing it if it is new. What was there before is there no more.
func (s *Store) SeeEndpoint(ctx context.Context, c *pki.Imported, kind, place string, at time.Time) (added bool, err error) {
	err = s.write(ctx, "note endpoint", func(ctx context.Context, t *tx) error {
		var id int64
		if id, added, err = t.addImported(ctx, c); err != nil {
			return err
		}
		_, err := t.change(ctx, `INSERT INTO endpoint (kind, place, imported_id, first_seen_at, last_seen_at) VALUES ($1, $2, $3, $4, $4)
			ON CONFLICT (kind, place) DO UPDATE SET last_seen_at = excluded.last_seen_at, imported_id = excluded.imported_id,
			first_seen_at = CASE WHEN endpoint.imported_id = excluded.imported_id THEN endpoint.first_seen_at ELSE excluded.first_seen_at END`,
			kind, place, id, micros(at))
		if err != nil {
			return fmt.Errorf("store: %w", err)
		}
		return nil
	})
	return added, err
}

// ForgetEndpoints deletes the places of a kind that begin with a text and were not seen since a time.
func (s *Store) ForgetEndpoints(ctx context.Context, kind, prefix string, since time.Time) error {
	return s.write(ctx, "forget endpoints", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `DELETE FROM endpoint WHERE kind = $1 AND substr(place, 1, length($2)) = $2 AND last_seen_at < $3`,
			kind, prefix, micros(since))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		return nil
	})
}

func scanImported(r row, more ...any) (pki.Imported, error) {
	var c pki.Imported
	var id, notBefore, notAfter, created int64
	var fingerprint []byte
	var names, findings string
	err := r.Scan(append([]any{
		&id, &fingerprint, &c.Name, &c.Subject, &c.Issuer, &c.Serial, &names, &c.IsCA, &notBefore, &notAfter, &c.KeyAlgorithm, &c.Signature,
		&c.Rating.Level, &findings, &c.Uploaded, &created,
	}, more...)...)
	if err != nil {
		return c, err
	}
	copy(c.Fingerprint[:], fingerprint)
	c.NotBefore, c.NotAfter, c.CreatedAt = fromSeconds(notBefore), fromSeconds(notAfter), fromMicros(created)
	c.Cursor = strconv.FormatInt(id, 10) + cursorMark + c.Name
	if err := decode("names", names, &c.Names); err != nil {
		return c, err
	}
	return c, decode("findings", findings, &c.Rating.Findings)
}

// ImportedCertificates returns imported certificates by name.
func (s *Store) ImportedCertificates(ctx context.Context, filter pki.ImportedFilter, now time.Time) ([]pki.Imported, error) {
	w := &where{}
	if filter.After != "" {
		number, name, _ := strings.Cut(filter.After, cursorMark)
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fault.New(fault.Malformed, "cursor %.60q is not one that this list has given", filter.After).WithField("after")
		}
		w.add("(m.name > ? OR m.name = ? AND m.id > ?)", name, name, id)
	}
	for _, term := range slices.Compact(strings.Fields(strings.ToLower(filter.Text))) {
		pattern := like(term)
		w.add(`(lower(m.name) LIKE ? ESCAPE '!' OR lower(m.subject) LIKE ? ESCAPE '!' OR lower(m.issuer) LIKE ? ESCAPE '!' OR lower(m.names) LIKE ? ESCAPE '!'
			OR EXISTS (SELECT 1 FROM endpoint e WHERE e.imported_id = m.id AND lower(e.place) LIKE ? ESCAPE '!'))`, pattern, pattern, pattern, pattern, pattern)
	}
	w.equal("m.level", string(filter.Level))
	if filter.Expired != nil {
		condition := "m.not_after >= ?"
		if *filter.Expired {
			condition = "m.not_after < ?"
		}
		w.add(condition, secondsUp(now))
	}
	if !filter.ExpiresBefore.IsZero() {
		w.add("m.not_after < ?", seconds(filter.ExpiresBefore))
	}
	query, args := w.build(`SELECT `+importedColumns+` FROM imported m`, "m.name, m.id", bounded(filter.Limit))
	rows, err := s.queryOnce(ctx, query, args...)
	all, err := collect(rows, err, func(r row) (pki.Imported, error) { return scanImported(r) })
	return all, s.readError("read imported certificates", err)
}

func importedNotFound(fingerprint []byte) error {
	return notFound("imported certificate with fingerprint", hex.EncodeToString(fingerprint))
}

// ImportedCertificate returns one certificate with its DER and the places where it is, or NotFound.
func (s *Store) ImportedCertificate(ctx context.Context, fingerprint []byte) (*pki.Imported, error) {
	var der []byte
	c, err := scanImported(s.queryRow(ctx, `SELECT `+importedColumns+`, m.der FROM imported m WHERE m.fingerprint = $1`, blob(fingerprint)), &der)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, importedNotFound(fingerprint)
	case err != nil:
		return nil, s.readError("read imported certificate", err)
	}
	c.DER = der
	rows, err := s.query(ctx, `SELECT e.kind, e.place, e.first_seen_at, e.last_seen_at FROM endpoint e
		WHERE e.imported_id = (SELECT id FROM imported WHERE fingerprint = $1) ORDER BY e.kind, e.place`, blob(fingerprint))
	c.Endpoints, err = collect(rows, err, func(r row) (pki.Endpoint, error) {
		var e pki.Endpoint
		var first, last int64
		err := r.Scan(&e.Kind, &e.Place, &first, &last)
		e.FirstSeenAt, e.LastSeenAt = fromMicros(first), fromMicros(last)
		return e, err
	})
	return &c, s.readError("read endpoints", err)
}

// DeleteImported deletes a certificate with the places where it is; a scan that finds it there again stores it again.
func (s *Store) DeleteImported(ctx context.Context, fingerprint []byte, ev audit.Event) error {
	return s.write(ctx, "delete imported certificate", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `DELETE FROM endpoint WHERE imported_id = (SELECT id FROM imported WHERE fingerprint = $1)`, blob(fingerprint))
		if err != nil {
			return fmt.Errorf("delete endpoints: %w", err)
		}
		n, err := t.change(ctx, `DELETE FROM imported WHERE fingerprint = $1`, blob(fingerprint))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		if n == 0 {
			return importedNotFound(fingerprint)
		}
		t.event(ev)
		return nil
	})
}

// ForgetImported deletes some certificates that are nowhere: those that expired before a time, and those of scans. It
// returns how many.
func (s *Store) ForgetImported(ctx context.Context, before time.Time, limit int) (int, error) {
	n := int64(0)
	err := s.write(ctx, "forget imported certificates", func(ctx context.Context, t *tx) error {
		var err error
		n, err = t.change(ctx, `DELETE FROM imported WHERE id IN (SELECT m.id FROM imported m
			WHERE (m.not_after < $1 OR m.uploaded = 0) AND NOT EXISTS (SELECT 1 FROM endpoint e WHERE e.imported_id = m.id) LIMIT $2)`,
			seconds(before), int64(limit))
		if err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		return nil
	})
	return int(n), err
}
