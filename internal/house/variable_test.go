package house_test

import (
	"go/ast"
	"go/token"
	"path"
	"strings"
	"testing"
)

// A package variable may be a table, an error or a compiled pattern; what changes has an owner that New made. So no
// function assigns to one, takes its address, or deletes from it, and none is made to be changed.
func TestPackageVariables(t *testing.T) {
	t.Parallel()
	byPackage := map[string][]source{}
	for _, s := range sources(t) {
		folder := path.Dir(s.path)
		if !s.test() && !strings.HasPrefix(folder, "test/") {
			byPackage[folder] = append(byPackage[folder], s)
		}
	}
	for _, files := range byPackage {
		variables := map[string]*ast.ValueSpec{}
		for _, s := range files {
			collectVariables(t, s, variables)
		}
		for _, s := range files {
			ast.Inspect(s.syntax, func(node ast.Node) bool {
				for _, changed := range changedExpressions(node) {
					name := baseName(changed)
					if spec := variables[nameOf(name)]; spec != nil && isPackageLevel(name, spec) {
						t.Errorf("%s: changes the package variable %s", s.at(node), name.Name)
					}
				}
				return true
			})
		}
	}
}

// collectVariables adds the package variables of one file, and complains about those that can only be there to be
// changed: declared without a value, or of a type from package sync. The variable that the linker stamps (main's
// version) and embedded files have values that no code gives them.
func collectVariables(t *testing.T, s source, variables map[string]*ast.ValueSpec) {
	t.Helper()
	for _, declaration := range s.syntax.Decls {
		group, ok := declaration.(*ast.GenDecl)
		if !ok || group.Tok != token.VAR {
			continue
		}
		embedded := group.Doc != nil && strings.Contains(commentText(group.Doc), "go:embed")
		for _, spec := range group.Specs {
			value, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			embedded := embedded || value.Doc != nil && strings.Contains(commentText(value.Doc), "go:embed")
			for _, name := range value.Names {
				if name.Name == "_" {
					continue
				}
				variables[name.Name] = value
				if len(value.Values) == 0 && !embedded {
					t.Errorf("%s: the package variable %s has no value, so something must change it", s.at(name), name.Name)
				}
			}
		}
	}
}

// commentText keeps directives, which CommentGroup.Text drops.
func commentText(group *ast.CommentGroup) string {
	var text strings.Builder
	for _, comment := range group.List {
		text.WriteString(comment.Text + "\n")
	}
	return text.String()
}

func changedExpressions(node ast.Node) []ast.Expr {
	switch node := node.(type) {
	case *ast.AssignStmt:
		if node.Tok != token.DEFINE {
			return node.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{node.X}
	case *ast.UnaryExpr:
		if node.Op == token.AND {
			return []ast.Expr{node.X}
		}
	case *ast.CallExpr:
		if name, ok := node.Fun.(*ast.Ident); ok && (name.Name == "delete" || name.Name == "clear") {
			return node.Args[:1]
		}
	}
	return nil
}

// baseName returns the variable of x, x.field, x[i] and *x, nil for anything else.
func baseName(expression ast.Expr) *ast.Ident {
	for {
		switch e := expression.(type) {
		case *ast.Ident:
			return e
		case *ast.SelectorExpr:
			expression = e.X
		case *ast.IndexExpr:
			expression = e.X
		case *ast.StarExpr:
			expression = e.X
		case *ast.ParenExpr:
			expression = e.X
		default:
			return nil
		}
	}
}

func nameOf(name *ast.Ident) string {
	if name == nil {
		return ""
	}
	return name.Name
}

// isPackageLevel tells a package variable from a local one of the same name: the parser resolves names within a
// file, and leaves those of other files open.
func isPackageLevel(name *ast.Ident, spec *ast.ValueSpec) bool {
	return name.Obj == nil || name.Obj.Decl == spec
}
