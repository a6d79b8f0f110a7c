package console_test

import (
	"encoding/csv"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	serial := l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	l.post(t, "/inventory/certificates/"+serial+"/revoke", url.Values{"/reason": {"superseded"}})
	other := newLab(t) // somebody who does not know the password, on another browser
	other.World, other.handler = l.World, l.handler
	other.post(t, "/sign-in", url.Values{"user": {"<script>x"}, "password": {"wrong"}})

	for path, want := range map[string][]string{
		"/audit":                               {"Certificate issued", "Certificate revoked", "Sign-in refused", serial, "/audit?target=" + serial},
		"/audit?action=certificate.*":          {`value="certificate.*" selected`, serial},
		"/audit?action=certificate.revoke":     {`value="certificate.revoke" selected`, "superseded", "/inventory/certificates/" + serial},
		"/audit?outcome=refused&period=1h":     {"user name or password is wrong", "unknown", "192.0.2.7"},
		"/audit?target=nothing":                {"Nothing matches."},
		"/audit?actor=nobody&period=720h":      {"Nothing matches."},
		"/audit?q=%3Cscript%3E&action=%3Cb%3E": {"&lt;b&gt;", "Nothing matches."},
	} {
		html := l.page(t, path)
		for _, text := range want {
			if !strings.Contains(html, text) {
				t.Errorf("%s lacks %q", path, text)
			}
		}
		if strings.Contains(html, "<script>x") || strings.Contains(html, "<b>") {
			t.Errorf("%s has what was typed", path)
		}
	}
	if html := l.page(t, "/audit?outcome=refused"); strings.Contains(html, serial) {
		t.Error("the filter lets pass what was done")
	}
	l.lang = "ja"
	if html := l.page(t, "/audit"); !strings.Contains(html, "証明書を失効") {
		t.Error("not in Japanese")
	}
	l.lang = "en"
	if html := l.script(t, "/audit?action=certificate.*"); strings.Contains(html, "<html") || !strings.Contains(html, `id="rows"`) {
		t.Error("scripts do not get the rows alone")
	}
}

func TestAuditPages(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	for range 60 {
		l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	}
	html := l.page(t, "/audit?action=certificate.issue")
	next := regexp.MustCompile(`href="(/audit\?action=certificate\.issue&amp;after=[^"]+)"`).FindStringSubmatch(html)
	if next == nil || strings.Count(html, "<details>") != 50 {
		t.Fatalf("%d events, next %v", strings.Count(html, "<details>"), next)
	}
	if html := l.page(t, strings.ReplaceAll(next[1], "&amp;", "&")); strings.Count(html, "<details>") < 10 || !strings.Contains(html, `href="/audit?action=certificate.issue"`) {
		t.Error("the second page has not the rest, or no way back")
	}
	if a := l.get(t, "/audit?after=forged"); a.Code < 400 || a.Code >= 500 {
		t.Errorf("a forged cursor gets %d", a.Code)
	}
}

func TestAuditExport(t *testing.T) {
	t.Parallel()
	l := signedIn(t)
	serial := l.issue(t, "spiffe://cluster.local/ns/shop/sa/web")
	a := l.get(t, "/audit/export?format=csv&action=certificate.*")
	rows, err := csv.NewReader(a.Body).ReadAll()
	if err != nil || a.Code != http.StatusOK || len(rows) != 2 || rows[1][2] != "certificate.issue" || rows[1][4] != serial {
		t.Errorf("%d %v: %v", a.Code, err, rows)
	}
	if got := a.Header().Get("Content-Disposition"); !strings.Contains(got, "audit.csv") {
		t.Errorf("disposition %q", got)
	}
	if a := l.get(t, "/audit/export?format=json&period=1h"); a.Code != http.StatusOK || !strings.Contains(a.Body.String(), serial) {
		t.Errorf("%d %s", a.Code, a.Body)
	}
	if a := l.get(t, "/audit/export?format=exe"); a.Code != http.StatusUnprocessableEntity && a.Code != http.StatusBadRequest {
		t.Errorf("an unknown format: %d", a.Code)
	}
}

// Every action has its words: the set is closed by what the source has.
func TestActionsHaveTexts(t *testing.T) {
	t.Parallel()
	source, err := parser.ParseFile(token.NewFileSet(), "../audit/audit.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := os.ReadFile("texts/en/audit.json")
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(source, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		named, ok := spec.Type.(*ast.Ident)
		if !ok || (named.Name != "Action" && named.Name != "ActorKind") {
			return true
		}
		value := strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`)
		key := `"action.` + value
		if named.Name == "ActorKind" {
			key = `"by.` + value
		}
		if !strings.Contains(string(texts), key+`"`) {
			t.Errorf("%s has no text", value)
		}
		return true
	})
}
