package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/certloom/certloom/internal/apiv1"
)

// document is the server's OpenAPI document, by which its answers are judged: clients are generated of it, and break when
// an answer is not as it says. It is safe for concurrent use.
type document struct {
	handler http.Handler // of the API
	once    sync.Once    // reads it, when the first answer is judged
	failed  error

	paths map[string]map[string]documented

	mu       sync.Mutex // guards the rest
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // that are compiled, by their places
}

type documented struct {
	OperationID string
	Responses   map[string]struct {
		Content map[string]struct{ Schema json.RawMessage }
	}
}

// judge hands requests on and reports answers that the document does not allow.
func (d *document) judge(t testing.TB, next http.Handler) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked := route{r.Method, r.URL.EscapedPath(), r.URL.Query().Has("fields")} // before the server takes parameters off
		answer := &copied{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(answer, r) // a panic is the handler's way to break an answer off; there is nothing to judge then
		if err := d.check(asked, answer); err != nil {
			t.Errorf("%s %s is answered with what the OpenAPI document does not allow: %v", r.Method, r.URL.Path, err)
		}
	})
}

// copied keeps a copy of an answer.
type copied struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (c *copied) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *copied) Write(p []byte) (int, error) {
	c.body.Write(p)
	return c.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (c *copied) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// route is what a request was for.
type route struct {
	method, path string
	selects      bool // members are missing in the answer that are not wanted
}

func (d *document) check(asked route, answer *copied) error {
	path, ours := strings.CutPrefix(asked.path, apiv1.Prefix)
	kind, _, _ := mime.ParseMediaType(answer.Header().Get("Content-Type"))
	refused := answer.status >= http.StatusBadRequest
	switch {
	case !ours || path == "/openapi.json" || asked.method == http.MethodHead || asked.method == http.MethodOptions:
		return nil
	case answer.Header().Get("Content-Encoding") != "" || asked.selects && !refused:
		return nil
	}
	d.once.Do(func() { d.failed = d.read() })
	if d.failed != nil {
		return d.failed
	}
	pattern, operation, ok := d.operation(asked.method, path)
	if !ok {
		if answer.status < http.StatusMultipleChoices {
			return fmt.Errorf("no operation has this path: status %d", answer.status)
		}
		return nil
	}
	status := strconv.Itoa(answer.status)
	response, ok := operation.Responses[status]
	if !ok {
		status = status[:1] + "XX"
		if response, ok = operation.Responses[status]; !ok {
			return fmt.Errorf("operation %s has no status %d", operation.OperationID, answer.status)
		}
	}
	if len(response.Content) == 0 && answer.body.Len() == 0 {
		return nil
	}
	if _, ok := response.Content[kind]; !ok {
		return fmt.Errorf("operation %s, status %s, has no media type %q", operation.OperationID, status, kind)
	}
	if !strings.HasSuffix(kind, "json") {
		return nil
	}
	return d.validate([]string{"paths", pattern, strings.ToLower(asked.method), "responses", status, "content", kind, "schema"}, answer.body.Bytes())
}

// read gets the document.
func (d *document) read() error {
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, apiv1.Prefix+"/openapi.json", nil))
	raw := w.Body.Bytes()
	var parsed struct {
		Paths map[string]map[string]documented
	}
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return fmt.Errorf("read OpenAPI document: %w", err)
	}
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("read OpenAPI document: %w", err)
	}
	d.paths, d.compiler, d.schemas = parsed.Paths, jsonschema.NewCompiler(), make(map[string]*jsonschema.Schema)
	d.compiler.DefaultDraft(jsonschema.Draft2020) // that of OpenAPI 3.1
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.json", whole); err != nil {
		return fmt.Errorf("read OpenAPI document: %w", err)
	}
	return nil
}

// operation finds the operation of a path; words of a pattern win over its parameters.
func (d *document) operation(method, path string) (pattern string, found documented, ok bool) {
	given, words := strings.Split(path, "/"), -1
	for candidate, item := range d.paths {
		operation, there := item[strings.ToLower(method)]
		parts, same := strings.Split(candidate, "/"), 0
		fits := slices.EqualFunc(parts, given, func(want, got string) bool {
			if want == got {
				same++
			}
			return want == got || strings.HasPrefix(want, "{")
		})
		if there && fits && same > words {
			pattern, found, ok, words = candidate, operation, true, same
		}
	}
	return pattern, found, ok
}

func (d *document) validate(pointer []string, body []byte) error {
	for i, word := range pointer {
		pointer[i] = strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(word)
	}
	schema, err := d.schema("openapi.json#/" + strings.Join(pointer, "/"))
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("body is no JSON: %w", err)
	}
	if err := schema.Validate(value); err != nil {
		return fmt.Errorf("%w\n%.2000s", err, body)
	}
	return nil
}

func (d *document) schema(where string) (*jsonschema.Schema, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if known := d.schemas[where]; known != nil {
		return known, nil
	}
	made, err := d.compiler.Compile(where)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	d.schemas[where] = made
	return made, nil
}
