package house_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// root is the top of the repository, seen from this package's folder, where tests run.
const root = "../.."

// skipped folders hold nothing that we wrote.
func skipped(name string) bool {
	switch name {
	case ".git", "bin", "certloom-data", "testdata", "node_modules", "static":
		return true
	}
	return false
}

// files returns the slash-separated paths below root of all files with one of the endings.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if path != root && skipped(entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		for _, ending := range endings {
			if strings.HasSuffix(path, ending) {
				relative, err := filepath.Rel(root, path)
				if err != nil {
					return err
				}
				found = append(found, filepath.ToSlash(relative))
				break
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) == 0 {
		t.Fatalf("no file ends in %v", endings)
	}
	return found
}

// read returns the text of a file below root.
func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// lines counts as editors do: a last line without a newline is a line.
func lines(text string) int {
	return strings.Count(strings.TrimSuffix(text, "\n")+"\n", "\n")
}

// source is one parsed Go file.
type source struct {
	path   string
	syntax *ast.File
	tokens *token.FileSet
	text   string
}

// at says where a node is.
func (s source) at(node ast.Node) string {
	position := s.tokens.Position(node.Pos())
	position.Filename = s.path
	return position.String()
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// sources returns every Go file that people write, of all modules, parsed. The files are shared: tests only read them.
func sources(t *testing.T) []source {
	t.Helper()
	parseOnce.Do(func() {
		for _, path := range files(t, ".go") {
			text := read(t, path)
			tokens := token.NewFileSet()
			syntax, err := parser.ParseFile(tokens, path, text, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if !ast.IsGenerated(syntax) {
				parsed = append(parsed, source{path, syntax, tokens, text})
			}
		}
	})
	return parsed
}

// Parsing takes most of the time of these tests, so it is done once.
var (
	parseOnce sync.Once
	parsed    []source
)
