package jose_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	gojose "github.com/go-jose/go-jose/v4"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/fault"
)

// checkRefusal holds an error to what every refusal must be: typed, one printable sentence of bounded length.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("error %v is no refusal", err)
	}
	if refusal.Kind == fault.Internal || refusal.Public == "" || len(refusal.Public) > 1000 || !utf8.ValidString(refusal.Public) {
		t.Fatalf("refusal of kind %v with sentence %q", refusal.Kind, refusal.Public)
	}
	if strings.ContainsFunc(refusal.Public, unicode.IsControl) {
		t.Fatalf("sentence %q has control characters", refusal.Public)
	}
}

var fuzzAlgorithms = []gojose.SignatureAlgorithm{gojose.ES256, gojose.ES384, gojose.RS256, gojose.EdDSA}

// FuzzParse holds Parse to what its package promises of any bytes, and whatever it takes and verifies, go-jose takes and
// reads alike.
func FuzzParse(f *testing.F) {
	for _, alg := range jose.Algorithms() {
		s := newSigner(f, alg)
		f.Add([]byte(s.sign(s.header(), `{"identifiers":null}`)))
		f.Add([]byte(s.sign(s.kidHeader(), ``)))
	}
	f.Add([]byte(`{"protected":"e30","payload":"","signature":"","signatures":[{}],"header":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		message, err := jose.Parse(body)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if message.Header.Alg == "" || (message.Header.JWK == nil) == (message.Header.KID == "") {
			t.Fatalf("accepted header %+v", message.Header)
		}
		if message.Header.JWK == nil || message.Verify(message.Header.JWK) != nil {
			return
		}
		other, err := gojose.ParseSignedJSON(string(body), fuzzAlgorithms)
		if err != nil {
			t.Fatalf("go-jose refuses: %v", err)
		}
		payload, err := other.Verify(message.Header.JWK.Public)
		if err != nil || string(payload) != string(message.Payload) || other.Signatures[0].Protected.Nonce != message.Header.Nonce {
			t.Fatalf("go-jose reads %q, nonce %q, %v; we %q, %+v", payload, other.Signatures[0].Protected.Nonce, err, message.Payload, message.Header)
		}
	})
}

// FuzzHeader goes where FuzzParse cannot, behind base64 and the signature: it signs what the fuzzer made of a header
// and a payload.
func FuzzHeader(f *testing.F) {
	s := newSigner(f, jose.ES256)
	f.Add(s.header(), `{}`)
	f.Add(s.kidHeader(), ``)
	f.Add(`{"alg":"ES256","crit":["b64"],"b64":false}`, `{}`)
	f.Add(`{"alg":"none","kid":"x","KID":"y"}`, `{}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		message, err := jose.Parse([]byte(s.sign(header, payload)))
		if err != nil {
			checkRefusal(t, err)
			return
		}
		// The standard library reads names without regard to case; what is accepted has none that it could mix up.
		var theirs struct {
			Alg   string `json:"alg"`
			KID   string `json:"kid"`
			Nonce string `json:"nonce"`
			URL   string `json:"url"`
		}
		if err := json.Unmarshal([]byte(header), &theirs); err != nil {
			t.Fatalf("standard library refuses header %q: %v", header, err)
		}
		ours := message.Header
		if theirs.Alg != ours.Alg || theirs.KID != ours.KID || theirs.Nonce != ours.Nonce || theirs.URL != ours.URL {
			t.Fatalf("header %q read as %+v, by the standard library as %+v", header, ours, theirs)
		}
		if string(message.Payload) != payload {
			t.Fatalf("payload %q read as %q", payload, message.Payload)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, alg := range jose.Algorithms() {
		f.Add([]byte(newSigner(f, alg).jwk()))
	}
	f.Add([]byte(`{"kty":"oct","k":"AA"}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQAB","e":"AQAB","d":"AA"}`))
	f.Fuzz(func(t *testing.T, jwk []byte) {
		key, err := jose.ParseKey(jwk)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		var other gojose.JSONWebKey
		if err := other.UnmarshalJSON(key.Canonical); err != nil {
			t.Fatalf("go-jose refuses the canonical form %s: %v", key.Canonical, err)
		}
		if !reflect.DeepEqual(other.Key, key.Public) {
			t.Fatalf("go-jose reads another key from %s", key.Canonical)
		}
	})
}

// FuzzDecode holds the scanner to the standard library: what it takes is JSON, and read alike.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"identifiers":[{"type":"dns","value":"a.example"}],"notAfter":"2026-01-01T00:00:00Z","x":-1.5e3}`))
	f.Add([]byte(`{"a":"\ud83d\ude00\u00e9é","b":[true,false,null,{}],"c":{"d":[]}}`))
	f.Add([]byte(`{"a":1e999999,"A":"\u0000"}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		var into map[string]any
		if err := jose.Decode(payload, &into); err != nil {
			checkRefusal(t, err)
			return
		}
		var theirs map[string]any
		if err := json.Unmarshal(payload, &theirs); err != nil || !reflect.DeepEqual(into, theirs) {
			t.Fatalf("%q: %v", payload, err)
		}
	})
}

func FuzzParseBinding(f *testing.F) {
	s := newSigner(f, jose.ES256)
	key := s.parsed(f)
	f.Add(bindingHeader("HS256"), s.jwk())
	f.Add(bindingHeader("HS512"), `{}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		binding, err := jose.ParseBinding([]byte(mac(sha256.New, hmacKey, header, payload)), newAccount, key)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if binding.KID == "" || binding.Verify([]byte("another key")) == nil {
			t.Fatalf("header %q binds kid %q with any key", header, binding.KID)
		}
	})
}

func FuzzParseInner(f *testing.F) {
	old, fresh := newSigner(f, jose.ES256), newSigner(f, jose.ES256)
	f.Add(innerHeader(fresh), fmt.Sprintf(`{"account":%q,"oldKey":%s}`, account, old.jwk()))
	f.Add(innerHeader(fresh), `{}`)
	f.Fuzz(func(t *testing.T, header, payload string) {
		change, err := jose.ParseInner([]byte(fresh.sign(header, payload)), keyChange)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		if change.Account == "" || change.OldKey == nil || change.NewKey.Thumbprint != fresh.parsed(t).Thumbprint {
			t.Fatalf("accepted %+v", change)
		}
	})
}

func BenchmarkParseAndVerify(b *testing.B) {
	for _, alg := range jose.Algorithms() {
		s := newSigner(b, alg)
		key, body := s.parsed(b), []byte(s.sign(s.kidHeader(), `{"identifiers":null}`))
		b.Run(alg+"/parse", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jose.Parse(body); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/parse-verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				message, err := jose.Parse(body)
				if err != nil {
					b.Fatal(err)
				}
				if err := message.Verify(key); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(alg+"/parse-with-key", func(b *testing.B) {
			body := []byte(s.sign(s.header(), `{}`))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := jose.Parse(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
