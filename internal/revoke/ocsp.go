package revoke

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"hash"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// answerAge is how long an OCSP answer is kept for the next client that asks the same. It bounds how long another
// replica's revocation goes unnoticed here.
const answerAge = 10 * time.Second

// answer is a signed OCSP answer.
type answer struct {
	certID []byte
	der    []byte
	made   time.Time
	next   time.Time
}

// OCSP answers an OCSP request (RFC 6960) for one certificate, as RFC 5019 has it, with a nonce if the request has
// one (RFC 9654). The answer is signed by the CA's own key. "Good" is said of certificates in the inventory only;
// of every other serial we know nothing.
//
// What cannot be answered gets an OCSP error, which is not an error of this function: malformedRequest, unauthorized
// for a CA that is not ours, tryLater when storage cannot be asked. NextUpdate is zero when the response may not be
// kept by a cache: errors, answers with a nonce, and unknown ones.
func (r *Revoker) OCSP(ctx context.Context, request []byte) (response []byte, nextUpdate time.Time, err error) {
	query, err := parseOCSP(request)
	if err != nil {
		r.metrics.answers.WithLabelValues("malformedRequest").Inc()
		return ocspError(ocspMalformed), time.Time{}, nil //nolint:nilerr // the response tells
	}
	now := r.config.Now()
	if kept, ok := r.answers.Get(query.serial); ok && query.nonce == nil && bytes.Equal(kept.certID, query.certID) {
		if age := now.Sub(kept.made); age >= 0 && age < answerAge {
			return kept.der, kept.next, nil
		}
	}
	issuer, err := r.issuerOf(query)
	if err != nil {
		return nil, time.Time{}, err
	}
	if issuer == nil {
		r.metrics.answers.WithLabelValues("unauthorized").Inc()
		return ocspError(ocspUnauthorized), time.Time{}, nil
	}
	revoked := r.revoked.Load()
	status, err := r.status(ctx, issuer.ca, query.serial)
	if err != nil {
		r.metrics.answers.WithLabelValues("tryLater").Inc()
		if fault.Is(err, fault.Unavailable) {
			return ocspError(ocspTryLater), time.Time{}, nil
		}
		return nil, time.Time{}, fmt.Errorf("OCSP: %w", err)
	}
	now = now.UTC().Truncate(time.Second)
	next := now.Add(r.config.OCSPLifetime)
	der, err := r.signOCSP(ctx, issuer, query, status, now, next)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("OCSP: %w", err)
	}
	r.metrics.answers.WithLabelValues(status.name).Inc()
	if query.nonce != nil || status.name == statusUnknown {
		return der, time.Time{}, nil
	}
	r.answers.Add(query.serial, answer{certID: query.certID, der: der, made: now, next: next})
	if r.revoked.Load() != revoked {
		r.answers.Remove(query.serial) // it may have been revoked between the question and the signature
	}
	return der, next, nil
}

// responder is a CA that answers.
type responder struct {
	ca          *pki.CA
	certificate *x509.Certificate
}

// issuerOf finds the CA that a request speaks of, by the hashes of its name and key. It returns nil for none.
func (r *Revoker) issuerOf(q *ocspQuery) (*responder, error) {
	for _, ca := range r.config.CAs() {
		if ca.Certificate == nil {
			continue
		}
		certificate, err := x509.ParseCertificate(ca.Certificate)
		if err != nil {
			return nil, fmt.Errorf("OCSP: parse certificate of CA %q: %w", ca.Name, err)
		}
		key, err := keyBits(certificate.RawSubjectPublicKeyInfo)
		if err != nil {
			return nil, fmt.Errorf("OCSP: key of CA %q: %w", ca.Name, err)
		}
		if bytes.Equal(q.digest(certificate.RawSubject), q.nameHash) && bytes.Equal(q.digest(key), q.keyHash) {
			return &responder{ca: ca, certificate: certificate}, nil
		}
	}
	return nil, nil
}

// keyBits returns the public key's bit string, without its header.
func keyBits(spki []byte) ([]byte, error) {
	var info, algorithm cryptobyte.String
	var key []byte
	input := cryptobyte.String(spki)
	if !input.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1(&algorithm, asn1.SEQUENCE) || !info.ReadASN1BitStringAsBytes(&key) {
		return nil, errors.New("subject public key info cannot be read")
	}
	return key, nil
}

// Statuses; labels of a metric.
const (
	statusGood    = "good"
	statusRevoked = "revoked"
	statusUnknown = "unknown"
)

type status struct {
	name   string
	at     time.Time
	reason pki.RevocationReason
}

// status asks the inventory. Serials of other CAs are unknown to this one.
func (r *Revoker) status(ctx context.Context, ca *pki.CA, serial pki.Serial) (status, error) {
	if len(serial.Bytes()) == 0 || len(serial.Bytes()) > pki.SerialLen {
		return status{name: statusUnknown}, nil
	}
	certificate, err := r.config.Store.Certificate(ctx, serial)
	switch {
	case fault.Is(err, fault.NotFound):
		return status{name: statusUnknown}, nil
	case err != nil:
		return status{}, err
	case certificate.CAID != ca.ID:
		return status{name: statusUnknown}, nil
	case !certificate.RevokedAt.IsZero():
		return status{name: statusRevoked, at: certificate.RevokedAt, reason: certificate.Reason}, nil
	default:
		return status{name: statusGood}, nil
	}
}

// ocspQuery is a request for one certificate.
type ocspQuery struct {
	certID   []byte // DER, to be repeated in the answer
	hash     func() hash.Hash
	nameHash []byte
	keyHash  []byte
	serial   pki.Serial
	nonce    []byte // content of the extension's value, nil without
}

func (q *ocspQuery) digest(data []byte) []byte {
	h := q.hash()
	h.Write(data)
	return h.Sum(nil)
}

// Bounds on requests.
const (
	maxOCSPRequest = 4 << 10
	maxNonce       = 128 // RFC 9654 section 2.1
)

// Tags and object identifiers of OCSP.
const (
	tag0 = asn1.Tag(0xa0)
	tag1 = asn1.Tag(0xa1)
	tag2 = asn1.Tag(0xa2)

	oidSHA1   = "\x2b\x0e\x03\x02\x1a"
	oidSHA256 = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"
	oidSHA384 = "\x60\x86\x48\x01\x65\x03\x04\x02\x02"
	oidSHA512 = "\x60\x86\x48\x01\x65\x03\x04\x02\x03"

	oidNonce = "\x2b\x06\x01\x05\x05\x07\x30\x01\x02"
	oidBasic = "\x2b\x06\x01\x05\x05\x07\x30\x01\x01"
)

var errOCSP = errors.New("not an OCSP request for one certificate (RFC 6960 section 4.1)")

// parseOCSP reads an OCSPRequest. A signature on it is not looked at: everybody may ask.
func parseOCSP(der []byte) (*ocspQuery, error) {
	var outer, tbs cryptobyte.String
	input := cryptobyte.String(der)
	if len(der) > maxOCSPRequest || !input.ReadASN1(&outer, asn1.SEQUENCE) || !input.Empty() ||
		!outer.ReadASN1(&tbs, asn1.SEQUENCE) || !outer.SkipOptionalASN1(tag0) || !outer.Empty() {
		return nil, errOCSP
	}
	q := new(ocspQuery)
	if !q.readTBS(tbs) {
		return nil, errOCSP
	}
	return q, nil
}

// readTBS reads the content of a TBSRequest: version, requestorName, requestList, requestExtensions.
func (q *ocspQuery) readTBS(tbs cryptobyte.String) bool {
	var requests, request, certID, extensions cryptobyte.String
	hasExtensions := false
	if !tbs.SkipOptionalASN1(tag0) || !tbs.SkipOptionalASN1(tag1) || !tbs.ReadASN1(&requests, asn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &hasExtensions, tag2) || !tbs.Empty() {
		return false
	}
	if !requests.ReadASN1(&request, asn1.SEQUENCE) || !requests.Empty() ||
		!request.ReadASN1Element(&certID, asn1.SEQUENCE) || !request.SkipOptionalASN1(tag0) || !request.Empty() {
		return false
	}
	q.certID = certID
	return q.readCertID(certID) && (!hasExtensions || q.readExtensions(extensions))
}
