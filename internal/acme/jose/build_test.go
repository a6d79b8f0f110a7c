package jose_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"math/big"
	"strings"
	"sync"
	"testing"

	"github.com/certloom/certloom/internal/acme/jose"
)

const (
	target  = "https://ca.example/acme/new-order"
	account = "https://ca.example/acme/account/1"
)

var b64 = base64.RawURLEncoding

// signer is a key that makes JWS as a client does, and as an attacker does.
type signer struct {
	key crypto.Signer
	alg string
}

func newSigner(t testing.TB, alg string) signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch alg {
	case jose.ES256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.EdDSA:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	case jose.RS256:
		key, err = rsa2048()
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer{key: key, alg: alg}
}

var rsa2048 = sync.OnceValues(func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// jwk returns the public JWK, in an order of its own.
func (s signer) jwk() string {
	switch public := s.key.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q}`, public.Curve.Params().Name,
			b64.EncodeToString(point[1:1+half]), b64.EncodeToString(point[1+half:]))
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, b64.EncodeToString(public.N.Bytes()),
			b64.EncodeToString(big.NewInt(int64(public.E)).Bytes()))
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q}`, b64.EncodeToString(public))
	}
	panic("unknown key")
}

func (s signer) parsed(t testing.TB) *jose.Key {
	t.Helper()
	key, err := jose.ParseKey([]byte(s.jwk()))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// signature signs the two base64url parts.
func (s signer) signature(protected, payload string) []byte {
	signed := []byte(protected + "." + payload)
	digest, options := signed, crypto.Hash(0)
	switch s.alg {
	case jose.ES256, jose.RS256:
		sum := sha256.Sum256(signed)
		digest, options = sum[:], crypto.SHA256
	case jose.ES384:
		sum := sha512.Sum384(signed)
		digest, options = sum[:], crypto.SHA384
	}
	if key, ok := s.key.(*ecdsa.PrivateKey); ok {
		r, v, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			panic(err)
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), v.FillBytes(make([]byte, size))...)
	}
	raw, err := s.key.Sign(rand.Reader, digest, options)
	if err != nil {
		panic(err)
	}
	return raw
}

// sign signs a header and a payload as they are given.
func (s signer) sign(protected, payload string) string {
	protected, payload = b64.EncodeToString([]byte(protected)), b64.EncodeToString([]byte(payload))
	return flattened(protected, payload, b64.EncodeToString(s.signature(protected, payload)))
}

// header is a good protected header with a jwk.
func (s signer) header() string {
	return fmt.Sprintf(`{"alg":%q,"jwk":%s,"nonce":"bm9uY2U","url":%q}`, s.alg, s.jwk(), target)
}

// kidHeader is a good protected header with a kid.
func (s signer) kidHeader() string {
	return fmt.Sprintf(`{"alg":%q,"kid":%q,"nonce":"bm9uY2U","url":%q}`, s.alg, account, target)
}

func flattened(protected, payload, signature string) string {
	return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, protected, payload, signature)
}

// mac makes an external account binding.
func mac(newHash func() hash.Hash, key []byte, protected, payload string) string {
	protected, payload = b64.EncodeToString([]byte(protected)), b64.EncodeToString([]byte(payload))
	m := hmac.New(newHash, key)
	m.Write([]byte(protected + "." + payload))
	return flattened(protected, payload, b64.EncodeToString(m.Sum(nil)))
}

// replaced returns text with old, which must be in it, replaced once.
func replaced(text, old, new string) string {
	if !strings.Contains(text, old) {
		panic(fmt.Sprintf("%q has no %q", text, old))
	}
	return strings.Replace(text, old, new, 1)
}

// member returns a member of a flattened JWS.
func member(body, name string) string {
	var members map[string]string
	if err := json.Unmarshal([]byte(body), &members); err != nil {
		panic(err)
	}
	return members[name]
}
