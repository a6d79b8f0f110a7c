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

// Bounds on answers that are made, not kept: each costs a look into storage and a signature. Whoever comes when so many
// wait is told to come again.
const (
	maxSigning = 32
	maxWaiting = 1024
)

// OCSP answers an OCSP request (RFC 6960), as RFC 5019 has it, with a nonce if the request has one (RFC 9654). The answer
// is signed by a key that the CA has certified for that. "Good" is said of certificates in the inventory and of CAs only;
// of every other serial we know nothing.
//
// What cannot be answered gets an OCSP error, which is not an error of this function: malformedRequest, unauthorized
// for a CA that is not ours, tryLater when storage cannot be asked or too many ask. NextUpdate is zero when the response
// may not be kept by a cache: errors, answers with a nonce, for several certificates, and unknown ones.
func (r *Revoker) OCSP(ctx context.Context, request []byte) (response []byte, nextUpdate time.Time, err error) {
	query, err := parseOCSP(request)
	if err != nil {
		return r.refuseOCSP("malformedRequest", ocspMalformed), time.Time{}, nil //nolint:nilerr // the response tells
	}
	now := r.config.Now()
	if kept, ok := r.kept(query, now); ok {
		return kept.der, kept.next, nil
	}
	issuer, err := r.issuerOf(query)
	if err != nil {
		return nil, time.Time{}, err
	}
	if issuer == nil {
		return r.refuseOCSP("unauthorized", ocspUnauthorized), time.Time{}, nil
	}
	if !r.enter(ctx) {
		return r.refuseOCSP("tryLater", ocspTryLater), time.Time{}, nil
	}
	defer r.leave()
	response, nextUpdate, err = r.answer(ctx, query, issuer, now.UTC().Truncate(time.Second))
	if fault.Is(err, fault.Unavailable) {
		return r.refuseOCSP("tryLater", ocspTryLater), time.Time{}, nil
	}
	if err != nil {
		r.metrics.answers.WithLabelValues("tryLater").Inc()
		return nil, time.Time{}, fmt.Errorf("OCSP: %w", err)
	}
	return response, nextUpdate, nil
}

func (r *Revoker) refuseOCSP(name string, status byte) []byte {
	r.metrics.answers.WithLabelValues(name).Inc()
	return ocspError(status)
}

// kept finds an answer that was made a moment ago.
func (r *Revoker) kept(q *ocspQuery, now time.Time) (answer, bool) {
	if q.nonce != nil || len(q.certs) != 1 {
		return answer{}, false
	}
	kept, ok := r.answers.Get(q.certs[0].serial)
	if !ok || !bytes.Equal(kept.certID, q.certs[0].certID) {
		return answer{}, false
	}
	age := now.Sub(kept.made)
	return kept, age >= 0 && age < answerAge
}

// enter waits for a place among those who make answers; false: there are too many, or the client has gone. With a place
// comes a call of leave.
func (r *Revoker) enter(ctx context.Context) bool {
	if r.waiting.Add(1) > maxWaiting {
		r.waiting.Add(-1)
		return false
	}
	select {
	case r.signing <- struct{}{}:
		return true
	case <-ctx.Done():
		r.waiting.Add(-1)
		return false
	}
}

func (r *Revoker) leave() {
	<-r.signing
	r.waiting.Add(-1)
}

// answer makes an answer.
func (r *Revoker) answer(ctx context.Context, q *ocspQuery, issuer *responder, now time.Time) (der []byte, next time.Time, err error) {
	revoked := r.revoked.Load()
	statuses := make([]status, len(q.certs))
	known := true
	for i := range q.certs {
		if statuses[i], err = r.status(ctx, issuer.ca, q.certs[i].serial); err != nil {
			return nil, time.Time{}, err
		}
		known = known && statuses[i].name != statusUnknown
	}
	signer, err := r.signerOf(ctx, issuer, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	next = now.Add(r.config.OCSPLifetime)
	der, err = r.signOCSP(signer, issuer, q, statuses, now, next)
	if err != nil {
		return nil, time.Time{}, err
	}
	for _, s := range statuses {
		r.metrics.answers.WithLabelValues(s.name).Inc()
	}
	if q.nonce != nil || !known || len(q.certs) > 1 {
		return der, time.Time{}, nil
	}
	serial := q.certs[0].serial
	r.answers.Add(serial, answer{certID: q.certs[0].certID, der: der, made: now, next: next})
	if r.revoked.Load() != revoked {
		r.answers.Remove(serial) // it may have been revoked between the question and the signature
	}
	return der, next, nil
}

// responder is a CA that answers.
type responder struct {
	ca          *pki.CA
	certificate *x509.Certificate
	keyBits     []byte
}

// issuerOf finds the CA that a request speaks of, by the hashes of its name and key. It returns nil for none, and for a
// request about certificates of several CAs: an answer has one signer, whom one CA has authorized.
func (r *Revoker) issuerOf(q *ocspQuery) (*responder, error) {
	var found *responder
	for i := range q.certs {
		one, err := r.issuerOfOne(&q.certs[i])
		if err != nil || one == nil || found != nil && found.ca.ID != one.ca.ID {
			return nil, err
		}
		found = one
	}
	return found, nil
}

func (r *Revoker) issuerOfOne(q *certQuery) (*responder, error) {
	for _, ca := range r.config.CAs() {
		if ca.Certificate == nil {
			continue
		}
		candidate, err := r.responderOf(ca)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(q.digest(candidate.certificate.RawSubject), q.nameHash) && bytes.Equal(q.digest(candidate.keyBits), q.keyHash) {
			return candidate, nil
		}
	}
	return nil, nil
}

// responderOf parses a CA's certificate once.
func (r *Revoker) responderOf(ca *pki.CA) (*responder, error) {
	r.mu.Lock()
	known := r.responders[ca.ID]
	r.mu.Unlock()
	if known != nil && known.ca == ca {
		return known, nil
	}
	certificate, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		return nil, fmt.Errorf("OCSP: parse certificate of CA %q: %w", ca.Name, err)
	}
	key, err := keyBits(certificate.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("OCSP: key of CA %q: %w", ca.Name, err)
	}
	made := &responder{ca: ca, certificate: certificate, keyBits: key}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.responders[ca.ID] = made
	return made, nil
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
		return r.statusOfCA(ca, serial)
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

// statusOfCA is about certificates of CAs that this one has signed.
func (r *Revoker) statusOfCA(ca *pki.CA, serial pki.Serial) (status, error) {
	for _, below := range r.config.CAs() {
		if below.ParentID != ca.ID || below.Certificate == nil {
			continue
		}
		found, err := r.responderOf(below)
		if err != nil {
			return status{}, err
		}
		if pki.SerialFromInt(found.certificate.SerialNumber) == serial {
			if !below.RevokedAt.IsZero() {
				return status{name: statusRevoked, at: below.RevokedAt, reason: below.Reason}, nil
			}
			return status{name: statusGood}, nil
		}
	}
	return status{name: statusUnknown}, nil
}

// ocspQuery is a request.
type ocspQuery struct {
	certs []certQuery // at least one
	nonce []byte      // content of the extension's value, nil without
}

// certQuery is the part of a request about one certificate.
type certQuery struct {
	certID   []byte // DER, to be repeated in the answer
	hash     func() hash.Hash
	nameHash []byte
	keyHash  []byte
	serial   pki.Serial
}

func (q *certQuery) digest(data []byte) []byte {
	h := q.hash()
	h.Write(data)
	return h.Sum(nil)
}

// Bounds on requests.
const (
	maxOCSPRequest = 4 << 10
	maxOCSPCerts   = 16
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

var errOCSP = errors.New("not an OCSP request (RFC 6960 section 4.1)")

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
	var requests, extensions cryptobyte.String
	hasExtensions := false
	if !tbs.SkipOptionalASN1(tag0) || !tbs.SkipOptionalASN1(tag1) || !tbs.ReadASN1(&requests, asn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&extensions, &hasExtensions, tag2) || !tbs.Empty() {
		return false
	}
	for !requests.Empty() {
		var request, certID cryptobyte.String
		var one certQuery
		if !requests.ReadASN1(&request, asn1.SEQUENCE) || !request.ReadASN1Element(&certID, asn1.SEQUENCE) ||
			!request.SkipOptionalASN1(tag0) || !request.Empty() || !one.readCertID(certID) {
			return false
		}
		one.certID = certID
		q.certs = append(q.certs, one)
	}
	return len(q.certs) > 0 && len(q.certs) <= maxOCSPCerts && (!hasExtensions || q.readExtensions(extensions))
}
