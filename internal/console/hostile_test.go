package console_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// pageForm is a form of a page, as a browser would send it.
type pageForm struct {
	action string
	values url.Values
	free   []string // fields that take any text
}

// formsOf returns the forms of a page that change something.
func formsOf(t *testing.T, page string) []pageForm {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var forms []pageForm
	for node := range root.Descendants() {
		if node.Data == "form" && valueOf(node, "method") == "post" {
			forms = append(forms, formOf(node))
		}
	}
	return forms
}

func valueOf(node *html.Node, name string) string {
	at := slices.IndexFunc(node.Attr, func(a html.Attribute) bool { return a.Key == name })
	if at < 0 {
		return ""
	}
	return node.Attr[at].Val
}

func carries(node *html.Node, name string) bool {
	return slices.ContainsFunc(node.Attr, func(a html.Attribute) bool { return a.Key == name })
}

func formOf(form *html.Node) pageForm {
	made := pageForm{action: valueOf(form, "action"), values: url.Values{}}
	for node := range form.Descendants() {
		name, kind := valueOf(node, "name"), valueOf(node, "type")
		switch {
		case name == "":
		case node.Data == "textarea":
			text := ""
			if node.FirstChild != nil {
				text = node.FirstChild.Data
			}
			made.values.Set(name, text)
			made.free = append(made.free, name)
		case node.Data == "select":
			for option := range node.Descendants() {
				if option.Data == "option" && (carries(option, "selected") || !made.values.Has(name)) {
					made.values.Set(name, valueOf(option, "value"))
				}
			}
			made.free = append(made.free, name)
		case node.Data == "input" && (kind == "checkbox" || kind == "radio"):
			if carries(node, "checked") {
				made.values.Add(name, valueOf(node, "value"))
			}
		case node.Data == "input":
			made.values.Set(name, valueOf(node, "value"))
			if name != "_key" {
				made.free = append(made.free, name)
			}
		}
	}
	return made
}

// TestHostileForms puts hostile texts into each field of each form: it comes back filled in and says what is wrong, and
// nothing of it is taken for markup.
func TestHostileForms(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	serial := l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	if a := l.post(t, "/settings/users/new", url.Values{"/name": {"victim"}, "/password": {"correct horse battery"}, "/role": {"auditor"}}); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	const markup = `"><script>alert(1)</script><b x='`
	hostile := []string{markup, strings.Repeat("A", 10_000), "' OR 1=1 --", "a\x00b\u202e\r\nSet-Cookie: x=y", `{{.}}%s%n`, "\xff\xfe"}
	fields := 0
	for _, page := range []string{
		"/policies/profiles/new?template=private-mtls", "/policies/profiles/new?template=private-server", "/policies/profiles/new?template=mesh-intermediate",
		"/policies/profiles/istio/edit", "/policies/profiles/istio/clone", "/policies/profiles/istio", "/policies/credentials/new?profile=istio",
		"/integrations/connectors/add/istio", "/authorities/new", "/authorities/import", "/authorities/issuing/settings", "/settings/users/new", "/settings/users/victim", "/settings/tokens/new",
		"/settings/account", "/settings/account/second-factor", "/inventory?q=shop", "/inventory/certificates?q=shop",
		"/inventory/certificates/" + serial + "/revoke", "/inventory/certificates/revoke?identity=spiffe%3A%2F%2Fcluster.local%2Fns%2Fshop%2Fsa%2Fweb",
	} {
		for _, form := range formsOf(t, l.page(t, page)) {
			if strings.HasSuffix(form.action, "/sign-out") || strings.HasSuffix(form.action, "/end") || form.action == "/preferences" {
				continue
			}
			for _, name := range form.free {
				fields++
				for _, text := range hostile {
					values := url.Values{}
					for key, list := range form.values {
						values[key] = slices.Clone(list)
					}
					values.Set(name, text)
					values.Del("_key")
					a := l.post(t, form.action, values)
					body := a.Body.String()
					if a.Code >= http.StatusInternalServerError || strings.Contains(body, "<script>alert") {
						t.Errorf("%s: %s = %.40q: %d %.300s", form.action, name, text, a.Code, body)
					}
					if a.Code == http.StatusUnprocessableEntity && !strings.Contains(body, "is-invalid") && !strings.Contains(body, "alert-danger") && !strings.Contains(body, "invalid-feedback") {
						t.Errorf("%s: %s = %.40q is refused without a word", form.action, name, text)
					}
				}
			}
		}
	}
	if fields < 60 {
		t.Errorf("%d fields: there should be more", fields)
	}
}

// TestHostileAddresses puts hostile texts into what pages read of their address.
func TestHostileAddresses(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	hostile := []string{`"><script>alert(1)</script>`, strings.Repeat("A", 10_000), "' OR 1=1 --", "a\x00b\u202e", "-1", "1e9", "\xff"}
	for _, path := range []string{"/inventory", "/inventory/certificates", "/inventory/identity", "/audit", "/policies/profiles/new", "/policies/credentials/new", "/integrations/connectors/add/istio", "/sign-in", "/"} {
		for _, name := range []string{
			"q", "status", "namespace", "trustDomain", "cluster", "profile", "after", "limit", "columns", "name", "template", "next", "action", "outcome", "since", "until",
			"actor", "target", "part", "view", "identity", "pod", "issuedWithin",
		} {
			for _, text := range hostile {
				a := l.get(t, path+"?"+url.Values{name: {text}}.Encode())
				if a.Code >= http.StatusInternalServerError || strings.Contains(a.Body.String(), "<script>alert") {
					t.Errorf("%s?%s=%.40q: %d %.300s", path, name, text, a.Code, a.Body)
				}
			}
		}
	}
	for _, text := range hostile {
		for _, path := range []string{"/policies/profiles/", "/authorities/", "/integrations/connectors/", "/inventory/certificates/", "/settings/users/", "/static/"} {
			if a := l.get(t, path+url.PathEscape(text)); a.Code >= http.StatusInternalServerError || strings.Contains(a.Body.String(), "<script>alert") {
				t.Errorf("%s%.40q: %d", path, text, a.Code)
			}
		}
	}
}
