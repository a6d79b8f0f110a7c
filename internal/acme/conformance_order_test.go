package acme_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
)

func orderRows() []row {
	return []row{
		{"ORD-1", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			until := s.Clock.Now().Add(2 * time.Hour).UTC().Format(time.RFC3339)
			answer := ok(t, order(t, c, fmt.Sprintf(`{"identifiers":[%s],"profile":"server","notAfter":%q}`, dnsID("ord1.example.com"), until)), http.StatusCreated)
			o := answer.Order(t)
			if o.URL == "" || o.Status != "ready" || o.Expires == "" || len(o.Identifiers) != 1 || len(o.Authorizations) != 1 ||
				!strings.HasPrefix(o.Finalize, s.URL) || o.Profile != "server" || o.NotAfter != until || o.Certificate != "" {
				t.Errorf("order %s", answer.Body)
			}
		}},
		{"ORD-2", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for sent, want := range map[string]string{
				"ord2.example.com": "ord2.example.com", "ORD2.Example.COM": "ord2.example.com", "xn--bcher-kva.example.com": "xn--bcher-kva.example.com",
			} {
				if o := ok(t, order(t, c, names(sent)), http.StatusCreated).Order(t); o.Identifiers[0].Value != want {
					t.Errorf("%s is echoed as %+v", sent, o.Identifiers)
				}
			}
			refused(t, order(t, c, names("bücher.example.com")), http.StatusBadRequest, "malformed")
			refused(t, order(t, c, names("ab--x.example.com")), http.StatusBadRequest, "malformed")
		}},
		{"ORD-3", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			payload := `{"status":"valid","expires":"2099-01-01T00:00:00Z","identifiers":[` + dnsID("ord3.example.com") +
				`],"authorizations":["https://x.example"],"finalize":"https://x.example","certificate":"https://x.example","error":{},"unknown":[{}]}`
			answer := ok(t, order(t, c, payload), http.StatusCreated)
			if o := answer.Order(t); o.Status != "ready" || strings.Contains(string(answer.Body), "x.example\"") || strings.Contains(o.Expires, "2099") {
				t.Errorf("order %s", answer.Body)
			}
		}},
		{"ORD-4", refusedIdentifiers},
		{"ORD-5", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			o := ok(t, order(t, c, names("ord5.example.com", "ord5.example.com", "ORD5.example.com", "b.ord5.example.com")), http.StatusCreated).Order(t)
			if len(o.Identifiers) != 2 || len(o.Authorizations) != 2 {
				t.Errorf("order %+v", o)
			}
			v := s.scoped(t)
			o = ok(t, order(t, v, `{"identifiers":[`+ipID("127.0.0.1")+`,`+ipID("127.0.0.1")+`]}`), http.StatusCreated).Order(t)
			if len(o.Identifiers) != 1 || len(o.Authorizations) != 1 {
				t.Errorf("order %+v", o)
			}
		}},
		{"ORD-6", badNames},
		{"ORD-7", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			for _, good := range []string{"192.0.2.1", "2001:db8::1", "::1"} {
				ok(t, order(t, c, `{"identifiers":[`+ipID(good)+`]}`), http.StatusCreated)
			}
			for _, bad := range []string{
				"::ffff:1.2.3.4", "fe80::1%eth0", "010.0.0.1", "1.2.3", "[::1]", "10.0.0.0/8", "2001:DB8::1", "2001:0db8::1", "2001:db8:0:0:0:0:0:1", "1.2.3.4:80", "0x7f.1", "", " 1.2.3.4", "*.1.2.3.4",
			} {
				refused(t, order(t, c, `{"identifiers":[`+ipID(bad)+`]}`), http.StatusBadRequest, "malformed")
			}
		}},
		{"ORD-8", orderDates},
		{"ORD-9", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			for _, profile := range []string{"nobody", "istio", "challenge", "Server", "server "} {
				refused(t, order(t, c, fmt.Sprintf(`{"identifiers":[%s],"profile":%q}`, dnsID("ord9.example.com"), profile)), http.StatusBadRequest, "invalidProfile")
			}
			if o := ok(t, order(t, c, names("ord9.example.com")), http.StatusCreated).Order(t); o.Profile != "server" {
				t.Errorf("profile %q is echoed when none was asked for", o.Profile)
			}
			refused(t, order(t, c, `{"identifiers":[`+dnsID("ord9.example.com")+`],"profile":7}`), http.StatusBadRequest, "malformed")
		}},
		{"ORD-10", func(t *testing.T, s *suite) {
			profile, c := s.profile(t, "ord10")
			o := ok(t, order(t, c, names("ord10.svc")), http.StatusCreated).Order(t)
			if _, err := s.Catalog.SetProfileState(t.Context(), profile.ID, pki.Suspended, acmetest.By()); err != nil {
				t.Fatal(err)
			}
			csr := acmetest.ServerCSR(t, "ord10.svc")
			refused(t, c.Finalize(t, o, csr), http.StatusBadRequest, "invalidProfile")
			refused(t, order(t, c, names("ord10.svc")), http.StatusBadRequest, "invalidProfile")
			if _, err := s.Catalog.SetProfileState(t.Context(), profile.ID, pki.Active, acmetest.By()); err != nil {
				t.Fatal(err)
			}
			ok(t, c.Finalize(t, o, csr), http.StatusOK)
		}},
		{"ORD-11", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			refused(t, order(t, c, `{"identifiers":[`+ipID("127.0.0.1")+`],"profile":"server"}`), http.StatusBadRequest, "invalidProfile")
		}},
		{"ORD-12", func(t *testing.T, s *suite) {
			for _, payload := range []string{`{}`, `{"identifiers":null}`, `{"identifiers":[]}`} {
				for _, c := range []*acmetest.Client{s.account(t, "server"), s.scoped(t)} {
					refused(t, order(t, c, payload), http.StatusBadRequest, "malformed")
				}
				if o := ok(t, order(t, s.account(t, "istio"), payload), http.StatusCreated).Order(t); o.Status != "ready" {
					t.Errorf("order %+v", o)
				}
			}
			refused(t, order(t, s.account(t, "istio"), ""), http.StatusBadRequest, "malformed")
		}},
		{"ORD-13", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			o := ok(t, order(t, c, names("a.ord13.test", "b.ord13.test")), http.StatusCreated).Order(t)
			for i, want := range []string{"pending", "ready"} {
				a := readAuthz(t, c, o.Authorizations[i])
				token := a.of(t, "http-01").Token
				s.lab.prove(a.Identifier.Value, token, keyAuthorization(t, c, token))
				if got := s.answer(t, c, a, "http-01"); got.Status != "valid" {
					t.Fatalf("authorization %+v", got)
				}
				if got := statusOf(t, c, o.URL); got != want {
					t.Errorf("order is %s after %d proofs, want %s", got, i+1, want)
				}
			}
			ok(t, c.PostRaw(t, o.Authorizations[0], []byte(`{"status":"deactivated"}`)), http.StatusOK)
			if got := statusOf(t, c, o.URL); got != "invalid" {
				t.Errorf("order is %s after an authorization was deactivated", got)
			}
			refused(t, c.Finalize(t, o, acmetest.ServerCSR(t, "a.ord13.test", "b.ord13.test")), http.StatusForbidden, "orderNotReady")
		}},
		{"ORD-14", expiredOrders},
		{"ORD-15", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			one, two := ok(t, order(t, c, names("ord15.svc")), http.StatusCreated).Order(t), ok(t, order(t, c, names("ord15.svc")), http.StatusCreated).Order(t)
			if one.URL == two.URL || one.Authorizations[0] == two.Authorizations[0] {
				t.Errorf("two orders share %s", one.URL)
			}
		}},
		{"ORD-16", func(t *testing.T, s *suite) {
			c := on(s.scoped(t), s.Replica(t, acme.Options{OrdersPerMinute: 2}))
			for range 2 {
				ok(t, order(t, c, names("ord16.test")), http.StatusCreated)
			}
			answer := order(t, c, names("ord16.test"))
			refused(t, answer, http.StatusTooManyRequests, "rateLimited")
			if seconds := answer.Header.Get("Retry-After"); seconds == "" || seconds == "0" {
				t.Errorf("Retry-After %q", seconds)
			}
		}},
		{"ORD-17", func(t *testing.T, s *suite) {
			problem := refused(t, order(t, s.account(t, "server"), names("ok.example.com", "no.example.org")), http.StatusForbidden, "rejectedIdentifier")
			if len(problem.Subproblems) > 1 || len(problem.Subproblems) == 1 && problem.Subproblems[0].Identifier.Value != "no.example.org" {
				t.Errorf("subproblems %+v", problem.Subproblems)
			}
			if !strings.Contains(problem.Detail, "no.example.org") {
				t.Errorf("detail %q does not name the identifier", problem.Detail)
			}
		}},
		{"ORD-18", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			o := ok(t, order(t, c, names("ord18.test")), http.StatusCreated).Order(t)
			answer := ok(t, c.Read(t, o.URL), http.StatusOK)
			if answer.Header.Get("Location") != o.URL || answer.Header.Get("Retry-After") == "" {
				t.Errorf("headers %v", answer.Header)
			}
			mesh := s.account(t, "istio")
			ready := ok(t, order(t, mesh, `{"identifiers":null}`), http.StatusCreated).Order(t)
			if answer = ok(t, mesh.Read(t, ready.URL), http.StatusOK); answer.Header.Get("Location") != ready.URL || answer.Header.Get("Retry-After") != "" {
				t.Errorf("headers %v", answer.Header)
			}
		}},
	}
}

// profile makes a profile like istio of the row's own, and an account under it.
func (s *suite) profile(t testing.TB, name string) (*pki.Profile, *acmetest.Client) {
	t.Helper()
	made := s.AddProfile(t, name, pki.PrivateMTLS, pki.MTLSOverACME, func(rules *pki.ProfileRules) { *rules = s.Profiles["istio"].Rules })
	c := s.client(t)
	c.Register(t, s.credentialOf(t, made, name))
	return made, c
}

func refusedIdentifiers(t *testing.T, s *suite) {
	c := s.account(t, "server")
	refused(t, order(t, c, `{"identifiers":[{"type":"email","value":"a@b.example"}]}`), http.StatusBadRequest, "unsupportedIdentifier")
	refused(t, order(t, c, `{"identifiers":[{"type":"DNS","value":"a.example.com"}]}`), http.StatusBadRequest, "unsupportedIdentifier")
	refused(t, order(t, c, `{"identifiers":[{"value":"a.example.com"}]}`), http.StatusBadRequest, "unsupportedIdentifier")
	refused(t, order(t, c, names("a..example.com")), http.StatusBadRequest, "malformed")
	// One bad name among good ones, at each place.
	for k := range 5 {
		list := []string{"0.example.com", "1.example.com", "2.example.com", "3.example.com", "4.example.com"}
		list[k] = fmt.Sprintf("%d.example.org", k)
		if problem := refused(t, order(t, c, names(list...)), http.StatusForbidden, "rejectedIdentifier"); !strings.Contains(problem.Detail+fmt.Sprint(problem.Subproblems), list[k]) {
			t.Errorf("bad name at place %d is not named: %+v", k, problem)
		}
	}
	mixed := `{"identifiers":[` + dnsID("a.example.org") + `,` + dnsID("ok.example.com") + `,` + dnsID("a..b") + `,{"type":"email","value":"a@b"}]}`
	answer := order(t, c, mixed)
	problem := refused(t, answer, answer.Status, "compound")
	if len(problem.Subproblems) != 3 || answer.Status != http.StatusForbidden && answer.Status != http.StatusBadRequest {
		t.Fatalf("problem %s", answer.Body)
	}
	want := map[string]string{"a.example.org": "rejectedIdentifier", "a..b": "malformed", "a@b": "unsupportedIdentifier"}
	for _, sub := range problem.Subproblems {
		if got := strings.TrimPrefix(sub.Type, "urn:ietf:params:acme:error:"); want[sub.Identifier.Value] != got || sub.Detail == "" || sub.Identifier.Type == "" {
			t.Errorf("subproblem %+v", sub)
		}
	}
}

func badNames(t *testing.T, s *suite) {
	c := s.scoped(t)
	label := strings.Repeat("a", 63)
	for _, good := range []string{label + ".test", "*.ord6.test", "xn--bcher-kva.test", "a-b.test", "1.2.test"} {
		ok(t, order(t, c, names(good)), http.StatusCreated)
	}
	for _, bad := range []string{
		"", ".", "a.test.", ".a.test", "a..test", label + "a.test", strings.Repeat(label+".", 4) + "test", "a_b.test", "a.test:443", "-a.test", "a-.test",
		"a b.test", "127.0.0.1", "::1", "a.*.test", "*a.test", "a*.test", "*.*.test", "*", "*.", "**.test", "http://a.test", "a.test/x", "a@b.test", "a\\u0000.test",
		"a.test\\n", "\\u212a.test", "a\\u3002test", "a%2etest", "a.123",
	} {
		refused(t, order(t, c, `{"identifiers":[`+dnsID(bad)+`]}`), http.StatusBadRequest, "malformed", "rejectedIdentifier")
	}
	var many []string
	for i := range 200 {
		many = append(many, fmt.Sprintf("%d.ord6.test", i))
	}
	refused(t, order(t, c, names(many...)), http.StatusBadRequest, "malformed", "rejectedIdentifier")
	refused(t, order(t, s.account(t, "istio"), names(many...)), http.StatusBadRequest, "malformed", "rejectedIdentifier")
}

func orderDates(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	now := s.Clock.Now().UTC().Truncate(time.Second)
	at := func(d time.Duration) string { return now.Add(d).Format(time.RFC3339) }
	ask := func(notBefore, notAfter string) *acmetest.Response {
		var dates string
		if notBefore != "" {
			dates += fmt.Sprintf(`,"notBefore":%q`, notBefore)
		}
		if notAfter != "" {
			dates += fmt.Sprintf(`,"notAfter":%q`, notAfter)
		}
		return order(t, c, `{"identifiers":null`+dates+`}`)
	}
	for name, dates := range map[string][2]string{
		"past": {"", at(-time.Hour)}, "before-after": {at(2 * time.Hour), at(time.Hour)}, "same": {at(time.Hour), at(time.Hour)},
		"text": {"", "tomorrow"}, "date-only": {"", now.AddDate(0, 0, 1).Format(time.DateOnly)}, "year-0": {"", "0000-01-01T00:00:00Z"},
		"backdated": {at(-48 * time.Hour), at(time.Hour)}, "number": {"1", ""}, "too-late": {at(1000 * 24 * time.Hour), ""},
	} {
		t.Run("refuses/"+name, func(t *testing.T) { refused(t, ask(dates[0], dates[1]), http.StatusBadRequest, "malformed") })
	}
	// Honoured exactly.
	o := ok(t, ask(at(10*time.Minute), at(time.Hour)), http.StatusCreated).Order(t)
	valid := ok(t, c.Finalize(t, o, acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/ord8")), http.StatusOK).Order(t)
	certificate := leaf(t, ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body)
	if o.NotBefore != at(10*time.Minute) || o.NotAfter != at(time.Hour) || !certificate.NotBefore.Equal(now.Add(10*time.Minute)) || !certificate.NotAfter.Equal(now.Add(time.Hour)) {
		t.Errorf("order from %s to %s, certificate from %s to %s", o.NotBefore, o.NotAfter, certificate.NotBefore, certificate.NotAfter)
	}
	// Beyond the maximum: shortened, and visibly so.
	longest := time.Duration(s.Profiles["istio"].Rules.Validity.Max)
	o = ok(t, ask("", at(10*longest)), http.StatusCreated).Order(t)
	valid = ok(t, c.Finalize(t, o, acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/ord8")), http.StatusOK).Order(t)
	certificate = leaf(t, ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body)
	if shown, err := time.Parse(time.RFC3339, o.NotAfter); err != nil || shown.Sub(now) > longest+time.Minute {
		t.Errorf("order shows notAfter %s (%v)", o.NotAfter, err)
	}
	if valid.NotAfter != certificate.NotAfter.UTC().Format(time.RFC3339) || certificate.NotAfter.Sub(now) > longest+time.Minute {
		t.Errorf("order shows notAfter %s, the certificate has %s", valid.NotAfter, certificate.NotAfter)
	}
}

func expiredOrders(t *testing.T, _ *suite) {
	s := apart(t, acmetest.Options{})
	mesh, v := s.account(t, "istio"), s.scoped(t)
	sealed := ok(t, order(t, mesh, `{"identifiers":null}`), http.StatusCreated).Order(t)
	named := ok(t, order(t, mesh, names("ord14.svc")), http.StatusCreated).Order(t)
	stored := ok(t, order(t, v, names("ord14.test")), http.StatusCreated).Order(t)
	done, _ := obtained(t, s, mesh, "spiffe://cluster.local/ns/demo/sa/ord14")
	s.Advance(t, 25*time.Hour)
	for o, c := range map[*acmetest.Order]*acmetest.Client{sealed: mesh, named: mesh, stored: v} {
		if got := statusOf(t, c, o.URL); got != "invalid" {
			t.Errorf("expired order is %s", got)
		}
		refused(t, c.Finalize(t, o, acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/web")), http.StatusForbidden, "orderNotReady")
	}
	// An order that has its certificate stays valid.
	if got := statusOf(t, mesh, done.URL); got != "valid" {
		t.Errorf("order with a certificate is %s", got)
	}
}
