package acme_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme/acmetest"
)

func authorizationRows() []row {
	return []row{
		{"AUZ-1", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			_, plain := s.pending(t, c, dnsID("auz1.test"))
			_, wild := s.pending(t, c, dnsID("*.auz1.test"))
			if plain.Identifier.Value != "auz1.test" || plain.Identifier.Type != "dns" || plain.Expires == "" || plain.Wildcard != nil || len(plain.Challenges) == 0 {
				t.Errorf("authorization %+v", plain)
			}
			if wild.Identifier.Value != "auz1.test" || wild.Wildcard == nil || !*wild.Wildcard || len(wild.Challenges) != 1 || wild.Challenges[0].Type != "dns-01" {
				t.Errorf("authorization of a wildcard %+v", wild)
			}
			mesh := s.account(t, "istio")
			made := ok(t, order(t, mesh, names("auz1.svc")), http.StatusCreated).Order(t)
			if got := readAuthz(t, mesh, made.Authorizations[0]); got.Status != "valid" || got.Expires == "" || got.Identifier.Value != "auz1.svc" {
				t.Errorf("authorization %+v", got)
			}
		}},
		{"AUZ-2", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			_, a := s.pending(t, c, dnsID("auz2.test"))
			var kinds []string
			for _, challenge := range a.Challenges {
				kinds = append(kinds, challenge.Type)
			}
			slices.Sort(kinds)
			if strings.Join(kinds, " ") != "dns-01 http-01 tls-alpn-01" {
				t.Errorf("challenges %v", kinds)
			}
			token := a.of(t, "http-01").Token
			s.lab.prove("auz2.test", token, keyAuthorization(t, c, token))
			valid := s.answer(t, c, a, "http-01").of(t, "http-01")
			if at, err := time.Parse(time.RFC3339, valid.Validated); err != nil || valid.Status != "valid" || valid.Token != token || valid.URL == "" || at.IsZero() {
				t.Errorf("valid challenge %+v (%v)", valid, err)
			}
			_, b := s.pending(t, c, dnsID("auz2b.test"))
			if got := s.fails(t, c, b, "http-01", "unauthorized", "incorrectResponse"); got.of(t, "http-01").Status != "invalid" {
				t.Errorf("failed authorization %+v", got)
			}
		}},
		{"AUZ-3", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made, a := s.pending(t, c, dnsID("auz3.test"))
			var object authzObject
			if ok(t, c.PostRaw(t, a.URL, []byte(`{"status":"deactivated"}`)), http.StatusOK).Into(t, &object); object.Status != "deactivated" {
				t.Errorf("authorization %+v", object)
			}
			if got := statusOf(t, c, made.URL); got != "invalid" {
				t.Errorf("order is %s", got)
			}
			ok(t, c.PostRaw(t, a.URL, []byte(`{"status":"deactivated"}`)), http.StatusOK)
			for _, status := range []string{"valid", "pending", "revoked", ""} {
				refused(t, c.PostRaw(t, a.URL, []byte(`{"status":"`+status+`"}`)), http.StatusBadRequest, "malformed")
			}
			if got := readAuthz(t, c, a.URL); got.Status != "deactivated" {
				t.Errorf("authorization %+v", got)
			}
		}},
		{"AUZ-4", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			one, two := ok(t, order(t, c, names("auz4.svc")), http.StatusCreated).Order(t), ok(t, order(t, c, names("auz4.svc")), http.StatusCreated).Order(t)
			ok(t, c.PostRaw(t, one.Authorizations[0], []byte(`{"status":"deactivated"}`)), http.StatusOK)
			if got := readAuthz(t, c, one.Authorizations[0]); got.Status != "deactivated" {
				t.Errorf("authorization %+v", got)
			}
			if got := statusOf(t, c, one.URL); got != "invalid" {
				t.Errorf("order is %s", got)
			}
			refused(t, c.Finalize(t, one, acmetest.ServerCSR(t, "auz4.svc")), http.StatusForbidden, "orderNotReady", "unauthorized")
			ok(t, c.Finalize(t, two, acmetest.ServerCSR(t, "auz4.svc")), http.StatusOK)
			// After the certificate is there, as lego does it: the certificate stays.
			ok(t, c.PostRaw(t, two.Authorizations[0], []byte(`{"status":"deactivated"}`)), http.StatusOK)
			if got := statusOf(t, c, two.URL); got != "valid" {
				t.Errorf("order with a certificate is %s", got)
			}
		}},
		{"AUZ-5", func(t *testing.T, s *suite) {
			c, other := s.scoped(t), s.scoped(t)
			_, a := s.pending(t, c, dnsID("auz5.test"))
			mesh, foreign := s.account(t, "istio"), s.account(t, "istio")
			sealed := ok(t, order(t, mesh, names("auz5.svc")), http.StatusCreated).Order(t)
			for _, payload := range []string{"", `{"status":"deactivated"}`} {
				refused(t, other.PostRaw(t, a.URL, []byte(payload)), http.StatusNotFound, "malformed")
				refused(t, foreign.PostRaw(t, sealed.Authorizations[0], []byte(payload)), http.StatusNotFound, "malformed")
			}
			for _, payload := range []string{"", `{}`} {
				refused(t, other.PostRaw(t, a.Challenges[0].URL, []byte(payload)), http.StatusNotFound, "malformed")
			}
			if got := readAuthz(t, c, a.URL); got.Status != "pending" {
				t.Errorf("authorization %+v", got)
			}
			if got := readAuthz(t, mesh, sealed.Authorizations[0]); got.Status != "valid" {
				t.Errorf("authorization %+v", got)
			}
			// Indexes that the order does not have, and spellings of one that it has.
			for _, index := range []string{"1", "-1", "00", "+0", "x", "0x0"} {
				at := strings.TrimSuffix(sealed.Authorizations[0], "/0") + "/" + index
				refused(t, mesh.Read(t, at), http.StatusNotFound, "malformed")
			}
		}},
		{"CHA-1", func(t *testing.T, s *suite) {
			mesh, v := s.account(t, "istio"), s.scoped(t)
			sealed := ok(t, order(t, mesh, names("cha1.svc")), http.StatusCreated).Order(t)
			_, a := s.pending(t, v, dnsID("cha1.test"))
			all := slices.Concat(a.Challenges, readAuthz(t, mesh, sealed.Authorizations[0]).Challenges)
			seen := map[string]bool{}
			for _, c := range all {
				raw, err := base64.RawURLEncoding.Strict().DecodeString(c.Token)
				if c.Type == "" || c.URL == "" || c.Status == "" || err != nil || len(raw) < 16 || seen[c.Token] {
					t.Errorf("challenge %+v", c)
				}
				seen[c.Token] = true
			}
		}},
		{"CHA-2", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			_, a := s.pending(t, c, dnsID("cha2.test"))
			challenge := a.of(t, "http-01")
			s.lab.prove("cha2.test", challenge.Token, keyAuthorization(t, c, challenge.Token))
			answer := ok(t, c.PostRaw(t, challenge.URL, []byte(`{"keyAuthorization":"x","resource":"challenge","type":"http-01"}`)), http.StatusOK)
			if !slices.Contains(answer.Header.Values("Link"), `<`+a.URL+`>;rel="up"`) {
				t.Errorf("links %q", answer.Header.Values("Link"))
			}
			var object challengeObject
			if answer.Into(t, &object); object.URL != challenge.URL || object.Type != "http-01" {
				t.Errorf("challenge %+v", object)
			}
			if got := s.settled(t, c, a.URL); got.Status != "valid" {
				t.Errorf("authorization %+v", got)
			}
		}},
		{"CHA-3", repeatedChallenge},
		{"CHA-4", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			_, a := s.pending(t, c, dnsID("cha4.test"))
			challenge := a.of(t, "http-01")
			s.lab.prove("cha4.test", challenge.Token, keyAuthorization(t, c, challenge.Token))
			for range 3 {
				if got := statusOf(t, c, challenge.URL); got != "pending" {
					t.Errorf("challenge is %s", got)
				}
				readAuthz(t, c, a.URL)
			}
			if n := s.lab.hit("cha4.test" + wellKnown + challenge.Token); n != 0 {
				t.Errorf("%d validations were started by reading", n)
			}
		}},
		{"CHA-5", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made, a := s.pending(t, c, dnsID("cha5.test"))
			s.fails(t, c, a, "http-01", "unauthorized", "incorrectResponse")
			var o acmetest.Order
			ok(t, c.Read(t, made.URL), http.StatusOK).Into(t, &o)
			if o.Status != "invalid" || o.Error == nil || o.Error.Detail == "" || !strings.HasPrefix(o.Error.Type, "urn:ietf:params:acme:error:") {
				t.Errorf("order %+v", o)
			}
			refused(t, c.Finalize(t, made, acmetest.ServerCSR(t, "cha5.test")), http.StatusForbidden, "orderNotReady")
		}},
		{"CHA-6", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			_, a := s.pending(t, c, dnsID("cha6.test"))
			if answer := ok(t, c.Read(t, a.URL), http.StatusOK); answer.Header.Get("Retry-After") == "" {
				t.Error("a pending authorization without Retry-After")
			}
			challenge := a.of(t, "http-01")
			release := make(chan struct{})
			s.lab.page("cha6.test", wellKnown+challenge.Token, func(http.ResponseWriter, *http.Request) { <-release })
			answer := ok(t, c.PostRaw(t, challenge.URL, []byte("{}")), http.StatusOK)
			var object challengeObject
			if answer.Into(t, &object); object.Status != "processing" || answer.Header.Get("Retry-After") == "" {
				t.Errorf("challenge %+v with Retry-After %q", object, answer.Header.Get("Retry-After"))
			}
			close(release)
			s.settled(t, c, a.URL)
		}},
		{"CHA-7", func(t *testing.T, _ *suite) {
			s := apart(t, acmetest.Options{})
			c := s.scoped(t)
			_, deactivated := s.pending(t, c, dnsID("cha7a.test"))
			_, expired := s.pending(t, c, dnsID("cha7b.test"))
			ok(t, c.PostRaw(t, deactivated.URL, []byte(`{"status":"deactivated"}`)), http.StatusOK)
			refused(t, c.PostRaw(t, deactivated.of(t, "http-01").URL, []byte("{}")), http.StatusBadRequest, "malformed")
			s.Advance(t, 25*time.Hour)
			challenge := expired.of(t, "http-01")
			refused(t, c.PostRaw(t, challenge.URL, []byte("{}")), http.StatusBadRequest, "malformed")
			for _, at := range []string{"cha7a.test" + wellKnown + deactivated.of(t, "http-01").Token, "cha7b.test" + wellKnown + challenge.Token} {
				if n := s.lab.hit(at); n != 0 {
					t.Errorf("%s was asked for %d times", at, n)
				}
			}
		}},
	}
}

// repeatedChallenge posts to a challenge while it is being validated, and after.
func repeatedChallenge(t *testing.T, s *suite) {
	c := s.scoped(t)
	_, a := s.pending(t, c, dnsID("cha3.test"))
	challenge := a.of(t, "http-01")
	at := "cha3.test" + wellKnown + challenge.Token
	release := make(chan struct{})
	var asked atomic.Int32
	proof := keyAuthorization(t, c, challenge.Token)
	s.lab.page("cha3.test", wellKnown+challenge.Token, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		<-release
		_, _ = w.Write([]byte(proof))
	})
	for range 4 {
		ok(t, c.PostRaw(t, challenge.URL, []byte("{}")), http.StatusOK)
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("%d validations at once", n)
	}
	close(release)
	if got := s.settled(t, c, a.URL); got.Status != "valid" {
		t.Fatalf("authorization %+v", got)
	}
	for range 3 {
		var object challengeObject
		if ok(t, c.PostRaw(t, challenge.URL, []byte("{}")), http.StatusOK).Into(t, &object); object.Status != "valid" {
			t.Errorf("challenge %+v", object)
		}
	}
	if n := s.lab.hit(at); n != 1 {
		t.Errorf("%d validations of a valid challenge", n)
	}
	_, b := s.pending(t, c, dnsID("cha3b.test"))
	s.fails(t, c, b, "http-01", "unauthorized", "incorrectResponse")
	failed := b.of(t, "http-01")
	s.lab.prove("cha3b.test", failed.Token, keyAuthorization(t, c, failed.Token))
	var object challengeObject
	if ok(t, c.PostRaw(t, failed.URL, []byte("{}")), http.StatusOK).Into(t, &object); object.Status != "invalid" {
		t.Errorf("a failed challenge became %+v", object)
	}
	if n := s.lab.hit("cha3b.test" + wellKnown + failed.Token); n != 1 {
		t.Errorf("%d validations of a failed challenge", n)
	}
	// Another challenge of an authorization that is decided.
	refused(t, c.PostRaw(t, b.of(t, "dns-01").URL, []byte("{}")), http.StatusBadRequest, "malformed")
}
