package acmeclient

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	_ "crypto/sha512" // registers SHA-384 and SHA-512 for crypto.Hash.New
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// identity is a key with what its signatures need, and the account that it signs for.
type identity struct {
	signer     crypto.Signer
	alg        string
	hash       crypto.Hash // 0: the message itself is signed
	size       int         // of r and of s, for ECDSA
	jwk        string      // canonical, RFC 7638
	thumbprint string
	kid        string // "" signs with the JWK
	// withKID and withJWK are the first members of a protected header, up to the next member's comma.
	withKID, withJWK string
}

func newIdentity(signer crypto.Signer, kid string) (*identity, error) {
	id := &identity{signer: signer, kid: kid}
	if !plain(kid) {
		return nil, fmt.Errorf("account URL %.200q has characters that no URL has", kid)
	}
	switch key := signer.Public().(type) {
	case *ecdsa.PublicKey:
		if err := id.ecdsa(key); err != nil {
			return nil, err
		}
	case *rsa.PublicKey:
		id.alg, id.hash = "RS256", crypto.SHA256
		id.jwk = `{"e":"` + encode(big.NewInt(int64(key.E)).Bytes()) + `","kty":"RSA","n":"` + encode(key.N.Bytes()) + `"}`
	case ed25519.PublicKey:
		id.alg = "EdDSA"
		id.jwk = `{"crv":"Ed25519","kty":"OKP","x":"` + encode(key) + `"}`
	default:
		return nil, fmt.Errorf("account key of type %T is not one of ECDSA, RSA, Ed25519", key)
	}
	sum := sha256.Sum256([]byte(id.jwk))
	id.thumbprint = encode(sum[:])
	id.withKID = `{"alg":"` + id.alg + `","kid":"` + kid + `"`
	id.withJWK = `{"alg":"` + id.alg + `","jwk":` + id.jwk
	return id, nil
}

func (id *identity) ecdsa(key *ecdsa.PublicKey) error {
	point, err := key.Bytes()
	if err != nil {
		return fmt.Errorf("account key: %w", err)
	}
	switch bits := key.Curve.Params().BitSize; bits {
	case 256:
		id.alg, id.hash, id.size = "ES256", crypto.SHA256, 32
	case 384:
		id.alg, id.hash, id.size = "ES384", crypto.SHA384, 48
	default:
		return fmt.Errorf("account key on a curve of %d bits is not one of P-256, P-384", bits)
	}
	id.jwk = `{"crv":"` + key.Curve.Params().Name + `","kty":"EC","x":"` + encode(point[1:1+id.size]) + `","y":"` + encode(point[1+id.size:]) + `"}`
	return nil
}

// request signs a payload for a URL, with the nonce when there is one (an inner JWS has none).
func (id *identity) request(random io.Reader, withJWK bool, nonce, url string, payload []byte) ([]byte, error) {
	if !plain(url) || !plain(nonce) {
		return nil, errors.New("URL or nonce of the CA has characters that neither may have")
	}
	header := id.withKID
	if withJWK {
		header = id.withJWK
	}
	if nonce != "" {
		header += `,"nonce":"` + nonce + `"`
	}
	signed := signingInput(header+`,"url":"`+url+`"}`, payload)
	signature, err := id.sign(random, signed)
	if err != nil {
		return nil, fmt.Errorf("sign with the account key: %w", err)
	}
	return flattened(signed, signature), nil
}

func (id *identity) sign(random io.Reader, signed []byte) ([]byte, error) {
	digest := signed
	if id.hash != 0 {
		h := id.hash.New()
		h.Write(signed)
		digest = h.Sum(nil)
	}
	signature, err := id.signer.Sign(random, digest, id.hash)
	if err != nil || id.size == 0 {
		return signature, err
	}
	return rawSignature(signature, id.size)
}

// rawSignature makes the r and s of RFC 7518 section 3.4 of an ASN.1 signature.
func rawSignature(der []byte, size int) ([]byte, error) {
	input, inner := cryptobyte.String(der), cryptobyte.String(nil)
	var r, s []byte
	if !input.ReadASN1(&inner, asn1.SEQUENCE) || !inner.ReadASN1Integer(&r) || !inner.ReadASN1Integer(&s) || len(r) > size || len(s) > size {
		return nil, errors.New("the key's signature is no ECDSA signature")
	}
	raw := make([]byte, 2*size)
	copy(raw[size-len(r):], r)
	copy(raw[2*size-len(s):], s)
	return raw, nil
}

// binding makes an external account binding (RFC 8555 section 7.3.4) of the identity's key.
func (id *identity) binding(b *Binding, url string) ([]byte, error) {
	hash := b.Hash
	if hash == 0 {
		hash = crypto.SHA256
	}
	if !plain(b.KeyID) || b.KeyID == "" || len(b.HMACKey) == 0 || !plain(url) {
		return nil, errors.New("EAB credential lacks a key ID of printable ASCII or an HMAC key")
	}
	names := map[crypto.Hash]string{crypto.SHA256: "HS256", crypto.SHA384: "HS384", crypto.SHA512: "HS512"}
	alg, ok := names[hash]
	if !ok {
		return nil, fmt.Errorf("EAB hash %s is not one of SHA-256, SHA-384, SHA-512", hash)
	}
	signed := signingInput(`{"alg":"`+alg+`","kid":"`+b.KeyID+`","url":"`+url+`"}`, []byte(id.jwk))
	mac := hmac.New(hash.New, b.HMACKey)
	mac.Write(signed)
	return flattened(signed, mac.Sum(nil)), nil
}

// signingInput returns the base64url of both, joined by a dot (RFC 7515 section 5.1).
func signingInput(header string, payload []byte) []byte {
	signed := make([]byte, 0, base64.RawURLEncoding.EncodedLen(len(header))+1+base64.RawURLEncoding.EncodedLen(len(payload)))
	signed = base64.RawURLEncoding.AppendEncode(signed, []byte(header))
	signed = append(signed, '.')
	return base64.RawURLEncoding.AppendEncode(signed, payload)
}

// flattened is the flattened JSON serialization (RFC 7515 section 7.2.2).
func flattened(signed, signature []byte) []byte {
	dot := 0
	for signed[dot] != '.' {
		dot++
	}
	body := make([]byte, 0, len(signed)+base64.RawURLEncoding.EncodedLen(len(signature))+48)
	body = append(body, `{"protected":"`...)
	body = append(body, signed[:dot]...)
	body = append(body, `","payload":"`...)
	body = append(body, signed[dot+1:]...)
	body = append(body, `","signature":"`...)
	body = base64.RawURLEncoding.AppendEncode(body, signature)
	return append(body, `"}`...)
}

func encode(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }

// plain reports whether s can stand in a JSON string as it is: no CA of good will sends anything else.
func plain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '"' || r == '\\' })
}
