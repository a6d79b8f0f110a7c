package pki

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"
)

// SerialLen is the length of the serials that we make: the 20 octets that RFC 5280 section 4.1.2.2 allows.
const SerialLen = 20

// Serial is a certificate serial number: the bytes of a positive integer, big endian, without leading zeros, in
// lower-case hexadecimal with an even number of digits. The zero value means "none".
type Serial string

// NewSerial returns a serial of 31 bits of time (in steps of two seconds) followed by 128 random bits. The time
// keeps the database's index append-only; the random part is twice what CA/Browser Forum BR 7.1 asks for. The top
// bit is clear until 2106, so that the DER integer is exactly 20 octets.
func NewSerial(now time.Time, random io.Reader) (Serial, error) {
	var raw [SerialLen]byte
	binary.BigEndian.PutUint32(raw[:4], uint32(now.Unix()>>1)&0x7fffffff)
	if _, err := io.ReadFull(random, raw[4:]); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	return SerialFromInt(new(big.Int).SetBytes(raw[:])), nil
}

// SerialFromInt converts a certificate's serial number. It returns "" for nil, zero and negative numbers, which
// no certificate may have.
func SerialFromInt(n *big.Int) Serial {
	if n == nil || n.Sign() <= 0 {
		return ""
	}
	return Serial(hex.EncodeToString(n.Bytes()))
}

// ParseSerial accepts what people paste: hexadecimal digits in either case, with or without colons, spaces, a
// leading 0x and leading zeros. The error names the value and the rule.
func ParseSerial(s string) (Serial, error) {
	digits := strings.ToLower(strings.TrimSpace(s))
	digits = strings.TrimPrefix(digits, "0x")
	digits = strings.ReplaceAll(strings.ReplaceAll(digits, ":", ""), " ", "")
	digits = strings.TrimLeft(digits, "0")
	if len(digits)%2 == 1 {
		digits = "0" + digits
	}
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) == 0 || len(raw) > SerialLen {
		return "", fmt.Errorf("serial %.60q: want 1 to %d bytes in hexadecimal", s, SerialLen)
	}
	return Serial(digits), nil
}

// Int returns the number, or nil for a Serial that no constructor made.
func (s Serial) Int() *big.Int {
	raw := s.Bytes()
	if raw == nil {
		return nil
	}
	return new(big.Int).SetBytes(raw)
}

// Bytes returns the big-endian bytes, or nil for a Serial that no constructor made.
func (s Serial) Bytes() []byte {
	raw, err := hex.DecodeString(string(s))
	if err != nil || len(raw) == 0 {
		return nil
	}
	return raw
}
