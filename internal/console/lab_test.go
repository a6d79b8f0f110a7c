package console_test

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/console"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// lab is a console on top of a complete server, with one browser's cookies.
type lab struct {
	*apitest.World
	handler http.Handler
	cookies map[string]string
	lang    string
}

// newLab starts a console that nobody has signed in to.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{World: apitest.New(t), cookies: make(map[string]string), lang: "en"}
	l.handler = l.register(t, func() []*pki.CA { return l.Catalog.Snapshot().CAs() })
	return l
}

func (l *lab) register(t *testing.T, cas func() []*pki.CA) http.Handler {
	t.Helper()
	pages, err := console.New(console.Config{
		BaseURL: l.BaseURL, Version: "v1<2", API: l.Server.Config.Handler, Sessions: l.Auth,
		CAs: cas, Now: l.Clock.Now, Random: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	if err := pages.Register(mux); err != nil {
		t.Fatal(err)
	}
	return mux
}

// signedIn starts a console and signs the administrator in.
func signedIn(t *testing.T) *lab {
	t.Helper()
	l := newLab(t)
	l.signIn(t)
	return l
}

// signIn signs the administrator in.
func (l *lab) signIn(t *testing.T) {
	t.Helper()
	if a := l.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}}); a.Code != http.StatusSeeOther {
		t.Fatalf("sign-in answers %d: %s", a.Code, a.Body)
	}
}

// elsewhere is another browser at the same console.
func (l *lab) elsewhere() *lab {
	other := *l
	other.cookies = map[string]string{}
	return &other
}

// do sends a request with the browser's cookies and keeps those that the answer sets.
func (l *lab) do(t *testing.T, r *http.Request) *httptest.ResponseRecorder {
	t.Helper()
	for name, value := range l.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	r.Header.Set("Accept-Language", l.lang)
	r.RemoteAddr = "192.0.2.7:4711"
	answer := httptest.NewRecorder()
	l.handler.ServeHTTP(answer, r)
	for _, cookie := range answer.Result().Cookies() {
		if cookie.MaxAge < 0 {
			delete(l.cookies, cookie.Name)
			continue
		}
		if !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || !strings.HasPrefix(cookie.Name, "__Host-") {
			t.Errorf("cookie %+v", cookie)
		}
		l.cookies[cookie.Name] = cookie.Value
	}
	return answer
}

// get opens a page as a browser without scripts does.
func (l *lab) get(t *testing.T, path string) *httptest.ResponseRecorder {
	t.Helper()
	return l.do(t, l.request(t, path))
}

func (l *lab) request(t *testing.T, path string) *http.Request {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// post sends a form from one of the console's own pages.
func (l *lab) post(t *testing.T, path string, form url.Values) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return l.do(t, r)
}

// page opens a page, which must be there, and returns its HTML. What no page may have is looked for.
func (l *lab) page(t *testing.T, path string) string {
	t.Helper()
	answer := l.get(t, path)
	if answer.Code != http.StatusOK {
		t.Fatalf("GET %s answers %d: %s", path, answer.Code, answer.Body)
	}
	html := answer.Body.String()
	for _, not := range []*regexp.Regexp{inlineStyle, inlineScript, missingText} {
		if found := not.FindString(codes.ReplaceAllString(html, "")); found != "" {
			t.Errorf("GET %s has %q", path, found)
		}
	}
	return html
}

var (
	inlineStyle  = regexp.MustCompile(`<[^>]+ style=|<style`)
	inlineScript = regexp.MustCompile(`<script>|<[^>]+ on[a-z]+=`)
	codes        = regexp.MustCompile(`<code>[^<]*</code>`) // what is shown letter by letter is no text of ours
	missingText  = regexp.MustCompile(`>\s*(common|nav|[a-z]+form|profile|credential|inventory|certificate|authority|dashboard|signin|error)\.[a-z-]+(\.[a-z-]+)*\s*<|%!|ZgotmplZ`)
)
