package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// RevokedEntry is a revoked certificate as a CRL lists it.
type RevokedEntry = pki.RevokedEntry

// RevokeCertificate revokes a certificate once: NotFound when there is none of this serial, AlreadyRevoked when it is
// revoked. KeyCompromise also blocks its key from all later certificates. One that is held (reason CertificateHold) can
// be revoked for another reason, and counts as revoked since it is held: nobody was to trust it from then on.
func (s *Store) RevokeCertificate(ctx context.Context, serial pki.Serial, reason pki.RevocationReason, at time.Time,
	ev audit.Event,
) error {
	return s.write(ctx, "revoke certificate", func(ctx context.Context, t *tx) error {
		var id, identity, source int64
		var spki []byte
		err := t.queryRow(ctx, `SELECT id, identity_id, source_id, spki_hash FROM certificate WHERE serial = $1`,
			blob(serial.Bytes())).Scan(&id, &identity, &source, &spki)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("certificate with serial", string(serial))
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		held, err := t.markRevoked(ctx, serial, id, reason, at)
		if err != nil {
			return err
		}
		if reason == pki.KeyCompromise {
			_, err := t.change(ctx, `INSERT INTO blocked_key (spki_hash) VALUES ($1) ON CONFLICT DO NOTHING`, spki)
			if err != nil {
				return fmt.Errorf("block key: %w", err)
			}
		}
		t.event(ev)
		if held {
			return t.noteChange(ctx, source)
		}
		return t.noteRevocation(ctx, id, identity, source, at)
	})
}

// markRevoked revokes a certificate that is not revoked, or held; it reports which.
func (t *tx) markRevoked(ctx context.Context, serial pki.Serial, id int64, reason pki.RevocationReason, at time.Time) (held bool, err error) {
	n, err := t.change(ctx, `UPDATE certificate SET revoked_at = $1, reason = $2 WHERE id = $3 AND revoked_at = 0`,
		seconds(at), int64(reason), id)
	if err == nil && n == 0 && reason != pki.CertificateHold {
		held = true
		n, err = t.change(ctx, `UPDATE certificate SET reason = $1 WHERE id = $2 AND revoked_at > 0 AND reason = $3`,
			int64(reason), id, int64(pki.CertificateHold))
	}
	if err != nil {
		return false, fmt.Errorf("update: %w", err)
	}
	if n == 0 {
		return false, fault.New(fault.AlreadyRevoked, "the certificate with serial %s is revoked already", serial)
	}
	return held, nil
}

// ReleaseCertificate ends a hold: NotFound when there is no certificate of this serial, Conflict when it is not held.
func (s *Store) ReleaseCertificate(ctx context.Context, serial pki.Serial, ev audit.Event) error {
	return s.write(ctx, "release certificate", func(ctx context.Context, t *tx) error {
		var id, identity, source int64
		err := t.queryRow(ctx, `SELECT id, identity_id, source_id FROM certificate WHERE serial = $1`,
			blob(serial.Bytes())).Scan(&id, &identity, &source)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("certificate with serial", string(serial))
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		n, err := t.change(ctx, `UPDATE certificate SET revoked_at = 0, reason = 0
			WHERE id = $1 AND revoked_at > 0 AND reason = $2`, id, int64(pki.CertificateHold))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "the certificate with serial %s is not held", serial)
		}
		if _, err := t.change(ctx, `UPDATE identity SET revoked_at = 0 WHERE id = $1 AND newest = $2`, identity, id); err != nil {
			return fmt.Errorf("update identity: %w", err)
		}
		t.event(ev)
		if err := t.noteChange(ctx, source); err != nil {
			return err
		}
		return t.count(ctx, "revoked", -1)
	})
}

// noteChange tells the CA that its CRL must be made anew.
func (t *tx) noteChange(ctx context.Context, source int64) error {
	_, err := t.change(ctx, `UPDATE ca SET revocation_version = revocation_version + 1
		WHERE id = (SELECT ca_id FROM source WHERE id = $1)`, source)
	if err != nil {
		return fmt.Errorf("update CA: %w", err)
	}
	return nil
}

// noteRevocation tells the identity, if it is its newest certificate, and the CA.
func (t *tx) noteRevocation(ctx context.Context, id, identity, source int64, at time.Time) error {
	_, err := t.change(ctx, `UPDATE identity SET revoked_at = $1 WHERE id = $2 AND newest = $3`, seconds(at), identity, id)
	if err != nil {
		return fmt.Errorf("update identity: %w", err)
	}
	if err := t.noteChange(ctx, source); err != nil {
		return err
	}
	return t.count(ctx, "revoked", 1)
}

// Revoked returns the revoked certificates of a CA that had not expired at the given time, oldest serial first.
func (s *Store) Revoked(ctx context.Context, ca pki.CAID, since time.Time) ([]pki.RevokedEntry, error) {
	rows, err := s.query(ctx, `SELECT c.serial, c.revoked_at, c.reason, c.not_after FROM certificate c
		JOIN source s ON s.id = c.source_id
		WHERE c.revoked_at > 0 AND c.not_after >= $1 AND s.ca_id = $2 ORDER BY c.serial`, seconds(since), string(ca))
	all, err := collect(rows, err, func(r row) (pki.RevokedEntry, error) {
		var serial []byte
		var at, notAfter int64
		var e pki.RevokedEntry
		err := r.Scan(&serial, &at, &e.Reason, &notAfter)
		e.Serial, e.At, e.NotAfter = pki.Serial(hex.EncodeToString(serial)), fromSeconds(at), fromSeconds(notAfter)
		return e, err
	})
	return all, s.readError("read revoked certificates", err)
}

// NextCRLNumber returns a CRL number of a CA that no call has returned before; they grow (RFC 5280 section 5.2.3).
func (s *Store) NextCRLNumber(ctx context.Context, ca pki.CAID) (int64, error) {
	var number int64
	err := s.write(ctx, "take CRL number", func(ctx context.Context, t *tx) error {
		err := t.queryRow(ctx, `UPDATE ca SET crl_number = crl_number + 1 WHERE id = $1 RETURNING crl_number`, string(ca)).
			Scan(&number)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return notFound("CA", string(ca))
		case err != nil:
			return fmt.Errorf("update: %w", err)
		}
		t.wrote = true
		return nil
	})
	return number, err
}

// RevocationVersion changes with each revocation of a certificate of the CA; a CRL is current while it does not.
func (s *Store) RevocationVersion(ctx context.Context, ca pki.CAID) (int64, error) {
	version, err := scanned[int64](s.queryRow(ctx, `SELECT revocation_version FROM ca WHERE id = $1`, string(ca)))
	if errors.Is(err, sql.ErrNoRows) {
		return 0, notFound("CA", string(ca))
	}
	return version, s.readError("read revocation version", err)
}
