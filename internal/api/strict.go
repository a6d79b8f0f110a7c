package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certloom/certloom/internal/fault"
)

// exactMembers refuses what the framework and encoding/json let through: members whose names differ from ours in case
// only, and members that are there twice. Two readers of such a body could see two requests in it. The body has passed
// validation, so it is JSON.
func exactMembers(registry huma.Registry, t reflect.Type, raw []byte) error {
	walk := memberWalk{registry: registry, decoder: json.NewDecoder(bytes.NewReader(raw))}
	if err := walk.value(registry.Schema(t, true, ""), ""); err != nil && !errors.Is(err, io.EOF) {
		return fault.Wrap(err, fault.Malformed, "body is not JSON")
	}
	return errors.Join(walk.found...)
}

type memberWalk struct {
	registry huma.Registry
	decoder  *json.Decoder
	found    []error
}

func (w *memberWalk) next() (json.Token, error) {
	token, err := w.decoder.Token()
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	return token, nil
}

func (w *memberWalk) value(schema *huma.Schema, at string) error {
	for schema != nil && schema.Ref != "" {
		schema = w.registry.SchemaFromRef(schema.Ref)
	}
	token, err := w.next()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		return w.object(schema, at)
	case json.Delim('['):
		return w.array(schema, at)
	}
	return nil
}

func (w *memberWalk) object(schema *huma.Schema, at string) error {
	seen := map[string]bool{}
	for w.decoder.More() {
		token, err := w.next()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		pointer := at + "/" + pointerName(name)
		var member *huma.Schema
		if schema != nil {
			member = schema.Properties[name]
			anyName, isMap := schema.AdditionalProperties.(*huma.Schema)
			switch {
			case member == nil && isMap:
				member = anyName
			case member == nil:
				w.found = append(w.found, fault.New(fault.Malformed, "member %.100q is not known", name).WithField(pointer))
			}
		}
		if seen[name] {
			w.found = append(w.found, fault.New(fault.Malformed, "member %.100q is there twice", name).WithField(pointer))
		}
		seen[name] = true
		if err := w.value(member, pointer); err != nil {
			return err
		}
	}
	_, err := w.next() // the closing brace
	return err
}

// pointerName is a member's name in a JSON pointer (RFC 6901 section 3), cut where no name of ours is so long.
func pointerName(name string) string {
	const most = 100
	if len(name) > most {
		name = strings.ToValidUTF8(name[:most], "") + "..."
	}
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

func (w *memberWalk) array(schema *huma.Schema, at string) error {
	var items *huma.Schema
	if schema != nil {
		items = schema.Items
	}
	for i := 0; w.decoder.More(); i++ {
		if err := w.value(items, fmt.Sprintf("%s/%d", at, i)); err != nil {
			return err
		}
	}
	_, err := w.next() // the closing bracket
	return err
}
