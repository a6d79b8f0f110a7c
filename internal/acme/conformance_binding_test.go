package acme_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/catalog"
)

// eab is an external account binding that a test takes apart. What is left zero is as it should be.
type eab struct {
	alg, header, payload string
	newHash              func() hash.Hash
	credential           acmetest.Credential
}

func (e eab) make(t testing.TB, c *acmetest.Client) string {
	t.Helper()
	if e.alg == "" {
		e.alg, e.newHash = "HS256", sha256.New
	}
	if e.header == "" {
		e.header = fmt.Sprintf(`{"alg":%q,"kid":%q,"url":%q}`, e.alg, e.credential.ID, newAccountURL(c))
	}
	if e.payload == "" {
		e.payload = jwk(t, c)
	}
	head, payload := acmetest.Base64([]byte(e.header)), acmetest.Base64([]byte(e.payload))
	mac := hmac.New(e.newHash, e.credential.Key)
	mac.Write([]byte(head + "." + payload))
	return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, head, payload, acmetest.Base64(mac.Sum(nil)))
}

// bind registers with a binding as it is given.
func bind(t testing.TB, c *acmetest.Client, binding string) *acmetest.Response {
	t.Helper()
	return c.PostRaw(t, newAccountURL(c), []byte(`{"termsOfServiceAgreed":true,"externalAccountBinding":`+binding+`}`))
}

// unbound holds the server to refusing bindings, and to making no account of any.
func (s *suite) unbound(t *testing.T, status int, kind string, bindings map[string]func(t *testing.T, c *acmetest.Client, e eab) string) {
	t.Helper()
	for name, binding := range bindings {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			c := s.client(t)
			made := binding(t, c, eab{credential: s.Credentials["server"]})
			problem := refused(t, bind(t, c, made), status, kind)
			if strings.Contains(problem.Detail, string(s.Credentials["server"].Key)) {
				t.Error("the answer shows the HMAC key")
			}
			s.noAccount(t, c)
		})
	}
}

// headed returns a binding whose header is changed.
func headed(old, new string) func(*testing.T, *acmetest.Client, eab) string {
	return func(t *testing.T, c *acmetest.Client, e eab) string {
		e.alg, e.newHash = "HS256", sha256.New
		e.header = swap(t, fmt.Sprintf(`{"alg":"HS256","kid":%q,"url":%q}`, e.credential.ID, newAccountURL(c)), old, new)
		return e.make(t, c)
	}
}

func bindingRows() []row {
	type bindings = map[string]func(t *testing.T, c *acmetest.Client, e eab) string
	return []row{
		{"EAB-1", func(t *testing.T, s *suite) {
			if d := readDirectory(t, s, s.URL+"/acme/directory"); d.Meta["externalAccountRequired"] != true {
				t.Errorf("meta %v", d.Meta)
			}
			c := s.client(t)
			for _, payload := range []string{`{}`, `{"termsOfServiceAgreed":true}`, `{"externalAccountBinding":null}`} {
				refused(t, c.PostRaw(t, newAccountURL(c), []byte(payload)), http.StatusForbidden, "externalAccountRequired")
			}
			s.noAccount(t, c)
		}},
		{"EAB-2", func(t *testing.T, s *suite) {
			for alg, newHash := range map[string]func() hash.Hash{"HS256": sha256.New, "HS384": sha512.New384, "HS512": sha512.New} {
				c := s.client(t)
				ok(t, bind(t, c, eab{alg: alg, newHash: newHash, credential: s.Credentials["server"]}.make(t, c)), http.StatusCreated)
			}
			s.unbound(t, http.StatusBadRequest, "badSignatureAlgorithm", bindings{
				"none": headed("HS256", "none"), "RS256": headed("HS256", "RS256"), "absent": headed(`"alg":"HS256",`, ""), "HS1": headed("HS256", "HS1"),
				"ES256": func(t *testing.T, c *acmetest.Client, e eab) string {
					return sign(t, c, fmt.Sprintf(`{"alg":"ES256","kid":%q,"url":%q}`, e.credential.ID, newAccountURL(c)), jwk(t, c))
				},
			})
		}},
		{"EAB-3", func(t *testing.T, s *suite) {
			s.unbound(t, http.StatusBadRequest, "malformed", bindings{
				"absent": headed(`"kid":`, `"x":`), "number": headed(`"kid":`, `"kid":1,"x":`), "empty": headed(`"kid":`, `"kid":"","x":`), "null": headed(`"kid":`, `"kid":null,"x":`),
			})
		}},
		{"EAB-4", func(t *testing.T, s *suite) {
			s.unbound(t, http.StatusBadRequest, "malformed", bindings{"nonce": headed(`"kid"`, `"nonce":"QUJD","kid"`)})
		}},
		{"EAB-5", func(t *testing.T, s *suite) {
			s.unbound(t, http.StatusBadRequest, "malformed", bindings{
				"other": headed("/new-account", "/new-order"), "absent": headed(`"url"`, `"x"`), "query": headed("/new-account", "/new-account?x"),
				"http": headed("https://", "http://"), "directory": headed("/acme/", "/acme/p/challenge/"),
			})
		}},
		{"EAB-6", func(t *testing.T, s *suite) {
			c := s.client(t)
			key := acmetest.JWK(t, c.Key.Public())
			reordered := fmt.Sprintf(`{"y":%q, "use":"sig", "x":%q,"crv":"P-256","kty":"EC"}`, key["y"], key["x"])
			ok(t, bind(t, c, eab{payload: reordered, credential: s.Credentials["server"]}.make(t, c)), http.StatusCreated)
			other := jwk(t, s.client(t))
			with := func(payload string) func(*testing.T, *acmetest.Client, eab) string {
				return func(t *testing.T, c *acmetest.Client, e eab) string { e.payload = payload; return e.make(t, c) }
			}
			s.unbound(t, http.StatusBadRequest, "malformed", bindings{"other-key": with(other), "array": with("[]"), "text": with("x")})
			s.unbound(t, http.StatusBadRequest, "badPublicKey", bindings{"object": with("{}")})
		}},
		{"EAB-7", func(t *testing.T, s *suite) {
			c := s.client(t)
			wrong := eab{credential: acmetest.Credential{ID: s.Credentials["server"].ID, Key: make([]byte, 32)}}
			unknown := eab{credential: acmetest.Credential{ID: "00000000000000000000000000000000000", Key: make([]byte, 32)}}
			first := refused(t, bind(t, c, wrong.make(t, c)), http.StatusForbidden, "unauthorized")
			second := refused(t, bind(t, c, unknown.make(t, c)), http.StatusForbidden, "unauthorized")
			if first.Detail != second.Detail {
				t.Errorf("a wrong MAC gets %q, an unknown kid %q", first.Detail, second.Detail)
			}
			s.noAccount(t, c)
			s.unbound(t, http.StatusForbidden, "unauthorized", bindings{
				"flipped": func(t *testing.T, c *acmetest.Client, e eab) string {
					made := e.make(t, c)
					return swap(t, made, member(t, made, "signature"), flip(member(t, made, "signature")))
				},
				"empty": func(t *testing.T, c *acmetest.Client, e eab) string {
					made := e.make(t, c)
					return swap(t, made, member(t, made, "signature"), "")
				},
			})
		}},
		{"EAB-8", func(t *testing.T, s *suite) {
			inside := func(text string) func(*testing.T, *acmetest.Client, eab) string {
				return func(t *testing.T, c *acmetest.Client, e eab) string { return swap(t, e.make(t, c), "{", "{"+text+",") }
			}
			s.unbound(t, http.StatusBadRequest, "malformed", bindings{
				"header": inside(`"header":{}`), "signatures": inside(`"signatures":[]`), "crit": headed(`"kid"`, `"crit":["x"],"kid"`), "duplicate": inside(`"payload":""`),
				"jwk": func(t *testing.T, c *acmetest.Client, e eab) string {
					return headed(`"kid"`, `"jwk":`+jwk(t, c)+`,"kid"`)(t, c, e)
				},
				"compact": func(t *testing.T, c *acmetest.Client, e eab) string {
					made := e.make(t, c)
					return `"` + member(t, made, "protected") + "." + member(t, made, "payload") + "." + member(t, made, "signature") + `"`
				},
				"text":   func(*testing.T, *acmetest.Client, eab) string { return `"x"` },
				"object": func(*testing.T, *acmetest.Client, eab) string { return `{}` },
				"array":  func(*testing.T, *acmetest.Client, eab) string { return `[]` },
				"false":  func(*testing.T, *acmetest.Client, eab) string { return `false` },
			})
		}},
		{"EAB-9", func(t *testing.T, s *suite) {
			c, credential := s.client(t), s.Credentials["server"]
			if len(credential.Key) >= sha512.Size {
				t.Fatalf("key of %d bytes", len(credential.Key))
			}
			ok(t, bind(t, c, eab{alg: "HS512", newHash: sha512.New, credential: credential}.make(t, c)), http.StatusCreated)
		}},
		{"EAB-10", func(t *testing.T, s *suite) {
			credential := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["server"].ID, Name: "eab10", MaxAccounts: 1})
			replica := s.Replica(t, acme.Options{})
			var created atomic.Int32
			var wait sync.WaitGroup
			for i := range 32 {
				c := s.client(t)
				if i%2 == 0 {
					c = on(c, replica)
				}
				wait.Go(func() {
					switch answer := bind(t, c, eab{credential: credential}.make(t, c)); answer.Status {
					case http.StatusCreated:
						created.Add(1)
					case http.StatusForbidden:
					default:
						t.Errorf("status %d: %s", answer.Status, answer.Body)
					}
				})
			}
			wait.Wait()
			if created.Load() != 1 {
				t.Errorf("one credential made %d accounts", created.Load())
			}
		}},
		{"EAB-11", func(t *testing.T, s *suite) {
			credential := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["server"].ID, Name: "eab11", MaxAccounts: 1})
			c := s.client(t)
			c.Register(t, credential)
			at := c.KID
			c.KID = ""
			for _, binding := range []string{eab{credential: credential}.make(t, c), "null", `{}`, `"nonsense"`} {
				if answer := ok(t, bind(t, c, binding), http.StatusOK); answer.Header.Get("Location") != at {
					t.Errorf("account %s, not %s", answer.Header.Get("Location"), at)
				}
			}
		}},
		{"EAB-12", func(t *testing.T, s *suite) {
			credential := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["server"].ID, Name: "eab12", MaxAccounts: 2})
			for range 2 {
				s.client(t).Register(t, credential)
			}
			c := s.client(t)
			refused(t, bind(t, c, eab{credential: credential}.make(t, c)), http.StatusForbidden, "unauthorized")
			s.noAccount(t, c)
		}},
		{"EAB-13", withdrawnCredentials},
		{"EAB-14", func(t *testing.T, s *suite) {
			c := s.client(t)
			binding := eab{credential: s.Credentials["server"]}.make(t, c)
			var account struct {
				ExternalAccountBinding json.RawMessage
			}
			answer := ok(t, bind(t, c, binding), http.StatusCreated)
			answer.Into(t, &account)
			if string(account.ExternalAccountBinding) != binding {
				t.Errorf("account has binding %s, not %s", account.ExternalAccountBinding, binding)
			}
			c.KID = answer.Header.Get("Location")
			if ok(t, c.Read(t, c.KID), http.StatusOK).Into(t, &account); string(account.ExternalAccountBinding) != binding {
				t.Errorf("account has binding %s later", account.ExternalAccountBinding)
			}
			if plain := s.scoped(t); strings.Contains(string(plain.Read(t, plain.KID).Body), "externalAccountBinding") {
				t.Error("an account without a binding shows one")
			}
		}},
		{"EAB-15", func(t *testing.T, s *suite) {
			c := s.client(t)
			c.Prefix = s.URL + "/acme/p/challenge"
			ok(t, bind(t, c, eab{credential: s.Credentials["challenge"]}.make(t, c)), http.StatusCreated)
			for name, credential := range map[string]acmetest.Credential{
				"wrong-mac":     {ID: s.Credentials["challenge"].ID, Key: make([]byte, 32)},
				"other-profile": s.Credentials["server"],
			} {
				other := s.client(t)
				other.Prefix = c.Prefix
				t.Log(name)
				refused(t, bind(t, other, eab{credential: credential}.make(t, other)), http.StatusForbidden, "unauthorized")
				s.noAccount(t, other)
			}
		}},
		{"EAB-16", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			var before, after struct{ ExternalAccountBinding json.RawMessage }
			ok(t, c.Read(t, c.KID), http.StatusOK).Into(t, &before)
			key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			rollover := newRollover(t, c, key)
			ok(t, rollover.post(t), http.StatusOK)
			c.Key = key
			ok(t, c.Read(t, c.KID), http.StatusOK).Into(t, &after)
			if len(after.ExternalAccountBinding) == 0 || string(before.ExternalAccountBinding) != string(after.ExternalAccountBinding) {
				t.Errorf("binding %s became %s", before.ExternalAccountBinding, after.ExternalAccountBinding)
			}
			obtained(t, s, c, "spiffe://cluster.local/ns/demo/sa/eab16")
		}},
		{"EAB-17", func(t *testing.T, s *suite) {
			for range 50 {
				_, key, err := s.Catalog.CreateCredential(t.Context(), catalog.NewCredential{
					ProfileID: s.Profiles["server"].ID, Name: "eab17-" + strings.ToLower(acmetest.Base64([]byte(rand.Text()))[:8]),
				}, acmetest.By())
				if err != nil {
					t.Fatal(err)
				}
				if text := base64.RawURLEncoding.EncodeToString(key); len(key) != 32 || len(text) != 43 || text[0] == '-' {
					t.Errorf("HMAC key %q of %d bytes", text, len(key))
				}
			}
		}},
		{"EAB-18", func(t *testing.T, s *suite) {
			for _, credential := range s.Credentials {
				if strings.ContainsFunc(string(credential.ID), func(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'z') }) || credential.ID == "" {
					t.Errorf("kid %q", credential.ID)
				}
			}
		}},
	}
}

// withdrawnCredentials revokes one credential and lets another expire.
func withdrawnCredentials(t *testing.T, _ *suite) {
	s := apart(t, acmetest.Options{})
	revoked := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["istio"].ID, Name: "revoked"})
	expiring := s.AddCredential(t, catalog.NewCredential{ProfileID: s.Profiles["istio"].ID, Name: "expiring", ExpiresAt: s.Clock.Now().Add(time.Hour)})
	replica := s.Replica(t, acme.Options{})
	var clients []*acmetest.Client
	var orders []*acmetest.Order
	for _, credential := range []acmetest.Credential{revoked, expiring} {
		c := s.client(t)
		c.Register(t, credential)
		clients = append(clients, c)
		orders = append(orders, ok(t, order(t, c, `{"identifiers":null}`), http.StatusCreated).Order(t))
	}
	if _, err := s.Catalog.RevokeCredential(t.Context(), revoked.ID, acmetest.By()); err != nil {
		t.Fatal(err)
	}
	s.Advance(t, 2*time.Hour)
	for i, credential := range []acmetest.Credential{revoked, expiring} {
		for _, c := range []*acmetest.Client{clients[i], on(clients[i], replica)} {
			refused(t, order(t, c, `{"identifiers":null}`), http.StatusForbidden, "unauthorized")
			refused(t, c.Finalize(t, orders[i], acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/web")), http.StatusForbidden, "unauthorized")
		}
		fresh := s.client(t)
		refused(t, bind(t, fresh, eab{credential: credential}.make(t, fresh)), http.StatusForbidden, "unauthorized")
		s.noAccount(t, fresh)
	}
	if stats, err := s.Store.Stats(t.Context()); err != nil || stats.Certificates != 0 {
		t.Errorf("%d certificates were issued (%v)", stats.Certificates, err)
	}
}
