package api_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// hostileTexts are what strangers, and programs gone wrong, put where a text is asked for.
func hostileTexts() map[string]string {
	return map[string]string{
		"long": strings.Repeat("A", 10_000), "SQL": `' OR 1=1; DROP TABLE certificate; --`, "SQL pattern": `%' ESCAPE '`, "HTML": `<script>alert(1)</script>"'>`,
		"template": `{{.}}${7*7}%s%n%x`, "controls": "a\r\nSet-Cookie: a=b\x00\x1b[31m\x7f", "right to left": "\u202egnp.exe\u2066", "path": `../../etc/passwd\..`,
		"empty": "", "blank": " \t ", "number": "99999999999999999999999999", "surrogates": "\U0001f512\ufffd\u0000", "wildcard": "*", "JSON": `{"a":[1,`,
	}
}

// hostileValues are of other kinds than what is asked for, or beyond every bound; as JSON.
func hostileValues() []string {
	return []string{
		`null`, `true`, `-1`, `0`, `9007199254740993`, `1e308`, `-9223372036854775809`, `1.5`, `[]`, `{}`, `[null]`, `[{}]`, `{"a":{"b":{"c":[[[[]]]]}}}`,
		`["` + strings.Repeat("A", 10_000) + `"]`, `[` + strings.TrimSuffix(strings.Repeat(`"a",`, 3000), ",") + `]`, `"\ud800"`, `"` + "\xff\xfe" + `"`,
	}
}

// attacker sends requests and judges the answers.
type attacker struct {
	*apitest.World
	t    *testing.T
	last int64 // number of the last event of something done
	sent int
}

// done returns the number of the last event of something that was done.
func (a *attacker) done() int64 {
	a.t.Helper()
	events, err := a.Store.Events(a.t.Context(), pki.EventFilter{Outcome: string(audit.Done), Limit: 1})
	if err != nil || len(events) == 0 {
		a.t.Fatal(len(events), err)
	}
	return events[0].ID
}

// send fails the test unless the answer is a success, or a refusal that says why and that has changed nothing.
func (a *attacker) send(what, method, path, body string) {
	a.t.Helper()
	answer := admin(a.t, a.World, method, path, body, nil)
	a.sent++
	shown := fmt.Sprintf("%s: %s %.120s %.120s: %d %.300s", what, method, path, body, answer.Status, answer.Body)
	last := a.done()
	switch {
	case answer.Status < http.StatusBadRequest:
	case answer.Status >= http.StatusInternalServerError:
		a.t.Error("our fault: " + shown)
	case answer.Problem.Detail == "" || answer.Problem.Status != answer.Status:
		a.t.Error("no problem document: " + shown)
	case last != a.last:
		a.t.Error("refused, but something was done: " + shown)
	case len(answer.Body) > 64<<10:
		a.t.Errorf("%d bytes: %s", len(answer.Body), shown)
	}
	a.last = last
}

// target is an operation with what is known to exist in its path.
type target struct {
	method, path string
	route        documentedRoute
	known        map[string]string
}

// address is the operation's path and query with one parameter changed.
func (o *target) address(changed, value string) string {
	path, query := o.path, url.Values{}
	for _, p := range o.route.Parameters {
		text, ok := o.known[p.Name]
		if p.Name == changed {
			text, ok = value, true
		}
		switch {
		case p.In == "path":
			path = strings.ReplaceAll(path, "{"+p.Name+"}", url.PathEscape(text))
		case p.In == "query" && ok && p.Name == changed:
			query.Set(p.Name, text)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return path
}

// besiege prepares a server with something of everything, and returns all its operations.
func besiege(t *testing.T) (*attacker, []target) {
	t.Helper()
	w, certificates := inventory(t)
	client := w.Client(t, pki.RoleAdmin)
	alerts(t, w)
	if _, err := client.CreateConnector(t.Context(), apiv1.CreateConnector{Profile: "istio", Credential: "attacked", Name: "east"}); err != nil {
		t.Fatal(err)
	}
	view, err := client.CreateView(t.Context(), apiv1.SaveView{List: "identities", Name: "mine"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Catalog.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	known := map[string]string{
		"profile": "istio", "ca": "issuing", "credential": string(w.Catalog.Snapshot().Credentials()[0].ID), "user": "admin", "token": "none", "session": "none",
		"rule": "a", "channel": "a", "alert": "a", "delivery": "none",
		"view": view.ID, "name": "east", "serial": string(certificates[0].Serial), "identity": certificates[0].Identity, "fingerprint": strings.Repeat("0", 64),
		"template": "private-mtls",
	}
	var all []target
	paths := describe(t, w).Paths
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		for _, method := range slices.Sorted(maps.Keys(paths[path])) {
			all = append(all, target{strings.ToUpper(method), path, paths[path][method], known})
		}
	}
	if len(all) < 60 {
		t.Fatalf("%d operations: there should be more", len(all))
	}
	a := &attacker{World: w, t: t}
	a.last = a.done()
	return a, all
}

// TestHostileParameters puts hostile values into each parameter of each operation.
func TestHostileParameters(t *testing.T) {
	t.Parallel()
	a, all := besiege(t)
	for _, o := range all {
		body := ""
		if o.route.Body != nil {
			body = `{}`
		}
		for _, p := range o.route.Parameters {
			if p.In == "header" {
				continue
			}
			for name, text := range hostileTexts() {
				if p.In == "path" && text == "" {
					continue // another path
				}
				a.send(o.route.ID+" "+p.Name+" "+name, o.method, o.address(p.Name, text), body)
			}
			a.send(o.route.ID+" "+p.Name+" bytes", o.method, o.address(p.Name, "\xff\xfe\x80"), body)
		}
	}
	t.Logf("%d requests", a.sent)
}

// schemas are the parts of the document that bodies are made of.
type schemas struct {
	Paths map[string]map[string]struct {
		Body struct {
			Content map[string]struct {
				Schema schema `json:"schema"`
			} `json:"content"`
		} `json:"requestBody"`
	} `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"` // a name, or several
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
}

func (s *schemas) resolve(of schema) schema {
	if name, ok := strings.CutPrefix(of.Ref, "#/components/schemas/"); ok {
		return s.Components.Schemas[name]
	}
	return of
}

// members returns the places of all members of a body, however deep.
func (s *schemas) members(of schema, at []string, depth int) [][]string {
	of = s.resolve(of)
	if depth == 0 {
		return nil
	}
	var places [][]string
	for _, name := range slices.Sorted(maps.Keys(of.Properties)) {
		place := append(slices.Clone(at), name)
		places = append(append(places, place), s.members(of.Properties[name], place, depth-1)...)
	}
	return places
}

// bodyWith is JSON with a value at a place, between others that are good.
func bodyWith(base map[string]any, place []string, value string) string {
	raw, _ := json.Marshal(base)
	var body map[string]any
	_ = json.Unmarshal(raw, &body)
	inner := body
	for _, name := range place[:len(place)-1] {
		next, ok := inner[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			inner[name] = next
		}
		inner = next
	}
	inner[place[len(place)-1]] = "HERE-IT-IS"
	raw, _ = json.Marshal(body)
	return strings.Replace(string(raw), `"HERE-IT-IS"`, value, 1)
}

// goodBodies are requests that would be served, of operations that need more than what the schema says.
func goodBodies() map[string]map[string]any {
	return map[string]map[string]any{
		"create-profile":   {"name": "attacked", "template": "private-server", "issuingCa": "issuing", "rules": map[string]any{"names": map[string]any{"dns": map[string]any{"allow": []string{"a.example"}}}}},
		"create-ca":        {"name": "attacked", "kind": "root"},
		"create-user":      {"name": "attacked", "password": "correct horse battery", "role": "auditor"},
		"create-token":     {"name": "attacked", "role": "auditor"},
		"create-view":      {"name": "attacked", "list": "identities"},
		"create-connector": {"name": "attacked", "profile": "istio", "credential": "attacked"},
	}
}

// TestHostileBodies puts hostile values into each member of each body.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	a, all := besiege(t)
	var known schemas
	if err := json.Unmarshal(a.Do(t, http.MethodGet, "/openapi.json", "", nil, nil).Body, &known); err != nil {
		t.Fatal(err)
	}
	for _, o := range all {
		content := known.Paths[o.path][strings.ToLower(o.method)].Body.Content["application/json"]
		places := known.members(content.Schema, nil, 4)
		base := goodBodies()[o.route.ID]
		if base == nil {
			base = map[string]any{}
		}
		for _, place := range places {
			what := o.route.ID + " /" + strings.Join(place, "/")
			for name, text := range hostileTexts() {
				raw, err := json.Marshal(text)
				if err != nil {
					t.Fatal(err)
				}
				a.send(what+" "+name, o.method, o.address("", ""), bodyWith(base, place, string(raw)))
			}
			for _, value := range hostileValues() {
				a.send(what, o.method, o.address("", ""), bodyWith(base, place, value))
			}
		}
	}
	t.Logf("%d requests", a.sent)
}
