package api_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// has says whether a route has a parameter.
func (r documentedRoute) has(name string) bool {
	for _, parameter := range r.Parameters {
		if parameter.Name == name {
			return true
		}
	}
	return false
}

// lists are the paths of all operations with pages.
func lists(t *testing.T, w *apitest.World) []string {
	t.Helper()
	var paths []string
	for path, methods := range describe(t, w).Paths {
		if route, ok := methods["get"]; ok && route.has("after") {
			paths = append(paths, path)
		}
	}
	return sorted(paths)
}

// page reads one page of any list.
func page(t *testing.T, w *apitest.World, path string, query url.Values) (apiv1.Page[json.RawMessage], apitest.Answer) {
	t.Helper()
	answer := w.Do(t, http.MethodGet, path+"?"+query.Encode(), w.Tokens[pki.RoleAdmin], nil, nil)
	var got apiv1.Page[json.RawMessage]
	if answer.Status == http.StatusOK {
		if err := json.Unmarshal(answer.Body, &got); err != nil {
			t.Fatalf("GET %s: %v", path, err)
		}
	}
	return got, answer
}

// TestEveryListHasPages reads each list at once and item by item.
func TestEveryListHasPages(t *testing.T) {
	t.Parallel()
	w, _ := inventory(t)
	for i := range 3 {
		leaf := testca.New(t).Leaf(t, &x509.Certificate{DNSNames: []string{fmt.Sprintf("other-%d.example.com", i)}}, testca.Key(t).Public())
		if _, err := w.Client(t, pki.RoleAdmin).ImportCertificates(t.Context(), apiv1.ImportCertificates{Data: leaf.Raw}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		in := apiv1.CreateDenial{Identity: fmt.Sprintf("other-%d.example.com", i)}
		if _, err := w.Client(t, pki.RoleAdmin).CreateDenial(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	client := w.Client(t, pki.RoleAdmin)
	for i := range 3 {
		name := fmt.Sprintf("more-%d", i)
		_, err := client.CreateUser(t.Context(), apiv1.CreateUser{Name: name, Password: "correct horse battery", Role: "auditor"})
		_, connecting := client.CreateConnector(t.Context(), apiv1.CreateConnector{Profile: "istio", Credential: name, Name: name})
		_, _, signing := w.Auth.SignIn(t.Context(), name, "correct horse battery", "", audit.By{Client: pki.Client{Address: "192.0.2.1"}})
		if err := errors.Join(err, connecting, signing); err != nil {
			t.Fatal(err)
		}
	}
	alerts(t, w)
	paths := lists(t, w)
	if len(paths) < 12 {
		t.Fatalf("lists %v: there should be more", paths)
	}
	cursors := map[string]string{}
	for _, path := range paths {
		query := url.Values{}
		if path == "/sessions" {
			query.Set("all", "true")
		}
		whole, answer := page(t, w, path, query)
		if answer.Status != http.StatusOK || whole.Next != "" {
			t.Fatalf("GET %s: %d, next %q", path, answer.Status, whole.Next)
		}
		if len(whole.Items) < 2 {
			t.Errorf("GET %s has %d items, too few to be pages", path, len(whole.Items))
		}
		query.Set("limit", "1")
		var items []json.RawMessage
		for {
			one, answer := page(t, w, path, query)
			if len(one.Items) > 1 || answer.Status != http.StatusOK {
				t.Fatalf("GET %s?%s: %d %s", path, query.Encode(), answer.Status, answer.Body)
			}
			items = append(items, one.Items...)
			if one.Next == "" {
				break
			}
			cursors[path] = one.Next
			query.Set("after", one.Next)
			want := `<` + apiv1.Prefix + path + "?" + query.Encode() + `>; rel="next"`
			if got := answer.Header.Get("Link"); got != want {
				t.Fatalf("GET %s: Link %s, want %s", path, got, want)
			}
		}
		if diff := cmp.Diff(whole.Items, items); diff != "" {
			t.Errorf("GET %s at once and item by item differ (-at once +by item):\n%s", path, diff)
		}
	}
	for _, path := range paths {
		for name, cursor := range map[string]string{
			"refuses/forged": "eyJhIjoxfQ", "refuses/not-base64": "' OR 1=1 --", "refuses/long": strings.Repeat("A", 8000),
			"refuses/altered": "A" + cursors[path], "refuses/other-list": cursors["/certificates"], "refuses/other-filter": cursors[path],
		} {
			query := url.Values{"after": {cursor}, "limit": {"5"}}
			if name == "refuses/other-filter" && path == "/certificates" {
				query.Set("namespace", "ns-1")
			} else if name == "refuses/other-filter" || name == "refuses/other-list" && path == "/certificates" {
				continue
			}
			_, answer := page(t, w, path, query)
			if answer.Status != http.StatusBadRequest || cmp.Diff([]string{"after"}, fields(answer.Problem)) != "" {
				t.Errorf("%s: GET %s: %d %s", name, path, answer.Status, answer.Body)
			}
		}
	}
}

func TestFields(t *testing.T) {
	t.Parallel()
	w, _ := inventory(t)
	cases := map[string]struct{ path, want string }{
		"list":             {"/cas?fields=name,state&limit=1", `{"items":[{"name":"issuing","state":"active"}]`},
		"item":             {"/profiles/istio?fields=name", `{"name":"istio"}`},
		"dots":             {"/profiles/istio?fields=rules.names.spiffe.allow,name", `{"name":"istio","rules":{"names":{"spiffe":{"allow":["*/*"]}}}}`},
		"several":          {"/profiles/istio?fields=name&fields=state", `{"name":"istio","state":"active"}`},
		"whole-and-part":   {"/profiles/istio?fields=rules.names.ip,rules.names.ip.allow", `{"rules":{"names":{"ip":{"allow":[],"deny":[]}}}}`},
		"part-and-whole":   {"/profiles/istio?fields=rules.names.ip.allow,rules.names.ip", `{"rules":{"names":{"ip":{"allow":[],"deny":[]}}}}`},
		"absent":           {"/profiles/istio?fields=rules.challenges", `{"rules":{}}`},
		"with-other":       {"/credentials?profile=web&fields=name", `{"items":[{"name":"client"}]}`},
		"array-of-objects": {"/status?fields=cas.name", `{"cas":[{"name":"issuing"},{"name":"root"}]}`},
	}
	for name, c := range cases {
		answer := w.Do(t, http.MethodGet, c.path, w.Tokens[pki.RoleAdmin], nil, nil)
		if got := strings.TrimSpace(string(answer.Body)); answer.Status != http.StatusOK || !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %d %s, want %s", name, answer.Status, got, c.want)
		}
	}
	refused := map[string]struct{ path, detail string }{
		"refuses/unknown":     {"/cas?fields=colour", "chainPem, constraints, "},
		"refuses/inner":       {"/profiles/istio?fields=rules.colour", "member rules has"},
		"refuses/below-value": {"/profiles/istio?fields=name.first", "has none"},
		"refuses/empty":       {"/cas?fields=", "is not known"},
		"refuses/many":        {"/cas?fields=" + strings.Repeat("name,", 200), "more than"},
		"refuses/no-json":     {"/certificates/export?fields=serial", ""},
		"refuses/next":        {"/cas?fields=next", "is not known"},
	}
	for name, c := range refused {
		answer := w.Do(t, http.MethodGet, c.path, w.Tokens[pki.RoleAdmin], nil, nil)
		if answer.Status != http.StatusBadRequest || !strings.Contains(string(answer.Body), c.detail) || len(answer.Body) > 4<<10 ||
			cmp.Diff([]string{"fields"}, fields(answer.Problem)) != "" {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
	// The next page has the same members.
	answer := w.Do(t, http.MethodGet, "/certificates?fields=serial&limit=3", w.Tokens[pki.RoleAdmin], nil, nil)
	next, _, _ := strings.Cut(strings.TrimPrefix(answer.Header.Get("Link"), "<"+apiv1.Prefix), ">")
	answer = w.Do(t, http.MethodGet, next, w.Tokens[pki.RoleAdmin], nil, nil)
	if answer.Status != http.StatusOK || strings.Contains(string(answer.Body), "profile") || !strings.Contains(string(answer.Body), "serial") {
		t.Errorf("GET %s: %d %s", next, answer.Status, answer.Body)
	}
}
