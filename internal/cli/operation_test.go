package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// pagesOnly are operations that no command does, each with the reason; a page of the console does.
func pagesOnly() map[string]string {
	const picture = "the secret is a picture for a telephone's camera, and what belongs to it is in one place"
	return map[string]string{
		"begin-second-factor": picture, "confirm-second-factor": picture, "make-recovery-codes": picture, "disable-second-factor": picture,
	}
}

// TestEveryOperation walks the OpenAPI document: each operation has a method of the client, and a command that calls it or,
// where the reason is written above, a page of the console.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	methods := methodsOf(t)
	commands, pages := callsIn(t, "."), callsIn(t, filepath.Join("..", "console"))
	uses := func(calls map[string]bool, operation string) bool {
		return slices.ContainsFunc(methods[operation], func(method string) bool { return calls[method] })
	}
	operations := operationsOf(t)
	for operation := range operations {
		_, exempt := pagesOnly()[operation]
		switch {
		case len(methods[operation]) == 0:
			t.Errorf("operation %s has no method of apiv1.Client", operation)
		case exempt && uses(commands, operation):
			t.Errorf("operation %s has a command after all", operation)
		case exempt && !uses(pages, operation):
			t.Errorf("operation %s has neither a command nor a page", operation)
		case !exempt && !uses(commands, operation):
			t.Errorf("operation %s (%s) has no command", operation, strings.Join(methods[operation], ", "))
		}
	}
	for operation := range pagesOnly() {
		if _, ok := operations[operation]; !ok {
			t.Errorf("there is no operation %s", operation)
		}
	}
	for operation := range methods {
		if _, ok := operations[operation]; !ok {
			t.Errorf("%s calls %s, which is not documented", strings.Join(methods[operation], ", "), operation)
		}
	}
}

type route struct{ method, path string }

// operationsOf reads the document of a server.
func operationsOf(t *testing.T) map[string]route {
	t.Helper()
	w := apitest.New(t)
	var document struct {
		Paths map[string]map[string]json.RawMessage
	}
	answer := w.Do(t, http.MethodGet, "/openapi.json", "", nil, nil)
	if err := json.Unmarshal(answer.Body, &document); err != nil {
		t.Fatal(err)
	}
	operations := make(map[string]route)
	for path, item := range document.Paths {
		for method, raw := range item {
			var operation struct{ OperationID string }
			if json.Unmarshal(raw, &operation) == nil && operation.OperationID != "" {
				operations[operation.OperationID] = route{strings.ToUpper(method), path}
			}
		}
	}
	if len(operations) == 0 {
		t.Fatal("the document has no operations")
	}
	return operations
}

// seen is a transport that notes what it is handed, and sends nothing.
type seen struct{ route route }

func (s *seen) RoundTrip(r *http.Request) (*http.Response, error) {
	s.route = route{r.Method, strings.TrimPrefix(r.URL.EscapedPath(), apiv1.Prefix)}
	return nil, errors.New("nothing is sent")
}

// methodsOf calls every method of the client, and finds the operations that they ask for. Texts are placeholders of paths.
func methodsOf(t *testing.T) map[string][]string {
	t.Helper()
	const placeholder = "placeholder"
	transport := &seen{}
	client, err := apiv1.NewClient(apiv1.ClientConfig{Server: "https://server.example", HTTP: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	operations := operationsOf(t)
	methods := make(map[string][]string)
	value := reflect.ValueOf(client)
	for i := range value.NumMethod() {
		method := value.Method(i)
		in := []reflect.Value{reflect.ValueOf(context.Background())}
		for n := 1; n < method.Type().NumIn(); n++ {
			argument := reflect.New(method.Type().In(n)).Elem()
			if argument.Kind() == reflect.String {
				argument.SetString(placeholder)
			}
			in = append(in, argument)
		}
		transport.route = route{}
		method.Call(in)
		name := value.Type().Method(i).Name
		asked := transport.route.method + " " + transport.route.path
		for operation, r := range operations {
			if r.method == transport.route.method && matches(r.path, transport.route.path, placeholder) {
				asked = operation
			}
		}
		methods[asked] = append(methods[asked], name)
	}
	return methods
}

func matches(pattern, path, placeholder string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	return slices.EqualFunc(want, got, func(w, g string) bool { return w == g || strings.HasPrefix(w, "{") && g == placeholder })
}

// callsIn returns the names of the client's methods that the code in a folder calls, or hands on: api.X, v.api.X and
// (*apiv1.Client).X.
func callsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	calls := make(map[string]bool)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if selector, ok := n.(*ast.SelectorExpr); ok && isClient(selector.X) {
				calls[selector.Sel.Name] = true
			}
			return true
		})
	}
	return calls
}

func isClient(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name == "api" || x.Name == "client"
	case *ast.SelectorExpr:
		return x.Sel.Name == "api"
	case *ast.ParenExpr:
		pointer, ok := x.X.(*ast.StarExpr)
		if !ok {
			return false
		}
		selector, ok := pointer.X.(*ast.SelectorExpr)
		return ok && selector.Sel.Name == "Client"
	default:
		return false
	}
}

func TestViewSession(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	for _, line := range []string{
		"view create 'Shop in the east' --of identities --filter namespace=shop --filter cluster=east --columns name,status",
		"view create 'New today' --of certificates --filter issuedWithin=24h --shared -o yaml",
		"view create 'New today' --of profiles --filter colour=red",
		"view create 'New today' --of certificates --filter red",
		"view create 'New today'",
		"view list",
		"view list --of certificates",
		"view list --of profiles",
		"view get Lapsing",
		"view get 'Shop in the east' -o json",
		"view get nothing",
		"view update 'Shop in the east' --filter namespace=shop --name Shop",
		"view update Lapsing --shared=false",
		"view delete Shop",
		"view delete Shop",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

// TestShowSession shows one of everything that has no session of its own.
func TestShowSession(t *testing.T) {
	t.Parallel()
	d := inventory(t)
	d.file(t, "password.txt", "correct horse battery\n")
	d.run(t, "credential", "create", "--profile", "istio", "--name", "team-a", "--allow-namespace", "team-a-*", "--max-accounts", "3", "--expires", "90d")
	d.run(t, "user", "create", "ann", "--role", "operator", "--email", "ann@example.com", "--password-file", filepath.Join(d.dir, "password.txt"))
	if r := d.run(t, "connector", "istio", "--profile", "istio", "--credential", "east", "--out", filepath.Join(d.dir, "east.zip")); r.code != 0 {
		t.Fatal(r.stderr)
	}
	for _, line := range []string{
		"whoami",
		"template list",
		"template get private-server",
		"template get nothing",
		"cluster list",
		"credential get istio/team-a",
		"credential get istio/nobody",
		"user get ann",
		"user get nobody",
		"user reset-second-factor ann",
		"user change-password --old-password-file DIR/password.txt --new-password-file DIR/password.txt",
		"connector get east",
		"connector get west",
		"profile preview istio",
		"profile preview web --validity 10y -o json",
		"profile preview nothing",
		"identity export --format csv --namespace ns-0",
		"identity export --out DIR/identities.json",
		"identity export --format pem --status fine",
	} {
		d.enter(t, line)
	}
	d.check(t)
}

// TestChangedPassword: the token of the login goes on, the old password does not.
func TestChangedPassword(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := newDesk(t, w, pki.RoleAdmin)
	d.env["CERTLOOM_TOKEN_FILE"] = ""
	old, next := d.file(t, "old.txt", w.Password+"\n"), d.file(t, "new.txt", "another correct horse battery\n")
	if r := d.run(t, "login", "--user", "admin", "--password-file", old); r.code != 0 {
		t.Fatal(r.stderr)
	}
	d.env["CERTLOOM_SERVER"], d.env["CERTLOOM_CA_FILE"] = "", ""
	if r := d.run(t, "user", "change-password", "--old-password-file", next, "--new-password-file", next); r.code != 1 || !strings.Contains(r.stderr, "/old") {
		t.Errorf("with a wrong password: %+v", r)
	}
	if r := d.run(t, "user", "change-password", "--old-password-file", old, "--new-password-file", next); r.code != 0 || r.stdout != "The password is changed.\n" {
		t.Errorf("change: %+v", r)
	}
	if r := d.run(t, "whoami", "-o", "json"); r.code != 0 || !strings.Contains(r.stdout, `"user": "admin"`) {
		t.Errorf("afterwards: %+v", r)
	}
	d.env["CERTLOOM_SERVER"], d.env["CERTLOOM_CA_FILE"] = w.Server.URL, filepath.Join(d.dir, "root.pem")
	if r := d.run(t, "login", "--user", "admin", "--password-file", old); r.code != 1 {
		t.Errorf("with the old password: %+v", r)
	}
}
