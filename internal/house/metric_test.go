package house_test

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Whoever writes an alert looks the name up, and whoever renames a metric breaks that alert.
func TestMetricsListed(t *testing.T) {
	t.Parallel()
	registered := map[string]string{}
	for _, s := range sources(t) {
		if s.test() || !strings.HasPrefix(s.path, "internal/") {
			continue
		}
		ast.Inspect(s.syntax, func(node ast.Node) bool {
			if name := metricName(node); name != "" {
				registered[name] = s.at(node)
			}
			return true
		})
	}
	if len(registered) == 0 {
		t.Fatal("found no metric in the source")
	}
	var listed []string
	for _, match := range regexp.MustCompile("(?m)^\\| `(certloom_[a-z0-9_]+)").FindAllStringSubmatch(read(t, "docs/reference/metrics.md"), -1) {
		listed = append(listed, match[1])
	}
	for name, place := range registered {
		if !slices.Contains(listed, name) {
			t.Errorf("%s: docs/reference/metrics.md does not list %s", place, name)
		}
	}
	for _, name := range listed {
		if registered[name] == "" {
			t.Errorf("docs/reference/metrics.md lists %s, which nothing registers", name)
		}
	}
}

// metricName returns the name in a composite literal of prometheus options (a Name beside a Help), or the first
// argument of prometheus.NewDesc or BuildFQName.
func metricName(node ast.Node) string {
	switch node := node.(type) {
	case *ast.CompositeLit:
		fields := map[string]string{}
		for _, element := range node.Elts {
			if pair, ok := element.(*ast.KeyValueExpr); ok {
				if key, ok := pair.Key.(*ast.Ident); ok {
					fields[key.Name] = literal(pair.Value)
				}
			}
		}
		if _, ok := fields["Help"]; !ok || fields["Name"] == "" {
			return ""
		}
		parts := slices.DeleteFunc([]string{fields["Namespace"], fields["Subsystem"], fields["Name"]}, func(s string) bool { return s == "" })
		return strings.Join(parts, "_")
	case *ast.CallExpr:
		if selector, ok := node.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "NewDesc" && len(node.Args) > 0 {
			return literal(node.Args[0])
		}
	}
	return ""
}

func literal(expression ast.Expr) string {
	if basic, ok := expression.(*ast.BasicLit); ok && basic.Kind == token.STRING {
		if value, err := strconv.Unquote(basic.Value); err == nil {
			return value
		}
	}
	return ""
}
