package csr_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"slices"
	"testing"
)

// build makes requests that the standard library would not make.
type build struct {
	version      byte
	subject      []byte   // DER of the Name; nil: an empty one
	names        [][]byte // GeneralNames; nil: no SAN extension
	extensions   []pkix.Extension
	attributes   [][]byte // before the extensionRequest
	noAttributes bool
	key          *ecdsa.PrivateKey // nil: a fresh P-256 key
	signer       *ecdsa.PrivateKey // nil: key
	spki         []byte            // instead of the key's
	spkiTail     []byte
	infoTail     []byte
	outerTail    []byte
	algorithm    asn1.ObjectIdentifier // nil: ecdsa-with-SHA256
	parameters   []byte
}

func (b build) der(t testing.TB) []byte {
	t.Helper()
	if b.key == nil {
		b.key = newECDSA(t, elliptic.P256())
	}
	if b.signer == nil {
		b.signer = b.key
	}
	if b.algorithm == nil {
		b.algorithm = oid(1, 2, 840, 10045, 4, 3, 2)
	}
	if b.subject == nil {
		b.subject = sequence()
	}
	if b.spki == nil {
		spki, err := x509.MarshalPKIXPublicKey(b.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		b.spki = spki
	}
	if b.spkiTail != nil {
		var content asn1.RawValue
		if _, err := asn1.Unmarshal(b.spki, &content); err != nil {
			t.Fatal(err)
		}
		b.spki = der(0x30, content.Bytes, b.spkiTail)
	}
	info := b.info()
	digest := sha256.Sum256(info)
	signature, err := ecdsa.SignASN1(rand.Reader, b.signer, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return der(0x30, info, der(0x30, marshal(b.algorithm), b.parameters), der(0x03, []byte{0}, signature), b.outerTail)
}

func (b build) info() []byte {
	extensions := slices.Clone(b.extensions)
	if b.names != nil {
		san := pkix.Extension{Id: oid(2, 5, 29, 17), Value: sequence(b.names...)}
		extensions = append([]pkix.Extension{san}, extensions...)
	}
	attributes := slices.Clone(b.attributes)
	if len(extensions) > 0 {
		attributes = append(attributes, extensionRequest(extensions...))
	}
	encoded := der(0xa0, attributes...)
	if b.noAttributes {
		encoded = nil
	}
	return der(0x30, []byte{0x02, 0x01, b.version}, b.subject, b.spki, encoded, b.infoTail)
}

// der encodes one element.
func der(tag byte, contents ...[]byte) []byte {
	content := slices.Concat(contents...)
	out := []byte{tag}
	switch length := len(content); {
	case length < 0x80:
		out = append(out, byte(length))
	case length < 0x100:
		out = append(out, 0x81, byte(length))
	case length < 0x10000:
		out = append(out, 0x82, byte(length>>8), byte(length))
	default:
		out = append(out, 0x83, byte(length>>16), byte(length>>8), byte(length))
	}
	return append(out, content...)
}

func sequence(contents ...[]byte) []byte { return der(0x30, contents...) }

// general encodes a GeneralName with a primitive tag.
func general(choice byte, value string) []byte { return der(0x80|choice, []byte(value)) }

// attribute encodes an RDN with one attribute of arc 2.5.4 as UTF8String.
func attribute(number byte, value string) []byte {
	return der(0x31, der(0x30, der(0x06, []byte{0x55, 0x04, number}), der(0x0c, []byte(value))))
}

func extensionRequest(extensions ...pkix.Extension) []byte {
	encoded := make([][]byte, 0, len(extensions))
	for _, extension := range extensions {
		encoded = append(encoded, marshal(extension))
	}
	return der(0x30, marshal(oid(1, 2, 840, 113549, 1, 9, 14)), der(0x31, sequence(encoded...)))
}

func microsoftRequest() []byte {
	extension := pkix.Extension{Id: oid(2, 5, 29, 17), Value: sequence(general(2, "evil.example"))}
	return der(0x30, marshal(oid(1, 3, 6, 1, 4, 1, 311, 2, 1, 14)), der(0x31, sequence(marshal(extension))))
}

func marshal(value any) []byte {
	encoded, err := asn1.Marshal(value)
	if err != nil {
		panic(err)
	}
	return encoded
}

func many(n int) [][]byte {
	names := make([][]byte, 0, n)
	for i := range n {
		names = append(names, general(2, fmt.Sprintf("%x.x", i)))
	}
	return names
}

func manyExtensions(n int) []pkix.Extension {
	extensions := make([]pkix.Extension, 0, n)
	for i := range n {
		extensions = append(extensions, pkix.Extension{Id: oid(1, 2, 3, i), Value: []byte{5, 0}})
	}
	return extensions
}

// rsaSized makes a request with an RSA key of a size, without a signature that could be good: refusing the key must
// come first, for nobody should verify with 16384 bits.
func rsaSized(t testing.TB, bits int) []byte {
	t.Helper()
	modulus := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
	modulus.Add(modulus, big.NewInt(1234567891))
	type publicKey struct {
		N *big.Int
		E int
	}
	key := marshal(publicKey{modulus, 65537})
	spki := der(0x30, der(0x30, marshal(oid(1, 2, 840, 113549, 1, 1, 1)), []byte{5, 0}), der(0x03, []byte{0}, key))
	return build{spki: spki, names: [][]byte{general(2, "a.example")}}.der(t)
}

// x25519 is a key that cannot sign (RFC 8410 section 10.1).
var x25519 = der(0x30, der(0x30, []byte{0x06, 0x03, 0x2b, 0x65, 0x6e}), der(0x03, make([]byte, 33)))

// offCurve is a P-256 key whose point is not on the curve.
func offCurve(t testing.TB) []byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(newECDSA(t, elliptic.P256()).Public())
	if err != nil {
		t.Fatal(err)
	}
	spki[len(spki)-1] ^= 1
	return spki
}

func selfSigned(t testing.TB) []byte {
	t.Helper()
	key := newECDSA(t, elliptic.P256())
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.example"}}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func flipLast(der []byte) []byte {
	der[len(der)-1] ^= 1
	return der
}

func base64url(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
