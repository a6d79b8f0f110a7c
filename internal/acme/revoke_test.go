package acme_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
)

// issued orders a certificate for a.example.com and returns it with its key.
func issued(t *testing.T, c *acmetest.Client) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"a.example.com"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	answer := c.Finalize(t, c.NewOrder(t, "a.example.com"), csr)
	if answer.Status != http.StatusOK {
		t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
	}
	return download(t, c, answer.Order(t).Certificate)[0], key
}

func revocation(certificate *x509.Certificate, reason any) map[string]any {
	payload := map[string]any{"certificate": acmetest.Base64(certificate.Raw)}
	if reason != nil {
		payload["reason"] = reason
	}
	return payload
}

func TestRevokeCertificate(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	owner, sibling, stranger := s.Register(t, "server"), s.Register(t, "server"), s.Register(t, "istio")
	at := owner.Prefix + "/revoke-cert"
	byKey := func(t *testing.T, key *ecdsa.PrivateKey) *acmetest.Client {
		t.Helper()
		c := s.NewClient(t)
		c.Key = key
		return c
	}
	tests := map[string]struct {
		send   func(*testing.T, *x509.Certificate, *ecdsa.PrivateKey) *acmetest.Response
		status int
		kind   string
	}{
		"account": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, revocation(c, nil))
		}, 200, ""},
		"reason": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, revocation(c, 4))
		}, 200, ""},
		"account of the same credential": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return sibling.Post(t, at, revocation(c, nil))
		}, 200, ""},
		"key": {func(t *testing.T, c *x509.Certificate, key *ecdsa.PrivateKey) *acmetest.Response {
			return byKey(t, key).Post(t, at, revocation(c, 1))
		}, 200, ""},
		"refuses/other account": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return stranger.Post(t, at, revocation(c, nil))
		}, 403, "unauthorized"},
		"refuses/other key": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return s.NewClient(t).Post(t, at, revocation(c, nil))
		}, 403, "unauthorized"},
		"refuses/reason of a CA": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, revocation(c, 2))
		}, 400, "badRevocationReason"},
		"refuses/fraction": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, revocation(c, 0.5))
		}, 400, "badRevocationReason"},
		"refuses/text": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, revocation(c, "1"))
		}, 400, "badRevocationReason"},
		"refuses/trailing byte": {func(t *testing.T, c *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, map[string]any{"certificate": acmetest.Base64(append(c.Raw[:len(c.Raw):len(c.Raw)], 0))})
		}, 404, "malformed"},
		"refuses/PEM": {func(t *testing.T, _ *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, map[string]any{"certificate": "-----BEGIN CERTIFICATE-----"})
		}, 400, "malformed"},
		"refuses/CA": {func(t *testing.T, _ *x509.Certificate, _ *ecdsa.PrivateKey) *acmetest.Response {
			return owner.Post(t, at, map[string]any{"certificate": acmetest.Base64(s.Issuing.Certificate)})
		}, 404, "malformed"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			certificate, key := issued(t, owner)
			answer := tt.send(t, certificate, key)
			if answer.Status != tt.status {
				t.Fatalf("revokeCert: %d %s", answer.Status, answer.Body)
			}
			if tt.kind != "" {
				if p := answer.Problem(t); p.Type != tt.kind {
					t.Errorf("problem %s, want %s", answer.Body, tt.kind)
				}
				return
			}
			if len(answer.Body) > 0 {
				t.Errorf("body %q, want none", answer.Body)
			}
			if again := owner.Post(t, at, revocation(certificate, nil)); again.Status != http.StatusBadRequest || again.Problem(t).Type != "alreadyRevoked" {
				t.Errorf("revokeCert again: %d %s", again.Status, again.Body)
			}
		})
	}
}

// Another account may revoke when it has proved control of all names (RFC 8555 section 7.6).
func TestRevokeByAuthorization(t *testing.T) {
	t.Parallel()
	answers := startResponder(t)
	s := acmetest.Start(t, acmetest.Options{HTTP01Port: answers.port})
	owner, other := challengeClient(t, s), challengeClient(t, s)
	prove := func(c *acmetest.Client) *acmetest.Order {
		o := c.NewOrder(t, "localhost")
		a, i := httpChallenge(t, c, o.Authorizations[0])
		answers.prove(a.Challenges[i].Token, a.Challenges[i].Token+"."+acmetest.Thumbprint(t, c.Key.Public()))
		c.Post(t, a.Challenges[i].URL, struct{}{})
		return o
	}
	done := owner.Finalize(t, prove(owner), acmetest.ServerCSR(t, "localhost")).Order(t)
	certificate := download(t, owner, done.Certificate)[0]
	if answer := other.Post(t, other.Prefix+"/revoke-cert", revocation(certificate, nil)); answer.Status != http.StatusForbidden {
		t.Errorf("revokeCert without a proof: %d %s", answer.Status, answer.Body)
	}
	prove(other)
	if answer := other.Post(t, other.Prefix+"/revoke-cert", revocation(certificate, nil)); answer.Status != http.StatusOK {
		t.Errorf("revokeCert with a proof: %d %s", answer.Status, answer.Body)
	}
}

type renewalInfo struct {
	SuggestedWindow struct{ Start, End time.Time }
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "server")
	certificate, _ := issued(t, c)
	id := pki.ARICertID(certificate.AuthorityKeyId, pki.SerialFromInt(certificate.SerialNumber))
	at := s.URL + "/acme/renewal-info/" + id
	answer := c.Get(t, at)
	var info renewalInfo
	answer.Into(t, &info)
	if w := info.SuggestedWindow; answer.Status != http.StatusOK || !w.Start.Before(w.End) || !w.Start.After(s.Clock.Now()) || w.End.After(certificate.NotAfter) {
		t.Errorf("renewal information: %d %s", answer.Status, answer.Body)
	}
	if answer.Header.Get("Retry-After") != "21600" || !strings.HasPrefix(answer.Header.Get("Cache-Control"), "public, max-age=") {
		t.Errorf("headers: %v", answer.Header)
	}
	for path, want := range map[string]int{
		at + "=": 400, s.URL + "/acme/renewal-info/x": 400, s.URL + "/acme/renewal-info/aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE": 404, at + "?x=1": 200,
	} {
		if got := c.Get(t, path); got.Status != want {
			t.Errorf("GET %s: %d %s, want %d", path, got.Status, got.Body, want)
		}
	}
	order := func(name string) *acmetest.Response {
		return c.Post(t, c.Prefix+"/new-order", map[string]any{
			"identifiers": []map[string]string{{"type": "dns", "value": name}}, "replaces": id,
		})
	}
	if got := order("b.example.com"); got.Status != http.StatusBadRequest || !strings.Contains(got.Problem(t).Detail, "replaces") {
		t.Errorf("order without a common name: %d %s", got.Status, got.Body)
	}
	answer = order("a.example.com")
	o := answer.Order(t)
	if answer.Status != http.StatusCreated || o.Replaces != id {
		t.Fatalf("order that replaces: %d %s", answer.Status, answer.Body)
	}
	if got := c.Finalize(t, o, acmetest.ServerCSR(t, "a.example.com")); got.Status != http.StatusOK || got.Order(t).Replaces != id {
		t.Fatalf("finalize: %d %s", got.Status, got.Body)
	}
	if got := order("a.example.com"); got.Status != http.StatusConflict || got.Problem(t).Type != "alreadyReplaced" {
		t.Errorf("order that replaces the same again: %d %s", got.Status, got.Body)
	}
	if got := c.Post(t, c.Prefix+"/revoke-cert", revocation(certificate, nil)); got.Status != http.StatusOK {
		t.Fatalf("revokeCert: %d %s", got.Status, got.Body)
	}
	c.Get(t, at).Into(t, &info)
	if info.SuggestedWindow.End.After(s.Clock.Now()) {
		t.Errorf("window of a revoked certificate ends at %s, in the future", info.SuggestedWindow.End)
	}
}

// Dates that the client asks for are honoured to the second, or shortened where everybody can see it.
func TestDates(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "istio")
	zone := time.FixedZone("", 9*3600)
	for name, life := range map[string]time.Duration{"an hour": time.Hour, "a year": 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := s.Clock.Now().Add(life).Truncate(time.Second)
			answer := c.Post(t, c.Prefix+"/new-order", map[string]any{"notAfter": asked.In(zone).Format(time.RFC3339)})
			o := answer.Order(t)
			limit := s.Clock.Now().Add(7 * 24 * time.Hour)
			if answer.Status != http.StatusCreated || o.NotBefore != "" {
				t.Fatalf("newOrder: %d %s", answer.Status, answer.Body)
			}
			shown, err := time.Parse(time.RFC3339, o.NotAfter)
			if err != nil || life == time.Hour && !shown.Equal(asked) || shown.After(limit) {
				t.Errorf("order shows notAfter %s (%v), asked for %s", o.NotAfter, err, asked)
			}
			done := c.Finalize(t, o, acmetest.WorkloadCSR(t, workload)).Order(t)
			certificate := download(t, c, done.Certificate)[0]
			if done.NotAfter != certificate.NotAfter.UTC().Format(time.RFC3339) || certificate.NotAfter.After(limit) {
				t.Errorf("valid order shows notAfter %s, certificate has %s", done.NotAfter, certificate.NotAfter)
			}
			if life == time.Hour && !certificate.NotAfter.Equal(asked) {
				t.Errorf("certificate has notAfter %s, asked for %s", certificate.NotAfter, asked)
			}
			parsed, err := url.Parse(done.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			row, err := s.Store.Certificate(t.Context(), pki.Serial(parsed.Path[strings.LastIndexByte(parsed.Path, '/')+1:]))
			if err != nil || row.Requested < life-time.Minute || row.Client.UserAgent != "acmetest" {
				t.Errorf("inventory: requested %s of %s, client %+v, %v", row.Requested, life, row.Client, err)
			}
		})
	}
}
