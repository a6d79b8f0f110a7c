package audit_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// constants returns the values of the constants of a type, by name, as the source has them: the sets are closed by
// what is written there.
func constants(t *testing.T, typeName string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if named, ok := spec.Type.(*ast.Ident); ok && named.Name == typeName {
			literal, ok := spec.Values[0].(*ast.BasicLit)
			if !ok {
				t.Fatalf("%s is no literal", spec.Names[0].Name)
			}
			if values[spec.Names[0].Name], err = strconv.Unquote(literal.Value); err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	if len(values) == 0 {
		t.Fatalf("no constants of type %s", typeName)
	}
	return values
}

// Rows are searched by action, by prefix too, so each has the form object.verb, and none means two things.
func TestActions(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[a-z]+\.[a-z]+(-[a-z]+)*$`)
	for _, kind := range []string{"Action", "ActorKind", "Outcome"} {
		names := map[string]string{}
		for name, value := range constants(t, kind) {
			if kind == "Action" && !form.MatchString(value) {
				t.Errorf("%s is %q, not object.verb", name, value)
			}
			if other, twice := names[value]; twice || value == "" {
				t.Errorf("%s and %s are both %q", name, other, value)
			}
			names[value] = name
		}
	}
}

// What does not apply is left out of a row, and what applies comes back.
func TestDetailJSON(t *testing.T) {
	t.Parallel()
	raw, err := json.Marshal(audit.Detail{})
	if err != nil || string(raw) != "{}" {
		t.Errorf("empty detail is %s, %v", raw, err)
	}
	full := audit.Detail{
		Reason: "no", Profile: "p", Credential: "c", Account: "a", Order: "o", CSRHash: "00ff", Serial: "01",
		Names:   &pki.Names{URIs: []string{"spiffe://td/ns/a/sa/b"}, DNS: []string{"a.example"}, IPs: []string{"192.0.2.1"}},
		Changes: []audit.Change{{Field: "/rules/maxNames", Old: "1", New: "2"}, {Field: "/state"}},
	}
	raw, err = json.Marshal(full)
	if err != nil {
		t.Fatal(err)
	}
	var again audit.Detail
	if err := json.Unmarshal(raw, &again); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(full, again); diff != "" {
		t.Errorf("detail (-want +got):\n%s", diff)
	}
}
