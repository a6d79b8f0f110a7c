package store

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// CreateCA stores a CA and its sealed key. A name that is taken is a Conflict.
func (s *Store) CreateCA(ctx context.Context, ca *pki.CA, key *pki.SealedKey, ev audit.Event) error {
	if key == nil {
		return errors.New("create CA: no sealed key")
	}
	chain, settings, spki, err := encodeCA(ca)
	if err != nil {
		return fmt.Errorf("create CA: %w", err)
	}
	return s.write(ctx, "create CA", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO ca (id, name, kind, state, parent_id, key_id, key_algorithm, certificate,
				chain, csr, settings, spki_hash, crl_number, revocation_version, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, $13, $14) ON CONFLICT DO NOTHING`,
			string(ca.ID), ca.Name, string(ca.Kind), string(ca.State), string(ca.ParentID), string(ca.KeyID),
			string(ca.KeyAlgorithm), blob(ca.Certificate), chain, blob(ca.CSR), settings, spki,
			micros(ca.CreatedAt), micros(ca.UpdatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "a CA named %q exists", ca.Name).WithField("/name")
		}
		_, err = t.change(ctx, `INSERT INTO sealed_key (id, algorithm, sealed, created_at) VALUES ($1, $2, $3, $4)`,
			string(key.ID), string(key.Algorithm), blob(key.Sealed), micros(key.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert key: %w", err)
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

// UpdateCA replaces everything of a CA but its identifier, kind, key and creation time. was is the UpdatedAt that the
// change was made from; when it has changed since, that is a Conflict.
func (s *Store) UpdateCA(ctx context.Context, ca *pki.CA, was time.Time, ev audit.Event) error {
	chain, settings, spki, err := encodeCA(ca)
	if err != nil {
		return fmt.Errorf("update CA: %w", err)
	}
	// A clock that stands still between two changes must not let a third, made from the first, pass for current.
	updated := max(micros(ca.UpdatedAt), micros(was)+1)
	return s.write(ctx, "update CA", func(ctx context.Context, t *tx) error {
		if err := t.caCanChange(ctx, ca, micros(was)); err != nil {
			return err
		}
		_, err := t.change(ctx, `UPDATE ca SET name = $1, state = $2, parent_id = $3, certificate = $4, chain = $5,
				csr = $6, settings = $7, spki_hash = $8, updated_at = $9, revoked_at = $10, reason = $11 WHERE id = $12`,
			ca.Name, string(ca.State), string(ca.ParentID), blob(ca.Certificate), chain, blob(ca.CSR), settings, spki,
			updated, seconds(ca.RevokedAt), int64(ca.Reason), string(ca.ID))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if ca.State == pki.Revoked {
			// Its certificate goes on the CRL of the CA above.
			_, err := t.change(ctx, `UPDATE ca SET revocation_version = revocation_version + 1 WHERE id = $1`, string(ca.ParentID))
			if err != nil {
				return fmt.Errorf("update CA above: %w", err)
			}
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

func (t *tx) caCanChange(ctx context.Context, ca *pki.CA, was int64) error {
	current, err := scanned[int64](t.queryRow(ctx, `SELECT updated_at FROM ca WHERE id = $1`+t.forUpdate(), string(ca.ID)))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fault.New(fault.NotFound, "there is no CA %.80q", ca.ID)
	case err != nil:
		return fmt.Errorf("read: %w", err)
	case current != was:
		return fault.New(fault.Conflict, "CA %q was changed meanwhile; read it again", ca.Name)
	}
	taken, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM ca WHERE name = $1 AND id <> $2`,
		ca.Name, string(ca.ID)))
	switch {
	case err != nil:
		return fmt.Errorf("look for the name: %w", err)
	case taken > 0:
		return fault.New(fault.Conflict, "a CA named %q exists", ca.Name).WithField("/name")
	}
	return nil
}

// CAs returns all CAs, oldest first.
func (s *Store) CAs(ctx context.Context) ([]pki.CA, error) {
	rows, err := s.query(ctx, `SELECT id, name, kind, state, parent_id, key_id, key_algorithm, certificate, chain, csr,
		settings, created_at, updated_at, revoked_at, reason FROM ca ORDER BY created_at, id`)
	all, err := collect(rows, err, scanCA)
	return all, s.readError("read CAs", err)
}

func scanCA(r row) (pki.CA, error) {
	var ca pki.CA
	var chain, settings string
	var created, updated, revoked int64
	err := r.Scan(&ca.ID, &ca.Name, &ca.Kind, &ca.State, &ca.ParentID, &ca.KeyID, &ca.KeyAlgorithm, &ca.Certificate,
		&chain, &ca.CSR, &settings, &created, &updated, &revoked, &ca.Reason)
	if err != nil {
		return pki.CA{}, err
	}
	ca.Certificate, ca.CSR = unblob(ca.Certificate), unblob(ca.CSR)
	ca.CreatedAt, ca.UpdatedAt, ca.RevokedAt = fromMicros(created), fromMicros(updated), fromSeconds(revoked)
	if err := decode("chain", chain, &ca.Chain); err != nil {
		return pki.CA{}, err
	}
	return ca, decode("settings", settings, &ca.Settings)
}

// SealedKey returns the sealed private key of a CA, or NotFound.
func (s *Store) SealedKey(ctx context.Context, id pki.KeyID) (*pki.SealedKey, error) {
	var key pki.SealedKey
	var created int64
	err := s.queryRow(ctx, `SELECT id, algorithm, sealed, created_at FROM sealed_key WHERE id = $1`, string(id)).
		Scan(&key.ID, &key.Algorithm, &key.Sealed, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fault.New(fault.NotFound, "there is no key %.80q", id)
	}
	if err != nil {
		return nil, s.readError("read key", err)
	}
	key.CreatedAt = fromMicros(created)
	return &key, nil
}

// encodeCA returns the columns that need encoding. The hash of the public key is kept beside the CA so that a CSR for
// the same key is recognised (RFC 8555 section 11.1 asks that for account keys; a CA's key is no better in a leaf).
func encodeCA(ca *pki.CA) (chain, settings string, spki []byte, err error) {
	if chain, err = encode(ca.Chain); err != nil {
		return "", "", nil, err
	}
	if settings, err = encode(ca.Settings); err != nil {
		return "", "", nil, err
	}
	spki, err = caKeyHash(ca)
	return chain, settings, spki, err
}

func caKeyHash(ca *pki.CA) ([]byte, error) {
	var raw []byte
	switch {
	case len(ca.Certificate) > 0:
		certificate, err := x509.ParseCertificate(ca.Certificate)
		if err != nil {
			return nil, fmt.Errorf("certificate of CA %q: %w", ca.Name, err)
		}
		raw = certificate.RawSubjectPublicKeyInfo
	case len(ca.CSR) > 0:
		request, err := x509.ParseCertificateRequest(ca.CSR)
		if err != nil {
			return nil, fmt.Errorf("CSR of CA %q: %w", ca.Name, err)
		}
		raw = request.RawSubjectPublicKeyInfo
	default:
		return []byte{}, nil
	}
	sum := sha256.Sum256(raw)
	return sum[:], nil
}
