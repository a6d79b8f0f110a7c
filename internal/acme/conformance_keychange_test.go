package acme_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
)

// rollover is a keyChange request that a test takes apart.
type rollover struct {
	client *acmetest.Client // the account, with its old key
	fresh  *acmetest.Client // the new key
	inner  string           // protected header of the inner JWS
	says   string           // its payload
}

func newRollover(t testing.TB, c *acmetest.Client, key crypto.Signer) rollover {
	t.Helper()
	fresh := *c
	fresh.Key, fresh.KID = key, ""
	return rollover{
		client: c, fresh: &fresh,
		inner: fmt.Sprintf(`{"alg":%q,"jwk":%s,"url":%q}`, acmetest.Algorithm(key.Public()), jwk(t, &fresh), keyChangeURL(c)),
		says:  fmt.Sprintf(`{"account":%q,"oldKey":%s}`, c.KID, jwk(t, c)),
	}
}

func keyChangeURL(c *acmetest.Client) string { return c.Prefix + "/key-change" }

func (r rollover) post(t testing.TB) *acmetest.Response {
	t.Helper()
	return r.send(t, sign(t, r.fresh, r.inner, r.says))
}

func (r rollover) send(t testing.TB, inner string) *acmetest.Response {
	t.Helper()
	return r.client.PostRaw(t, keyChangeURL(r.client), []byte(inner))
}

// refusesRollovers holds the server to refusing key changes and to leaving both keys as they are.
func (s *suite) refusesRollovers(t *testing.T, kind string, changes map[string]func(t *testing.T, r rollover) *acmetest.Response) {
	t.Helper()
	for name, change := range changes {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			c := s.account(t, "server")
			r := newRollover(t, c, acmetest.NewKey(t))
			refused(t, change(t, r), http.StatusBadRequest, kind)
			if got := registered(t, c); got.Status != "valid" {
				t.Errorf("account %+v", got)
			}
			s.noAccount(t, r.fresh)
		})
	}
}

func keyChangeRows() []row {
	type changes = map[string]func(t *testing.T, r rollover) *acmetest.Response
	inner := func(old, new string) func(*testing.T, rollover) *acmetest.Response {
		return func(t *testing.T, r rollover) *acmetest.Response {
			r.inner = swap(t, r.inner, old, new)
			return r.post(t)
		}
	}
	says := func(payload func(t *testing.T, r rollover) string) func(*testing.T, rollover) *acmetest.Response {
		return func(t *testing.T, r rollover) *acmetest.Response { r.says = payload(t, r); return r.post(t) }
	}
	return []row{
		{"KEY-1", keyChanged},
		{"KEY-2", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{
				"outer-by-new-key": func(t *testing.T, r rollover) *acmetest.Response {
					body := sign(t, r.fresh, header(t, r.client, keyChangeURL(r.client)), sign(t, r.fresh, r.inner, r.says))
					return r.client.Send(t, keyChangeURL(r.client), []byte(body))
				},
				"outer-with-jwk": func(t *testing.T, r rollover) *acmetest.Response {
					nobody := *r.client
					nobody.KID = ""
					return nobody.PostRaw(t, keyChangeURL(r.client), []byte(sign(t, r.fresh, r.inner, r.says)))
				},
				"no-payload": func(t *testing.T, r rollover) *acmetest.Response { return r.send(t, "") },
			})
		}},
		{"KEY-3", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{
				"compact": func(t *testing.T, r rollover) *acmetest.Response {
					made := sign(t, r.fresh, r.inner, r.says)
					return r.send(t, `"`+member(t, made, "protected")+"."+member(t, made, "payload")+"."+member(t, made, "signature")+`"`)
				},
				"kid": func(t *testing.T, r rollover) *acmetest.Response {
					return inner(`"jwk":`+jwk(t, r.fresh), fmt.Sprintf(`"kid":%q`, r.client.KID))(t, r)
				},
				"both":       inner(`"jwk"`, `"kid":"x","jwk"`),
				"signatures": func(t *testing.T, r rollover) *acmetest.Response { return r.send(t, `{"signatures":[]}`) },
				"private":    inner(`"jwk":{`, `"jwk":{"d":"AA",`),
			})
			s.refusesRollovers(t, "badSignatureAlgorithm", changes{"HS256": inner("ES256", "HS256"), "none": inner("ES256", "none"), "ES384": inner("ES256", "ES384")})
			weak := func(jwk, alg string) func(*testing.T, rollover) *acmetest.Response {
				return func(t *testing.T, r rollover) *acmetest.Response {
					r.inner = fmt.Sprintf(`{"alg":%q,"jwk":%s,"url":%q}`, alg, jwk, keyChangeURL(r.client))
					return r.post(t)
				}
			}
			p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			s.refusesRollovers(t, "badPublicKey", changes{
				"rsa-1024": weak(rsaJWK(bytes.Repeat([]byte{0xff}, 128), []byte{1, 0, 1}), "RS256"),
				"oct":      weak(`{"kty":"oct","k":"AA"}`, "ES256"),
				"P-521":    weak(encode(t, acmetest.JWK(t, p521.Public())), "ES256"),
			})
		}},
		{"KEY-4", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{
				"by-old-key": func(t *testing.T, r rollover) *acmetest.Response {
					return r.send(t, sign(t, r.client, r.inner, r.says))
				},
				"flipped": func(t *testing.T, r rollover) *acmetest.Response {
					made := sign(t, r.fresh, r.inner, r.says)
					return r.send(t, swap(t, made, member(t, made, "signature"), flip(member(t, made, "signature"))))
				},
				"empty": func(t *testing.T, r rollover) *acmetest.Response {
					made := sign(t, r.fresh, r.inner, r.says)
					return r.send(t, swap(t, made, member(t, made, "signature"), ""))
				},
			})
		}},
		{"KEY-5", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{"other": inner("/key-change", "/new-order"), "absent": inner(`"url"`, `"x"`), "query": inner("/key-change", "/key-change?x")})
		}},
		{"KEY-6", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{"nonce": inner(`"jwk"`, `"nonce":"QUJD","jwk"`)})
		}},
		{"KEY-7", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{
				"other": says(func(t *testing.T, r rollover) string {
					return swap(t, r.says, r.client.KID, s.account(t, "server").KID)
				}),
				"slash": says(func(t *testing.T, r rollover) string { return swap(t, r.says, r.client.KID, r.client.KID+"/") }),
				"none":  says(func(t *testing.T, r rollover) string { return swap(t, r.says, `"account"`, `"x"`) }),
				"twice": says(func(t *testing.T, r rollover) string { return swap(t, r.says, `{`, `{"account":"x",`) }),
			})
		}},
		{"KEY-8", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{
				"new-key":   says(func(t *testing.T, r rollover) string { return swap(t, r.says, jwk(t, r.client), jwk(t, r.fresh)) }),
				"other-key": says(func(t *testing.T, r rollover) string { return swap(t, r.says, jwk(t, r.client), jwk(t, s.client(t))) }),
			})
			// Compared as a key: another order of members is the same.
			c := s.account(t, "server")
			r := newRollover(t, c, acmetest.NewKey(t))
			key := acmetest.JWK(t, c.Key.Public())
			r.says = swap(t, r.says, jwk(t, c), fmt.Sprintf(`{"y":%q,"x":%q,"kty":"EC","crv":"P-256","use":"sig"}`, key["y"], key["x"]))
			ok(t, r.post(t), http.StatusOK)
		}},
		{"KEY-9", func(t *testing.T, s *suite) {
			s.refusesRollovers(t, "malformed", changes{
				"absent": says(func(t *testing.T, r rollover) string { return swap(t, r.says, `"oldKey"`, `"x"`) }),
				"null":   says(func(t *testing.T, r rollover) string { return swap(t, r.says, `"oldKey":`, `"oldKey":null,"x":`) }),
				"empty":  says(func(*testing.T, rollover) string { return `{}` }),
			})
		}},
		{"KEY-10", func(t *testing.T, s *suite) {
			c, owner := s.account(t, "server"), s.account(t, "server")
			answer := newRollover(t, c, owner.Key).post(t)
			refused(t, answer, http.StatusConflict, "malformed")
			if got := answer.Header.Get("Location"); got != owner.KID {
				t.Errorf("Location %q, not that of the account that has the key", got)
			}
			registered(t, c)
			registered(t, owner)
		}},
		{"KEY-11", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			ok(t, newRollover(t, c, c.Key).post(t), http.StatusOK)
			registered(t, c)
		}},
		{"KEY-12", parallelRollovers},
		{"KEY-13", func(t *testing.T, s *suite) {
			c, gone := s.account(t, "server"), s.account(t, "server")
			ok(t, gone.PostRaw(t, gone.KID, []byte(`{"status":"deactivated"}`)), http.StatusOK)
			refused(t, newRollover(t, c, gone.Key).post(t), http.StatusConflict, "malformed")
			registered(t, c)
		}},
		{"KEY-14", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			key := acmetest.NewKey(t)
			made := ok(t, order(t, c, `{"identifiers":null}`), http.StatusCreated).Order(t)
			ok(t, c.Finalize(t, made, csrOf(t, key, meshRequest("spiffe://cluster.local/ns/demo/sa/key14"))), http.StatusOK)
			refused(t, newRollover(t, c, key).post(t), http.StatusBadRequest, "badPublicKey")
			ca, err := s.Signers.Signer(t.Context(), s.Issuing.KeyID)
			if err != nil {
				t.Fatal(err)
			}
			refused(t, newRollover(t, c, ca).post(t), http.StatusBadRequest, "badPublicKey")
			registered(t, c)
			// The same for a new account.
			thief := s.client(t)
			thief.Key = key
			refused(t, thief.PostRaw(t, newAccountURL(thief), []byte(s.registration(t, thief, "server"))), http.StatusBadRequest, "badPublicKey")
			s.noAccount(t, thief)
		}},
		{"KEY-15", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made := ok(t, order(t, c, names("key15.test")), http.StatusCreated).Order(t)
			key := acmetest.NewKey(t)
			challenge := readAuthz(t, c, made.Authorizations[0]).of(t, "http-01")
			ok(t, newRollover(t, c, key).post(t), http.StatusOK)
			c.Key = key
			s.lab.prove("key15.test", challenge.Token, challenge.Token+"."+acmetest.Thumbprint(t, key.Public()))
			ok(t, c.PostRaw(t, challenge.URL, []byte("{}")), http.StatusOK)
			if got := s.settled(t, c, made.Authorizations[0]); got.Status != "valid" {
				t.Errorf("authorization %+v", got)
			}
		}},
	}
}

// keyChanged changes a key and uses what the account had before.
func keyChanged(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	server := s.Replica(t, acme.Options{})
	replica := on(c, server)
	registered(t, replica) // so that the replica has a copy of the old key
	ready := ok(t, order(t, c, names("key1.svc")), http.StatusCreated).Order(t)
	old := *c
	key := acmetest.NewKey(t)
	answer := ok(t, newRollover(t, c, key).post(t), http.StatusOK)
	if at := answer.Header.Get("Location"); at != c.KID && at != "" {
		t.Errorf("Location %q", at)
	}
	c.Key = key
	fresh := on(c, server)
	registered(t, c)
	registered(t, fresh)
	refused(t, old.Read(t, c.KID), http.StatusBadRequest, "malformed")
	refused(t, existing(t, &old), http.StatusBadRequest, "accountDoesNotExist")
	refused(t, on(&old, server).Read(t, c.KID), http.StatusBadRequest, "malformed")
	if answer := ok(t, existing(t, c), http.StatusOK); answer.Header.Get("Location") != c.KID {
		t.Errorf("account %q", answer.Header.Get("Location"))
	}
	if got := readAuthz(t, c, ready.Authorizations[0]); got.Status != "valid" {
		t.Errorf("authorization %+v", got)
	}
	ok(t, c.Finalize(t, ready, acmetest.ServerCSR(t, "key1.svc")), http.StatusOK)
	// A replica that nobody has shown the new key forgets the old one in seconds.
	old = *c
	c.Key = acmetest.NewKey(t)
	ok(t, newRollover(t, &old, c.Key).post(t), http.StatusOK)
	s.Advance(t, 5*time.Second)
	refused(t, on(&old, server).Read(t, c.KID), http.StatusBadRequest, "malformed")
}

// parallelRollovers changes one key to two others at once.
func parallelRollovers(t *testing.T, s *suite) {
	for range 4 {
		c := s.account(t, "server")
		replica := on(c, s.Replica(t, acme.Options{}))
		keys := []crypto.Signer{acmetest.NewKey(t), acmetest.NewKey(t)}
		var won atomic.Int32
		var wait sync.WaitGroup
		for i, sender := range []*acmetest.Client{c, replica} {
			r := newRollover(t, sender, keys[i])
			wait.Go(func() {
				if answer := r.post(t); answer.Status == http.StatusOK {
					won.Add(1)
				} else if answer.Status >= 500 {
					t.Errorf("status %d: %s", answer.Status, answer.Body)
				}
			})
		}
		wait.Wait()
		good := 0
		for _, key := range keys {
			with := *c
			with.Key = key
			if existing(t, &with).Status == http.StatusOK {
				good++
			}
		}
		if won.Load() != 1 || good != 1 || strings.Contains(string(existing(t, c).Body), "valid") {
			t.Errorf("%d changes won, %d keys are the account's", won.Load(), good)
		}
	}
}
