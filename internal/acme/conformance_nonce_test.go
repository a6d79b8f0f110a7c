package acme_test

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/store"
)

func nonceRows() []row {
	return []row{
		{"NON-1", func(t *testing.T, s *suite) {
			c := s.client(t)
			for method, status := range map[string]int{http.MethodHead: http.StatusOK, http.MethodGet: http.StatusNoContent} {
				answer := c.Do(t, httptest.NewRequestWithContext(t.Context(), method, s.URL+"/acme/new-nonce", nil))
				if answer.Status != status || len(answer.Body) != 0 {
					t.Errorf("%s: %d %q", method, answer.Status, answer.Body)
				}
				checkHeaders(t, answer)
			}
		}},
		{"NON-2", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			ok(t, c.Read(t, s.URL+"/acme/new-nonce"), http.StatusNoContent)
			refused(t, c.PostRaw(t, s.URL+"/acme/new-nonce", []byte("{}")), http.StatusBadRequest, "malformed")
		}},
		{"NON-3", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			nonce := c.Nonce()
			seen := map[string]bool{nonce: true}
			for range 20 {
				answer := ok(t, c.Send(t, c.KID, []byte(sign(t, c, protected(t, c, nonce, c.KID), ""))), http.StatusOK)
				if nonce = answer.Header.Get("Replay-Nonce"); seen[nonce] {
					t.Fatalf("nonce %q came twice", nonce)
				}
				seen[nonce] = true
			}
		}},
		{"NON-4", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for name, answer := range map[string]*acmetest.Response{
				"malformed": c.Send(t, c.KID, []byte("{")),
				"refused":   order(t, c, names("a.example.org")),
				"not found": c.Read(t, s.URL+"/acme/order/x"),
				"method":    c.Read(t, s.URL+"/acme/renewal-info/x"),
				"badNonce":  c.Send(t, c.KID, []byte(sign(t, c, protected(t, c, "AAAA", c.KID), ""))),
			} {
				nonce := answer.Header.Get("Replay-Nonce")
				if answer.Status < 400 || nonce == "" {
					t.Errorf("%s: %d with nonce %q", name, answer.Status, nonce)
				}
				ok(t, c.Send(t, c.KID, []byte(sign(t, c, protected(t, c, nonce, c.KID), ""))), http.StatusOK)
			}
		}},
		{"NON-5", func(t *testing.T, s *suite) {
			nonce := s.client(t).Get(t, s.URL+"/acme/new-nonce").Header.Get("Replay-Nonce")
			if raw, err := base64.RawURLEncoding.Strict().DecodeString(nonce); err != nil || len(raw) < 16 || strings.ContainsAny(nonce, "=+/") {
				t.Errorf("nonce %q: %v", nonce, err)
			}
		}},
		{"NON-6", nonceUsedTwice},
		{"NON-7", func(t *testing.T, s *suite) {
			s.attacks(t, http.StatusBadRequest, []string{"badNonce"}, map[string]func(*testing.T, *acmetest.Client, string) string{
				"absent": func(t *testing.T, c *acmetest.Client, header string) string {
					before, after, _ := strings.Cut(header, `"nonce":"`)
					_, after, _ = strings.Cut(after, `",`)
					return sign(t, c, before+after, attackPayload)
				},
			})
			s.attacks(t, http.StatusBadRequest, []string{"malformed"}, map[string]func(*testing.T, *acmetest.Client, string) string{
				"padded":   resigned(`","url"`, `==","url"`),
				"standard": resigned(`"nonce":"`, `"nonce":"+/`),
				"space":    resigned(`"nonce":"`, `"nonce":" `),
				"empty":    resigned(`"nonce":"`, `"nonce":"","x":"`),
				"null":     resigned(`"nonce":"`, `"nonce":null,"x":"`),
				"number":   resigned(`"nonce":"`, `"nonce":1,"x":"`),
			})
		}},
		{"NON-8", func(t *testing.T, s *suite) {
			other := apart(t, acmetest.Options{})
			foreign := other.Nonces.Issue()
			s.attacks(t, http.StatusBadRequest, []string{"badNonce"}, map[string]func(*testing.T, *acmetest.Client, string) string{
				"tampered": resigned(`"nonce":"`, `"nonce":"A`),
				"short":    resigned(`"nonce":"`, `"nonce":"QUJD","x":"`),
				"foreign":  resigned(`"nonce":"`, `"nonce":"`+foreign+`","x":"`),
				"long":     resigned(`"nonce":"`, `"nonce":"`+strings.Repeat("A", 5000)+`","x":"`),
				"order":    resigned(`"nonce":"`, `"nonce":"`+s.Ring.Seal("order", nil, make([]byte, 16))+`","x":"`),
			})
		}},
		{"NON-9", func(t *testing.T, _ *suite) {
			// Storage that panics when it is asked for anything.
			s := apart(t, acmetest.Options{Store: func(*store.Store) acme.Store { return struct{ acme.Store }{} }})
			for _, at := range []string{"/acme/new-nonce", "/acme/directory"} {
				if answer := s.client(t).Get(t, s.URL+at); answer.Status >= 300 || answer.Header.Get("Replay-Nonce") == "" {
					t.Errorf("GET %s: %d %v", at, answer.Status, answer.Header)
				}
			}
		}},
		{"NON-10", func(t *testing.T, _ *suite) {
			s := apart(t, acmetest.Options{})
			c := s.account(t, "server")
			var pool []string
			for range 100 {
				pool = append(pool, c.Nonce())
			}
			s.Advance(t, 23*time.Hour)
			for _, nonce := range pool {
				ok(t, c.Send(t, c.KID, []byte(sign(t, c, protected(t, c, nonce, c.KID), ""))), http.StatusOK)
			}
		}},
		{"NON-11", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, c.KID, strings.NewReader(sign(t, c, header(t, c, c.KID), "")))
			request.Header.Set("Content-Type", "application/jose+json")
			request.Header.Set("Replay-Nonce", "not a nonce")
			ok(t, c.Do(t, request), http.StatusOK)
		}},
		{"NON-12", func(t *testing.T, s *suite) {
			c := on(s.account(t, "server"), s.Replica(t, acme.Options{NonceRejectPercent: 50}))
			good, bad := 0, 0
			for range 200 {
				answer := c.Read(t, c.KID)
				if answer.Status == http.StatusOK {
					good++
					continue
				}
				refused(t, answer, http.StatusBadRequest, "badNonce")
				bad++
			}
			if good < 50 || bad < 50 {
				t.Errorf("%d passed, %d were refused", good, bad)
			}
		}},
		{"NON-13", func(t *testing.T, s *suite) {
			c, thief := s.account(t, "server"), s.client(t)
			thief.KID = c.KID // he has seen the nonce, but does not have the key
			nonce := c.Nonce()
			at := protected(t, c, nonce, c.KID)
			refused(t, c.Send(t, c.KID, []byte(sign(t, thief, at, attackPayload))), http.StatusBadRequest, "malformed")
			ok(t, c.Send(t, c.KID, []byte(sign(t, c, at, ""))), http.StatusOK)
		}},
	}
}

func nonceUsedTwice(t *testing.T, s *suite) {
	c := s.account(t, "server")
	replica := on(c, s.Replica(t, acme.Options{}))
	body := []byte(sign(t, c, header(t, c, c.KID), ""))
	ok(t, c.Send(t, c.KID, body), http.StatusOK)
	for _, again := range []*acmetest.Client{c, replica} {
		problem := refused(t, again.Send(t, c.KID, body), http.StatusBadRequest, "badNonce")
		if !strings.Contains(problem.Detail, "JWS has an invalid anti-replay nonce") {
			t.Errorf("detail %q has not the words that acme.sh looks for", problem.Detail)
		}
	}
	// The first use failed after the nonce was checked.
	at := c.Prefix + "/new-order"
	body = []byte(sign(t, c, header(t, c, at), names("a.example.org")))
	refused(t, c.Send(t, at, body), http.StatusForbidden, "rejectedIdentifier")
	refused(t, c.Send(t, at, body), http.StatusBadRequest, "badNonce")
	refused(t, replica.Send(t, at, body), http.StatusBadRequest, "badNonce")
	// Many at once, on two replicas.
	for range 5 {
		body := []byte(sign(t, c, header(t, c, c.KID), ""))
		var passed atomic.Int32
		var wait sync.WaitGroup
		for i := range 16 {
			sender := c
			if i%2 == 0 {
				sender = replica
			}
			wait.Go(func() {
				switch answer := sender.Send(t, c.KID, body); answer.Status {
				case http.StatusOK:
					passed.Add(1)
				case http.StatusBadRequest:
				default:
					t.Errorf("status %d: %s", answer.Status, answer.Body)
				}
			})
		}
		wait.Wait()
		if passed.Load() != 1 {
			t.Errorf("%d of 16 requests with one nonce passed", passed.Load())
		}
	}
}
