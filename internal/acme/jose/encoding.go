package jose

import (
	"bytes"
	"encoding/base64"
	"errors"
)

// encoding is base64url without padding whose last character has no bits beyond the data (RFC 7515 section 2).
var encoding = base64.RawURLEncoding.Strict()

var errBase64 = errors.New("is not base64url without padding (RFC 7515 section 2)")

// decode reads base64url strictly: bytes have one encoding only. The standard library skips line ends.
func decode(text []byte) ([]byte, error) {
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return nil, errBase64
	}
	raw := make([]byte, encoding.DecodedLen(len(text)))
	n, err := encoding.Decode(raw, text)
	if err != nil {
		return nil, errBase64
	}
	return raw[:n], nil
}

// isBase64 reports whether text is one or more characters of base64url (RFC 8555 section 6.5.1).
func isBase64(text string) bool {
	for i := range len(text) {
		c := text[i]
		if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return text != ""
}
