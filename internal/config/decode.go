package config

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decode reads settings that were not checked yet. Each key is read by itself, into the defaults: the library would stop
// at the first mistake, often without saying which key it is of, and would clear what an empty section leaves out. The
// settings are nil only if the file is no YAML; otherwise they hold what could be read, so that it can be checked too.
func decode(raw []byte, dir string) (*Config, error) {
	file, err := parser.ParseBytes(raw, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return nil, fmt.Errorf("%s", yaml.FormatError(err, false, true))
	}
	if len(file.Docs) > 1 {
		return nil, errors.New("there is more than one YAML document in the file; one is wanted")
	}
	c, r := Default(), reader{}
	if len(file.Docs) == 1 {
		r.section("", file.Docs[0].Body, reflect.ValueOf(&c).Elem())
	}
	c.resolve(dir)
	return &c, errors.Join(r.problems...)
}

// reader fills settings from a YAML document and collects what cannot be read.
type reader struct {
	problems findings
}

// section reads a mapping into a struct whose fields have yaml tags.
func (r *reader) section(name string, node ast.Node, into reflect.Value) {
	if empty(node) {
		return
	}
	mapping, ok := node.(ast.MapNode)
	if !ok {
		r.refuse(name, node, "%sis not a mapping of settings", quote(node))
		return
	}
	seen := map[string]bool{}
	for entry := mapping.MapRange(); entry.Next(); {
		key := entry.Key().String()
		setting := key
		if name != "" {
			setting = name + "." + key
		}
		field, known := fieldOf(into, key)
		switch {
		case !known:
			r.refuse(setting, entry.Key(), "is not a setting")
		case seen[key]:
			r.refuse(setting, entry.Key(), "is given twice")
		case field.Kind() == reflect.Struct:
			r.section(setting, entry.Value(), field)
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			r.sections(setting, entry.Value(), field)
		default:
			r.value(setting, entry.Value(), field)
		}
		seen[key] = true
	}
}

// sections reads a list of mappings into a list of structs.
func (r *reader) sections(name string, node ast.Node, into reflect.Value) {
	if empty(node) {
		return
	}
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		r.refuse(name, node, "%sis not a list of mappings", quote(node))
		return
	}
	entries := reflect.MakeSlice(into.Type(), len(list.Values), len(list.Values))
	for i, value := range list.Values {
		r.section(fmt.Sprintf("%s[%d]", name, i), value, entries.Index(i))
	}
	into.Set(entries)
}

// value reads one setting.
func (r *reader) value(setting string, node ast.Node, into reflect.Value) {
	if empty(node) {
		return
	}
	switch node.(type) {
	case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode:
		r.refuse(setting, node, "is an anchor, alias or tag of YAML; write the value itself")
		return
	}
	err := yaml.NodeToValue(node, into.Addr().Interface())
	if err == nil {
		return
	}
	if text, ok := into.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if scalar, isScalar := node.(ast.ScalarNode); isScalar {
			err = text.UnmarshalText([]byte(fmt.Sprint(scalar.GetValue())))
		}
		r.refuse(setting, node, "%v", err)
		return
	}
	wanted := map[reflect.Kind]string{
		reflect.String: "is not a text", reflect.Int: "is not a whole number", reflect.Bool: "is neither true nor false", reflect.Slice: "is not a list of texts",
	}
	r.refuse(setting, node, "%s%s", quote(node), wanted[into.Kind()])
}

// refuse notes a problem, with the line that it is in.
func (r *reader) refuse(setting string, node ast.Node, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	if setting == "" {
		message = "the file " + message
	} else {
		message = setting + ": " + message
	}
	if token := node.GetToken(); token != nil && token.Position != nil {
		message += fmt.Sprintf(" (line %d)", token.Position.Line)
	}
	r.problems = append(r.problems, errors.New(message))
}

// fieldOf returns the field of a struct that a key sets.
func fieldOf(into reflect.Value, key string) (reflect.Value, bool) {
	for i := range into.NumField() {
		if into.Type().Field(i).Tag.Get("yaml") == key {
			return into.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// empty reports whether nothing is said here, so that the default holds.
func empty(node ast.Node) bool {
	switch node.(type) {
	case nil, *ast.NullNode, *ast.CommentGroupNode:
		return true
	}
	return false
}

// quote returns a scalar as a message has it, with a space after it; "" for everything else.
func quote(node ast.Node) string {
	scalar, ok := node.(ast.ScalarNode)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%.60q ", fmt.Sprint(scalar.GetValue()))
}
