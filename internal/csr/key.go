package csr

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"math/big"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/goodkey"
	"github.com/certloom/certloom/internal/pki"
)

// readKey reads and checks the public key.
func (r *Request) readKey() error {
	key, err := x509.ParsePKIXPublicKey(r.SPKI)
	if err != nil {
		return fault.Wrap(err, fault.BadPublicKey, "CSR's public key cannot be read, or its type is not one of ECDSA, RSA, Ed25519")
	}
	if err := goodkey.CheckPublicKey(key); err != nil {
		return fault.Wrap(err, fault.BadPublicKey, "CSR's public key is refused: %v", err)
	}
	// Keys are recognized by the hash of these bytes, as when a key is blocked. The parser of the standard library
	// ignores what follows the elements that it knows, so that one key could come in many encodings.
	canonical, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(canonical, r.SPKI) {
		return fault.New(fault.BadPublicKey, "CSR's public key is not in its canonical DER encoding")
	}
	algorithm, ok := keyAlgorithm(key)
	if !ok {
		return fault.New(fault.BadPublicKey, "CSR's public key is not one of ECDSA P-256 or P-384, RSA with 2048, 3072 or 4096 bits, Ed25519")
	}
	r.PublicKey, r.KeyAlgorithm = key, algorithm
	r.Thumbprint, err = thumbprint(key)
	return err
}

func keyAlgorithm(key crypto.PublicKey) (pki.KeyAlgorithm, bool) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return pki.ECDSAP256, true
		case 384:
			return pki.ECDSAP384, true
		}
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 2048:
			return pki.RSA2048, true
		case 3072:
			return pki.RSA3072, true
		case 4096:
			return pki.RSA4096, true
		}
	case ed25519.PublicKey:
		return pki.Ed25519, true
	}
	return "", false
}

// thumbprint returns the RFC 7638 thumbprint with SHA-256, which is over JSON with members in this order and no
// spaces (section 3.2; RFC 8037 appendix A.3 for Ed25519).
func thumbprint(key crypto.PublicKey) (string, error) {
	var buffer [1024]byte
	json := buffer[:0]
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes() // 0x04, x and y (SEC 1 section 2.3.3)
		if err != nil {
			return "", fault.Wrap(err, fault.BadPublicKey, "CSR's public key cannot be read")
		}
		half := (len(point) - 1) / 2
		json = append(json, `{"crv":"`...)
		json = append(json, key.Curve.Params().Name...)
		json = append(json, `","kty":"EC","x":"`...)
		json = base64.RawURLEncoding.AppendEncode(json, point[1:1+half])
		json = append(json, `","y":"`...)
		json = base64.RawURLEncoding.AppendEncode(json, point[1+half:])
	case *rsa.PublicKey:
		json = append(json, `{"e":"`...)
		json = base64.RawURLEncoding.AppendEncode(json, big.NewInt(int64(key.E)).Bytes())
		json = append(json, `","kty":"RSA","n":"`...)
		json = base64.RawURLEncoding.AppendEncode(json, key.N.Bytes())
	case ed25519.PublicKey:
		json = append(json, `{"crv":"Ed25519","kty":"OKP","x":"`...)
		json = base64.RawURLEncoding.AppendEncode(json, key)
	}
	json = append(json, `"}`...)
	sum := sha256.Sum256(json)
	return base64.RawURLEncoding.EncodeToString(sum[:]), nil
}
