package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// hidden finds a hidden field of a page.
func hidden(t *testing.T, html, name string) string {
	t.Helper()
	found := regexp.MustCompile(`<input type="hidden" name="` + name + `" value="([^"]*)"`).FindStringSubmatch(html)
	if found == nil {
		t.Fatalf("there is no field %s in %s", name, html)
	}
	return strings.ReplaceAll(found[1], "&amp;", "&")
}

// TestSecondFactorPages sets a second factor up, signs in with it, loses the app, and is helped by an administrator, without
// scripts.
func TestSecondFactorPages(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	code := func(secret string) string {
		made, err := totp.GenerateCode(secret, l.Clock.Now())
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	const path = "/settings/account/second-factor"
	if a := l.post(t, path, url.Values{"/password": {"wrong wrong wrong"}}); a.Code != http.StatusUnprocessableEntity || strings.Contains(a.Body.String(), "wrong wrong") {
		t.Fatalf("a wrong password: %d", a.Code)
	}
	begun := l.post(t, path, url.Values{"/password": {l.Password}})
	html := begun.Body.String()
	if begun.Code != http.StatusOK || !strings.Contains(html, `<svg class="qr"`) {
		t.Fatalf("%d %s", begun.Code, html)
	}
	form := url.Values{"ticket": {hidden(t, html, "ticket")}, "secret": {hidden(t, html, "secret")}, "uri": {hidden(t, html, "uri")}, "/code": {"12"}}
	secret := form.Get("secret")
	if again := l.post(t, path+"/confirm", form); again.Code != http.StatusUnprocessableEntity || hidden(t, again.Body.String(), "secret") != secret {
		t.Fatalf("a wrong code: %d", again.Code)
	}
	form.Set("/code", code(secret))
	done := l.post(t, path+"/confirm", form)
	recovery := regexp.MustCompile(`[A-Z2-7]{5}-[A-Z2-7]{5}`).FindAllString(done.Body.String(), -1)
	if done.Code != http.StatusOK || len(recovery) < 10 {
		t.Fatalf("%d, %d recovery codes", done.Code, len(recovery))
	}

	other := l.elsewhere()
	signIn := func() string {
		a := other.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}, "next": {"/audit"}})
		if a.Code != http.StatusOK || strings.Contains(a.Body.String(), l.Password) {
			t.Fatalf("%d, or the password is in the page", a.Code)
		}
		return hidden(t, a.Body.String(), "ticket")
	}
	l.Clock.Advance(time.Minute)
	ticket := signIn()
	if a := other.post(t, "/sign-in/code", url.Values{"ticket": {ticket}, "/code": {"000000"}}); a.Code != http.StatusUnauthorized || hidden(t, a.Body.String(), "ticket") != ticket {
		t.Errorf("a wrong code: %d", a.Code)
	}
	if a := other.post(t, "/sign-in/code", url.Values{"ticket": {"forged"}, "/code": {code(secret)}}); a.Code != http.StatusUnauthorized {
		t.Errorf("a forged ticket: %d", a.Code)
	}
	if a := other.post(t, "/sign-in/code", url.Values{"ticket": {ticket}, "/code": {code(secret)}, "next": {"/audit"}}); a.Code != http.StatusSeeOther || a.Header().Get("Location") != "/audit" {
		t.Fatalf("%d to %s", a.Code, a.Header().Get("Location"))
	}
	if page := other.page(t, "/settings/account"); !strings.Contains(page, "10") || strings.Contains(page, secret) {
		t.Error("the account does not say how many recovery codes are left, or has the secret")
	}
	if a := other.post(t, path+"/codes", url.Values{"/password": {l.Password}, "/code": {recovery[0]}}); a.Code != http.StatusOK || strings.Contains(a.Body.String(), recovery[1]) {
		t.Errorf("new recovery codes: %d", a.Code)
	}
	if !strings.Contains(l.page(t, "/settings/users/admin/reset-second-factor"), "admin") {
		t.Error("nobody is asked before a second factor is reset")
	}
	if a := l.post(t, "/settings/users/admin/reset-second-factor", nil); a.Code != http.StatusSeeOther {
		t.Errorf("reset: %d", a.Code)
	}
	if a := other.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}}); a.Code != http.StatusSeeOther {
		t.Errorf("afterwards: %d", a.Code)
	}
	events, err := l.Store.Events(t.Context(), pki.EventFilter{Action: string(audit.FactorReset), Limit: 10})
	if err != nil || len(events) != 1 {
		t.Errorf("%d events, %v", len(events), err)
	}
}
