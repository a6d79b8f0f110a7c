package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"hash"
)

// write writes the bytes that were signed (RFC 7515 section 5.1).
func (f *flattened) write(h hash.Hash) {
	h.Write(f.protected)
	h.Write([]byte{'.'})
	h.Write(f.payload)
}

// verify reports whether the key made the signature with its own algorithm.
func (k *Key) verify(f *flattened) bool {
	switch public := k.Public.(type) {
	case *ecdsa.PublicKey:
		h := sha256.New()
		if k.Algorithm == ES384 {
			h = sha512.New384()
		}
		f.write(h)
		// The digest is as long as a coordinate for both curves, so its size is that of r and of s.
		return verifyECDSA(public, h.Sum(nil), f.signature)
	case *rsa.PublicKey:
		h := sha256.New()
		f.write(h)
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, h.Sum(nil), f.signature) == nil
	case ed25519.PublicKey:
		signed := make([]byte, 0, len(f.protected)+1+len(f.payload))
		signed = append(signed, f.protected...)
		signed = append(signed, '.')
		signed = append(signed, f.payload...)
		return ed25519.Verify(public, signed, f.signature)
	}
	return false
}

// verifyECDSA verifies r and s as RFC 7518 section 3.4 has them: each as long as the curve's order, one after the
// other. They are made ASN.1, which the standard library wants, by hand, because it is the fast half of the work.
func verifyECDSA(public *ecdsa.PublicKey, digest, signature []byte) bool {
	size := len(digest)
	if len(signature) != 2*size {
		return false
	}
	var room [2 + 2*(2+1+48)]byte
	der := append(room[:0], 0x30, 0)
	der = appendInteger(der, signature[:size])
	der = appendInteger(der, signature[size:])
	der[1] = byte(len(der) - 2)
	return ecdsa.VerifyASN1(public, digest, der)
}

// appendInteger appends a positive number as an ASN.1 INTEGER.
func appendInteger(der, number []byte) []byte {
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	if number[0] < 0x80 {
		der = append(der, 0x02, byte(len(number)))
	} else {
		der = append(der, 0x02, byte(len(number)+1), 0)
	}
	return append(der, number...)
}
