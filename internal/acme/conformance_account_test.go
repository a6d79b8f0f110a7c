package acme_test

import (
	"encoding/json"
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

type accountObject struct {
	Status, Orders string
	Contact        []string
}

// registered reads an account.
func registered(t testing.TB, c *acmetest.Client) accountObject {
	t.Helper()
	var account accountObject
	ok(t, c.Read(t, c.KID), http.StatusOK).Into(t, &account)
	return account
}

// existing asks for the account of the client's key.
func existing(t testing.TB, c *acmetest.Client) *acmetest.Response {
	t.Helper()
	nobody := *c
	nobody.KID = ""
	return nobody.PostRaw(t, newAccountURL(c), []byte(`{"onlyReturnExisting":true}`))
}

func accountRows() []row {
	return []row{
		{"ACC-1", func(t *testing.T, s *suite) {
			c := s.client(t)
			payload := swap(t, s.registration(t, c, "server"), "{", `{"contact":["mailto:a@b.example"],`)
			answer := ok(t, c.PostRaw(t, newAccountURL(c), []byte(payload)), http.StatusCreated)
			var account accountObject
			answer.Into(t, &account)
			at := answer.Header.Get("Location")
			if account.Status != "valid" || fmt.Sprint(account.Contact) != "[mailto:a@b.example]" || account.Orders == "" || !strings.HasPrefix(at, s.URL+"/acme/account/") {
				t.Errorf("account %+v at %q", account, at)
			}
			c.KID = at
			if got := ok(t, c.Read(t, account.Orders), http.StatusOK); string(got.Body) != "{\"orders\":[]}\n" {
				t.Errorf("orders %s", got.Body)
			}
		}},
		{"ACC-2", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			nobody := *c
			nobody.KID = ""
			for _, payload := range []string{
				`{}`, `{"contact":["mailto:attacker@example.com"]}`, `{"contact":["tel:1"]}`, `{"termsOfServiceAgreed":false}`, s.registration(t, &nobody, "istio"),
			} {
				answer := ok(t, nobody.PostRaw(t, newAccountURL(c), []byte(payload)), http.StatusOK)
				var account accountObject
				answer.Into(t, &account)
				if answer.Header.Get("Location") != c.KID || account.Status != "valid" || account.Orders == "" {
					t.Errorf("account %+v at %s", account, answer.Header.Get("Location"))
				}
			}
			s.unchanged(t, c)
		}},
		{"ACC-3", func(t *testing.T, s *suite) {
			c := s.client(t)
			refused(t, existing(t, c), http.StatusBadRequest, "accountDoesNotExist")
			refused(t, c.PostRaw(t, newAccountURL(c), []byte(swap(t, s.registration(t, c, "server"), "{", `{"onlyReturnExisting":true,`))), http.StatusBadRequest, "accountDoesNotExist")
			s.noAccount(t, c)
			c.Register(t, s.Credentials["server"])
			if answer := ok(t, existing(t, c), http.StatusOK); answer.Header.Get("Location") != c.KID {
				t.Errorf("account %s", answer.Header.Get("Location"))
			}
		}},
		{"ACC-4", parallelRegistrations},
		{"ACC-5", func(t *testing.T, s *suite) {
			c := s.client(t)
			payload := swap(t, s.registration(t, c, "server"), "{", `{"status":"deactivated","orders":"https://x.example","id":7,"onlyReturnExisting":false,"unknown":{"a":[1]},`)
			answer := ok(t, c.PostRaw(t, newAccountURL(c), []byte(payload)), http.StatusCreated)
			var members map[string]json.RawMessage
			answer.Into(t, &members)
			for _, name := range []string{"id", "unknown", "onlyReturnExisting", "termsOfServiceAgreed"} {
				if value, there := members[name]; there {
					t.Errorf("%s is echoed as %s", name, value)
				}
			}
			if string(members["status"]) != `"valid"` || strings.Contains(string(members["orders"]), "x.example") {
				t.Errorf("account %s", answer.Body)
			}
		}},
		{"ACC-6", contacts},
		{"ACC-7", func(t *testing.T, s *suite) {
			for _, contact := range []string{``, `"contact":null,`, `"contact":[],`} {
				c := s.client(t)
				answer := ok(t, c.PostRaw(t, newAccountURL(c), []byte(swap(t, s.registration(t, c, "server"), "{", "{"+contact))), http.StatusCreated)
				if strings.Contains(string(answer.Body), "null") {
					t.Errorf("account has a null: %s", answer.Body)
				}
			}
		}},
		{"ACC-8", func(t *testing.T, s *suite) {
			replica := s.Replica(t, acme.Options{TermsOfService: "https://x.example/terms"})
			c := on(s.client(t), replica)
			for _, agreed := range []string{`"termsOfServiceAgreed":true`, `"termsOfServiceAgreed":false`, `"x":1`} {
				payload := swap(t, s.registration(t, c, "server"), `"termsOfServiceAgreed":true`, agreed)
				answer := c.PostRaw(t, newAccountURL(c), []byte(payload))
				if strings.Contains(agreed, "true") {
					ok(t, answer, http.StatusCreated)
					c = on(s.client(t), replica)
					continue
				}
				refused(t, answer, http.StatusForbidden, "userActionRequired")
				if !strings.Contains(strings.Join(answer.Header.Values("Link"), "\n"), `<https://x.example/terms>;rel="terms-of-service"`) {
					t.Errorf("links %q", answer.Header.Values("Link"))
				}
				s.noAccount(t, c)
			}
		}},
		{"ACC-9", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			ok(t, c.PostRaw(t, c.KID, []byte(`{"contact":["mailto:a@b.example"]}`)), http.StatusOK)
			for range 2 {
				if account := registered(t, c); fmt.Sprint(account.Contact) != "[mailto:a@b.example]" || account.Status != "valid" || account.Orders == "" {
					t.Errorf("account %+v", account)
				}
			}
		}},
		{"ACC-10", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for _, step := range []struct{ payload, want string }{
				{`{"contact":["mailto:a@b.example"]}`, "[mailto:a@b.example]"},
				{`{}`, "[mailto:a@b.example]"},
				{`{"termsOfServiceAgreed":true}`, "[mailto:a@b.example]"},
				{`{"contact":["mailto:c@d.example","mailto:e@f.example"]}`, "[mailto:c@d.example mailto:e@f.example]"},
				{`{"contact":[]}`, "[]"},
			} {
				ok(t, c.PostRaw(t, c.KID, []byte(step.payload)), http.StatusOK)
				if got := fmt.Sprint(registered(t, c).Contact); got != step.want {
					t.Errorf("after %s: %s, want %s", step.payload, got, step.want)
				}
			}
		}},
		{"ACC-11", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			a, b := ok(t, c.PostRaw(t, c.KID, nil), http.StatusOK), ok(t, c.PostRaw(t, c.KID, []byte("{}")), http.StatusOK)
			if string(a.Body) != string(b.Body) {
				t.Errorf("%s and %s", a.Body, b.Body)
			}
		}},
		{"ACC-12", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, _ := obtained(t, s, c, "spiffe://cluster.local/ns/demo/sa/acc12")
			var account accountObject
			if ok(t, c.PostRaw(t, c.KID, []byte(`{"status":"deactivated"}`)), http.StatusOK).Into(t, &account); account.Status != "deactivated" {
				t.Errorf("account %+v", account)
			}
			if got := certificateRow(t, s, valid); !got.RevokedAt.IsZero() {
				t.Error("the certificate was revoked with the account")
			}
		}},
		{"ACC-13", deactivated},
		{"ACC-14", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for _, status := range []string{"revoked", "invalid", "DEACTIVATED", "", "valid"} {
				ok(t, c.PostRaw(t, c.KID, []byte(fmt.Sprintf(`{"status":%q}`, status))), http.StatusOK)
				if got := registered(t, c).Status; got != "valid" {
					t.Errorf("status %q made it %s", status, got)
				}
			}
		}},
		{"ACC-15", func(t *testing.T, s *suite) {
			c, other := s.account(t, "server"), s.account(t, "server")
			for _, payload := range []string{"", attackPayload, `{"status":"deactivated"}`} {
				refused(t, other.PostRaw(t, c.KID, []byte(payload)), http.StatusNotFound, "malformed")
			}
			refused(t, other.Read(t, c.KID+"/orders"), http.StatusNotFound, "malformed")
			if got := registered(t, c); got.Status != "valid" || len(got.Contact) != 0 {
				t.Errorf("account %+v", got)
			}
		}},
		{"ACC-16", ordersList},
		{"ACC-17", func(t *testing.T, _ *suite) {
			state, options := newStorage()
			s := apart(t, options)
			c := s.account(t, "server")
			state.shutOut.Store(true)
			s.Advance(t, 5*time.Second)
			refused(t, c.Read(t, c.KID), http.StatusForbidden, "unauthorized")
			refused(t, order(t, c, names("a.example.com")), http.StatusForbidden, "unauthorized")
			refused(t, existing(t, c), http.StatusForbidden, "unauthorized")
		}},
	}
}

// parallelRegistrations registers one key many times at once, on two replicas.
func parallelRegistrations(t *testing.T, s *suite) {
	c := s.client(t)
	replica := on(c, s.Replica(t, acme.Options{}))
	payload := []byte(s.registration(t, c, "server"))
	var created atomic.Int32
	var mu sync.Mutex
	locations := map[string]bool{}
	var wait sync.WaitGroup
	for i := range 24 {
		sender := c
		if i%2 == 0 {
			sender = replica
		}
		wait.Go(func() {
			answer := sender.PostRaw(t, newAccountURL(c), payload)
			switch answer.Status {
			case http.StatusCreated:
				created.Add(1)
			case http.StatusOK:
			default:
				t.Errorf("status %d: %s", answer.Status, answer.Body)
			}
			mu.Lock()
			defer mu.Unlock()
			locations[answer.Header.Get("Location")] = true
		})
	}
	wait.Wait()
	if created.Load() != 1 || len(locations) != 1 {
		t.Errorf("%d answers say 201, and there are accounts %v", created.Load(), locations)
	}
}

func contacts(t *testing.T, s *suite) {
	long := strings.Repeat("a", 300)
	for name, test := range map[string]struct{ contact, kind string }{
		"mailto":        {`["mailto:a@b.example"]`, ""},
		"two":           {`["mailto:a@b.example","mailto:c@d.example"]`, ""},
		"two-addresses": {`["mailto:a@b.example,c@d.example"]`, "invalidContact"},
		"header-fields": {`["mailto:a@b.example?subject=x"]`, "invalidContact"},
		"no-address":    {`["mailto:"]`, "invalidContact"},
		"no-at":         {`["mailto:attacker"]`, "invalidContact"},
		"line-end":      {`["mailto:a@b.example\r\nBcc: x@y.example"]`, "invalidContact"},
		"escape":        {`["mailto:a@b.example\u001b[31m"]`, "invalidContact"},
		"not-ascii":     {`["mailto:ä@b.example"]`, "invalidContact"},
		"too-long":      {`["mailto:` + long + `@b.example"]`, "invalidContact"},
		"too-many":      {`[` + strings.TrimSuffix(strings.Repeat(`"mailto:a@b.example",`, 50), ",") + `]`, "invalidContact"},
		"tel":           {`["tel:+4930123456"]`, "unsupportedContact"},
		"https":         {`["https://x.example"]`, "unsupportedContact"},
		"no-scheme":     {`["attacker"]`, "unsupportedContact"},
		"empty":         {`[""]`, "unsupportedContact"},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.client(t)
			payload := []byte(swap(t, s.registration(t, c, "server"), "{", `{"contact":`+test.contact+`,`))
			answer := c.PostRaw(t, newAccountURL(c), payload)
			if test.kind == "" {
				ok(t, answer, http.StatusCreated)
				return
			}
			problem := refused(t, answer, http.StatusBadRequest, test.kind)
			if strings.ContainsAny(problem.Detail, "\r\n\x1b") {
				t.Errorf("detail %q has control characters", problem.Detail)
			}
			s.noAccount(t, c)
			c.Register(t, s.Credentials["server"])
			refused(t, c.PostRaw(t, c.KID, []byte(`{"contact":`+test.contact+`}`)), http.StatusBadRequest, test.kind)
			s.unchanged(t, c)
		})
	}
}

// deactivated deactivates an account: nothing works any more, on any replica.
func deactivated(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	replica := on(c, s.Replica(t, acme.Options{}))
	valid, chain := obtained(t, s, c, "spiffe://cluster.local/ns/demo/sa/acc13")
	ready := ok(t, order(t, c, `{"identifiers":null}`), http.StatusCreated).Order(t)
	ok(t, c.PostRaw(t, c.KID, []byte(`{"status":"deactivated"}`)), http.StatusOK)
	csr := acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/acc13")
	certificate := leaf(t, chain)
	for name, answer := range map[string]*acmetest.Response{
		"account":     c.Read(t, c.KID),
		"update":      c.PostRaw(t, c.KID, []byte(`{"status":"valid"}`)),
		"newOrder":    order(t, c, `{"identifiers":null}`),
		"order":       c.Read(t, valid.URL),
		"certificate": c.Read(t, valid.Certificate),
		"finalize":    c.Finalize(t, ready, csr),
		"newAccount":  existing(t, c),
		"register": func() *acmetest.Response {
			nobody := *c
			nobody.KID = ""
			return nobody.PostRaw(t, newAccountURL(c), []byte(s.registration(t, &nobody, "istio")))
		}(),
		"revoke":  c.Post(t, c.Prefix+"/revoke-cert", map[string]any{"certificate": acmetest.Base64(certificate.Raw)}),
		"nonce":   c.Read(t, c.Prefix+"/new-nonce"),
		"replica": replica.Finalize(t, ready, csr),
	} {
		t.Run(name, func(t *testing.T) { refused(t, answer, http.StatusUnauthorized, "unauthorized") })
	}
	if got := certificateRow(t, s, valid); !got.RevokedAt.IsZero() {
		t.Error("the deactivated account revoked its certificate")
	}
}

// ordersList reads all pages of an account's orders.
func ordersList(t *testing.T, s *suite) {
	c := s.scoped(t)
	want := map[string]bool{}
	for i := range 120 {
		// So many names that the order does not fit into a URL: only those have a place where they could be found.
		var many []string
		for k := range 15 {
			many = append(many, fmt.Sprintf("acc16-%d-%d.%s.test", i, k, strings.Repeat("x", 60)))
		}
		made := ok(t, order(t, c, names(many...)), http.StatusCreated).Order(t)
		want[made.URL] = true
	}
	at, pages := c.KID+"/orders", 0
	for at != "" {
		answer := ok(t, c.Read(t, at), http.StatusOK)
		var list struct{ Orders []string }
		answer.Into(t, &list)
		for _, url := range list.Orders {
			if !want[url] {
				t.Errorf("order %s is listed twice, or is not ours", url)
			}
			delete(want, url)
		}
		pages++
		at = ""
		for _, link := range answer.Header.Values("Link") {
			if url, next := strings.CutSuffix(link, `>;rel="next"`); next {
				at = url[1:]
			}
		}
	}
	if len(want) != 0 || pages < 2 {
		t.Errorf("%d orders are not listed on %d pages", len(want), pages)
	}
	refused(t, c.Read(t, c.KID+"/orders?before=x"), http.StatusBadRequest, "malformed")
	// A finalized order of a pre-authorized profile is listed, with a URL that can be read.
	mesh := s.account(t, "istio")
	valid, _ := obtained(t, s, mesh, "spiffe://cluster.local/ns/demo/sa/acc16")
	var list struct{ Orders []string }
	ok(t, mesh.Read(t, mesh.KID+"/orders"), http.StatusOK).Into(t, &list)
	if len(list.Orders) != 1 {
		t.Fatalf("orders %q", list.Orders)
	}
	if got := ok(t, mesh.Read(t, list.Orders[0]), http.StatusOK).Order(t); got.Status != "valid" || got.Certificate != valid.Certificate {
		t.Errorf("listed order %+v", got)
	}
}
