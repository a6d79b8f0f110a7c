package console_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestSignIn(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if a := l.get(t, "/"); a.Code != http.StatusSeeOther || a.Header().Get("Location") != "/sign-in" {
		t.Fatalf("a stranger gets %d %s", a.Code, a.Header().Get("Location"))
	}
	for name, form := range map[string]url.Values{
		"refuses/password": {"user": {"admin"}, "password": {"wrong"}},
		"refuses/user":     {"user": {"<script>nobody"}, "password": {l.Password}},
		"refuses/empty":    {},
	} {
		a := l.post(t, "/sign-in", form)
		if a.Code != http.StatusUnauthorized || !strings.Contains(a.Body.String(), "User name or password is wrong") || len(l.cookies) > 0 {
			t.Errorf("%s: %d, cookies %v", name, a.Code, l.cookies)
		}
		if strings.Contains(a.Body.String(), "<script>nobody") || strings.Contains(a.Body.String(), `value="wrong"`) {
			t.Errorf("%s: the page has what it must not have", name)
		}
	}
	a := l.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}, "next": {"/start?x=1"}})
	if a.Code != http.StatusSeeOther || a.Header().Get("Location") != "/start?x=1" {
		t.Fatalf("signed in: %d %s", a.Code, a.Header().Get("Location"))
	}
	if html := l.page(t, "/"); !strings.Contains(html, "Dashboard") {
		t.Error("no dashboard")
	}
	session := l.cookies["__Host-certloom-session"]
	if a := l.post(t, "/sign-out", nil); a.Code != http.StatusSeeOther {
		t.Fatalf("sign-out answers %d", a.Code)
	}
	if html := l.page(t, "/sign-in"); !strings.Contains(html, "You are signed out") {
		t.Error("nobody says so")
	}
	l.cookies["__Host-certloom-session"] = session
	if a := l.get(t, "/"); a.Code != http.StatusSeeOther || l.cookies["__Host-certloom-session"] != "" {
		t.Errorf("a session that has ended gets %d", a.Code)
	}
}

func TestNextStaysHere(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`, "javascript:alert(1)", "evil", "/a\r\nX: y", ""} {
		a := l.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}, "next": {next}})
		if a.Header().Get("Location") != "/" {
			t.Errorf("%q leads to %q", next, a.Header().Get("Location"))
		}
	}
}

func TestRefusesForeignForms(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	for name, header := range map[string]http.Header{
		"refuses/cross-site": {"Sec-Fetch-Site": {"cross-site"}},
		"refuses/same-site":  {"Sec-Fetch-Site": {"same-site"}},
		"refuses/origin":     {"Origin": {"https://evil.example"}},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/sign-out", http.NoBody)
		r.Header = header
		if a := l.do(t, r); a.Code != http.StatusForbidden || !strings.Contains(a.Body.String(), "another site") {
			t.Errorf("%s: %d", name, a.Code)
		}
	}
	if a := l.get(t, "/"); a.Code != http.StatusOK {
		t.Errorf("the session has ended: %d", a.Code)
	}
}

func TestPageHeaders(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	for _, path := range []string{"/start", "/sign-in", "/nothing", "/static/console.js"} {
		h := l.get(t, path).Header()
		policy := h.Get("Content-Security-Policy")
		if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s has %v", path, h)
		}
	}
}

func TestPreferences(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	if html := l.page(t, "/sign-in"); !strings.Contains(html, `lang="en"`) || !strings.Contains(html, `data-theme="auto"`) {
		t.Error("not English and the system's theme")
	}
	if a := l.post(t, "/preferences", url.Values{"lang": {"ja"}, "theme": {"dark"}, "next": {"/sign-in"}}); a.Header().Get("Location") != "/sign-in" {
		t.Errorf("leads to %q", a.Header().Get("Location"))
	}
	if html := l.page(t, "/sign-in"); !strings.Contains(html, "サインイン") || !strings.Contains(html, `data-bs-theme="dark"`) {
		t.Error("the preferences are not kept")
	}
	l.post(t, "/preferences", url.Values{"lang": {"xx"}, "theme": {"auto"}})
	if html := l.page(t, "/sign-in"); !strings.Contains(html, "サインイン") || !strings.Contains(html, `data-theme="auto"`) {
		t.Error("a language that there is not changed something, or the theme stayed")
	}
	delete(l.cookies, "__Host-certloom-lang")
	l.lang = "ja-JP,en;q=0.5"
	if html := l.page(t, "/sign-in"); !strings.Contains(html, `lang="ja"`) {
		t.Error("the browser's language is not taken")
	}
}
