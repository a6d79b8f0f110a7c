// Package goodkey owns the question whether a public key is strong enough to rely on, wherever it came from:
// an ACME account's JWK, a key change, a CSR. There is one answer for all of them.
//
// It must never do arithmetic whose cost the sender chooses: sizes are checked before anything is computed with
// a number. It trusts nothing of a key but that its Go type is what it says.
//
// What is taken, and nothing else:
//
//   - ECDSA on P-256 and P-384. P-521 is refused everywhere, as most public CAs do: no client needs it, it makes
//     signatures slow, and a key that is good for an account but not for a certificate helps nobody.
//   - RSA of 2048 to 4096 bits in whole octets, with the public exponent 65537.
//   - Ed25519.
package goodkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
)

// CheckPublicKey returns nil for a key that may be relied upon. The error is one sentence that names the value and
// the rule, without a subject, so that a caller can say whose key it is.
//
// It takes *ecdsa.PublicKey, *rsa.PublicKey and ed25519.PublicKey; every other type is refused, private keys and HMAC
// keys among them. It is safe for concurrent use and keeps nothing.
func CheckPublicKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return checkECDSA(key)
	case *rsa.PublicKey:
		return checkRSA(key)
	case ed25519.PublicKey:
		return checkEd25519(key)
	default:
		return errors.New("its type is not one of ECDSA, RSA, Ed25519")
	}
}

func checkECDSA(key *ecdsa.PublicKey) error {
	if key == nil || key.Curve == nil || key.X == nil || key.Y == nil { //nolint:staticcheck // Bytes panics without them
		return errors.New("ECDSA key has no curve or no point")
	}
	if key.Curve != elliptic.P256() && key.Curve != elliptic.P384() {
		// Params may panic for a curve that somebody else made; only the library's own are asked for their name.
		if key.Curve == elliptic.P224() || key.Curve == elliptic.P521() {
			return fmt.Errorf("ECDSA curve %s is not one of P-256, P-384", key.Curve.Params().Name)
		}
		return errors.New("ECDSA curve is not one of P-256, P-384")
	}
	// Bytes refuses coordinates that are negative or not below the field's prime, points that are not on the curve, and
	// the point at infinity. Both curves have cofactor 1, so every other point has the full order (NIST SP 800-186 table 3).
	if _, err := key.Bytes(); err != nil {
		return errors.New("ECDSA point is not on its curve")
	}
	return nil
}

// checkEd25519 refuses keys of small order: for them, one signature is good for many messages (RFC 8032 section 5.1.7
// and section 8.9 of RFC 7748 for the like of X25519). Whether the rest decodes to a point shows when a signature is
// verified, which every caller does.
func checkEd25519(key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("Ed25519 key has %d octets, not %d", len(key), ed25519.PublicKeySize)
	}
	const signBit = 0x80
	y := [ed25519.PublicKeySize]byte(key)
	y[len(y)-1] &^= signBit
	switch string(y[:]) {
	case orderOneY, orderTwoY, orderFourY, orderEightY1, orderEightY2:
		return errors.New("Ed25519 key is a point of small order")
	}
	if !belowPrime(&y) {
		return errors.New("Ed25519 key is not in its canonical encoding (RFC 8032 section 5.1.3)")
	}
	return nil
}

// The y coordinates of the eight points of small order, little endian; each but the first two has points with both
// signs of x (RFC 8032 section 5.1.2 for the encoding).
const (
	orderOneY    = "\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	orderTwoY    = "\xec\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"
	orderFourY   = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	orderEightY1 = "\x26\xe8\x95\x8f\xc2\xb2\x27\xb0\x45\xc3\xf4\x89\xf2\xef\x98\xf0\xd5\xdf\xac\x05\xd3\xc6\x33\x39\xb1\x38\x02\x88\x6d\x53\xfc\x05"
	orderEightY2 = "\xc7\x17\x6a\x70\x3d\x4d\xd8\x4f\xba\x3c\x0b\x76\x0d\x10\x67\x0f\x2a\x20\x53\xfa\x2c\x39\xcc\xc6\x4e\xc7\xfd\x77\x92\xac\x03\x7a"
)

// belowPrime reports whether y, little endian with its top bit clear, is below 2^255-19.
func belowPrime(y *[ed25519.PublicKeySize]byte) bool {
	const lowest, top = 0xed, 0x7f // first and last octet of the prime; those between are 0xff
	if y[0] < lowest || y[len(y)-1] != top {
		return true
	}
	for _, octet := range y[1 : len(y)-1] {
		if octet != 0xff {
			return true
		}
	}
	return false
}
