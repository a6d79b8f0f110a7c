package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestUsersHaveRights(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	l.issue(t, "spiffe://cluster.local/ns/bank/sa/web")
	form := l.fields(t, "/settings/users/new")
	form.Set("/name", "Shop!")
	form.Set("/role", "namespace-viewer")
	form.Set("/password", "short")
	a := l.post(t, "/settings/users/new", form)
	if a.Code != http.StatusUnprocessableEntity || strings.Count(a.Body.String(), "invalid-feedback") < 3 || strings.Contains(a.Body.String(), `value="short"`) {
		t.Errorf("a bad user: %d %s", a.Code, a.Body)
	}
	form.Set("/name", "shop")
	form.Set("/sees", "spiffe://cluster.local/ns/shop/*")
	form.Set("/password", "correct horse battery")
	if a := l.post(t, "/settings/users/new", form); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	other := newLab(t)
	other.World, other.handler = l.World, l.handler
	if a := other.post(t, "/sign-in", url.Values{"user": {"shop"}, "password": {"correct horse battery"}}); a.Code != http.StatusSeeOther {
		t.Fatalf("sign-in: %d", a.Code)
	}
	html := other.page(t, "/inventory")
	if !strings.Contains(html, "/ns/shop/") || strings.Contains(html, "/ns/bank/") {
		t.Error("the inventory shows what this user must not see, or not what it may")
	}
	for _, path := range []string{"/policies/profiles", "/settings/users", "/audit", "/authorities", "/settings/sessions"} {
		if strings.Contains(html, `href="`+path+`"`) {
			t.Errorf("%s is offered", path)
		}
		if a := other.get(t, path); a.Code != http.StatusForbidden {
			t.Errorf("%s answers %d", path, a.Code)
		}
	}
	other.page(t, "/")
	if a := l.post(t, "/settings/users/shop", url.Values{"/role": {"namespace-viewer"}, "/sees": {"spiffe://cluster.local/ns/shop/*"}, "/state": {"suspended"}}); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if a := other.get(t, "/inventory"); a.Code != http.StatusSeeOther {
		t.Errorf("a suspended user sees %d", a.Code)
	}
	if a := l.post(t, "/settings/users/admin/delete", nil); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "last active administrator") {
		t.Errorf("the last administrator: %d", a.Code)
	}
}

func TestOwnAccount(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	other := l.elsewhere()
	other.signIn(t)
	if a := l.post(t, "/settings/account", url.Values{"/old": {"wrong wrong wrong"}, "/new": {"another good password"}}); a.Code != http.StatusUnprocessableEntity {
		t.Errorf("a wrong password: %d", a.Code)
	}
	if a := l.post(t, "/settings/account", url.Values{"/old": {l.Password}, "/new": {"another good password"}}); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if a := l.get(t, "/inventory"); a.Code != http.StatusOK {
		t.Errorf("the session that has changed it: %d", a.Code)
	}
	if a := other.get(t, "/inventory"); a.Code != http.StatusSeeOther {
		t.Errorf("another session: %d", a.Code)
	}
	l.Password = "another good password"
	l.signIn(t)
}

func TestTokensOfTheConsole(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	form := l.fields(t, "/settings/tokens/new")
	form.Set("/name", "dashboard")
	a := l.post(t, "/settings/tokens/new", form)
	if a.Code != http.StatusOK || !strings.Contains(a.Body.String(), "clt_") {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/settings/tokens"); strings.Contains(html, "clt_") || !strings.Contains(html, "dashboard") {
		t.Error("the list shows the secret, or lacks the token")
	}
}
