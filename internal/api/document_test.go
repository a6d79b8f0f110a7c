package api_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/test/apitest"
)

//go:generate go test -count=1 -run ^TestSentences$ . -update

// TestSentences: schemas are described by the comments of their types.
func TestSentences(t *testing.T) {
	t.Parallel()
	const file = "zz_gen_sentence.json"
	sources, err := filepath.Glob(filepath.Join("..", "apiv1", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	sentences := make(map[string]string)
	for _, source := range sources {
		parsed, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declared := range parsed.Decls {
			general, ok := declared.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE || general.Doc == nil {
				continue
			}
			for _, spec := range general.Specs {
				if name := spec.(*ast.TypeSpec).Name; name.IsExported() && name.Name != "Page" {
					sentences[name.Name] = strings.Join(strings.Fields(general.Doc.Text()), " ")
				}
			}
		}
	}
	want, err := json.MarshalIndent(sentences, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s is not what the comments say; run make generate:\n%s", file, diff)
	}
}

// TestDocumentIsDescribed: nothing in the OpenAPI document leaves its reader to guess.
func TestDocumentIsDescribed(t *testing.T) {
	t.Parallel()
	type described struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	}
	var document struct {
		Tags  []described
		Paths map[string]map[string]struct {
			OperationID string
			Summary     string
			Description string
			Tags        []string
			Parameters  []described
		}
		Components struct{ Schemas map[string]described }
	}
	answer := apitest.New(t).Do(t, http.MethodGet, "/openapi.json", "", nil, nil)
	if err := json.Unmarshal(answer.Body, &document); err != nil {
		t.Fatal(err)
	}
	tags := make(map[string]bool)
	for _, tag := range document.Tags {
		tags[tag.Name] = tag.Description != ""
	}
	used := make(map[string]bool)
	for _, item := range document.Paths {
		for _, operation := range item {
			if operation.Summary == "" || operation.Description == "" {
				t.Errorf("operation %s has no summary, or nothing about who may do it", operation.OperationID)
			}
			for _, tag := range operation.Tags {
				used[tag] = true
				if !tags[tag] {
					t.Errorf("operation %s: tag %s is not described", operation.OperationID, tag)
				}
			}
			for _, parameter := range operation.Parameters {
				if parameter.Description == "" {
					t.Errorf("operation %s: parameter %s is not described", operation.OperationID, parameter.Name)
				}
			}
		}
	}
	for tag := range tags {
		if !used[tag] {
			t.Errorf("tag %s has no operation", tag)
		}
	}
	for name, schema := range document.Components.Schemas {
		if schema.Description == "" {
			t.Errorf("schema %s is not described", name)
		}
	}
}
