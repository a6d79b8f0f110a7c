package api_test

import (
	"flag"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

var update = flag.Bool("update", false, "write generated files instead of comparing them")

// rolesPage is the document that says what each role may do; its table is written by this test.
const rolesPage = "../../docs/reference/roles.md"

// tableOf is the table of the page: an operation a line, with its access, and a column for each role.
func tableOf(d document) string {
	var b strings.Builder
	b.WriteString("| operation | access |")
	for _, role := range auth.Roles() {
		b.WriteString(" " + string(role) + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(auth.Roles())) + "\n")
	var lines []string
	for path, methods := range d.Paths {
		for method, route := range methods {
			line := "| `" + strings.ToUpper(method) + " " + path + "` | " + route.Access + " |"
			if route.Access == "" {
				line = "| `" + strings.ToUpper(method) + " " + path + "` | everybody |"
			}
			for _, role := range auth.Roles() {
				line += " " + mark(role, route.Access) + " |"
			}
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "\n") + "\n")
	return b.String()
}

// mark says what a role may do, in a word.
func mark(role pki.Role, access string) string {
	switch {
	case access != "" && !auth.Allows(role, auth.Access(access)):
		return "–"
	case role == pki.RoleNamespaceViewer && access == string(auth.Inventory):
		return "what it sees"
	case role == pki.RoleRequester && access == string(auth.Request):
		return "its profile"
	default:
		return "yes"
	}
}

// TestRolesPage compares the page with the operations that there are. Run it with -update after adding one.
func TestRolesPage(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- table: written by a test -->\n", "<!-- end of table -->"
	raw, err := os.ReadFile(rolesPage)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(raw), begin)
	got, after, both := strings.Cut(rest, end)
	if !ok || !both {
		t.Fatalf("%s has no place for the table", rolesPage)
	}
	want := tableOf(describe(t, apitest.New(t)))
	if *update {
		if err := os.WriteFile(rolesPage, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what the server does; run this test with -update (-want +got):\n%s", rolesPage, diff)
	}
}

// TestRoles sends a request of every operation with every role, and of nobody, and compares what becomes of it with
// the table of the page. What is asked for does not exist or is not well-formed, so that nothing changes; the question
// is who is let through to find out.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	raw, err := os.ReadFile(rolesPage)
	if err != nil {
		t.Fatal(err)
	}
	rows := tableRows(string(raw))
	for path, methods := range describe(t, w).Paths {
		for method, route := range methods {
			method, target := strings.ToUpper(method), filled(path)
			row := rows["`"+method+" "+path+"`"]
			if len(row) != len(auth.Roles())+1 {
				t.Errorf("%s %s has no row in %s", method, path, rolesPage)
				continue
			}
			for i, role := range auth.Roles() {
				want := row[i+1] != "–"
				answer := w.Do(t, method, target, w.Tokens[role], emptyBody(route), nil)
				allowed := answer.Status != http.StatusUnauthorized && answer.Status != http.StatusForbidden
				if byToken := path == "/self/password" && answer.Status == http.StatusForbidden; allowed != want && !byToken {
					t.Errorf("%s %s as %s: status %d, allowed should be %t", method, target, role, answer.Status, want)
				}
				if !want && answer.Problem.Type != "urn:certloom:problem:not-allowed" {
					t.Errorf("%s %s as %s: problem %+v", method, target, role, answer.Problem)
				}
			}
			if answer := w.Do(t, method, target, "", emptyBody(route), nil); (answer.Status == http.StatusUnauthorized) != (row[0] != "everybody") {
				t.Errorf("%s %s as nobody: status %d", method, target, answer.Status)
			}
		}
	}
}

// tableRows are the cells of the page's table after the first, by the first.
func tableRows(page string) map[string][]string {
	rows := make(map[string][]string)
	for line := range strings.Lines(page) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows[cells[0]] = cells[1:]
	}
	return rows
}

// TestNamespaceViewerSeesItsOwn finds that what a namespace viewer does not see is not there for it.
func TestNamespaceViewerSeesItsOwn(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ids := map[string]string{"own": "spiffe://cluster.local/ns/shop/sa/web", "other": "spiffe://cluster.local/ns/bank/sa/web", "near": "spiffe://cluster.local/ns/shop2/sa/web"}
	serials := map[string]string{}
	for name, id := range ids {
		serials[name] = string(w.Issue(t, "ci", testca.Request{URIs: []string{id}}).Serial)
	}
	token := w.Tokens[pki.RoleNamespaceViewer]
	for _, path := range []string{"/certificates", "/identities", "/certificates/export?format=csv", "/certificates?profile=ci", "/identities?namespace=bank", "/certificates?status=valid"} {
		answer := w.Do(t, http.MethodGet, path, token, nil, nil)
		body := string(answer.Body)
		if answer.Status != http.StatusOK || strings.Contains(body, ids["other"]) || strings.Contains(body, ids["near"]) {
			t.Errorf("%s: %d %s", path, answer.Status, body)
		}
		if seen := strings.Contains(body, ids["own"]); seen == strings.Contains(path, "bank") {
			t.Errorf("%s shows what it sees: %t", path, seen)
		}
	}
	for name, status := range map[string]int{"own": http.StatusOK, "other": http.StatusNotFound, "near": http.StatusNotFound} {
		for _, suffix := range []string{"", "/pem"} {
			if answer := w.Do(t, http.MethodGet, "/certificates/"+serials[name]+suffix, token, nil, nil); answer.Status != status {
				t.Errorf("certificate %s%s: %d, want %d", name, suffix, answer.Status, status)
			}
		}
	}
}
