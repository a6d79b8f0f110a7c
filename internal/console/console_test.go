package console_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/console"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// get asks a console that shows the given CAs.
func get(t *testing.T, path string, cas []*pki.CA) *httptest.ResponseRecorder {
	t.Helper()
	pages, err := console.New(console.Config{
		BaseURL: "https://ca.example.com", Version: "v1<2", CAs: func() []*pki.CA { return cas }, Now: testca.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	pages.Register(mux)
	answer := httptest.NewRecorder()
	mux.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return answer
}

func TestStartPage(t *testing.T) {
	t.Parallel()
	h := testca.New(t)
	suspended := *h.Issuing
	suspended.State = pki.Suspended
	pending := pki.CA{Name: "waiting", Kind: pki.IssuingCA, State: pki.Pending}
	tests := map[string]struct {
		cas     []*pki.CA
		want    []string
		without []string
	}{
		"CAs": {
			h.CAs(),
			[]string{
				"https://ca.example.com/acme/directory", "v1&lt;2", "/ca/" + string(h.Root.ID) + ".pem", "/ca/" + string(h.Root.ID) + ".cer",
				"/crl/" + string(h.Issuing.ID) + ".crl", h.Root.Name,
			},
			[]string{"There is no CA yet", `class="state"`, "<script", "style="},
		},
		"root first":   {[]*pki.CA{h.Issuing, h.Root}, []string{"Trust the root"}, []string{"kept elsewhere"}},
		"outside root": {[]*pki.CA{h.Issuing}, []string{"kept elsewhere"}, []string{"Trust the root"}},
		"suspended":    {[]*pki.CA{&suspended}, []string{`<span class="state">suspended</span>`}, nil},
		"pending":      {[]*pki.CA{&pending}, nil, []string{"waiting"}},
		"none":         {nil, []string{"certloom ca create-root NAME"}, []string{"<table>"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := get(t, "/", tt.cas)
			if answer.Code != http.StatusOK {
				t.Fatalf("status %d", answer.Code)
			}
			if policy := answer.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none';") {
				t.Errorf("content security policy %q", policy)
			}
			for _, want := range tt.want {
				if !strings.Contains(answer.Body.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, answer.Body)
				}
			}
			if root, issuing := strings.Index(answer.Body.String(), "<td>root"), strings.Index(answer.Body.String(), "<td>issuing"); issuing >= 0 && root > issuing {
				t.Error("the root is below an issuing CA")
			}
			for _, not := range tt.without {
				if strings.Contains(answer.Body.String(), not) {
					t.Errorf("%q is in:\n%s", not, answer.Body)
				}
			}
		})
	}
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path   string
		status int
	}{
		"style":                     {"/static/style.css", http.StatusOK},
		"refuses/other page":        {"/other", http.StatusNotFound},
		"refuses/the templates":     {"/templates/start.html", http.StatusNotFound},
		"refuses/a missing picture": {"/static/none.png", http.StatusNotFound},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if answer := get(t, tt.path, nil); answer.Code != tt.status {
				t.Errorf("status %d, want %d", answer.Code, tt.status)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := console.New(console.Config{Now: time.Now}); err == nil {
		t.Error("accepted without BaseURL and CAs")
	}
}
