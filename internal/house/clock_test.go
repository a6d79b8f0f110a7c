package house_test

import (
	"go/ast"
	"strings"
	"testing"
)

// Time, randomness and the network are given to what needs them, and nothing sleeps: whatever a test wants to happen
// it makes happen. The linters say the same; this holds where they are not installed.
func TestClockAndRandomness(t *testing.T) {
	t.Parallel()
	// What only these may use, by the folders that may.
	belongs := map[string][]string{
		"time.Sleep":         nil,
		"time.Now":           {"cmd/", "internal/telemetry/", "internal/api/export.go"}, // sockets know no other clock
		"time.Since":         {"internal/telemetry/"},
		"time.Until":         nil,
		"rand.Reader":        {"cmd/", "internal/server/", "internal/keys/", "internal/cli/"},
		"rand.Read":          nil,
		"rand.Text":          nil,
		"net.Listen":         nil,
		"http.Get":           nil,
		"http.Post":          nil,
		"http.DefaultClient": nil,
	}
	for _, s := range sources(t) {
		product := !s.test() && (strings.HasPrefix(s.path, "internal/") || strings.HasPrefix(s.path, "cmd/")) && !forTests(s.path)
		ast.Inspect(s.syntax, func(node ast.Node) bool {
			selector, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			name, ok := selector.X.(*ast.Ident)
			if !ok || name.Obj != nil {
				return true
			}
			used := name.Name + "." + selector.Sel.Name
			if places, ruled := belongs[used]; ruled && (product || used == "time.Sleep") && !within(s.path, places) {
				t.Errorf("%s: %s does not belong here", s.at(node), used)
			}
			return true
		})
	}
}

// forTests reports whether a file is part of what only tests import, or of a program for developers.
func forTests(path string) bool {
	return within(path, []string{"internal/testca/", "internal/acme/acmetest/", "internal/store/storetest/"}) || strings.Contains(path, "/gen/")
}

func within(path string, places []string) bool {
	for _, place := range places {
		if strings.HasPrefix(path, place) {
			return true
		}
	}
	return false
}
