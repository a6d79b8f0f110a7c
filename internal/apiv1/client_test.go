package apiv1_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
)

func TestRefusesServers(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]apiv1.ClientConfig{
		"refuses/empty":           {},
		"refuses/no-scheme":       {Server: "ca.example"},
		"refuses/http":            {Server: "http://ca.example"},
		"refuses/user":            {Server: "https://ann:secret@ca.example"},
		"refuses/query":           {Server: "https://ca.example?x=1"},
		"refuses/token-two-lines": {Server: "https://ca.example", Token: "clt_a\nclt_b"},
	} {
		config.HTTP = http.DefaultClient
		if _, err := apiv1.NewClient(config); err == nil || strings.Contains(err.Error(), "clt_") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := apiv1.NewClient(apiv1.ClientConfig{Server: "https://ca.example"}); err == nil {
		t.Error("without an HTTP client: accepted")
	}
}

func TestProblemsTellAll(t *testing.T) {
	t.Parallel()
	for want, problem := range map[string]apiv1.Problem{
		"no":                                     {Detail: "no"},
		"name is bad (/name)":                    {Detail: "name is bad", Errors: []apiv1.ProblemError{{Pointer: "/name", Detail: "name is bad"}}},
		"serial is bad":                          {Detail: "serial is bad", Errors: []apiv1.ProblemError{{Parameter: "serial", Detail: "serial is bad"}}},
		"2 things are wrong:\n  /a: x\n  b: y":   {Detail: "2 things are wrong; the first: x", Errors: []apiv1.ProblemError{{Pointer: "/a", Detail: "x"}, {Parameter: "b", Detail: "y"}}},
		"2 things are wrong:\n  one\n  /b: more": {Detail: "2 things are wrong; the first: one", Errors: []apiv1.ProblemError{{Detail: "one"}, {Pointer: "/b", Detail: "more"}}},
	} {
		if got := problem.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestPathsAreEscaped asks for names that would change the path.
func TestPathsAreEscaped(t *testing.T) {
	t.Parallel()
	var asked []string
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.EscapedPath()+"?"+r.URL.RawQuery)
		fmt.Fprint(w, `{}`)
	}))
	t.Cleanup(server.Close)
	client, err := apiv1.NewClient(apiv1.ClientConfig{Server: server.URL + "/", HTTP: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	_, err1 := client.Profile(ctx, "../cas/root")
	_, err2 := client.Identity(ctx, "spiffe://a/ns/b/sa/c")
	_, err3 := client.Credentials(ctx, "a&b=c")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/api/v1/profiles/..%2Fcas%2Froot?", "/api/v1/identities/spiffe:%2F%2Fa%2Fns%2Fb%2Fsa%2Fc?", "/api/v1/credentials?limit=1000&profile=a%26b%3Dc",
	}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("paths (-want +got):\n%s", diff)
	}
}

func TestAllStopsAtTheEndAndAtErrors(t *testing.T) {
	t.Parallel()
	pages := map[string]*apiv1.Page[int]{"": {Items: []int{1, 2}, Next: "2"}, "2": {Items: []int{3}, Next: "3"}, "3": {}}
	list := func(after string) (*apiv1.Page[int], error) { return pages[after], nil }
	var got []int
	if err := apiv1.All(list, func(i int) error { got = append(got, i); return nil }); err != nil || len(got) != 3 {
		t.Errorf("items %v, %v", got, err)
	}
	enough := errors.New("enough")
	if err := apiv1.All(list, func(int) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("error %v", err)
	}
}
