package acme_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/acme/acmetest"
)

// bodies are requests that must be refused, by what is wrong with them.
type bodies = map[string]func(*testing.T, *acmetest.Client, string) string

// jwsRows are those about what signs: algorithm, key, kid and url.
func jwsRows() []row {
	malformed := []string{"malformed"}
	badAlgorithm := []string{"badSignatureAlgorithm"}
	return []row{
		{"JWS-1", contentTypes},
		{"JWS-5", func(t *testing.T, s *suite) {
			s.attacks(t, http.StatusBadRequest, badAlgorithm, bodies{
				"none": unsigned("none"), "None": unsigned("None"), "NONE": unsigned("NONE"),
				"empty": unsigned(""), "absent": resigned(`"alg":"ES256",`, ``),
			})
		}},
		{"JWS-6", func(t *testing.T, s *suite) {
			// The attacker's MAC key is the public key, which he knows.
			macs := bodies{}
			for _, alg := range []string{"HS256", "HS384", "HS512"} {
				macs[alg] = func(t *testing.T, c *acmetest.Client, header string) string {
					spki, err := x509.MarshalPKIXPublicKey(c.Key.Public())
					if err != nil {
						t.Fatal(err)
					}
					body := sign(t, c, swap(t, header, "ES256", alg), attackPayload)
					mac := hmac.New(sha256.New, spki)
					mac.Write([]byte(member(t, body, "protected") + "." + member(t, body, "payload")))
					return swap(t, body, member(t, body, "signature"), acmetest.Base64(mac.Sum(nil)))
				}
			}
			s.attacks(t, http.StatusBadRequest, badAlgorithm, macs)
		}},
		{"JWS-7", func(t *testing.T, s *suite) {
			s.attacks(t, http.StatusBadRequest, malformed, bodies{
				"RS256": resigned("ES256", "RS256"), "ES384": resigned("ES256", "ES384"), "EdDSA": resigned("ES256", "EdDSA"),
			})
			for name, alg := range map[string]string{"RS256": "RS256", "ES384": "ES384", "EdDSA": "EdDSA"} {
				c := s.client(t)
				header := swap(t, header(t, c, newAccountURL(c)), "ES256", alg)
				answer := c.Send(t, newAccountURL(c), []byte(sign(t, c, header, s.registration(t, c, "server"))))
				t.Log(name)
				refused(t, answer, http.StatusBadRequest, "badSignatureAlgorithm", "malformed")
				s.noAccount(t, c)
			}
		}},
		{"JWS-8", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			problem := refused(t, c.Send(t, c.KID, []byte(sign(t, c, swap(t, header(t, c, c.KID), "ES256", "PS256"), ""))), http.StatusBadRequest, "badSignatureAlgorithm")
			if got := strings.Join(problem.Algorithms, " "); got != "ES256 ES384 EdDSA RS256" {
				t.Errorf("algorithms %q", got)
			}
		}},
		{"JWS-9", func(t *testing.T, s *suite) { s.account(t, "server") }},
		{"JWS-10", func(t *testing.T, s *suite) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			c := s.client(t)
			c.Key = key
			c.Register(t, s.Credentials["server"])
			ok(t, c.Read(t, c.KID), http.StatusOK)
			zero, x := acmetest.Base64(make([]byte, 32)), acmetest.JWK(t, key.Public())["x"]
			s.weak(t, "EdDSA", map[string]string{
				"zero":    fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q}`, zero),
				"order-1": fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q}`, acmetest.Base64(append([]byte{1}, make([]byte, 31)...))),
				"short":   fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q}`, x[:40]),
				"long":    fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":"AAAA%s"}`, x),
				"Ed448":   fmt.Sprintf(`{"kty":"OKP","crv":"Ed448","x":%q}`, x),
				"X25519":  fmt.Sprintf(`{"kty":"OKP","crv":"X25519","x":%q}`, x),
			})
		}},
		{"JWS-11", func(t *testing.T, s *suite) {
			p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			c := s.client(t)
			c.Key = p384
			c.Register(t, s.Credentials["server"])
			// P-521 is refused, as in a CSR (FIN-14) and a key change (KEY-3).
			p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			s.weak(t, "ES512", map[string]string{"P-521": encode(t, acmetest.JWK(t, p521.Public()))}, "badSignatureAlgorithm")
			s.weak(t, "ES384", map[string]string{"P-521": encode(t, acmetest.JWK(t, p521.Public()))})
		}},
		{"JWS-12", func(t *testing.T, s *suite) {
			for _, bits := range []int{2048, 3072} {
				key, err := rsa.GenerateKey(rand.Reader, bits)
				if err != nil {
					t.Fatal(err)
				}
				c := s.client(t)
				c.Key = key
				c.Register(t, s.Credentials["istio"])
				ok(t, c.Read(t, c.KID), http.StatusOK)
			}
		}},
		{"JWS-13", func(t *testing.T, s *suite) {
			keys := map[string]string{}
			for _, bits := range []int{1024, 1025, 2047, 4104, 8192, 16384} {
				modulus := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), uint(bits)), big.NewInt(1))
				keys[fmt.Sprint(bits)] = rsaJWK(modulus.Bytes(), []byte{1, 0, 1})
			}
			s.weak(t, "RS256", keys)
			c := s.client(t)
			huge := rsaJWK(make([]byte, 128<<10), []byte{1, 0, 1})
			header := fmt.Sprintf(`{"alg":"RS256","jwk":%s,"nonce":%q,"url":%q}`, huge, c.Nonce(), newAccountURL(c))
			answer := c.Send(t, newAccountURL(c), []byte(sign(t, c, header, "{}")))
			if answer.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("a modulus of a million bits: %d %s", answer.Status, answer.Body)
			}
		}},
		{"JWS-14", func(t *testing.T, s *suite) {
			n := rsaModulus(t)
			s.weak(t, "RS256", map[string]string{
				"1": rsaJWK(n, []byte{1}), "2": rsaJWK(n, []byte{2}), "3": rsaJWK(n, []byte{3}), "even": rsaJWK(n, []byte{1, 0, 0}),
				"33-bits": rsaJWK(n, []byte{1, 0, 0, 0, 1}), "300-bytes": rsaJWK(n, []byte(strings.Repeat("a", 300))),
			})
		}},
		{"JWS-15", func(t *testing.T, s *suite) {
			n := new(big.Int).SetBytes(rsaModulus(t))
			even := new(big.Int).Sub(n, big.NewInt(1))
			// A multiple of 3 of the same size.
			small := new(big.Int).Sub(n, new(big.Int).Mod(n, big.NewInt(3)))
			if small.Bit(0) == 0 {
				small.Sub(small, big.NewInt(3))
			}
			s.weak(t, "RS256", map[string]string{
				"even": rsaJWK(even.Bytes(), []byte{1, 0, 1}), "small-factor": rsaJWK(small.Bytes(), []byte{1, 0, 1}),
				"close-primes": rsaJWK(closePrimes(t), []byte{1, 0, 1}),
			})
		}},
		{"JWS-16", func(t *testing.T, s *suite) {
			c := s.client(t)
			good := acmetest.JWK(t, c.Key.Public())
			point := func(x, y string) string { return fmt.Sprintf(`{"kty":"EC","crv":"P-256","x":%q,"y":%q}`, x, y) }
			zero := acmetest.Base64(make([]byte, 32))
			s.weak(t, "ES256", map[string]string{
				"not-on-curve": point(good["y"], good["x"]), "infinity": point(zero, zero), "short": point(good["x"][:40], good["y"]),
				"long": point("AAAA"+good["x"], good["y"]), "empty": point("", good["y"]),
			}, "badPublicKey", "malformed")
		}},
		{"JWS-17", func(t *testing.T, s *suite) {
			s.weak(t, "ES256", map[string]string{"oct": `{"kty":"oct","k":"c2VjcmV0"}`, "AKP": `{"kty":"AKP","pub":"AA"}`, "none": `{}`})
		}},
		{"JWS-18", func(t *testing.T, s *suite) {
			c := s.client(t)
			good := jwk(t, c)
			s.weak(t, "ES256", map[string]string{
				"d": swap(t, good, "{", `{"d":"c2VjcmV0",`), "null-d": swap(t, good, "{", `{"d":null,`), "p": swap(t, good, "{", `{"p":"AA",`),
			}, "malformed")
		}},
		{"JWS-19", func(t *testing.T, s *suite) {
			s.attacks(t, http.StatusBadRequest, malformed, bodies{
				"jwk-beside-kid": func(t *testing.T, c *acmetest.Client, header string) string {
					return sign(t, c, swap(t, header, `"kid"`, `"jwk":`+jwk(t, c)+`,"kid"`), attackPayload)
				},
				"null-jwk": resigned(`"kid"`, `"jwk":null,"kid"`),
			})
			c := s.client(t)
			body := sign(t, c, swap(t, header(t, c, newAccountURL(c)), `"jwk"`, `"kid":"","jwk"`), s.registration(t, c, "server"))
			refused(t, c.Send(t, newAccountURL(c), []byte(body)), http.StatusBadRequest, "malformed")
			s.noAccount(t, c)
		}},
		{"JWS-20", func(t *testing.T, s *suite) {
			s.attacks(t, http.StatusBadRequest, malformed, bodies{"neither": func(t *testing.T, c *acmetest.Client, header string) string {
				return sign(t, c, swap(t, header, fmt.Sprintf(`"kid":%q,`, c.KID), ""), attackPayload)
			}})
		}},
		{"JWS-21", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			made := c.NewOrder(t, "jws21.example.com")
			for _, at := range []string{c.KID, c.Prefix + "/new-order", made.URL, made.Finalize, made.Authorizations[0], c.Prefix + "/key-change", c.KID + "/orders"} {
				nobody := *c
				nobody.KID = ""
				refused(t, nobody.PostRaw(t, at, []byte(attackPayload)), http.StatusBadRequest, "malformed")
			}
			s.unchanged(t, c)
		}},
		{"JWS-22", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			refused(t, c.Post(t, newAccountURL(c), map[string]any{"termsOfServiceAgreed": true}), http.StatusBadRequest, "malformed")
		}},
		{"JWS-23", func(t *testing.T, s *suite) {
			c := s.client(t)
			c.KID = s.URL + "/acme/account/" + strings.Repeat("0", 36)
			refused(t, order(t, c, names("a.example.com")), http.StatusBadRequest, "accountDoesNotExist")
		}},
		{"JWS-24", func(t *testing.T, s *suite) {
			s.attacks(t, http.StatusBadRequest, malformed, bodies{"signed-by-another-account": func(t *testing.T, c *acmetest.Client, header string) string {
				return sign(t, s.account(t, "server"), header, attackPayload)
			}})
		}},
		{"JWS-25", func(t *testing.T, s *suite) {
			changes := bodies{}
			for name, change := range map[string]func(string) string{
				"slash":       func(kid string) string { return kid + "/" },
				"query":       func(kid string) string { return kid + "?x" },
				"fragment":    func(kid string) string { return kid + "#x" },
				"upper-case":  func(kid string) string { return strings.Replace(kid, "https://", "HTTPS://", 1) },
				"http":        func(kid string) string { return strings.Replace(kid, "https://", "http://", 1) },
				"percent":     func(kid string) string { return kid[:len(kid)-1] + fmt.Sprintf("%%%02x", kid[len(kid)-1]) },
				"bare":        func(kid string) string { return kid[strings.LastIndex(kid, "/")+1:] },
				"path":        func(kid string) string { return strings.TrimPrefix(kid, s.URL) },
				"directory":   func(kid string) string { return strings.Replace(kid, "/acme/", "/acme/p/challenge/", 1) },
				"other-host":  func(kid string) string { return strings.Replace(kid, "127.0.0.1", "localhost", 1) },
				"dots":        func(kid string) string { return strings.Replace(kid, "/account/", "/x/../account/", 1) },
				"upper-id":    func(kid string) string { i := strings.LastIndex(kid, "/"); return kid[:i] + strings.ToUpper(kid[i:]) },
				"two-slashes": func(kid string) string { return strings.Replace(kid, "/account/", "/account//", 1) },
				"space":       func(kid string) string { return kid + " " },
			} {
				changes[name] = func(t *testing.T, c *acmetest.Client, header string) string {
					if change(c.KID) == c.KID {
						t.Fatal("the account's URL has nothing to change")
					}
					return sign(t, c, swap(t, header, fmt.Sprintf(`"kid":%q`, c.KID), fmt.Sprintf(`"kid":%q`, change(c.KID))), attackPayload)
				}
			}
			s.attacks(t, http.StatusBadRequest, []string{"accountDoesNotExist", "malformed"}, changes)
			// An account of one directory is none in another.
			for c, prefix := range map[*acmetest.Client]string{s.account(t, "challenge"): s.URL + "/acme/p/challenge", s.scoped(t): s.URL + "/acme"} {
				crossed := *c
				crossed.KID, crossed.Prefix = strings.Replace(c.KID, c.Prefix, prefix, 1), prefix
				refused(t, order(t, &crossed, names("jws25.test")), http.StatusBadRequest, "accountDoesNotExist")
				refused(t, crossed.PostRaw(t, crossed.KID, []byte(attackPayload)), http.StatusBadRequest, "accountDoesNotExist")
				s.unchanged(t, c)
			}
		}},
		{"JWS-26", urlMismatch},
	}
}

func unsigned(alg string) func(*testing.T, *acmetest.Client, string) string {
	return func(t *testing.T, c *acmetest.Client, header string) string {
		body := sign(t, c, swap(t, header, "ES256", alg), attackPayload)
		return swap(t, body, member(t, body, "signature"), "")
	}
}

func contentTypes(t *testing.T, s *suite) {
	send := func(c *acmetest.Client, contentType, payload string) *acmetest.Response {
		request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.KID, strings.NewReader(sign(t, c, header(t, c, c.KID), payload)))
		request.Header.Set("Content-Type", contentType)
		return c.Do(t, request)
	}
	c := s.account(t, "server")
	for _, good := range []string{"application/jose+json", "application/jose+json; charset=utf-8", "Application/JOSE+JSON"} {
		ok(t, send(c, good, ""), http.StatusOK)
	}
	for _, bad := range []string{"", "application/json", "application/jose", "text/plain", "application/x-www-form-urlencoded", "application/jose+json,text/html", ";"} {
		refused(t, send(c, bad, attackPayload), http.StatusUnsupportedMediaType, "malformed")
	}
	s.unchanged(t, c)
}

func urlMismatch(t *testing.T, s *suite) {
	mismatches := bodies{"absent": func(t *testing.T, c *acmetest.Client, header string) string {
		return sign(t, c, swap(t, header, fmt.Sprintf(`,"url":%q`, c.KID), ""), attackPayload)
	}}
	for name, change := range map[string]func(url string) string{
		"other-resource": func(string) string { return s.URL + "/acme/new-order" },
		"other-host":     func(url string) string { return strings.Replace(url, "127.0.0.1", "localhost", 1) },
		"http":           func(url string) string { return strings.Replace(url, "https", "http", 1) },
		"query":          func(url string) string { return url + "?x" },
		"slash":          func(url string) string { return url + "/" },
		"empty":          func(string) string { return "" },
	} {
		mismatches[name] = func(t *testing.T, c *acmetest.Client, header string) string {
			return sign(t, c, swap(t, header, fmt.Sprintf(`"url":%q`, c.KID), fmt.Sprintf(`"url":%q`, change(c.KID))), attackPayload)
		}
	}
	s.attacks(t, http.StatusForbidden, []string{"unauthorized"}, mismatches)
	// What is signed for one URL and sent to another that means the same resource.
	c := s.account(t, "server")
	for _, at := range []string{c.KID + "?x", c.KID + "?"} {
		answer := c.Send(t, at, []byte(sign(t, c, header(t, c, at), attackPayload)))
		if answer.Status < 400 || answer.Status >= 500 {
			t.Errorf("%s: %d", at, answer.Status)
		}
	}
	id := c.KID[strings.LastIndex(c.KID, "/")+1:]
	escaped := strings.Replace(c.KID, id, fmt.Sprintf("%%%02x%s", id[0], id[1:]), 1)
	refused(t, c.Send(t, escaped, []byte(sign(t, c, header(t, c, escaped), attackPayload))), http.StatusNotFound, "malformed")
	s.unchanged(t, c)
}

// weak sends newAccount requests with a JWK that must be refused before anything else, by default with badPublicKey.
func (s *suite) weak(t *testing.T, alg string, jwks map[string]string, kinds ...string) {
	t.Helper()
	if len(kinds) == 0 {
		kinds = []string{"badPublicKey"}
	}
	for name, jwk := range jwks {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			c := s.client(t)
			header := fmt.Sprintf(`{"alg":%q,"jwk":%s,"nonce":%q,"url":%q}`, alg, jwk, c.Nonce(), newAccountURL(c))
			problem := refused(t, c.Send(t, newAccountURL(c), []byte(sign(t, c, header, s.registration(t, c, "server")))), http.StatusBadRequest, kinds...)
			if strings.Contains(problem.Detail, "c2VjcmV0") {
				t.Errorf("detail %q shows the secret", problem.Detail)
			}
		})
	}
}

func rsaJWK(n, e []byte) string {
	return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":%q}`, acmetest.Base64(n), acmetest.Base64(e))
}

func rsaModulus(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key.N.Bytes()
}

// closePrimes returns a modulus that Fermat's method factors at once.
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
