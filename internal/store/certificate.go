package store

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// certificateSelect selects whole certificates; scanCertificate reads them. CROSS JOIN makes SQLite begin with the
// certificate: it has no statistics and would sometimes rather sort all certificates of a profile than read the
// newest few. certificateJoin belongs into the conditions.
const (
	certificateSelect = `SELECT c.serial, i.name, s.ca_id, s.profile_id, s.credential_id, s.account_id, c.order_id,
	c.not_before, c.not_after, c.renew_at, c.issued_at, c.requested, c.granted, c.revoked_at, c.reason, c.key_algorithm,
	c.signature, c.names, c.user_agent, c.address, c.replaces, c.fingerprint, c.csr_hash, c.spki_hash, c.der,
	c.workload
	FROM certificate c CROSS JOIN identity i CROSS JOIN source s`
	certificateJoin = `i.id = c.identity_id AND s.id = c.source_id`
)

func scanCertificate(r row) (pki.Certificate, error) {
	var c pki.Certificate
	var serial, fingerprint, csr, spki []byte
	var names, workload string
	var notBefore, notAfter, renewAt, issuedAt, revokedAt, requested, granted int64
	err := r.Scan(&serial, &c.Identity, &c.CAID, &c.ProfileID, &c.CredentialID, &c.AccountID, &c.OrderID,
		&notBefore, &notAfter, &renewAt, &issuedAt, &requested, &granted, &revokedAt, &c.Reason, &c.KeyAlgorithm,
		&c.Signature, &names, &c.Client.UserAgent, &c.Client.Address, &c.Replaces, &fingerprint, &csr, &spki, &c.DER,
		&workload)
	if err != nil {
		return pki.Certificate{}, err
	}
	c.Serial = pki.Serial(hex.EncodeToString(serial))
	c.Fingerprint, c.CSRHash, c.SPKIHash = array(fingerprint), array(csr), array(spki)
	c.NotBefore, c.NotAfter, c.RenewAt = fromSeconds(notBefore), fromSeconds(notAfter), fromSeconds(renewAt)
	c.IssuedAt, c.RevokedAt = fromSeconds(issuedAt), fromSeconds(revokedAt)
	c.Requested, c.Granted = time.Duration(requested)*time.Second, time.Duration(granted)*time.Second
	if err := decodeWorkload(workload, &c.Workload); err != nil {
		return pki.Certificate{}, err
	}
	return c, decode("names", names, &c.Names)
}

// Certificate returns a certificate by its serial, or NotFound.
func (s *Store) Certificate(ctx context.Context, serial pki.Serial) (*pki.Certificate, error) {
	return s.certificate(ctx, notFound("certificate with serial", string(serial)), `c.serial = $1`, blob(serial.Bytes()))
}

// VisibleCertificate is Certificate for somebody who sees what the patterns name (pki.CertificateFilter): what is there
// but not seen is NotFound as well.
func (s *Store) VisibleCertificate(ctx context.Context, serial pki.Serial, sees []string) (*pki.Certificate, error) {
	w := &where{conditions: []string{certificateJoin}}
	w.add("c.serial = ?", blob(serial.Bytes()))
	rangeConditions(w, visibleRanges(sees))
	query, args := w.build(certificateSelect, "", 1)
	c, err := scanCertificate(s.queryRow(ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, notFound("certificate with serial", string(serial))
	}
	if err != nil {
		return nil, s.readError("read certificate", err)
	}
	return &c, nil
}

// CertificateOfOrder returns the certificate that an order led to, or NotFound.
func (s *Store) CertificateOfOrder(ctx context.Context, order pki.OrderID) (*pki.Certificate, error) {
	return s.certificate(ctx, notFound("certificate of order", string(order)),
		`c.order_id = $1 AND c.order_id <> ''`, string(order))
}

// CertificateByFingerprint returns a certificate by the SHA-256 of its DER form, or NotFound.
func (s *Store) CertificateByFingerprint(ctx context.Context, fingerprint []byte) (*pki.Certificate, error) {
	absent := notFound("certificate with fingerprint", hex.EncodeToString(fingerprint[:min(len(fingerprint), 32)]))
	if len(fingerprint) != 32 {
		return nil, absent
	}
	id, err := s.certificateByHash(ctx, "fingerprint", fingerprint)
	if err != nil {
		return nil, s.readError("find fingerprint", err)
	}
	if id == 0 {
		return nil, absent
	}
	return s.certificate(ctx, absent, `c.id = $1`, id)
}

func (s *Store) certificate(ctx context.Context, absent *fault.Error, condition string, arg any) (*pki.Certificate, error) {
	c, err := scanCertificate(s.queryRow(ctx, certificateSelect+` WHERE `+certificateJoin+` AND `+condition, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return nil, absent
	}
	if err != nil {
		return nil, s.readError("read certificate", err)
	}
	return &c, nil
}

// certificateByHash finds the newest certificate of which a hash is stored in the column, 0 when there is none. The
// index holds hashes in runs of 4,096 certificates (see the migrations); each run is asked, the newest first.
func (s *Store) certificateByHash(ctx context.Context, column string, hash []byte) (int64, error) {
	id, err := scanned[int64](s.queryRow(ctx, hashQuery(column), hash[:8], hash))
	if errors.Is(err, sql.ErrNoRows) {
		return 0, nil
	}
	return id, err
}

func hashQuery(column string) string {
	return fmt.Sprintf(`WITH RECURSIVE run (n) AS (
		SELECT (SELECT max(id) FROM certificate) >> 12
		UNION ALL SELECT n - 1 FROM run WHERE n > (SELECT min(id) FROM certificate) >> 12)
		SELECT c.id FROM run CROSS JOIN certificate c
		WHERE c.id >> 12 = run.n AND substr(c.%[1]s, 1, 8) = $1 AND c.%[1]s = $2 LIMIT 1`, column)
}

// KeyCertified reports whether a public key is that of a certificate of ours or of a CA (RFC 8555 section 11.1).
func (s *Store) KeyCertified(ctx context.Context, spkiHash [32]byte) (bool, error) {
	n, err := scanned[int64](s.queryRow(ctx, `SELECT count(*) FROM ca WHERE spki_hash = $1`, spkiHash[:]))
	if err != nil {
		return false, s.readError("find key", err)
	}
	if n > 0 {
		return true, nil
	}
	id, err := s.certificateByHash(ctx, "spki_hash", spkiHash[:])
	return id > 0, s.readError("find key", err)
}

// Replaced reports whether a certificate names the given one as its predecessor (RFC 9773 section 5).
func (s *Store) Replaced(ctx context.Context, ariID string) (bool, error) {
	replaced, err := scanned[bool](s.queryRow(ctx,
		`SELECT EXISTS (SELECT 1 FROM certificate WHERE replaces = $1 AND replaces <> '')`, ariID))
	return replaced, s.readError("find successor", err)
}
