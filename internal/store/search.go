package store

import (
	"context"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Certificates returns certificates, newest first: in the opposite order of their recording.
func (s *Store) Certificates(ctx context.Context, filter pki.CertificateFilter, now time.Time) ([]pki.Certificate, error) {
	ranges, err := s.nameRanges(ctx, filter.Identity, filter.TrustDomain, filter.Namespace)
	if err != nil {
		return nil, s.readError("read namespaces", err)
	}
	if len(ranges) == 0 {
		return nil, nil
	}
	w := certificateConditions(filter, ranges, now)
	if filter.Before != "" {
		before, err := s.position(ctx, filter.Before)
		if err != nil {
			return nil, s.readError("read cursor", err)
		}
		w.add("c.id < ?", before)
	}
	query, args := w.build(certificateSelect, "c.id DESC", filter.Limit)
	rows, err := s.query(ctx, query, args...)
	all, err := collect(rows, err, scanCertificate)
	return all, s.readError("read certificates", err)
}

// position is the ID of the certificate with a serial or, when it is gone, of the one that would follow it.
func (s *Store) position(ctx context.Context, serial pki.Serial) (int64, error) {
	id, err := scanned[int64](s.queryRow(ctx, `SELECT coalesce(
		(SELECT id FROM certificate WHERE serial = $1),
		(SELECT id + 1 FROM certificate WHERE serial < $1 ORDER BY serial DESC LIMIT 1), 0)`, blob(serial.Bytes())))
	if err != nil {
		return 0, fmt.Errorf("find serial: %w", err)
	}
	return id, nil
}

// certificateConditions are all conditions of a filter but its cursor.
func certificateConditions(filter pki.CertificateFilter, ranges []nameRange, now time.Time) *where {
	w := new(where)
	rangeConditions(w, ranges)
	w.equal("s.profile_id", string(filter.ProfileID))
	w.equal("s.ca_id", string(filter.CAID))
	w.equal("s.credential_id", string(filter.CredentialID))
	w.equal("s.account_id", string(filter.AccountID))
	if len(filter.Fingerprint) > 0 {
		w.add("c.fingerprint = ?", filter.Fingerprint)
	}
	if !filter.IssuedAfter.IsZero() {
		w.add("c.issued_at > ?", seconds(filter.IssuedAfter))
	}
	if !filter.ExpiresBefore.IsZero() {
		w.add("c.not_after < ?", secondsUp(filter.ExpiresBefore))
	}
	certificateStatus(w, filter.Status, now)
	return w
}

// certificateStatus adds the conditions of pki.Certificate.Status.
func certificateStatus(w *where, status pki.CertificateStatus, now time.Time) {
	switch status {
	case pki.CertificateRevoked:
		w.add("c.revoked_at > 0")
	case pki.CertificateExpired:
		w.add("c.revoked_at = 0 AND c.not_after < ?", secondsUp(now))
	case pki.CertificateRenewalDue:
		w.add("c.revoked_at = 0 AND c.not_after >= ? AND c.renew_at <= ?", secondsUp(now), seconds(now))
	case pki.CertificateValid:
		w.add("c.revoked_at = 0 AND c.not_after >= ? AND c.renew_at > ?", secondsUp(now), seconds(now))
	}
}
