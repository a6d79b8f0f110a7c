package console_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/testca"
)

// ask sends a form as htmx does, and returns the part of the page.
func (l *lab) ask(t *testing.T, path string, form url.Values) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	r.Header.Set("HX-Request", "true")
	a := l.do(t, r)
	if a.Code != http.StatusOK || strings.Contains(a.Body.String(), "<html") {
		t.Fatalf("POST %s answers %d: %s", path, a.Code, a.Body)
	}
	return a.Body.String()
}

// TestExampleWhileAProfileIsWritten fills the form in, step by step.
func TestExampleWhileAProfileIsWritten(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	const path = "/policies/profiles/new?template=private-mtls"
	if html := l.page(t, path); !strings.Contains(html, "URI spiffe://cluster.local/ns/shop/sa/web") {
		t.Error("a new form has no example")
	}
	form := l.fields(t, path)
	for _, step := range []struct{ field, value, want string }{
		{"/rules/names/spiffe/allow", "payments/*", "URI spiffe://cluster.local/ns/payments/sa/web"},
		{"/rules/names/spiffe/trustDomains", "prod.example", "URI spiffe://prod.example/ns/payments/sa/web"},
		{"/rules/validity/default", "6h", "6h"},
		{"_try", "spiffe://prod.example/ns/payments/sa/api", "Yes, this would be issued"},
		{"_try", "spiffe://prod.example/ns/<b>/sa/api", "this would be refused"},
		{"_try", "spiffe://prod.example/ns/shop/sa/api", "matches none of &#34;payments/*&#34;"},
		{"_try", "web.shop.svc\n10.0.0.1", "it allows no IP addresses"},
		{"_try", "-----BEGIN NONSENSE-----", "CSR is not PEM"},
		{"/rules/validity/max", "1 fortnight", "1 fortnight"},
	} {
		form.Set(step.field, step.value)
		if html := l.ask(t, "/policies/profiles/preview", form); !strings.Contains(html, step.want) || strings.Contains(html, "<b>") {
			t.Errorf("%s = %q: no %q in\n%s", step.field, step.value, step.want, html)
		}
	}
	// Without scripts a button does it, and what was typed is still there.
	a := l.post(t, "/policies/profiles/preview", form)
	if html := a.Body.String(); a.Code != http.StatusOK || !strings.Contains(html, "<html") || !strings.Contains(html, "payments/*</textarea>") || !strings.Contains(html, "1 fortnight") {
		t.Errorf("%d %s", a.Code, html)
	}
	// Asking has used up nothing: the form can still be sent.
	form.Set("/rules/validity/max", "7d")
	form.Set("/name", "payments")
	if a := l.post(t, "/policies/profiles/new", form); a.Code != http.StatusSeeOther {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

func TestWouldThisBeIssued(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	csr := certificateRequest(t, testca.Request{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}})
	for _, test := range []struct{ typed, want string }{
		{"spiffe://cluster.local/ns/shop/sa/web", "Yes, this would be issued"},
		{csr, "Yes, this would be issued"},
		{"spiffe://evil.example/ns/shop/sa/web", "trust domain &#34;evil.example&#34; is not one of"},
	} {
		form := url.Values{"_try": {test.typed}}
		if html := l.ask(t, "/policies/profiles/istio/check", form); !strings.Contains(html, test.want) {
			t.Errorf("no %q in\n%s", test.want, html)
		}
		if a := l.post(t, "/policies/profiles/istio/check", form); !strings.Contains(a.Body.String(), test.want) || !strings.Contains(a.Body.String(), "<html") {
			t.Errorf("without scripts: no %q", test.want)
		}
	}
	if a := l.get(t, "/policies/profiles/istio/json"); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), `"private-mtls"`) ||
		!strings.Contains(a.Header().Get("Content-Disposition"), "istio.json") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	l.lang = "ja"
	html := l.ask(t, "/policies/profiles/istio/check", url.Values{"_try": {"spiffe://evil.example/ns/shop/sa/web"}})
	for _, want := range []string{"SPIFFE ID spiffe://evil.example/ns/shop/sa/web は許可されていません。", "trust domain &#34;evil.example&#34; is not one of"} {
		if !strings.Contains(html, want) {
			t.Errorf("in Japanese there is no %q in\n%s", want, html)
		}
	}
}

// TestTwoEditOneProfile has the slower one see that he is.
func TestTwoEditOneProfile(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	const path = "/policies/profiles/istio/edit"
	slow, fast := l.fields(t, path), l.fields(t, path)
	fast.Set("/rules/validity/default", "5h")
	if a := l.post(t, path, fast); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	slow.Set("/rules/validity/default", "4h")
	a := l.post(t, path, slow)
	if html := a.Body.String(); a.Code != http.StatusUnprocessableEntity || !strings.Contains(html, "Somebody has changed this profile") || !strings.Contains(html, `value="4h"`) ||
		!strings.Contains(html, `name="/version" value="2"`) {
		t.Errorf("%d %s", a.Code, html)
	}
	slow.Set("/version", "2")
	if a := l.post(t, path, slow); a.Code != http.StatusSeeOther {
		t.Errorf("%d %s", a.Code, a.Body)
	}
}

func TestChallengesInTheForm(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	form := l.fields(t, "/policies/profiles/new?template=private-server")
	form.Set("/name", "lab")
	form.Set("/rules/names/dns/allow", "**.lab.example")
	form["/rules/challenges/types"] = []string{"", "http-01", "dns-01"}
	if a := l.post(t, "/policies/profiles/new", form); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "no network") {
		t.Errorf("challenges without networks: %d", a.Code)
	}
	form.Set("/rules/challenges/networks", "10.0.0.0/8")
	if a := l.post(t, "/policies/profiles/new", form); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/policies/profiles/lab"); !strings.Contains(html, "http-01, dns-01") || !strings.Contains(html, "/acme/p/lab/directory") {
		t.Error("the profile's page does not say so")
	}
	form = l.fields(t, "/policies/profiles/lab/edit")
	form["/rules/challenges/types"] = []string{""}
	form.Set("/rules/challenges/networks", "")
	if a := l.post(t, "/policies/profiles/lab/edit", form); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/policies/profiles/lab"); strings.Contains(html, "/acme/p/lab/directory") {
		t.Error("challenges are still there")
	}
}

func TestNewAuthorityWithLimits(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	form := l.fields(t, "/authorities/new")
	form.Set("/name", "mesh")
	form.Set("/parent", "root")
	form.Set("/pathLength", "one")
	if a := l.post(t, "/authorities/new", form); a.Code != http.StatusUnprocessableEntity || !strings.Contains(a.Body.String(), "whole number") {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	form.Set("/pathLength", "0")
	form.Set("/constraints/trustDomains", "cluster.local")
	if a := l.post(t, "/authorities/new", form); a.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", a.Code, a.Body)
	}
	if html := l.page(t, "/authorities/mesh"); !strings.Contains(html, "Name constraints") || !strings.Contains(html, "permitted URI cluster.local") {
		t.Error("the CA's page does not explain its name constraints")
	}
}

func certificateRequest(t *testing.T, r testca.Request) string {
	t.Helper()
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: testca.CSR(t, r)}))
}
