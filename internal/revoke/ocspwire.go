package revoke

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // CertID of RFC 6960 names issuers by SHA-1; nothing is signed with it
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/pki"
)

// readCertID reads a CertID (RFC 6960 section 4.1.1).
func (q *certQuery) readCertID(element cryptobyte.String) bool {
	var content, algorithm, nameHash, keyHash cryptobyte.String
	serial := new(big.Int)
	if !element.ReadASN1(&content, asn1.SEQUENCE) || !content.ReadASN1(&algorithm, asn1.SEQUENCE) ||
		!content.ReadASN1(&nameHash, asn1.OCTET_STRING) || !content.ReadASN1(&keyHash, asn1.OCTET_STRING) ||
		!content.ReadASN1Integer(serial) || !content.Empty() {
		return false
	}
	q.nameHash, q.keyHash, q.serial = nameHash, keyHash, pki.SerialFromInt(serial)
	return q.readHash(algorithm)
}

// readHash reads the content of the AlgorithmIdentifier of a hash, whose parameters are NULL or absent.
func (q *certQuery) readHash(algorithm cryptobyte.String) bool {
	var oid, null cryptobyte.String
	if !algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		(!algorithm.Empty() && (!algorithm.ReadASN1(&null, asn1.NULL) || !null.Empty() || !algorithm.Empty())) {
		return false
	}
	switch string(oid) {
	case oidSHA1:
		q.hash = sha1.New
	case oidSHA256:
		q.hash = sha256.New
	case oidSHA384:
		q.hash = sha512.New384
	case oidSHA512:
		q.hash = sha512.New
	default:
		return false
	}
	return true
}

// readExtensions takes the nonce; other extensions ask for nothing that we have.
func (q *ocspQuery) readExtensions(wrapped cryptobyte.String) bool {
	var extensions cryptobyte.String
	if !wrapped.ReadASN1(&extensions, asn1.SEQUENCE) || !wrapped.Empty() {
		return false
	}
	for !extensions.Empty() {
		var extension, oid, value cryptobyte.String
		critical := false
		if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!extension.ReadOptionalASN1Boolean(&critical, asn1.BOOLEAN, false) ||
			!extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
			return false
		}
		if string(oid) != oidNonce {
			if critical {
				return false
			}
			continue
		}
		// RFC 9654 section 2.1 wants an OCTET STRING of 1 to 128 octets inside; older clients send the octets bare.
		if len(value) == 0 || len(value) > maxNonce+3 || q.nonce != nil {
			return false
		}
		q.nonce = value
	}
	return true
}

// OCSPResponseStatus values (RFC 6960 section 4.2.1).
const (
	ocspMalformed    = 1
	ocspTryLater     = 3
	ocspUnauthorized = 6
)

// ocspError is a response without an answer; it is not signed.
func ocspError(status byte) []byte { return []byte{0x30, 0x03, 0x0a, 0x01, status} }

// signOCSP builds a BasicOCSPResponse (RFC 6960 section 4.2.1) and signs it. The library that others use for it knows
// neither nonces nor Ed25519 nor several certificates, and takes the time from the system's clock.
func (r *Revoker) signOCSP(signer *ocspSigner, issuer *responder, q *ocspQuery, statuses []status, now, next time.Time) ([]byte, error) {
	key := signer.key
	algorithm, opts, err := ocspAlgorithm(key.Public())
	if err != nil {
		return nil, err
	}
	data, err := responseData(signer, issuer, q, statuses, now, next)
	if err != nil {
		return nil, err
	}
	signature, err := crypto.SignMessage(key, r.config.Random, data, opts)
	if err != nil {
		return nil, fmt.Errorf("sign answer: %w", err)
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0) // successful
		b.AddASN1(tag0, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oidBasic)) })
				b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(data)
						b.AddBytes([]byte(algorithm))
						b.AddASN1BitString(signature)
						if signer.certificate != nil {
							b.AddASN1(tag0, func(b *cryptobyte.Builder) {
								b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(signer.certificate) })
							})
						}
					})
				})
			})
		})
	})
	return built(&b)
}

func built(b *cryptobyte.Builder) ([]byte, error) {
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return der, nil
}

// responseData encodes a ResponseData.
func responseData(signer *ocspSigner, issuer *responder, q *ocspQuery, statuses []status, now, next time.Time) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		if signer.certificate != nil {
			b.AddASN1(tag2, func(b *cryptobyte.Builder) { b.AddASN1OctetString(signer.keyHash) }) // byKey
		} else {
			b.AddASN1(tag1, func(b *cryptobyte.Builder) { b.AddBytes(issuer.certificate.RawSubject) }) // byName
		}
		b.AddASN1GeneralizedTime(now)
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := range q.certs {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddBytes(q.certs[i].certID)
					addStatus(b, statuses[i])
					b.AddASN1GeneralizedTime(now.Add(-backdate))
					b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddASN1GeneralizedTime(next) })
				})
			}
		})
		if q.nonce == nil {
			return
		}
		b.AddASN1(tag1, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oidNonce)) })
					b.AddASN1OctetString(q.nonce)
				})
			})
		})
	})
	return built(&b)
}

// addStatus adds a CertStatus.
func addStatus(b *cryptobyte.Builder, s status) {
	const tagGood, tagUnknown = asn1.Tag(0x80), asn1.Tag(0x82)
	switch s.name {
	case statusGood:
		b.AddASN1(tagGood, func(*cryptobyte.Builder) {})
	case statusRevoked:
		b.AddASN1(tag1, func(b *cryptobyte.Builder) {
			b.AddASN1GeneralizedTime(s.at.UTC().Truncate(time.Second))
			// As in CRLs, no reason is better than "unspecified" (RFC 5280 section 5.3.1).
			if s.reason != pki.Unspecified {
				b.AddASN1(tag0, func(b *cryptobyte.Builder) { b.AddASN1Enum(int64(s.reason)) })
			}
		})
	default:
		b.AddASN1(tagUnknown, func(*cryptobyte.Builder) {})
	}
}

// ocspAlgorithm returns the signature AlgorithmIdentifier of a CA's key and the hash to sign with.
func ocspAlgorithm(key crypto.PublicKey) (identifier string, opts crypto.SignerOpts, err error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P384() {
			return "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03", crypto.SHA384, nil
		}
		return "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02", crypto.SHA256, nil
	case *rsa.PublicKey:
		return "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00", crypto.SHA256, nil
	case ed25519.PublicKey:
		return "\x30\x05\x06\x03\x2b\x65\x70", crypto.Hash(0), nil
	default:
		return "", nil, errors.New("key of the CA is not one of ECDSA, RSA, Ed25519")
	}
}
