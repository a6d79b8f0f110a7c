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
