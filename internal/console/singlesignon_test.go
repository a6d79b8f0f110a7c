package console_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/console"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// provider is single sign-on that knows one sign-in: cookie "begun" with code "good" is the administrator's.
type provider struct {
	l    *lab
	fail error
}

func (p *provider) Title() string { return "Company <login>" }

func (p *provider) Begin(_ context.Context, next string) (address, cookie string, keep time.Duration, err error) {
	return "https://login.example/authorize?next=" + url.QueryEscape(next), "begun", 10 * time.Minute, p.fail
}

func (p *provider) SignIn(ctx context.Context, cookie string, answer url.Values, by audit.By) (string, time.Time, string, error) {
	if p.fail != nil {
		return "", time.Time{}, "", p.fail
	}
	if cookie != "begun" || answer.Get("code") != "good" || by.Client.Address != "192.0.2.7" {
		return "", time.Time{}, "", fault.Wrap(errors.New("secret detail"), fault.Unauthenticated, "begin again")
	}
	secret, session, err := p.l.Auth.SignIn(ctx, "admin", p.l.Password, "", by)
	if err != nil {
		return "", time.Time{}, "", err
	}
	return secret, session.ExpiresAt, answer.Get("next"), nil
}

func newProviderLab(t *testing.T) (*lab, *provider) {
	t.Helper()
	l := newLab(t)
	p := &provider{l: l}
	pages, err := console.New(console.Config{
		BaseURL: l.BaseURL, API: l.Server.Config.Handler, Sessions: l.Auth, SingleSignOn: p,
		CAs: func() []*pki.CA { return nil }, Now: l.Clock.Now, Random: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	if err := pages.Register(mux); err != nil {
		t.Fatal(err)
	}
	l.handler = mux
	return l, p
}

func TestSingleSignOn(t *testing.T) {
	t.Parallel()
	l, _ := newProviderLab(t)
	html := l.page(t, "/sign-in?next=/start?x=1%26y")
	if !strings.Contains(html, "Sign in with Company &lt;login&gt;") || !strings.Contains(html, `href="/sign-in/oidc?next=%2Fstart%3Fx%3D1%26y"`) {
		t.Errorf("no button in %s", html)
	}
	a := l.get(t, "/sign-in/oidc?next=%2Fstart%3Fx%3D1")
	if a.Code != http.StatusSeeOther || a.Header().Get("Location") != "https://login.example/authorize?next=%2Fstart%3Fx%3D1" {
		t.Fatalf("sent to %d %s", a.Code, a.Header().Get("Location"))
	}
	if l.cookies["__Host-certloom-oidc"] != "begun" {
		t.Fatalf("cookies %v", l.cookies)
	}
	a = l.get(t, "/sign-in/oidc/callback?code=good&next=/start?x=1")
	if a.Code != http.StatusSeeOther || a.Header().Get("Location") != "/start?x=1" {
		t.Fatalf("answered %d %s", a.Code, a.Header().Get("Location"))
	}
	if l.cookies["__Host-certloom-oidc"] != "" {
		t.Error("the cookie can be used again")
	}
	if a := l.get(t, "/"); a.Code != http.StatusOK {
		t.Errorf("not signed in: %d", a.Code)
	}
}

// Nothing that comes with an address leads to another site.
func TestSingleSignOnStaysHere(t *testing.T) {
	t.Parallel()
	l, _ := newProviderLab(t)
	for _, next := range []string{"https://evil.example/", "//evil.example", `/\evil.example`} {
		a := l.get(t, "/sign-in/oidc?next="+url.QueryEscape(next))
		if got := a.Header().Get("Location"); got != "https://login.example/authorize?next=%2F" {
			t.Errorf("%q is carried on: %s", next, got)
		}
		a = l.get(t, "/sign-in/oidc/callback?code=good&next="+url.QueryEscape(next))
		if got := a.Header().Get("Location"); got != "/" {
			t.Errorf("%q leads to %s", next, got)
		}
	}
}

func TestSingleSignOnRefuses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err    error
		path   string
		status int
		want   string
	}{
		"not-begun": {nil, "/sign-in/oidc/callback?code=good", http.StatusUnauthorized, "was not completed"},
		"role":      {fault.New(fault.Unauthorized, "no group"), "/sign-in/oidc/callback?code=good", http.StatusForbidden, "you have no access here"},
		"down":      {fault.New(fault.Unavailable, "down"), "/sign-in/oidc", http.StatusServiceUnavailable, "cannot be reached at the moment"},
		"broken":    {errors.New("secret detail"), "/sign-in/oidc/callback?code=good", http.StatusInternalServerError, "log"},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l, p := newProviderLab(t)
			p.fail = tt.err
			a := l.get(t, tt.path)
			body := a.Body.String()
			if a.Code != tt.status || !strings.Contains(body, tt.want) || strings.Contains(body, "secret detail") {
				t.Errorf("%d: %s", a.Code, body)
			}
			if len(l.cookies) > 0 {
				t.Errorf("cookies %v", l.cookies)
			}
		})
	}
	t.Run("without a provider", func(t *testing.T) {
		t.Parallel()
		l := newLab(t)
		if html := l.page(t, "/sign-in"); strings.Contains(html, "oidc") {
			t.Error("a button that leads nowhere")
		}
		for _, path := range []string{"/sign-in/oidc", "/sign-in/oidc/callback"} {
			if a := l.get(t, path); a.Code != http.StatusNotFound {
				t.Errorf("%s answers %d", path, a.Code)
			}
		}
	})
}
