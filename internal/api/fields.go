package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/fault"
)

// Clients say with the parameter fields which members of an answer they want. It is taken off the request before the
// operation sees that, and applied to the answer, so that no operation has to know of it.

const (
	fieldsParameter = "fields"
	// fieldsExtension has the schema that fields are selected from.
	fieldsExtension = "x-certloom-fields"
	maxFields       = 100
)

// fields is a selection: each member with what is selected of it, nil standing for all.
type fields map[string]fields

func fieldsParam() *huma.Param {
	return &huma.Param{
		Name: fieldsParameter, In: "query", Schema: &huma.Schema{Type: huma.TypeString}, Example: "serial,names.dns",
		Description: "Members to answer with, separated by commas, of each item in a list; a dot leads into a member. Absent: all.",
	}
}

// selectable returns the schema that fields are selected from, or nil: what comes is not JSON.
func selectable(registry huma.Registry, op *huma.Operation, status string) *huma.Schema {
	response := op.Responses[status]
	if op.Method != http.MethodGet || response == nil || response.Content["application/json"] == nil {
		return nil
	}
	schema := resolved(registry, response.Content["application/json"].Schema)
	if schema == nil || schema.Properties == nil {
		return nil
	}
	if items := schema.Properties["items"]; items != nil && items.Items != nil {
		return resolved(registry, items.Items)
	}
	return schema
}

func resolved(registry huma.Registry, schema *huma.Schema) *huma.Schema {
	for schema != nil && schema.Ref != "" {
		schema = registry.SchemaFromRef(schema.Ref)
	}
	return schema
}

// choose takes the parameter off a request.
func (s *Server) choose(ctx huma.Context, next func(huma.Context)) {
	request, _ := humago.Unwrap(ctx)
	schema, _ := ctx.Operation().Metadata[fieldsExtension].(*huma.Schema)
	if schema == nil || !strings.Contains(request.URL.RawQuery, fieldsParameter) {
		next(ctx)
		return
	}
	query := request.URL.Query()
	values, given := query[fieldsParameter]
	if !given {
		next(ctx)
		return
	}
	selection, err := s.readFields(schema, values)
	if err != nil {
		s.writeProblem(ctx, s.problem(ctx.Context(), err))
		return
	}
	held := heldOf(ctx)
	held.fields, held.asked = selection, query
	query = maps.Clone(query)
	query.Del(fieldsParameter)
	address := *request.URL
	address.RawQuery = query.Encode()
	request.URL = &address
	next(ctx)
}

func (s *Server) readFields(schema *huma.Schema, values []string) (fields, error) {
	var found findings
	selection := fields{}
	paths := strings.Split(strings.Join(values, ","), ",")
	if len(paths) > maxFields {
		return nil, fault.New(fault.Malformed, "fields names %d members, more than %d", len(paths), maxFields).WithField(fieldsParameter)
	}
	for _, path := range paths {
		if err := selection.add(s.api.OpenAPI().Components.Schemas, schema, strings.TrimSpace(path)); err != nil {
			found = append(found, err)
		}
	}
	return selection, found.err()
}

// add adds a path, of which each element must be known.
func (f fields) add(registry huma.Registry, schema *huma.Schema, path string) error {
	at := f
	elements := strings.Split(path, ".")
	for i, name := range elements {
		for schema != nil && schema.Type == huma.TypeArray {
			schema = resolved(registry, schema.Items)
		}
		if schema == nil || schema.Properties[name] == nil {
			return unknownField(schema, path, strings.Join(elements[:i], "."))
		}
		schema = resolved(registry, schema.Properties[name])
		below, there := at[name]
		switch {
		case there && below == nil:
			return nil // all of it is selected already
		case i == len(elements)-1:
			at[name] = nil
			return nil
		case !there:
			below = fields{}
			at[name] = below
		}
		at = below
	}
	return nil
}

func unknownField(schema *huma.Schema, path, parent string) error {
	where := "there are"
	if parent != "" {
		where = "member " + shortened(parent, 100) + " has"
	}
	choices := "none"
	if schema != nil && len(schema.Properties) > 0 {
		choices = strings.Join(slices.Sorted(maps.Keys(schema.Properties)), ", ")
	}
	return fault.New(fault.Malformed, "fields: member %.100q is not known; %s %s", path, where, choices).WithField(fieldsParameter)
}

// selectFields returns what is selected of an answer. A list's own members stay.
func selectFields(body []byte, selection fields) ([]byte, error) {
	var page map[string]json.RawMessage
	if err := json.Unmarshal(body, &page); err != nil {
		return nil, err //nolint:wrapcheck // the caller says what it is
	}
	if items, ok := page["items"]; ok {
		kept, err := selection.of(items)
		if err != nil {
			return nil, err
		}
		return marshal(struct {
			apiv1.Page[json.RawMessage]
			Items json.RawMessage `json:"items"`
			Next  json.RawMessage `json:"next,omitempty"`
		}{Items: kept, Next: page["next"]})
	}
	return selection.of(body)
}

// of returns what is selected of an object, or of each in an array.
func (f fields) of(raw json.RawMessage) (json.RawMessage, error) {
	if f == nil {
		return raw, nil
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) > 0 && raw[0] == '[' {
		var items []json.RawMessage
		if err := json.Unmarshal(raw, &items); err != nil {
			return nil, err //nolint:wrapcheck // as above
		}
		for i := range items {
			var err error
			if items[i], err = f.of(items[i]); err != nil {
				return nil, err
			}
		}
		return marshal(items)
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return raw, err //nolint:wrapcheck // as above; null stays null
	}
	for name, value := range object {
		below, selected := f[name]
		if !selected {
			delete(object, name)
			continue
		}
		kept, err := below.of(value)
		if err != nil {
			return nil, err
		}
		object[name] = kept
	}
	return marshal(object)
}

// marshal keeps characters as they are, like the rest of the API.
func marshal(value any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err //nolint:wrapcheck // as above
	}
	return b.Bytes(), nil
}
