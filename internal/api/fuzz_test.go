package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// FuzzProfileBody sends bodies of the largest kind. Whatever they are, the answer is a problem document that says so, or
// a profile; never our fault, and never more than a few kilobytes.
func FuzzProfileBody(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `[]`, `null`, `"x"`, `{"name":"x","template":"private-mtls","issuingCa":"issuing"}`,
		`{"name":"x","template":"private-server","issuingCa":"issuing","rules":{"names":{"dns":{"allow":["a.example"]}},"validity":{"default":"1h"}}}`,
		`{"name":"x","template":"private-server","issuingCa":"issuing","rules":{"challenges":{"types":["http-01"],"networks":["10.0.0.0/8","::/0"]}}}`,
		`{"NAME":1,"name":2,"rules":{"rules":{"rules":[[[]]]}}}`, "{\"name\":\"\xff\"}", `{"name":"\ud800"}`, `{"rules":{"maxNames":1e400}}`,
	} {
		f.Add(seed)
	}
	w := apitest.New(f)
	f.Fuzz(func(t *testing.T, body string) {
		answer := w.Do(t, http.MethodPost, "/profiles", w.Tokens[pki.RoleAdmin], strings.NewReader(body), nil)
		switch {
		case answer.Status == http.StatusCreated:
		case answer.Status < 400 || answer.Status > 499 || answer.Problem.Detail == "":
			t.Errorf("status %d: %s", answer.Status, answer.Body)
		case len(answer.Body) > 64<<10:
			t.Errorf("the answer has %d bytes", len(answer.Body))
		}
	})
}

// FuzzBodies sends bodies to every operation that takes one, and that does not hash a password for it.
func FuzzBodies(f *testing.F) {
	operations := []struct{ method, path string }{
		{http.MethodPost, "/credentials"},
		{http.MethodPost, "/connectors"},
		{http.MethodPost, "/cas"},
		{http.MethodPost, "/cas/import"},
		{http.MethodPut, "/cas/issuing/settings"},
		{http.MethodPatch, "/profiles/istio"},
		{http.MethodPost, "/profiles/istio/clone"},
		{http.MethodPost, "/certificates"},
		{http.MethodPost, "/certificates/revoke"},
		{http.MethodPost, "/views"},
		{http.MethodPost, "/tokens"},
		{http.MethodPost, "/policy/check"},
		{http.MethodPost, "/policy/preview"},
		{http.MethodPost, "/imported-certificates"},
		{http.MethodPost, "/self/second-factor/confirm"},
	}
	for i, seed := range []string{
		`{"profile":"istio","name":"x"}`, `{"profile":"istio","credential":"x","name":"x"}`, `{"name":"x","kind":"root"}`, `{"name":"x","certificate":"","key":""}`,
		`{"crlUrls":["http://x"]}`, `{"version":1,"rules":{"maxNames":2}}`, `{"name":"y"}`, `{"profile":"ci","csr":"x"}`, `{"serials":["0a"]}`, `{"list":"identities","name":"x"}`,
		`{"name":"x","role":"auditor"}`, `{"profile":"istio","spiffeId":"spiffe://a/ns/b/sa/c"}`, `{"profile":"istio"}`, `{"data":"MA=="}`, `{"ticket":"x","code":"1"}`,
	} {
		f.Add(uint8(i), seed)
	}
	w := apitest.New(f)
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		o := operations[int(which)%len(operations)]
		answer := w.Do(t, o.method, o.path, w.Tokens[pki.RoleAdmin], strings.NewReader(body), nil)
		if answer.Status >= 400 && (answer.Status > 499 || answer.Problem.Detail == "") || answer.Status < 200 || len(answer.Body) > 256<<10 {
			t.Errorf("%s %s: status %d: %.500s", o.method, o.path, answer.Status, answer.Body)
		}
	})
}
