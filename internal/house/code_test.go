package house_test

import (
	"go/ast"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A file that does not fit into a reader's head is split.
func TestFileLength(t *testing.T) {
	t.Parallel()
	limits := map[string]int{}
	for _, s := range sources(t) {
		limits[s.path] = 500
		if strings.HasPrefix(s.path, "cmd/") && path.Base(s.path) == "main.go" {
			limits[s.path] = 100 // flags → one call; everything else is testable elsewhere
		}
	}
	limits["README.md"] = 150
	for file, limit := range limits {
		if n := lines(read(t, file)); n > limit {
			t.Errorf("%s has %d lines, more than %d", file, n, limit)
		}
	}
}

// Every package says what it owns, what it must never do, what it trusts.
func TestPackageComment(t *testing.T) {
	t.Parallel()
	commented := map[string]bool{}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		folder := path.Dir(s.path)
		commented[folder] = commented[folder] || s.syntax.Doc != nil && len(s.syntax.Doc.Text()) > 40
	}
	for folder, ok := range commented {
		if !ok {
			t.Errorf("%s: no file has a package comment", folder)
		}
	}
}

// A package that the layout does not name has no sentence of its own.
func TestLayout(t *testing.T) {
	t.Parallel()
	layout := read(t, "docs/design/layout.md")
	seen := map[string]bool{}
	for _, s := range sources(t) {
		folder := path.Dir(s.path)
		ours := strings.HasPrefix(folder, "internal/") || strings.HasPrefix(folder, "cmd/")
		if ours && !seen[folder] && path.Base(folder) != "gen" && !strings.Contains(layout, "`"+folder+"`") {
			t.Errorf("docs/design/layout.md does not name %s", folder)
		}
		seen[folder] = true
	}
}

// An open end without an issue is forgotten.
func TestTODO(t *testing.T) {
	t.Parallel()
	open := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X)\b(\(#\d+\))?`)
	for _, file := range files(t, ".go", ".sh", ".md", ".yml", ".yaml", ".sql", "Makefile", ".ci/run") {
		if file == "CONTRIBUTING.md" {
			continue // explains the rule
		}
		text := read(t, file)
		for _, at := range open.FindAllStringSubmatchIndex(text, -1) {
			if at[4] < 0 {
				t.Errorf("%s:%d: %s without an issue number", file, lines(text[:at[0]]), text[at[2]:at[3]])
			}
		}
	}
}

// A parser of bytes from outside is fuzzed from real examples, not from nothing.
func TestFuzzCorpus(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if !s.test() {
			continue
		}
		for _, declaration := range s.syntax.Decls {
			target, ok := declaration.(*ast.FuncDecl)
			if !ok || target.Recv != nil || !strings.HasPrefix(target.Name.Name, "Fuzz") {
				continue
			}
			kept, err := filepath.Glob(filepath.Join(root, path.Dir(s.path), "testdata", "fuzz", target.Name.Name, "*"))
			if err != nil {
				t.Fatal(err)
			}
			if len(kept) == 0 && !calls(target.Body, "Add") {
				t.Errorf("%s: %s has neither testdata/fuzz/%[2]s nor f.Add", s.at(target), target.Name.Name)
			}
		}
	}
}

func calls(body ast.Node, method string) bool {
	found := false
	ast.Inspect(body, func(node ast.Node) bool {
		if selector, ok := node.(*ast.SelectorExpr); ok && selector.Sel.Name == method {
			found = true
		}
		return !found
	})
	return found
}

// Errors are found by type or value; their text is for people and changes.
func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		ast.Inspect(s.syntax, func(node ast.Node) bool {
			for _, part := range matchedParts(node) {
				if isErrorText(part) {
					t.Errorf("%s: matches on the text of an error; use errors.Is, errors.AsType or fault.Is", s.at(node))
				}
			}
			return true
		})
	}
}

// matchedParts returns what a comparison, switch or call of package strings, bytes or regexp looks at.
func matchedParts(node ast.Node) []ast.Expr {
	switch node := node.(type) {
	case *ast.BinaryExpr:
		if node.Op == token.EQL || node.Op == token.NEQ {
			return []ast.Expr{node.X, node.Y}
		}
	case *ast.SwitchStmt:
		return []ast.Expr{node.Tag}
	case *ast.CallExpr:
		selector, ok := node.Fun.(*ast.SelectorExpr)
		if !ok {
			return nil
		}
		for _, matcher := range []string{"Contains", "HasPrefix", "HasSuffix", "EqualFold", "Index", "Cut", "MatchString"} {
			if strings.HasPrefix(selector.Sel.Name, matcher) {
				return node.Args
			}
		}
	}
	return nil
}

// isErrorText recognizes x.Error() of no arguments, also inside strings.ToLower and the like.
func isErrorText(expression ast.Expr) bool {
	call, ok := expression.(*ast.CallExpr)
	if !ok {
		return false
	}
	if selector, ok := call.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "Error" && len(call.Args) == 0 {
		return true
	}
	for _, argument := range call.Args {
		if isErrorText(argument) {
			return true
		}
	}
	return false
}

// The agent runs in other people's clusters; what it cannot link, it cannot leak.
func TestAgentLinksNoCA(t *testing.T) {
	t.Parallel()
	const module = "github.com/certloom/certloom/"
	const agent = "cmd/certloom-agent"
	if _, err := os.Stat(filepath.Join(root, agent)); err != nil {
		return // this release has no agent
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "./"+agent)
	list.Dir = root
	output, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := regexp.MustCompile(`^internal/(acmeclient|agent|agentapi|pki|fault|telemetry|group|csr|goodkey)(/|$)`)
	for line := range strings.Lines(string(output)) {
		name, ours := strings.CutPrefix(strings.TrimSpace(line), module)
		if ours && name != agent && !allowed.MatchString(name) {
			t.Errorf("%s links %s", agent, name)
		}
	}
}
