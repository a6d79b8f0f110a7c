package pki

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// maxAKI bounds the authority key identifier of an ARI certificate identifier: 20 octets are usual, hashes have up
// to 64.
const maxAKI = 64

// ARICertID returns the certificate identifier of ACME Renewal Information (RFC 9773 section 4.1): the authority key
// identifier and the content of the serial number's DER integer, each in unpadded base64url.
func ARICertID(aki []byte, serial Serial) string {
	raw := serial.Bytes()
	if len(raw) > 0 && raw[0]&0x80 != 0 {
		// DER keeps a positive integer positive by a leading zero (RFC 9773 section 4.1 demands it).
		raw = append([]byte{0}, raw...)
	}
	return base64.RawURLEncoding.EncodeToString(aki) + "." + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseARICertID reads an ARI certificate identifier. It accepts exactly what ARICertID makes, so that one
// certificate has one identifier. The error names the value and the rule.
func ParseARICertID(s string) (aki []byte, serial Serial, err error) {
	refuse := func(rule string) ([]byte, Serial, error) {
		return nil, "", fmt.Errorf("certificate identifier %.120q %s (RFC 9773 section 4.1)", s, rule)
	}
	left, right, ok := strings.Cut(s, ".")
	if !ok || strings.Contains(right, ".") {
		return refuse("does not have exactly two parts joined by a dot")
	}
	strict := base64.RawURLEncoding.Strict()
	aki, err = strict.DecodeString(left)
	if err != nil || len(aki) == 0 || len(aki) > maxAKI || strings.ContainsAny(left, "\r\n") {
		return refuse("does not begin with an authority key identifier in unpadded base64url")
	}
	raw, err := strict.DecodeString(right)
	if err != nil || len(raw) == 0 || strings.ContainsAny(right, "\r\n") {
		return refuse("does not end with a serial number in unpadded base64url")
	}
	digits := raw
	if len(raw) > 1 && raw[0] == 0 {
		digits = raw[1:]
	}
	minimal := digits[0] != 0 && (len(digits) == len(raw)) == (digits[0]&0x80 == 0)
	if !minimal || len(digits) > SerialLen {
		return refuse("has a serial number that is not a positive DER integer of up to 20 octets")
	}
	return aki, Serial(fmt.Sprintf("%x", digits)), nil
}
