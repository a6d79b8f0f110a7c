package console

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// form is a form of a page: what was sent comes back with it, and what is wrong stands beside its field. Fields are
// named by the JSON pointers of the API's members that they become, so that the API's problem documents fit.
type form struct {
	Key   string   // of formKey
	Rest  []string // what is wrong with no field in particular
	visit *visit

	values url.Values
	errors map[string]string // by pointer
	shown  map[string]bool   // pointers that have a field
}

// newForm returns a form with what was sent, or with the initial values when nothing was.
func (v *visit) newForm(initial url.Values) *form {
	f := &form{Key: v.newKey(), visit: v, values: initial, errors: make(map[string]string), shown: make(map[string]bool)}
	if v.r.Method == http.MethodPost {
		f.values = v.r.PostForm //nolint:forbidigo // fields of the form, not the function
		if sent := v.value(formKey); sent != "" {
			f.Key = sent // it failed: sent again, it is the same form
		}
	}
	return f
}

// refuse takes what the API says is wrong with the form, and returns any other error. A form that was refused is
// sent anew with another key: the old one stands for what was refused.
func (f *form) refuse(err error) error {
	problem, ok := errors.AsType[*apiv1.Problem](err)
	if !ok {
		return err
	}
	switch problem.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity, http.StatusNotFound:
	default:
		return err
	}
	f.Key = f.visit.newKey()
	for _, e := range problem.Errors {
		f.wrong(e.Field(), e.Detail)
	}
	if len(problem.Errors) == 0 {
		f.wrong("", problem.Detail)
	}
	return nil
}

// wrong says what is wrong with a field; pointer "" is the form as a whole.
func (f *form) wrong(pointer, message string) {
	if old := f.errors[pointer]; old != "" {
		message = old + " " + message
	}
	f.errors[pointer] = message
}

// Refused reports whether something is wrong.
func (f *form) Refused() bool { return len(f.errors) > 0 }

// Value is what a hidden field holds.
func (f *form) Value(pointer string) string { return f.value(pointer) }

// render answers with the form's page: as refused if something is wrong. All fields must have been made.
func (f *form) render(name string, view any) error {
	for pointer, message := range f.errors {
		if !f.placed(pointer) {
			if pointer != "" {
				message = pointer + ": " + message
			}
			f.Rest = append(f.Rest, sentence(message))
		}
	}
	if f.Refused() {
		return f.visit.renderStatus(http.StatusUnprocessableEntity, name, view)
	}
	return f.visit.render(name, view)
}

// placed reports whether a pointer, or one above it, has a field.
func (f *form) placed(pointer string) bool {
	for pointer != "" {
		if f.shown[pointer] {
			return true
		}
		pointer = pointer[:max(0, strings.LastIndex(pointer, "/"))]
	}
	return false
}

// errorAt is what is wrong with a member, or with parts of it.
func (f *form) errorAt(pointer string) string {
	var found []string
	for at, message := range f.errors {
		if at == pointer || strings.HasPrefix(at, pointer+"/") {
			found = append(found, message)
		}
	}
	return strings.Join(found, " ")
}

// value is what a field holds, without white space around it.
func (f *form) value(pointer string) string { return strings.TrimSpace(f.values.Get(pointer)) }

// list is the lines, or the words between commas, of a field.
func (f *form) list(pointer string) []string {
	items := []string{}
	for _, value := range f.values[pointer] {
		for item := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == '\n' || r == '\r' || r == ',' }) {
			if item = strings.TrimSpace(item); item != "" {
				items = append(items, item)
			}
		}
	}
	return items
}

// field is one field of a form, for the part "field".
type field struct {
	Name, ID    string
	Label, Help string
	Error       string
	Type        string // of the input; "textarea", "select", "checkbox" and "radio" are what they say
	Value       string
	Placeholder string
	Complete    string // autocomplete (HTML section 4.10.18.7)
	Options     []option
	Required    bool
	Checked     bool
	Mono        bool // names and certificates are read letter by letter
	File        bool // a text area takes a file as well; its form is multipart
	Rows        int
}

// option is one choice of a field.
type option struct {
	Value, Label, Help string
	Chosen             bool
}

// field makes a field of a kind, with the text KEY as its label and the text KEY.help, if there is one, below it.
func (f *form) field(kind, pointer, key string) field {
	f.shown[pointer] = true
	made := field{
		Name: pointer, ID: "f" + strings.NewReplacer("/", "-", ".", "-", "~", "-").Replace(pointer), Type: kind,
		Label: f.visit.text(key), Error: sentence(f.errorAt(pointer)), Value: f.values.Get(pointer), Rows: 4,
	}
	if f.visit.has(key + ".help") {
		made.Help = f.visit.text(key + ".help")
	}
	if made.Error != "" && (kind == "text" || kind == "password") && f.value(pointer) == "" {
		made.Error = f.visit.text("common.fill") // the rules for what it may be are of no use yet
	}
	switch kind {
	case "password":
		made.Value = "" // a secret never comes back
	case "checkbox":
		made.Checked = made.Value != ""
	}
	return made
}

// choice makes a field with options; what is chosen is what was sent.
func (f *form) choice(kind, pointer, key string, options []option) field {
	made := f.field(kind, pointer, key)
	chosen := f.values[pointer]
	for _, o := range options {
		for _, value := range chosen {
			o.Chosen = o.Chosen || value == o.Value
		}
		made.Options = append(made.Options, o)
	}
	return made
}

// body is the JSON body of a request, filled member by member. Members that are not set are left to the API.
type body map[string]any

// set puts a value at a JSON pointer; objects in between are made.
func (b body) set(pointer string, value any) {
	at := b
	elements := strings.Split(strings.TrimPrefix(pointer, "/"), "/")
	for _, element := range elements[:len(elements)-1] {
		next, ok := at[element].(body)
		if !ok {
			next = body{}
			at[element] = next
		}
		at = next
	}
	at[elements[len(elements)-1]] = value
}
