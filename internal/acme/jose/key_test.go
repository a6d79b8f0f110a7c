package jose_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/fault"
)

func TestParseKey(t *testing.T) {
	t.Parallel()
	for _, alg := range jose.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			s := newSigner(t, alg)
			key := s.parsed(t)
			other := gojose.JSONWebKey{Key: s.key.Public()}
			thumbprint, err := other.Thumbprint(crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if key.Thumbprint != b64.EncodeToString(thumbprint) || key.Algorithm != alg {
				t.Errorf("thumbprint %s, algorithm %s; go-jose has %s for %s", key.Thumbprint, key.Algorithm, b64.EncodeToString(thumbprint), alg)
			}
			spki, err := x509.MarshalPKIXPublicKey(s.key.Public())
			if err != nil {
				t.Fatal(err)
			}
			if key.SPKIHash != sha256.Sum256(spki) {
				t.Error("hash of the subject public key info differs")
			}
			again, err := jose.ParseKey(key.Canonical)
			if err != nil || again.Thumbprint != key.Thumbprint || !bytes.Equal(again.Canonical, key.Canonical) {
				t.Errorf("canonical form %s read again: %v", key.Canonical, err)
			}
			// Other members and another order make no other key.
			with := replaced(s.jwk(), `{`, `{"use":"sig","alg":"none","kid":"x","key_ops":["verify"],`)
			if again, err = jose.ParseKey([]byte(with)); err != nil || again.Thumbprint != key.Thumbprint {
				t.Errorf("with extra members: %v", err)
			}
		})
	}
}

// The example of RFC 7638 section 3.1.
func TestThumbprintOfRFC7638(t *testing.T) {
	t.Parallel()
	const jwk = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCi` +
		`FV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbI` +
		`SD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	key, err := jose.ParseKey([]byte(jwk))
	if err != nil {
		t.Fatal(err)
	}
	if want := "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"; key.Thumbprint != want {
		t.Errorf("thumbprint %s, want %s", key.Thumbprint, want)
	}
}

func TestParseKeyRefuses(t *testing.T) {
	t.Parallel()
	ec, rsa, ed := newSigner(t, jose.ES256).jwk(), newSigner(t, jose.RS256).jwk(), newSigner(t, jose.EdDSA).jwk()
	x := func(jwk string) string { return jwkMember(t, jwk, "x") }
	n := jwkMember(t, rsa, "n")
	modulus, err := b64.DecodeString(n)
	if err != nil {
		t.Fatal(err)
	}
	ofBits := func(bits int) string {
		m := make([]byte, (bits+7)/8)
		for i := range m {
			m[i] = 0xff
		}
		m[0] >>= (8 - bits%8) % 8
		return rsaJWK(m, []byte{1, 0, 1})
	}
	exponent := func(e ...byte) string { return rsaJWK(modulus, e) }
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	even := bytes.Clone(modulus)
	even[len(even)-1] &^= 1
	zeros := b64.EncodeToString(make([]byte, 32))
	tests := map[string]struct {
		jwk  string
		want fault.Kind
	}{
		"JWS-10/zero":               {replaced(ed, x(ed), zeros), fault.BadPublicKey},
		"JWS-10/order-one":          {replaced(ed, x(ed), b64.EncodeToString(append([]byte{1}, make([]byte, 31)...))), fault.BadPublicKey},
		"JWS-10/short":              {replaced(ed, x(ed), x(ed)[:40]), fault.BadPublicKey},
		"JWS-10/long":               {replaced(ed, x(ed), x(ed)[:40]+"AAAA"), fault.BadPublicKey},
		"JWS-10/Ed448":              {replaced(ed, "Ed25519", "Ed448"), fault.BadPublicKey},
		"JWS-10/X25519":             {replaced(ed, "Ed25519", "X25519"), fault.BadPublicKey},
		"JWS-11/P-521":              {signer{p521, "ES512"}.jwk(), fault.BadPublicKey},
		"JWS-11/P-224":              {replaced(ec, "P-256", "P-224"), fault.BadPublicKey},
		"JWS-11/secp256k1":          {replaced(ec, "P-256", "secp256k1"), fault.BadPublicKey},
		"JWS-13/1024":               {ofBits(1024), fault.BadPublicKey},
		"JWS-13/1025":               {ofBits(1025), fault.BadPublicKey},
		"JWS-13/2047":               {ofBits(2047), fault.BadPublicKey},
		"JWS-13/4104":               {ofBits(4104), fault.BadPublicKey},
		"JWS-13/8192":               {ofBits(8192), fault.BadPublicKey},
		"JWS-13/16384":              {ofBits(16384), fault.BadPublicKey},
		"JWS-13/1M":                 {ofBits(1 << 20), fault.BadPublicKey},
		"JWS-14/0":                  {exponent(0), fault.Malformed},
		"JWS-14/1":                  {exponent(1), fault.BadPublicKey},
		"JWS-14/2":                  {exponent(2), fault.BadPublicKey},
		"JWS-14/3":                  {exponent(3), fault.BadPublicKey},
		"JWS-14/65536":              {exponent(1, 0, 0), fault.BadPublicKey},
		"JWS-14/32-bits":            {exponent(0xff, 0xff, 0xff, 0xff), fault.BadPublicKey},
		"JWS-14/33-bits":            {exponent(1, 0, 0, 0, 1), fault.BadPublicKey},
		"JWS-14/300-bytes":          {rsaJWK(modulus, bytes.Repeat([]byte{1}, 300)), fault.BadPublicKey},
		"JWS-14/empty":              {replaced(rsa, "AQAB", ""), fault.Malformed},
		"JWS-15/even":               {rsaJWK(even, []byte{1, 0, 1}), fault.BadPublicKey},
		"JWS-15/close-primes":       {rsaJWK(closePrimes(t), []byte{1, 0, 1}), fault.BadPublicKey},
		"JWS-16/not-on-curve":       {replaced(ec, x(ec), jwkMember(t, ec, "y")), fault.BadPublicKey},
		"JWS-16/infinity":           {fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, zeros, zeros), fault.BadPublicKey},
		"JWS-16/short":              {replaced(ec, x(ec), x(ec)[:40]), fault.BadPublicKey},
		"JWS-16/long":               {replaced(ec, x(ec), b64.EncodeToString(append([]byte{0}, unbase64(t, x(ec))...))), fault.BadPublicKey},
		"JWS-16/empty":              {replaced(ec, x(ec), ""), fault.Malformed},
		"JWS-16/no-y":               {fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q}`, x(ec)), fault.Malformed},
		"JWS-16/above-field":        {replaced(ec, x(ec), b64.EncodeToString(bytes.Repeat([]byte{0xff}, 32))), fault.BadPublicKey},
		"JWS-17/oct":                {`{"kty":"oct","k":"c2VjcmV0"}`, fault.BadPublicKey},
		"JWS-17/unknown":            {`{"kty":"AKP","pub":"c2VjcmV0"}`, fault.BadPublicKey},
		"JWS-17/no-type":            {`{}`, fault.BadPublicKey},
		"JWS-18/ec":                 {replaced(ec, `{`, `{"d":"c2VjcmV0",`), fault.Malformed},
		"JWS-18/rsa-p":              {replaced(rsa, `{`, `{"p":"c2VjcmV0",`), fault.Malformed},
		"JWS-18/null":               {replaced(ec, `{`, `{"d":null,`), fault.Malformed},
		"JWS-18/D":                  {replaced(ec, `{`, `{"D":"c2VjcmV0",`), fault.Malformed},
		"JWS-28/Kty":                {replaced(ec, `{`, `{"Kty":"RSA",`), fault.Malformed},
		"JWS-33/padded":             {replaced(ec, x(ec), x(ec)+"="), fault.Malformed},
		"JWS-33/trailing-bits":      {replaced(ec, x(ec), x(ec)[:42]+nonZeroBits(x(ec)[42])), fault.Malformed},
		"JWS-33/space":              {replaced(rsa, n, n+" "), fault.Malformed},
		"JWS-42/leading-zero":       {rsaJWK(append([]byte{0}, modulus...), []byte{1, 0, 1}), fault.Malformed},
		"JWS-42/exponent-zero":      {exponent(0, 1, 0, 1), fault.Malformed},
		"JWS-42/number-not-string":  {replaced(rsa, `"AQAB"`, `65537`), fault.Malformed},
		"not-an-object/array":       {`[]`, fault.Malformed},
		"not-an-object/null":        {`null`, fault.Malformed},
		"not-an-object/string":      {`"abc"`, fault.Malformed},
		"not-an-object/certificate": {`{"kty":"EC","x5c":["MIIB"]}`, fault.BadPublicKey},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			_, err := jose.ParseKey([]byte(test.jwk))
			if !fault.Is(err, test.want) {
				t.Fatalf("ParseKey: %v; want %s", err, test.want)
			}
			if strings.Contains(err.Error(), "c2VjcmV0") {
				t.Errorf("error %q has the private part", err)
			}
		})
	}
}

func jwkMember(t *testing.T, jwk, name string) string {
	t.Helper()
	var members map[string]string
	if err := json.Unmarshal([]byte(jwk), &members); err != nil {
		t.Fatal(err)
	}
	return members[name]
}

func rsaJWK(n, e []byte) string {
	return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, b64.EncodeToString(n), b64.EncodeToString(e))
}

func unbase64(t *testing.T, text string) []byte {
	t.Helper()
	raw, err := b64.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// nonZeroBits returns the character that has the same bits as c, the last of 43, but for one that belongs to no byte.
func nonZeroBits(c byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return string(alphabet[strings.IndexByte(alphabet, c)|1])
}

// closePrimes returns a modulus of 2048 bits that Fermat's method factors at once.
func closePrimes(t *testing.T) []byte {
	t.Helper()
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	q := new(big.Int).Add(p, big.NewInt(2))
	for !q.ProbablyPrime(10) {
		q.Add(q, big.NewInt(2))
	}
	return new(big.Int).Mul(p, q).Bytes()
}
