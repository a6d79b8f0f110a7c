package console_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/console"
	"github.com/certloom/certloom/internal/pki"
)

func TestStartPageIsPublic(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	html := l.page(t, "/start")
	for _, ca := range l.Catalog.Snapshot().CAs() {
		for _, want := range []string{"/ca/" + string(ca.ID) + ".pem", "/ca/" + string(ca.ID) + ".cer", "/crl/" + string(ca.ID) + ".crl", ca.Name} {
			if !strings.Contains(html, want) {
				t.Errorf("%q is missing", want)
			}
		}
	}
	for _, want := range []string{l.BaseURL + "/acme/directory", "v1&lt;2", "Trust the root", "Sign in"} {
		if !strings.Contains(html, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if root, issuing := strings.Index(html, "<strong>root"), strings.Index(html, "<strong>issuing"); root < 0 || issuing < root {
		t.Error("the root is not the first CA")
	}
	suspended := *l.Catalog.Snapshot().CAs()[0]
	suspended.State = pki.Suspended
	for name, test := range map[string]struct {
		cas  []*pki.CA
		want string
	}{
		"none":      {nil, "certloom ca create-root NAME"},
		"pending":   {[]*pki.CA{{Name: "waiting", Kind: pki.IssuingCA, State: pki.Pending}}, "certloom ca create-root NAME"},
		"suspended": {[]*pki.CA{&suspended}, `<span class="badge">suspended</span>`},
	} {
		if html := l.with(t, test.cas); !strings.Contains(html, test.want) {
			t.Errorf("%s: %q is missing", name, test.want)
		}
	}
}

// with shows the start page of a server that has other CAs.
func (l *lab) with(t *testing.T, cas []*pki.CA) string {
	t.Helper()
	other := *l
	other.handler = l.register(t, func() []*pki.CA { return cas })
	return other.page(t, "/start")
}

func TestStaticFiles(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for path, status := range map[string]int{
		"/static/console.css": http.StatusOK, "/static/vendor/htmx.min.js": http.StatusOK, "/static/": http.StatusNotFound,
		"/static/none.png": http.StatusNotFound, "/static/../console.go": http.StatusTemporaryRedirect, "/templates/start.html": http.StatusNotFound, "/other": http.StatusNotFound,
	} {
		if a := l.get(t, path); a.Code != status {
			t.Errorf("%s answers %d, want %d", path, a.Code, status)
		}
	}
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/static/console.css", http.NoBody)
	r.Header.Set("Accept-Encoding", "gzip")
	a := l.do(t, r)
	if a.Header().Get("Content-Encoding") != "gzip" || a.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("header %v", a.Header())
	}
	r.Header.Set("If-None-Match", a.Header().Get("ETag"))
	if a := l.do(t, r); a.Code != http.StatusNotModified {
		t.Errorf("a file that is known answers %d", a.Code)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := console.New(console.Config{BaseURL: "https://ca.example", Now: time.Now, CAs: func() []*pki.CA { return nil }}); err == nil {
		t.Error("accepted without an API")
	}
}
