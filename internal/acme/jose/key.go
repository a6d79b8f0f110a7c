package jose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"math/big"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/goodkey"
)

// Key is a public key that goodkey accepted. It must not be changed, and is safe for concurrent use.
type Key struct {
	Public    crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey
	Algorithm string           // the only signature algorithm for this key
	// Canonical is the JWK with its required members only, in the order and form of RFC 7638 section 3.2, so that a key
	// has one such form.
	Canonical  []byte
	Thumbprint string   // RFC 7638 with SHA-256, base64url
	SPKIHash   [32]byte // SHA-256 of the DER subject public key info, to compare with keys of certificates
}

// Bounds on key members, so that nothing is computed with what goodkey would refuse for its size.
const (
	maxModulus  = 4096 / 8
	maxExponent = 4
)

// ParseKey reads a public JWK (RFC 7517). Members that are not part of the key are ignored; unknown types, keys that
// goodkey refuses and points that are not on their curve are BadPublicKey; private members and numbers that are not
// in their one encoding are Malformed.
func ParseKey(jwk []byte) (*Key, error) {
	members, err := readJWK(jwk)
	if err != nil {
		return nil, err
	}
	key, err := members.key()
	if err != nil {
		return nil, err
	}
	if err := goodkey.CheckPublicKey(key.Public); err != nil {
		return nil, fault.Wrap(err, fault.BadPublicKey, "JWK is refused: %v", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public)
	if err != nil {
		return nil, fault.Wrap(err, fault.BadPublicKey, "JWK cannot be written as a subject public key info")
	}
	key.SPKIHash = sha256.Sum256(spki)
	sum := sha256.Sum256(key.Canonical)
	key.Thumbprint = encoding.EncodeToString(sum[:])
	return key, nil
}

// jwkMembers are the members of a JWK that make a public key.
type jwkMembers struct {
	kty, crv, x, y, n, e optional
}

func readJWK(jwk []byte) (jwkMembers, error) {
	var m jwkMembers
	var room [8]member
	members, err := readObject(jwk, room[:0])
	if err != nil {
		return m, fault.New(fault.Malformed, "JWK %v", err)
	}
	for _, found := range members {
		if err := m.read(found); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (j *jwkMembers) read(m member) error {
	var err error
	switch string(m.name) {
	case "kty":
		j.kty, err = readOptional(m, "JWK")
	case "crv":
		j.crv, err = readOptional(m, "JWK")
	case "x":
		j.x, err = readOptional(m, "JWK")
	case "y":
		j.y, err = readOptional(m, "JWK")
	case "n":
		j.n, err = readOptional(m, "JWK")
	case "e":
		j.e, err = readOptional(m, "JWK")
	case "d", "p", "q", "dp", "dq", "qi", "oth":
		// The value must not reach an error or a log: it is a secret, though one that is burned now.
		return fault.New(fault.Malformed, "JWK has private member %q; the key is known to others now, make a new one", m.name)
	default:
		return refuseVariant(m.name, "JWK", "kty", "crv", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi", "oth")
	}
	return err
}

// key makes the key from its members. It is not checked by goodkey yet.
func (j *jwkMembers) key() (*Key, error) {
	switch j.kty.value {
	case "EC":
		return j.ecKey()
	case "RSA":
		return j.rsaKey()
	case "OKP":
		return j.okpKey()
	}
	return nil, fault.New(fault.BadPublicKey, "JWK has key type %.40q, which is not one of EC, RSA, OKP", j.kty.value)
}

func (j *jwkMembers) ecKey() (*Key, error) {
	var curve elliptic.Curve
	key := &Key{}
	switch j.crv.value {
	case "P-256":
		curve, key.Algorithm = elliptic.P256(), ES256
	case "P-384":
		curve, key.Algorithm = elliptic.P384(), ES384
	default:
		return nil, fault.New(fault.BadPublicKey, "JWK has curve %.40q, which is not one of P-256, P-384", j.crv.value)
	}
	size := curve.Params().BitSize / 8
	point := make([]byte, 1, 1+2*size)
	point[0] = 4 // uncompressed, SEC 1 section 2.3.3
	for _, coordinate := range []struct {
		name string
		text optional
	}{{"x", j.x}, {"y", j.y}} {
		raw, err := decodeNumber(coordinate.text, coordinate.name)
		if err != nil {
			return nil, err
		}
		if len(raw) != size {
			return nil, fault.New(fault.BadPublicKey, "JWK's member %q has %d bytes, not %d (RFC 7518 section 6.2.1.2)",
				coordinate.name, len(raw), size)
		}
		point = append(point, raw...)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, fault.Wrap(err, fault.BadPublicKey, "JWK's point is not on curve %s", j.crv.value)
	}
	key.Public = public
	key.Canonical = []byte(`{"crv":"` + j.crv.value + `","kty":"EC","x":"` + j.x.value + `","y":"` + j.y.value + `"}`)
	return key, nil
}

func (j *jwkMembers) rsaKey() (*Key, error) {
	// The length of the text bounds the work, before a number is made of it.
	if len(j.n.value) > encoding.EncodedLen(maxModulus+1) {
		return nil, fault.New(fault.BadPublicKey, "JWK's modulus has more than %d bits", maxModulus*8)
	}
	n, err := decodeNumber(j.n, "n")
	if err != nil {
		return nil, err
	}
	if len(j.e.value) > encoding.EncodedLen(maxExponent) {
		return nil, fault.New(fault.BadPublicKey, "JWK's exponent has more than %d bits", maxExponent*8)
	}
	e, err := decodeNumber(j.e, "e")
	if err != nil {
		return nil, err
	}
	// RFC 7518 section 2: as few octets as possible. Otherwise a key would have many encodings.
	if n[0] == 0 || e[0] == 0 {
		return nil, fault.New(fault.Malformed, "JWK's member \"n\" or \"e\" begins with a zero octet (RFC 7518 section 2)")
	}
	exponent := 0
	for _, octet := range e {
		exponent = exponent<<8 | int(octet)
	}
	return &Key{
		Public:    &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent},
		Algorithm: RS256,
		Canonical: []byte(`{"e":"` + j.e.value + `","kty":"RSA","n":"` + j.n.value + `"}`),
	}, nil
}

func (j *jwkMembers) okpKey() (*Key, error) {
	if j.crv.value != "Ed25519" {
		return nil, fault.New(fault.BadPublicKey, "JWK has curve %.40q, which is not Ed25519", j.crv.value)
	}
	x, err := decodeNumber(j.x, "x")
	if err != nil {
		return nil, err
	}
	if len(x) != ed25519.PublicKeySize {
		return nil, fault.New(fault.BadPublicKey, "JWK's member \"x\" has %d bytes, not %d (RFC 8037 section 2)", len(x), ed25519.PublicKeySize)
	}
	return &Key{
		Public:    ed25519.PublicKey(x),
		Algorithm: EdDSA,
		Canonical: []byte(`{"crv":"Ed25519","kty":"OKP","x":"` + j.x.value + `"}`),
	}, nil
}

// decodeNumber decodes a base64url member that must be there and not be empty.
func decodeNumber(text optional, name string) ([]byte, error) {
	if text.value == "" {
		return nil, fault.New(fault.Malformed, "JWK has no member %q", name)
	}
	raw, err := decode([]byte(text.value))
	if err != nil {
		return nil, fault.New(fault.Malformed, "JWK's member %q %v", name, err)
	}
	return raw, nil
}
