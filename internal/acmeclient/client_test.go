package acmeclient_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
)

func TestRegisterWithEveryKind(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hmacKey := []byte("0123456789abcdef0123456789abcdef")
	for name, test := range map[string]struct {
		key  crypto.Signer
		hash crypto.Hash
	}{
		"ES256": {newKey(t), 0}, "ES384": {p384, crypto.SHA384}, "RS256": {rsaKey, crypto.SHA512}, "EdDSA": {ed, crypto.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.on("POST /new-account", func(w http.ResponseWriter, m *jose.Message) {
				members := payload(t, m)
				binding, err := jose.ParseBinding(members["externalAccountBinding"], base+"/new-account", m.Header.JWK)
				if err != nil || binding.KID != "cred-1" || binding.Verify(hmacKey) != nil {
					t.Errorf("binding %+v, %v", binding, err)
				}
				f.key = m.Header.JWK
				status(201, `{"status":"valid","orders":"x"}`, "Location", base+"/account/1")(w, m)
			})
			f.on("POST /account/1", status(200, `{"status":"valid"}`))
			client := newClient(t, f, test.key)
			account, err := client.Register(t.Context(), acmeclient.Registration{
				Contact: []string{"mailto:a@b.example"}, TermsAgreed: true,
				Binding: &acmeclient.Binding{KeyID: "cred-1", HMACKey: hmacKey, Hash: test.hash},
			})
			if err != nil {
				t.Fatal(err)
			}
			if !account.Created || account.URL != base+"/account/1" || client.AccountURL() != account.URL || f.key.Thumbprint != client.Thumbprint() {
				t.Errorf("account %+v", account)
			}
			if account, err = client.Account(t.Context()); err != nil || account.Status != "valid" {
				t.Errorf("Account: %+v, %v", account, err)
			}
		})
	}
}

func TestAccountChanges(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := registered(t, f)
	f.on("POST /account/1", status(200, `{"status":"valid"}`))
	f.on("POST /key-change", func(w http.ResponseWriter, m *jose.Message) {
		change, err := jose.ParseInner(m.Payload, base+"/key-change")
		if err != nil || change.Account != base+"/account/1" || change.OldKey.Thumbprint != f.key.Thumbprint {
			t.Errorf("inner JWS %+v, %v", change, err)
			return
		}
		f.key = change.NewKey
		status(200, `{"status":"valid"}`)(w, m)
	})
	if err := client.ChangeKey(t.Context(), newKey(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UpdateContact(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if _, err := client.Deactivate(t.Context()); err != nil {
		t.Error(err)
	}
	want := []string{`POST /account/1 {"contact":[]}`, `POST /account/1 {"status":"deactivated"}`}
	if diff := cmp.Diff(want, f.seen()[1:]); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

const chain = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"

func TestObtainWithoutIdentifiers(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := registered(t, f)
	f.on("POST /new-order", status(201, `{"status":"ready","identifiers":[],"authorizations":[],"finalize":"`+base+`/finalize/1"}`, "Location", base+"/order/1"))
	f.on("POST /finalize/1", status(200, `{"status":"valid","certificate":"`+base+`/cert/1"}`, "Location", base+"/order/1"))
	f.on("POST /cert/1", status(200, chain))
	issued, err := client.Obtain(t.Context(), acmeclient.OrderRequest{}, []byte{1, 2, 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if block, _ := pem.Decode(issued.Chain); block == nil || issued.Order.URL != base+"/order/1" {
		t.Errorf("issued %+v", issued)
	}
	want := []string{`POST /new-order {"identifiers":null}`, `POST /finalize/1 {"csr":"AQID"}`, `POST /cert/1`}
	if diff := cmp.Diff(want, f.seen()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// solver remembers what it was asked to do.
type solver struct{ done []string }

func (s *solver) Type() string { return "http-01" }

func (s *solver) Present(_ context.Context, task acmeclient.Task) error {
	s.done = append(s.done, "present "+task.Identifier.Value+" "+task.KeyAuthorization)
	return nil
}

func (s *solver) CleanUp(_ context.Context, task acmeclient.Task) error {
	s.done = append(s.done, "clean "+task.Identifier.Value)
	return nil
}

func TestObtainByChallenge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		client := registered(t, f)
		challenges := `"challenges":[{"type":"dns-01","url":"x","token":"a","status":"pending"},{"type":"http-01","url":"` + base + `/chall/1","token":"tok","status":"pending"}]`
		authz := func(state string) string {
			return `{"identifier":{"type":"dns","value":"a.example"},"status":"` + state + `",` + challenges + `}`
		}
		f.on("POST /new-order", status(201, `{"status":"pending","authorizations":["`+base+`/authz/1","`+base+`/authz/2"],"finalize":"`+base+`/finalize/1"}`, "Location", base+"/order/1"))
		f.on("POST /authz/1", status(200, authz("pending")), status(200, authz("pending"), "Retry-After", "3"), status(200, authz("pending")), status(200, authz("valid")))
		f.on("POST /authz/2", status(200, authz("valid")))
		f.on("POST /chall/1", status(200, `{"type":"http-01","status":"processing"}`))
		f.on("POST /finalize/1", status(200, `{"status":"processing"}`, "Retry-After", "2"))
		f.on("POST /order/1", status(200, `{"status":"processing"}`), status(200, `{"status":"valid","certificate":"`+base+`/cert/1"}`))
		f.on("POST /cert/1", status(200, chain))
		s := &solver{}
		start := time.Now()
		request := acmeclient.OrderRequest{
			Identifiers: []pki.Identifier{{Type: pki.DNS, Value: "a.example"}}, NotAfter: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC),
			Profile: "mesh", Replaces: "AA.BB",
		}
		issued, err := client.Obtain(t.Context(), request, []byte{1}, s)
		if err != nil {
			t.Fatal(err)
		}
		// Retry-After of 3 s and 2 s, and the client's own 500 ms twice.
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("waited %s", took)
		}
		if issued.Order.URL != base+"/order/1" {
			t.Errorf("order URL %q is lost when finalize has no Location", issued.Order.URL)
		}
		want := []string{"present a.example tok." + client.Thumbprint(), "clean a.example"}
		if diff := cmp.Diff(want, s.done); diff != "" {
			t.Errorf("solver (-want +got):\n%s", diff)
		}
		first := `POST /new-order {"identifiers":[{"type":"dns","value":"a.example"}],"notAfter":"2027-01-01T00:00:00Z","profile":"mesh","replaces":"AA.BB"}`
		if got := f.seen()[0]; got != first {
			t.Errorf("newOrder %s", got)
		}
	})
}

func TestObtainFails(t *testing.T) {
	t.Parallel()
	const order = `{"status":"pending","authorizations":["` + base + `/authz/1"],"finalize":"` + base + `/finalize/1"}`
	const invalid = `{"identifier":{"type":"dns","value":"a.example"},"status":"invalid","challenges":[{"type":"http-01","url":"x","status":"invalid",
		"error":{"type":"urn:ietf:params:acme:error:connection","detail":"refused","status":400}}]}`
	pending := strings.Replace(strings.Replace(invalid, `"invalid"`, `"pending"`, 1), `"x"`, `"`+base+`/chall/1"`, 1)
	tests := map[string]struct {
		authz  []reply
		final  reply
		solver acmeclient.Solver
		want   string
	}{
		"challenge":  {[]reply{status(200, pending), status(200, invalid)}, nil, &solver{}, "connection (400): refused"},
		"no-solver":  {[]reply{status(200, pending)}, nil, nil, "no solver"},
		"not-ours":   {[]reply{status(200, strings.Replace(pending, "http-01", "dns-01", 1))}, nil, &solver{}, "no http-01"},
		"deadauthz":  {[]reply{status(200, `{"status":"deactivated"}`)}, nil, &solver{}, "deactivated"},
		"order":      {[]reply{status(200, `{"status":"valid"}`)}, status(200, `{"status":"invalid","error":{"type":"urn:ietf:params:acme:error:badCSR","detail":"no"}}`), nil, "badCSR"},
		"no-json":    {[]reply{status(200, `{"status":"valid"}`)}, status(200, `<html>`), nil, "read ACME order"},
		"badCSR":     {[]reply{status(200, `{"status":"valid"}`)}, refuse(400, "badCSR", "URI is not allowed"), nil, "URI is not allowed"},
		"still-open": {[]reply{status(200, `{"status":"valid"}`)}, status(200, `{"status":"ready"}`), nil, "is ready"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			client := registered(t, f)
			f.on("POST /new-order", status(201, order, "Location", base+"/order/1"))
			f.on("POST /authz/1", test.authz...)
			f.on("POST /chall/1", status(200, `{"status":"processing"}`))
			f.on("POST /finalize/1", test.final)
			_, err := client.Obtain(t.Context(), acmeclient.OrderRequest{}, []byte{1}, test.solver)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Obtain: %v; want %q", err, test.want)
			}
			if s, ok := test.solver.(*solver); ok && len(s.done)%2 != 0 {
				t.Errorf("solver %q did not clean up", s.done)
			}
		})
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	good := status(201, `{"status":"ready"}`, "Location", base+"/order/1")
	badNonce := refuse(400, "badNonce", "JWS has an invalid anti-replay nonce")
	many := make([]reply, 20)
	for i := range many {
		many[i] = badNonce
	}
	tests := map[string]struct {
		replies []reply
		least   time.Duration
		most    time.Duration
		want    string // of the error, "" for none
	}{
		"bad-nonce":        {[]reply{badNonce, badNonce, good}, 0, 0, ""},
		"bad-nonces":       {many, time.Second, time.Minute, "badNonce"},
		"busy":             {[]reply{refuse(503, "serverInternal", "busy", "Retry-After", "7"), good}, 7 * time.Second, 7 * time.Second, ""},
		"busy-until":       {[]reply{refuse(503, "serverInternal", "busy", "Date", "Sat, 01 Aug 2026 12:00:00 GMT", "Retry-After", "Sat, 01 Aug 2026 12:00:09 GMT"), good}, 9 * time.Second, 9 * time.Second, ""},
		"busy-for-long":    {[]reply{refuse(503, "serverInternal", "busy", "Retry-After", "3600"), good}, 0, 0, "serverInternal (503): busy"},
		"busy-unsaid":      {[]reply{refuse(503, "serverInternal", "busy"), good}, 50 * time.Millisecond, 100 * time.Millisecond, ""},
		"internal":         {[]reply{refuse(500, "serverInternal", "oops"), good}, 50 * time.Millisecond, 100 * time.Millisecond, ""},
		"proxy":            {[]reply{status(502, "<html>secret</html>"), good}, 50 * time.Millisecond, 100 * time.Millisecond, ""},
		"broken":           {[]reply{broken, broken, good}, 150 * time.Millisecond, 300 * time.Millisecond, ""},
		"rate-limited":     {[]reply{refuse(429, "rateLimited", "slow down", "Retry-After", "1"), good}, 0, 0, "rateLimited (429): slow down"},
		"refused":          {[]reply{refuse(403, "rejectedIdentifier", "not yours"), good}, 0, 0, "not yours"},
		"html":             {[]reply{status(404, "<html>secret</html>"), good}, 0, 0, "about:blank (404): Not Found"},
		"no-location":      {[]reply{status(201, `{}`)}, 0, 0, "without the order's URL"},
		"answer-too-large": {[]reply{status(201, strings.Repeat(" ", 2<<20))}, 0, 0, "more than 1048576 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				client := registered(t, f)
				f.on("POST /new-order", test.replies...)
				start := time.Now()
				order, err := client.NewOrder(t.Context(), acmeclient.OrderRequest{})
				if took := time.Since(start); took < test.least || took > test.most {
					t.Errorf("waited %s, want %s to %s", took, test.least, test.most)
				}
				if test.want == "" && (err != nil || order.URL != base+"/order/1") {
					t.Errorf("NewOrder: %v", err)
				}
				if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret")) {
					t.Errorf("NewOrder: %v; want %q", err, test.want)
				}
			})
		})
	}
}

// What must not happen twice is not sent again when nobody knows what became of it.
func TestRevokeIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := registered(t, f)
	f.on("POST /revoke", broken)
	if err := client.Revoke(t.Context(), []byte{1}, pki.Superseded); err == nil {
		t.Error("Revoke: no error")
	}
	f.on("POST /revoke", status(200, ""))
	if err := client.RevokeWithKey(t.Context(), []byte{1}, pki.KeyCompromise, newKey(t)); err != nil {
		t.Error(err)
	}
	want := []string{`POST /revoke {"certificate":"AQ","reason":4}`, `POST /revoke {"certificate":"AQ","reason":1}`}
	if diff := cmp.Diff(want, f.seen()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestStopsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		client := registered(t, f)
		f.on("POST /new-order", refuse(503, "serverInternal", "busy", "Retry-After", "30"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.NewOrder(ctx, acmeclient.OrderRequest{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("NewOrder: %v", err)
		}
	})
}

func TestRenewalInfo(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := newClient(t, f, newKey(t))
	f.on("GET /ari/AA.BB",
		status(200, `{"suggestedWindow":{"start":"2026-08-01T00:00:00Z","end":"2026-08-02T00:00:00Z"},"explanationURL":"https://x.example"}`, "Retry-After", "600"),
		status(200, `{"suggestedWindow":{"start":"2026-08-01T00:00:00Z","end":"2026-08-01T00:00:00Z"}}`),
		refuse(404, "malformed", "unknown certificate"))
	got, err := client.RenewalInfo(t.Context(), "AA.BB")
	if err != nil {
		t.Fatal(err)
	}
	day := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	want := &acmeclient.RenewalInfo{Start: day, End: day.AddDate(0, 0, 1), ExplanationURL: "https://x.example", RetryAfter: 10 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("renewal info (-want +got):\n%s", diff)
	}
	if _, err := client.RenewalInfo(t.Context(), "AA.BB"); err == nil {
		t.Error("window without length was taken")
	}
	if _, err := client.RenewalInfo(t.Context(), "AA.BB"); !acmeclient.IsProblem(err, "malformed") {
		t.Errorf("unknown certificate: %v", err)
	}
}

func TestDeactivateAuthorization(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := registered(t, f)
	f.on("POST /authz/1", status(200, `{"status":"deactivated"}`))
	if got, err := client.DeactivateAuthorization(t.Context(), base+"/authz/1"); err != nil || got.Status != pki.StatusDeactivated {
		t.Errorf("got %+v, %v", got, err)
	}
}

// A CA must not be able to write into our signed headers.
func TestRefusesHostileURLs(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := registered(t, f)
	for _, url := range []string{base + `/x","kid":"y`, base + "/\n", base + `/\u0022`, base + "/é"} {
		if _, err := client.Order(t.Context(), url); err == nil {
			t.Errorf("URL %q was signed", url)
		}
		if err := client.UseAccount(url); err == nil {
			t.Errorf("account URL %q was taken", url)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := acmeclient.Config{DirectoryURL: base, HTTPClient: &http.Client{}, Key: newKey(t), Random: rand.Reader}
	for name, change := range map[string]func(*acmeclient.Config){
		"refuses/http":      func(c *acmeclient.Config) { c.DirectoryURL = "http://ca.example/directory" },
		"refuses/relative":  func(c *acmeclient.Config) { c.DirectoryURL = "/directory" },
		"refuses/no-client": func(c *acmeclient.Config) { c.HTTPClient = nil },
		"refuses/no-key":    func(c *acmeclient.Config) { c.Key = nil },
		"refuses/no-random": func(c *acmeclient.Config) { c.Random = nil },
		"refuses/curve":     func(c *acmeclient.Config) { c.Key = p224 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := good
			change(&config)
			if _, err := acmeclient.New(config); err == nil {
				t.Error("New took it")
			}
		})
	}
	client, err := acmeclient.New(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.NewOrder(t.Context(), acmeclient.OrderRequest{}); err == nil {
		t.Error("NewOrder without an account")
	}
}

func BenchmarkNewOrder(b *testing.B) {
	f := newFake(b)
	client := registered(b, f)
	f.on("POST /new-order", status(201, `{"status":"ready","identifiers":[],"authorizations":[],"finalize":"`+base+`/finalize/1"}`, "Location", base+"/order/1"))
	for b.Loop() {
		if _, err := client.NewOrder(b.Context(), acmeclient.OrderRequest{}); err != nil {
			b.Fatal(err)
		}
	}
}

// An order whose finalize was lost on the way back is waited for, not given up: the CA has begun with it.
func TestFinalizeAnswerLost(t *testing.T) {
	t.Parallel()
	notReady := refuse(403, "orderNotReady", "order is processing")
	for name, test := range map[string]struct {
		order []reply
		want  string // kind of the problem; "" for none
	}{
		"processing": {[]reply{status(200, `{"status":"processing"}`), status(200, `{"status":"valid","certificate":"`+base+`/cert/1"}`)}, ""},
		"valid":      {[]reply{status(200, `{"status":"valid","certificate":"`+base+`/cert/1"}`)}, ""},
		"pending":    {[]reply{status(200, `{"status":"pending"}`)}, "orderNotReady"},
		"gone":       {[]reply{refuse(404, "malformed", "no such order")}, "orderNotReady"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				client := registered(t, f)
				f.on("POST /finalize/1", broken, notReady)
				f.on("POST /order/1", test.order...)
				order, err := client.Finalize(t.Context(), &acmeclient.Order{URL: base + "/order/1", Finalize: base + "/finalize/1"}, []byte{1})
				if test.want == "" && (err != nil || order.Certificate != base+"/cert/1") {
					t.Errorf("got %+v, %v", order, err)
				}
				if test.want != "" && !acmeclient.IsProblem(err, test.want) {
					t.Errorf("got %v, want %s", err, test.want)
				}
			})
		})
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	client := newClient(t, f, newKey(t))
	if err := client.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	f.on("HEAD /nonce", status(503, ""))
	if _, err := client.Register(t.Context(), acmeclient.Registration{}); err != nil {
		t.Errorf("the nonce of Ping is not used: %v", err)
	}
	f.on("HEAD /nonce", broken)
	if err := client.Ping(t.Context()); !acmeclient.Unreachable(err) {
		t.Errorf("a broken connection: %v", err)
	}
	f.on("HEAD /nonce", status(503, ""))
	if err := client.Ping(t.Context()); err == nil || acmeclient.Unreachable(err) {
		t.Errorf("503: %v", err)
	}
}
