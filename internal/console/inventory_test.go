package console_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestSearchAsPeopleType(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	const cart, web = "spiffe://cluster.local/ns/shop/sa/cart-api", "spiffe://cluster.local/ns/front/sa/web"
	serial := l.issue(t, cart)
	l.issue(t, web)
	for typed, found := range map[string]bool{
		"cart": true, "API": true, "shop": true, "ns/shop": true, cart: true, serial: true, strings.ToUpper(serial[:20]): true,
		"front": false, "nothing": false, "%": false, "' OR ''='": false, "<script>alert(1)</script>": false, "\x00": false, "\xff": false,
		strings.Repeat("x", 10_000): false,
	} {
		for _, path := range []string{"/inventory", "/inventory/certificates"} {
			html := l.page(t, path+"?"+url.Values{"q": {typed}, "status": {""}}.Encode())
			rows := html[strings.Index(html, `id="rows"`):]
			if strings.Contains(rows, cart) != found || strings.Contains(html, "<script>alert") {
				t.Errorf("%s for %.40q: found %t", path, typed, !found)
			}
		}
	}
	for query, want := range map[string]string{
		"?namespace=shop":                       cart,
		"?cluster=none":                         "Nothing matches",
		"?status=lapsing":                       `href="/inventory?status=lapsing" aria-current="page"`,
		"?columns=namespace&columns=first":      "First issued",
		"?q=cart-7d9f":                          "/inventory/certificates?q=cart-7d9f",
		"?trustDomain=cluster.local&namespace=": web,
	} {
		if html := l.page(t, "/inventory"+query); !strings.Contains(html, want) {
			t.Errorf("%s lacks %s", query, want)
		}
	}
	if html := l.page(t, "/inventory?columns=namespace"); strings.Contains(html, `<th scope="col">Time left`) {
		t.Error("a column that was not chosen is shown")
	}
	for _, format := range []string{"csv", "json"} {
		if a := l.get(t, "/inventory/export?q=cart&format="+format); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), cart) || strings.Contains(a.Body.String(), web) {
			t.Errorf("export as %s: %d %s", format, a.Code, a.Body)
		}
	}
}

func TestRevokeSeveralCertificates(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	var serials []string
	for i := range 5 {
		serials = append(serials, l.issue(t, fmt.Sprintf("spiffe://cluster.local/ns/shop/sa/w%d", i)))
	}
	list := l.page(t, "/inventory/certificates?namespace=shop")
	all := "/inventory/certificates/revoke?namespace=shop"
	if !strings.Contains(list, `form="several"`) || !strings.Contains(list, all) {
		t.Fatal("the list offers no revocation of several")
	}
	chosen := "/inventory/certificates/revoke?" + url.Values{"serial": serials[:2]}.Encode()
	form := l.fields(t, chosen)
	form.Set("/reason", "boredom")
	if a := l.post(t, chosen, form); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), serials[0]) {
		t.Errorf("an unknown reason: %d", a.Code)
	}
	form.Set("/reason", "superseded")
	if a := l.post(t, chosen, form); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), "2 of 2 certificates were revoked") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	form = l.fields(t, all)
	if form.Get("/expected") != "3" {
		t.Errorf("expects %q", form.Get("/expected"))
	}
	form.Set("/reason", "superseded")
	late := l.issue(t, "spiffe://cluster.local/ns/shop/sa/late")
	if a := l.post(t, all, form); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), late) {
		t.Errorf("more than were shown: %d", a.Code)
	}
	form.Set("/expected", "4")
	if a := l.post(t, all, form); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), "4 of 4 certificates were revoked") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	for _, path := range []string{all, chosen, "/inventory/certificates/revoke"} {
		if html := l.page(t, path); !strings.Contains(html, "There is nothing to revoke") {
			t.Errorf("%s offers something", path)
		}
	}
}

func TestCertificateIsExplained(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	const identity = "spiffe://cluster.local/ns/shop/sa/web"
	first := l.issue(t, identity)
	l.Clock.Advance(48 * time.Hour) // the session has ended
	l.post(t, "/sign-in", url.Values{"user": {"admin"}, "password": {l.Password}})
	second := l.issue(t, identity)
	l.signIn(t) // the session was not used for long
	for _, want := range []string{"Subject alternative name", "This is what peers compare", "/policies/profiles/ci", "/inventory/certificates/" + first + "/revoke"} {
		if html := l.page(t, "/inventory/certificates/"+first); strings.Contains(html, want) == strings.HasSuffix(want, "/revoke") {
			t.Errorf("the page of the certificate is wrong about %s", want) // it has expired, so that it cannot be revoked
		}
	}
	html := l.page(t, "/inventory/identity?name="+url.QueryEscape(identity))
	for _, want := range []string{
		first, second, "from 2026-03-11 12:00:00 to 2026-03-12 11:59:00 UTC", "Next renewal expected",
		"/inventory/certificates/revoke?identity=" + url.QueryEscape(identity),
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page of the identity lacks %s", want)
		}
	}
	l.lang = "ja"
	if html := l.page(t, "/inventory/certificates/"+second); !strings.Contains(html, "鍵の持ち主の名前です") {
		t.Error("extensions are not explained in Japanese")
	}
}

func TestSavedViews(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	form := url.Values{"list": {"identities"}, "selection": {"namespace=shop&status=&columns=status"}, "/name": {"My <shop>"}}
	if a := l.post(t, "/inventory/views", form); a.Code != http.StatusSeeOther || !strings.HasPrefix(a.Header().Get("Location"), "/inventory?") {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	html := l.page(t, "/inventory")
	if !strings.Contains(html, "My &lt;shop&gt;") || !strings.Contains(html, `href="/inventory?columns=status&amp;namespace=shop"`) {
		t.Error("the view is not offered")
	}
	if html := l.page(t, "/inventory/certificates"); strings.Contains(html, "My &lt;shop&gt;") {
		t.Error("the other list offers it")
	}
	if a := l.post(t, "/inventory/views", form); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), `value="My &lt;shop&gt;"`) {
		t.Errorf("the same name again: %d %s", a.Code, a.Body)
	}
	id := regexp.MustCompile(`name="id" value="([^"]+)"`).FindStringSubmatch(html)
	if id == nil {
		t.Fatal("the view cannot be deleted")
	}
	l.post(t, "/inventory/views/delete", url.Values{"id": {id[1]}, "list": {"identities"}})
	if html := l.page(t, "/inventory"); strings.Contains(html, "My &lt;shop&gt;") {
		t.Error("the view is still there")
	}
}
