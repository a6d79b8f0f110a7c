package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/testca"
)

// issue gets a certificate under profile "ci" for a SPIFFE ID, and returns its serial.
func (l *lab) issue(t *testing.T, id string) string {
	t.Helper()
	return string(l.Issue(t, "ci", testca.Request{URIs: []string{id}}).Serial)
}

// TestEveryPage opens every page in both languages.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	const identity = "spiffe://cluster.local/ns/shop/sa/web"
	serial := l.issue(t, identity)
	for path, want := range map[string]string{
		"/":                           "",
		"/start":                      "",
		"/inventory":                  "shop",
		"/inventory?q=shop&status=ok": "shop",
		"/inventory?q=other":          "",
		"/inventory/identity?name=" + url.QueryEscape(identity):  serial,
		"/inventory/certificates":                                serial,
		"/inventory/certificates?q=" + url.QueryEscape(identity): serial,
		"/inventory/certificates/" + serial:                      identity,
		"/inventory/certificates/" + serial + "/revoke":          "keyCompromise",
		"/policies/templates":                                    "private-mtls",
		"/policies/profiles":                                     "istio",
		"/policies/profiles/new?template=private-mtls":           "cluster.local",
		"/policies/profiles/new?template=private-server":         "",
		"/policies/profiles/new?template=mesh-intermediate":      "",
		"/policies/profiles/istio":                               "cluster.local",
		"/policies/profiles/istio/edit":                          "cluster.local",
		"/policies/profiles/istio/clone":                         "istio-copy",
		"/policies/profiles/istio/delete":                        "istio",
		"/policies/credentials":                                  "",
		"/policies/credentials/new?profile=istio":                `value="istio" selected`,
		"/settings/users":                                        "admin",
		"/settings/users/new":                                    "namespace-viewer",
		"/settings/users/admin":                                  "operator",
		"/settings/users/admin/delete":                           "admin",
		"/settings/tokens":                                       "requester",
		"/settings/tokens/new":                                   `value="ci"`,
		"/settings/sessions":                                     "192.0.2.7",
		"/settings/account":                                      "192.0.2.7",
		"/policies/alerts":                                       "",
		"/authorities":                                           "<svg",
		"/authorities/new":                                       "",
		"/authorities/import":                                    "",
		"/authorities/root":                                      "/ca/",
		"/authorities/issuing":                                   "istio",
		"/authorities/issuing/settings":                          "/crl/",
		"/authorities/issuing/suspend":                           "issuing",
		"/audit":                                                 serial,
	} {
		for _, lang := range []string{"en", "ja"} {
			l.lang = lang
			if html := l.page(t, path); !strings.Contains(html, want) {
				t.Errorf("%s in %s lacks %q", path, lang, want)
			}
		}
	}
}

// TestListsRefreshThemselves asks for the rows alone, as scripts do.
func TestListsRefreshThemselves(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	for _, path := range []string{"/inventory", "/inventory/certificates"} {
		if html := l.script(t, path); strings.Contains(html, "<html") || !strings.Contains(html, `id="rows"`) || !strings.Contains(html, "Nothing was issued yet") {
			t.Errorf("%s answers\n%s", path, html)
		}
	}
	l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	for _, path := range []string{"/inventory", "/inventory/certificates"} {
		if html := l.script(t, path); !strings.Contains(html, "spiffe://cluster.local/ns/shop/sa/web") {
			t.Errorf("%s lacks the new certificate", path)
		}
	}
}

func TestMakeAProfileAndACredential(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	form := l.fields(t, "/policies/profiles/new?template=private-mtls")
	form.Set("/name", "Mesh!")
	form.Set("/rules/validity/max", "1 fortnight")
	form.Set("/rules/names/spiffe/allow", "shop/*\n<b>")
	a := l.post(t, "/policies/profiles/new", form)
	for _, want := range []string{`value="Mesh!"`, "1 fortnight", "&lt;b&gt;", "is-invalid", `aria-invalid="true"`} {
		if a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), want) {
			t.Errorf("a form that is refused answers %d without %q", a.Code, want)
		}
	}
	form = l.fields(t, "/policies/profiles/new?template=private-mtls")
	form.Set("/name", "mesh")
	if a := l.post(t, "/policies/profiles/new", form); a.Code != http.StatusSeeOther || a.Header().Get("Location") != "/policies/profiles/mesh" {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/policies/profiles/mesh"); !strings.Contains(html, "Profile mesh was created") || !strings.Contains(html, "cluster.local") {
		t.Error("the profile's page does not say so")
	}
	credential := l.fields(t, "/policies/credentials/new?profile=mesh")
	credential.Set("/name", "prod")
	made := l.post(t, "/policies/credentials/new", credential)
	html := made.Body.String()
	key := regexp.MustCompile(`secret=([A-Za-z0-9_-]{43})`).FindStringSubmatch(html)
	if made.Code != http.StatusOK || key == nil || !strings.Contains(html, l.BaseURL+"/acme/directory") || !strings.Contains(html, "keySecretRef") {
		t.Fatalf("%d %s", made.Code, html)
	}
	if html := l.page(t, "/policies/credentials"); strings.Contains(html, key[1]) || !strings.Contains(html, "prod") {
		t.Error("the list shows the key, or lacks the credential")
	}
	if a := l.post(t, "/policies/profiles/mesh/delete", url.Values{}); a.Code != http.StatusUnprocessableEntity {
		t.Errorf("a profile that is in use: %d", a.Code)
	}
}

func TestRevokeACertificate(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	path := "/inventory/certificates/" + l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	if a := l.post(t, path+"/revoke", url.Values{"/reason": {"boredom"}}); a.Code != http.StatusUnprocessableEntity {
		t.Errorf("an unknown reason: %d", a.Code)
	}
	if a := l.post(t, path+"/revoke", url.Values{"/reason": {"superseded"}}); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, path); !strings.Contains(html, "Revoked (superseded)") || strings.Contains(html, path+"/revoke") {
		t.Error("the page does not say so, or offers it again")
	}
	for name, want := range map[string]string{"csv": "superseded", "json": "superseded", "pem": "BEGIN CERTIFICATE"} {
		if a := l.get(t, "/inventory/certificates/export?format="+name); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), want) {
			t.Errorf("export as %s: %d %s", name, a.Code, a.Body)
		}
	}
	if a := l.get(t, path+"/pem?chain=true"); strings.Count(a.Body.String(), "BEGIN CERTIFICATE") < 2 {
		t.Errorf("chain: %s", a.Body)
	}
}

func TestOutsideRoot(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	form := l.fields(t, "/authorities/new")
	form.Set("/name", "below")
	form.Set("/parent", "")
	if a := l.post(t, "/authorities/new", form); a.Header().Get("Location") != "/authorities/below" {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/authorities/below"); !strings.Contains(html, "BEGIN CERTIFICATE REQUEST") {
		t.Error("no CSR to take away")
	}
	if a := l.post(t, "/authorities/below/certificate", url.Values{"/chain": {"nonsense"}}); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "nonsense") {
		t.Errorf("a chain that is none: %d", a.Code)
	}
	a := l.post(t, "/authorities/import", url.Values{"/name": {"x"}, "/chain": {"nonsense"}, "/key": {"very secret"}})
	if a.Code != http.StatusUnprocessableEntity || strings.Contains(a.Body.String(), "very secret") || !strings.Contains(a.Body.String(), "nonsense") {
		t.Errorf("a bad import: %d", a.Code)
	}
}

// script asks for a part of a page as htmx does.
func (l *lab) script(t *testing.T, path string) string {
	t.Helper()
	r := l.request(t, path)
	r.Header.Set("HX-Request", "true")
	a := l.do(t, r)
	if a.Code != http.StatusOK {
		t.Fatalf("GET %s answers %d: %s", path, a.Code, a.Body)
	}
	return a.Body.String()
}

var (
	inputs    = regexp.MustCompile(`<input[^>]+>`)
	attribute = regexp.MustCompile(`(name|value|type)="([^"]*)"`)
	areas     = regexp.MustCompile(`(?s)<textarea[^>]+name="([^"]+)"[^>]*>(.*?)</textarea>`)
	selects   = regexp.MustCompile(`(?s)<select[^>]+name="([^"]+)"[^>]*>(.*?)</select>`)
	choices   = regexp.MustCompile(`<option value="([^"]*)"( selected)?`)
)

// fields are what a browser would send of a page's form as it is.
func (l *lab) fields(t *testing.T, path string) url.Values {
	t.Helper()
	html := l.page(t, path)
	html = html[strings.Index(html, "<main"):]
	form := url.Values{}
	for _, input := range inputs.FindAllString(html, -1) {
		is := map[string]string{}
		for _, a := range attribute.FindAllStringSubmatch(input, -1) {
			is[a[1]] = a[2]
		}
		if (is["type"] == "checkbox" || is["type"] == "radio") && !strings.Contains(input, " checked") {
			continue
		}
		form.Add(is["name"], is["value"])
	}
	for _, area := range areas.FindAllStringSubmatch(html, -1) {
		form.Add(area[1], area[2])
	}
	for _, choice := range selects.FindAllStringSubmatch(html, -1) {
		chosen := ""
		for i, o := range choices.FindAllStringSubmatch(choice[2], -1) {
			if i == 0 || o[2] != "" {
				chosen = o[1]
			}
		}
		form.Add(choice[1], chosen)
	}
	return form
}
