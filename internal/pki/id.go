package pki

import (
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

// Identifiers of records. They are opaque to everyone but NewID; each kind has its own type so that one cannot
// be passed where another is meant.
type (
	// CAID names a root or an issuing CA; it is part of its download, CRL and OCSP addresses.
	CAID string
	// ProfileID names a certificate profile.
	ProfileID string
	// CredentialID is the KID of an EAB credential.
	CredentialID string
	// AccountID names an ACME account; it is the last element of the account's URL.
	AccountID string
	// OrderID names an ACME order, whether it has a row or lives in a sealed token.
	OrderID string
	// TokenID names an API token; the secret part is never an identifier.
	TokenID string
	// SessionID identifies a session of the console.
	SessionID string
	// KeyID names a sealed private key.
	KeyID string
)

// idEncoding is lower-case base32hex without padding: it keeps the order of the bytes, so identifiers sort by
// the time at which they were made and index pages fill from one end.
var idEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

// idBytes is the length of an identifier before encoding: 6 bytes of Unix milliseconds and 16 random bytes.
const idBytes = 22

// NewID returns a fresh identifier: 36 characters of [0-9a-v], beginning with the time in milliseconds and
// followed by 128 random bits, so that it cannot be guessed (RFC 8555 section 10.5).
func NewID[T ~string](now time.Time, random io.Reader) (T, error) {
	var raw [idBytes]byte
	var stamp [8]byte
	binary.BigEndian.PutUint64(stamp[:], uint64(now.UnixMilli()))
	copy(raw[:6], stamp[2:])
	if _, err := io.ReadFull(random, raw[6:]); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return T(idEncoding.EncodeToString(raw[:])), nil
}

// ValidID reports whether s has the form of an identifier that NewID made: 22 bytes in their one encoding.
func ValidID(s string) bool {
	_, ok := PackID(s)
	return ok
}

// PackID returns the bytes that an identifier of NewID stands for, which are 22 instead of 36; false for any other
// text. UnpackID undoes it.
func PackID(id string) ([]byte, bool) {
	raw, err := idEncoding.DecodeString(id)
	if err != nil || len(raw) != idBytes || idEncoding.EncodeToString(raw) != id {
		return nil, false
	}
	return raw, true
}

// UnpackID returns the identifier of the bytes that PackID returned.
func UnpackID(raw []byte) string { return idEncoding.EncodeToString(raw) }
