package acme_test

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
)

// ariOf returns the identifier of RFC 9773 section 4.1.
func ariOf(c *x509.Certificate) string {
	return pki.ARICertID(c.AuthorityKeyId, pki.SerialFromInt(c.SerialNumber))
}

// window reads a certificate's suggested renewal window.
func (s *suite) window(t testing.TB, c *acmetest.Client, certificate *x509.Certificate) (start, end time.Time) {
	t.Helper()
	answer := c.Get(t, s.URL+"/acme/renewal-info/"+ariOf(certificate))
	if answer.Status != http.StatusOK || answer.Header.Get("Content-Type") != "application/json" {
		t.Fatalf("renewal info: %d %s", answer.Status, answer.Body)
	}
	var info struct {
		SuggestedWindow struct{ Start, End time.Time }
	}
	answer.Into(t, &info)
	if !info.SuggestedWindow.Start.Before(info.SuggestedWindow.End) {
		t.Errorf("window %+v", info.SuggestedWindow)
	}
	return info.SuggestedWindow.Start, info.SuggestedWindow.End
}

// replacing is the payload of an order without identifiers that replaces a certificate.
func replacing(id string) string { return fmt.Sprintf(`{"identifiers":null,"replaces":%q}`, id) }

func renewalRows() []row {
	const id = "spiffe://cluster.local/ns/demo/sa/ari"
	return []row{
		{"ARI-1", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			_, certificate, _ := s.mesh(t, c, id)
			start, end := s.window(t, s.client(t), certificate)
			if start.Before(certificate.NotBefore) || end.After(certificate.NotAfter) {
				t.Errorf("window %s to %s of a certificate from %s to %s", start, end, certificate.NotBefore, certificate.NotAfter)
			}
		}},
		{"ARI-2", func(t *testing.T, s *suite) {
			_, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			answer := s.client(t).Get(t, s.URL+"/acme/renewal-info/"+ariOf(certificate))
			seconds, err := strconv.Atoi(answer.Header.Get("Retry-After"))
			if life := certificate.NotAfter.Sub(certificate.NotBefore); err != nil || seconds < 60 || time.Duration(seconds)*time.Second > min(6*time.Hour, life/6+time.Minute) {
				t.Errorf("Retry-After %q", answer.Header.Get("Retry-After"))
			}
		}},
		{"ARI-3", func(t *testing.T, s *suite) {
			_, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			good := ariOf(certificate)
			aki, serial, _ := strings.Cut(good, ".")
			c := s.client(t)
			for path, status := range map[string]int{
				good + "=": 400, aki + "=." + serial: 400, aki: 400, good + ".x": 400, "a*." + serial: 400, aki + "." + "+": 400, "." + serial: 400, aki + ".": 400,
				"aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE": 404, aki + ".AIdlQyE": 404, "aYhba4dGQEHhs3uEe6CuLN4ByNQ." + serial: 404, aki + ".AA" + serial: 400,
				strings.Repeat("a", 5000) + "." + serial: 400,
			} {
				answer := c.Get(t, s.URL+"/acme/renewal-info/"+path)
				if answer.Status != status || answer.Problem(t).Type != "malformed" || answer.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%.100s: %d %s, want %d", path, answer.Status, answer.Body, status)
				}
			}
			if got := c.Get(t, s.URL+"/acme/renewal-info/"); got.Status != http.StatusNotFound {
				t.Errorf("no identifier: %d", got.Status)
			}
		}},
		{"ARI-4", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			_, certificate, _ := s.mesh(t, c, id)
			s.window(t, c, certificate)
			ok(t, revoke(t, c, certificate.Raw, "1"), http.StatusOK)
			if _, end := s.window(t, c, certificate); end.After(s.Clock.Now()) {
				t.Errorf("window ends at %s", end)
			}
		}},
		{"ARI-5", func(t *testing.T, _ *suite) {
			s := apart(t, acmetest.Options{})
			_, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			s.Advance(t, 10*24*time.Hour)
			answer := s.client(t).Get(t, s.URL+"/acme/renewal-info/"+ariOf(certificate))
			if answer.Status == http.StatusNotFound {
				return
			}
			if _, end := s.window(t, s.client(t), certificate); end.After(s.Clock.Now()) {
				t.Errorf("window ends at %s", end)
			}
		}},
		{"ARI-6", replacedOnce},
		{"ARI-7", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			for _, text := range []string{"x", "a.b.c", "AA=.AA=", "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE", "."} {
				if problem := refused(t, order(t, c, replacing(text)), http.StatusBadRequest, "malformed"); !strings.Contains(problem.Detail, "replaces") {
					t.Errorf("detail %q does not name replaces", problem.Detail)
				}
			}
			refused(t, order(t, c, `{"identifiers":null,"replaces":7}`), http.StatusBadRequest, "malformed")
			ok(t, order(t, c, `{"identifiers":null,"replaces":""}`), http.StatusCreated)
		}},
		{"ARI-8", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made := s.validated(t, c, "ari8.test")
			valid := ok(t, c.Finalize(t, made, acmetest.ServerCSR(t, "ari8.test")), http.StatusOK).Order(t)
			payload := fmt.Sprintf(`{"identifiers":[%s],"replaces":%q}`, dnsID("ari8.test"), ariOf(leaf(t, c.Read(t, valid.Certificate).Body)))
			failing := ok(t, order(t, c, payload), http.StatusCreated).Order(t)
			ok(t, c.PostRaw(t, failing.Authorizations[0], []byte(`{"status":"deactivated"}`)), http.StatusOK)
			ok(t, order(t, c, payload), http.StatusCreated)
		}},
		{"ARI-9", func(t *testing.T, s *suite) {
			c, same := s.account(t, "istio"), s.account(t, "istio")
			_, certificate, _ := s.mesh(t, c, id)
			stranger := s.client(t)
			stranger.Register(t, s.credentialOf(t, s.Profiles["istio"], "ari9"))
			for _, other := range []*acmetest.Client{stranger, s.account(t, "server"), s.scoped(t)} {
				payload := replacing(ariOf(certificate))
				if other != stranger {
					payload = fmt.Sprintf(`{"identifiers":[%s],"replaces":%q}`, dnsID("ari9.example.com"), ariOf(certificate))
				}
				refused(t, order(t, other, payload), http.StatusBadRequest, "malformed")
			}
			ok(t, order(t, same, replacing(ariOf(certificate))), http.StatusCreated)
			// Replacing grants nothing: the names are judged as ever.
			made := ok(t, order(t, c, replacing(ariOf(certificate))), http.StatusCreated).Order(t)
			refused(t, c.Finalize(t, made, acmetest.WorkloadCSR(t, "spiffe://evil.local/ns/demo/sa/ari")), http.StatusForbidden, "rejectedIdentifier")
		}},
		{"ARI-10", func(t *testing.T, s *suite) {
			// Two pods with one key: both may order, as long as neither has its certificate.
			c := s.account(t, "istio")
			_, certificate, _ := s.mesh(t, c, id)
			var made atomic.Int32
			var wait sync.WaitGroup
			for range 6 {
				wait.Go(func() {
					if answer := order(t, c, replacing(ariOf(certificate))); answer.Status == http.StatusCreated {
						made.Add(1)
					} else if answer.Status >= 500 {
						t.Errorf("status %d: %s", answer.Status, answer.Body)
					}
				})
			}
			wait.Wait()
			if made.Load() == 0 {
				t.Error("none passed")
			}
		}},
		{"ARI-11", func(t *testing.T, s *suite) {
			_, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			h := s.client(t).Get(t, s.URL+"/acme/renewal-info/"+ariOf(certificate)).Header
			age, found := strings.CutPrefix(h.Get("Cache-Control"), "public, max-age=")
			seconds, err := strconv.Atoi(age)
			retry, _ := strconv.Atoi(h.Get("Retry-After"))
			if !found || err != nil || seconds > retry || h.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("headers %v", h)
			}
		}},
		{"ARI-12", func(t *testing.T, s *suite) {
			_, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			c := s.client(t)
			at := s.URL + "/acme/renewal-info/" + ariOf(certificate)
			if a, b := c.Get(t, at), c.Get(t, at+"?x=1&y"); string(a.Body) != string(b.Body) || b.Status != http.StatusOK {
				t.Errorf("%s and %d %s", a.Body, b.Status, b.Body)
			}
		}},
		{"ARI-13", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			shares := map[int]bool{}
			for range 8 {
				_, certificate, _ := s.mesh(t, c, id)
				start, _ := s.window(t, c, certificate)
				again, _ := s.window(t, c, certificate)
				if !start.Equal(again) {
					t.Errorf("window begins at %s, then at %s", start, again)
				}
				shares[int(1000*start.Sub(certificate.NotBefore)/certificate.NotAfter.Sub(certificate.NotBefore))] = true
			}
			if len(shares) < 3 {
				t.Errorf("windows of eight certificates begin after shares %v of their lives", shares)
			}
		}},
	}
}

func replacedOnce(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	_, certificate, _ := s.mesh(t, c, "spiffe://cluster.local/ns/demo/sa/ari6")
	id := ariOf(certificate)
	made := ok(t, order(t, c, replacing(id)), http.StatusCreated).Order(t)
	if made.Replaces != id {
		t.Errorf("order replaces %q", made.Replaces)
	}
	if got := ok(t, c.Read(t, made.URL), http.StatusOK).Order(t); got.Replaces != id {
		t.Errorf("order replaces %q later", got.Replaces)
	}
	valid := ok(t, c.Finalize(t, made, acmetest.WorkloadCSR(t, "spiffe://cluster.local/ns/demo/sa/ari6")), http.StatusOK).Order(t)
	if valid.Replaces != id || certificateRow(t, s, valid).Replaces != id {
		t.Errorf("order replaces %q in the end", valid.Replaces)
	}
	refused(t, order(t, c, replacing(id)), http.StatusConflict, "alreadyReplaced")
	// The successor can be replaced.
	successor := leaf(t, c.Read(t, valid.Certificate).Body)
	ok(t, order(t, c, replacing(ariOf(successor))), http.StatusCreated)
	// An order with names must share one with its predecessor.
	server := s.account(t, "server")
	first := server.NewOrder(t, "a.ari6.example.com")
	done := ok(t, server.Finalize(t, first, acmetest.ServerCSR(t, "a.ari6.example.com")), http.StatusOK).Order(t)
	predecessor, err := json.Marshal(ariOf(leaf(t, server.Read(t, done.Certificate).Body)))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, order(t, server, `{"identifiers":[`+dnsID("b.ari6.example.com")+`],"replaces":`+string(predecessor)+`}`), http.StatusBadRequest, "malformed")
	ok(t, order(t, server, `{"identifiers":[`+dnsID("b.ari6.example.com")+`,`+dnsID("a.ari6.example.com")+`],"replaces":`+string(predecessor)+`}`), http.StatusCreated)
}
