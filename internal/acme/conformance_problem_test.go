package acme_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/fault"
)

// problemRows are those about problem documents and rate limits. What holds for every problem is in refused.
func problemRows() []row {
	return []row{
		{"PRB-1", func(t *testing.T, s *suite) {
			answer := order(t, s.account(t, "server"), names("a.example.org"))
			refused(t, answer, http.StatusForbidden, "rejectedIdentifier")
			var members map[string]any
			answer.Into(t, &members)
			if !strings.HasPrefix(members["type"].(string), "urn:ietf:params:acme:error:") || members["detail"] == "" || members["status"] != 403.0 {
				t.Errorf("problem %s", answer.Body)
			}
		}},
		{"PRB-2", registeredTypes},
		{"PRB-3", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			answer := order(t, c, names("a..b", "b.example.org", "ok.example.com"))
			problem := refused(t, answer, answer.Status, "compound")
			var members map[string]json.RawMessage
			if answer.Into(t, &members); members["identifier"] != nil || len(problem.Subproblems) != 2 {
				t.Errorf("problem %s", answer.Body)
			}
			for _, sub := range problem.Subproblems {
				if sub.Type == "" || sub.Detail == "" || sub.Identifier.Type == "" || sub.Identifier.Value == "" {
					t.Errorf("subproblem %+v", sub)
				}
			}
			if other := order(t, c, `[]`); strings.Contains(string(other.Body), "subproblems") {
				t.Errorf("problem %s", other.Body)
			}
		}},
		{"PRB-4", func(t *testing.T, _ *suite) {
			s := withIssuer(t, &issuer{before: func() error { panic("SELECT secret FROM /var/lib") }})
			c := s.account(t, "istio")
			answer := c.Finalize(t, meshOrder(t, c), acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/web"))
			problem := refused(t, answer, http.StatusInternalServerError, "serverInternal")
			for _, word := range []string{"SELECT", "/var/lib", "goroutine", ".go:", "panic"} {
				if strings.Contains(problem.Detail, word) {
					t.Errorf("detail %q has %q", problem.Detail, word)
				}
			}
			// The server is still there, and control characters of a request do not come back.
			problem = refused(t, order(t, c, `{"identifiers":[{"type":"dns","value":"a\u001b[31m\r\nb\u0085.svc"}]}`), http.StatusBadRequest, "malformed")
			if strings.ContainsAny(problem.Detail, "\x1b\r\n\u0085") {
				t.Errorf("detail %q", problem.Detail)
			}
		}},
		{"PRB-5", func(t *testing.T, s *suite) {
			// Pages of proxies are theirs. Of ours, the answers that handlers of HTTP libraries like to give as text.
			c := s.account(t, "server")
			for name, answer := range map[string]*acmetest.Response{
				"405": c.Get(t, c.KID), "404": c.Get(t, s.URL+"/acme/x"), "413": c.PostRaw(t, c.KID, make([]byte, 100<<10)), "400": c.Send(t, c.KID, nil),
			} {
				if strconv.Itoa(answer.Status) != name || answer.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("%s: %d %v", name, answer.Status, answer.Header)
				}
			}
		}},
		{"RAT-1", func(t *testing.T, s *suite) {
			c := on(s.scoped(t), s.Replica(t, acme.Options{OrdersPerMinute: 1}))
			ok(t, order(t, c, names("rat1.test")), http.StatusCreated)
			answer := order(t, c, names("rat1.test"))
			refused(t, answer, http.StatusTooManyRequests, "rateLimited")
			if n, err := strconv.Atoi(answer.Header.Get("Retry-After")); err != nil || n < 1 || n > 60 {
				t.Errorf("Retry-After %q", answer.Header.Get("Retry-After"))
			}
		}},
		{"RAT-2", func(t *testing.T, s *suite) {
			replica := s.Replica(t, acme.Options{OrdersPerMinute: 1})
			c, other := on(s.scoped(t), replica), on(s.scoped(t), replica)
			ok(t, order(t, c, names("rat2.test")), http.StatusCreated)
			refused(t, order(t, c, names("rat2.test")), http.StatusTooManyRequests, "rateLimited")
			ok(t, order(t, other, names("rat2.test")), http.StatusCreated) // from the same address
			ok(t, c.Read(t, c.KID), http.StatusOK)
		}},
		{"RAT-3", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made := s.validated(t, c, "rat3.test")
			valid := ok(t, c.Finalize(t, made, acmetest.ServerCSR(t, "rat3.test")), http.StatusOK).Order(t)
			limited := on(c, s.Replica(t, acme.Options{OrdersPerMinute: 1}))
			ok(t, order(t, limited, names("rat3.test")), http.StatusCreated)
			refused(t, order(t, limited, names("rat3.test")), http.StatusTooManyRequests, "rateLimited")
			replaces := ariOf(leaf(t, c.Read(t, valid.Certificate).Body))
			ok(t, order(t, limited, `{"identifiers":[`+dnsID("rat3.test")+`],"replaces":"`+replaces+`"}`), http.StatusCreated)
		}},
		{"RAT-4", func(t *testing.T, s *suite) {
			c := on(s.scoped(t), s.Replica(t, acme.Options{OrdersPerMinute: 1}))
			for range 3 {
				refused(t, order(t, c, names("a..b")), http.StatusBadRequest, "malformed")
			}
			ok(t, order(t, c, names("rat4.test")), http.StatusCreated)
		}},
		{"RAT-6", func(t *testing.T, _ *suite) {
			s := apart(t, acmetest.Options{ACME: acme.Options{OrdersPerMinute: 2}})
			c := s.scoped(t)
			for range 2 {
				ok(t, order(t, c, names("rat6.test")), http.StatusCreated)
			}
			for range 3 {
				answer := order(t, c, names("rat6.test"))
				refused(t, answer, http.StatusTooManyRequests, "rateLimited")
				seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
				if err != nil {
					t.Fatal(err)
				}
				s.Advance(t, time.Duration(seconds)*time.Second)
				ok(t, order(t, c, names("rat6.test")), http.StatusCreated)
			}
		}},
		{"RAT-7", overloadIsNotQuota},
	}
}

// registeredTypes walks the table of errors: types that IANA has registered (RFC 8555 section 9.7.3, RFC 9773) or that
// the drafts which we follow define, with the status that clients know.
func registeredTypes(t *testing.T, s *suite) {
	statuses := map[string][]int{
		"accountDoesNotExist": {400}, "alreadyRevoked": {400}, "badCSR": {400}, "badNonce": {400}, "badPublicKey": {400}, "badRevocationReason": {400},
		"badSignatureAlgorithm": {400}, "caa": {403}, "compound": {400, 403}, "connection": {400}, "dns": {400}, "externalAccountRequired": {403},
		"incorrectResponse": {400}, "invalidContact": {400}, "malformed": {400, 404, 405, 409, 412, 413, 415}, "orderNotReady": {403}, "rateLimited": {429},
		"rejectedIdentifier": {400, 403}, "serverInternal": {500, 503}, "tls": {400}, "unauthorized": {401, 403}, "unsupportedContact": {400},
		"unsupportedIdentifier": {400}, "userActionRequired": {403}, "alreadyReplaced": {409}, "invalidProfile": {400},
	}
	for _, kind := range fault.Kinds() {
		meaning, known := kind.Meaning(), false
		for _, status := range statuses[meaning.ACME] {
			known = known || status == meaning.Status
		}
		if !known {
			t.Errorf("%s: type %q with status %d", kind, meaning.ACME, meaning.Status)
		}
	}
	// The key change conflict, for which Boulder has a type of its own.
	c, owner := s.account(t, "server"), s.account(t, "server")
	refused(t, newRollover(t, c, owner.Key).post(t), http.StatusConflict, "malformed")
}

// overloadIsNotQuota holds the server to 503 for overload: a 4xx would end orders of cert-manager for good.
func overloadIsNotQuota(t *testing.T, _ *suite) {
	release, entered := make(chan struct{}), make(chan struct{}, 64)
	i := &issuer{before: func() error { entered <- struct{}{}; <-release; return nil }}
	s := apart(t, acmetest.Options{
		ACME:   acme.Options{MaxFinalizes: 1, AdmissionWait: 10 * time.Millisecond, OrdersPerMinute: 1},
		Issuer: func(real acme.Issuer) acme.Issuer { return &issuer{Issuer: real, before: i.before} },
	})
	c := s.account(t, "istio")
	first, second := meshOrder(t, c), meshOrder(t, c) // a mesh profile has no quota
	csr := acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/rat7")
	done := make(chan *acmetest.Response, 1)
	go func() { done <- c.Finalize(t, first, csr) }()
	<-entered
	answer := c.Finalize(t, second, acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/rat7"))
	refused(t, answer, http.StatusServiceUnavailable, "serverInternal")
	if answer.Header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	close(release)
	ok(t, <-done, http.StatusOK)
	ok(t, c.Finalize(t, second, csr), http.StatusOK)
}
