package api_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// admin sends a request of an administrator; body "" is none.
func admin(t *testing.T, w *apitest.World, method, path, body string, header http.Header) apitest.Answer {
	t.Helper()
	if body == "" {
		return w.Do(t, method, path, w.Tokens[pki.RoleAdmin], nil, header)
	}
	return w.Do(t, method, path, w.Tokens[pki.RoleAdmin], strings.NewReader(body), header)
}

// TestChangesHaveTheTagOfWhatTheyMade makes each kind of change, and looks at the record afterwards.
func TestChangesHaveTheTagOfWhatTheyMade(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	certificate := string(w.Issue(t, "istio", testca.Request{URIs: []string{testca.SPIFFE}}).Serial)
	if err := w.Catalog.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	keyID := string(w.Catalog.Snapshot().Credentials()[0].ID)
	cases := []struct{ method, path, body, record string }{
		{"POST", "/cas", `{"name":"second","kind":"root"}`, "/cas/second"},
		{"POST", "/cas/second/suspend", "", "/cas/second"},
		{"POST", "/cas/second/activate", "", "/cas/second"},
		{"PUT", "/cas/issuing/settings", `{"ocspUrls":["http://ocsp.example"]}`, "/cas/issuing"},
		{"POST", "/profiles", `{"name":"new","template":"private-server","issuingCa":"issuing","rules":{"names":{"dns":{"allow":["a.example"]}}}}`, "/profiles/new"},
		{"PATCH", "/profiles/new", `{"version":1,"rules":{"maxNames":7}}`, "/profiles/new"},
		{"POST", "/profiles/new/clone", `{"name":"copy"}`, "/profiles/copy"},
		{"POST", "/profiles/copy/suspend", "", "/profiles/copy"},
		{"POST", "/profiles/copy/activate", "", "/profiles/copy"},
		{"POST", "/credentials/" + keyID + "/revoke", "", "/credentials/" + keyID},
		{"POST", "/certificates/" + certificate + "/revoke", `{}`, "/certificates/" + certificate},
	}
	for _, c := range cases {
		changed := admin(t, w, c.method, c.path, c.body, nil)
		if changed.Status < 200 || changed.Status > 299 {
			t.Errorf("%s %s: %d %s", c.method, c.path, changed.Status, changed.Body)
			continue
		}
		seen := admin(t, w, http.MethodGet, c.record, "", nil)
		if tag := seen.Header.Get("ETag"); tag == "" || tag != changed.Header.Get("ETag") {
			t.Errorf("%s %s: tag %s, but the record's is %s:\n%s\n%s", c.method, c.path, changed.Header.Get("ETag"), tag, changed.Body, seen.Body)
		}
	}
}

// TestEveryRecordHasATag walks the OpenAPI document: what shows a record documents its tag.
func TestEveryRecordHasATag(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	d := describe(t, w)
	for path, methods := range d.Paths {
		for method, route := range methods {
			record := method == "get" && strings.HasSuffix(path, "}")
			if record && !route.has("If-None-Match") {
				t.Errorf("GET %s has no tag", path)
			}
			_, shown := d.Paths[path]["get"]
			if method != "get" && shown && strings.HasSuffix(path, "}") && !route.has("If-Match") {
				t.Errorf("%s %s does not heed If-Match", method, path)
			}
		}
	}
	for _, path := range []string{"/profiles/{profile}/suspend", "/cas/{ca}/activate", "/certificates/{serial}/revoke", "/credentials/{keyId}/revoke"} {
		if !d.Paths[path]["post"].has("If-Match") {
			t.Errorf("POST %s does not heed If-Match", path)
		}
	}
}

func TestConditions(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	tag := admin(t, w, http.MethodGet, "/profiles/istio", "", nil).Header.Get("ETag")
	selected := admin(t, w, http.MethodGet, "/profiles/istio?fields=name", "", nil).Header.Get("ETag")
	if tag == "" || tag != selected {
		t.Errorf("tag %s, with fields %s", tag, selected)
	}
	for name, c := range map[string]struct {
		value  string
		status int
	}{
		"same": {tag, 304}, "weak": {"W/" + tag, 304}, "one-of": {`"x", ` + tag, 304}, "any": {"*", 304}, "other": {`"x"`, 200}, "no-tag": {"x", 200},
	} {
		answer := admin(t, w, http.MethodGet, "/profiles/istio", "", http.Header{"If-None-Match": {c.value}})
		if answer.Status != c.status || answer.Header.Get("ETag") != tag || (c.status == 304) != (len(answer.Body) == 0) {
			t.Errorf("If-None-Match %s: %d %v %s", name, answer.Status, answer.Header, answer.Body)
		}
	}
	for name, c := range map[string]struct {
		method, path, body, value string
		status                    int
	}{
		"refuses/other-tag":    {"POST", "/profiles/istio/suspend", "", `"x"`, 412},
		"refuses/weak-tag":     {"POST", "/profiles/istio/suspend", "", "W/" + tag, 412},
		"refuses/delete":       {"DELETE", "/profiles/istio", "", `"x"`, 412},
		"refuses/patch":        {"PATCH", "/profiles/istio", `{"version":1}`, `"x"`, 412},
		"refuses/put":          {"PUT", "/cas/issuing/settings", `{}`, `"x"`, 412},
		"refuses/others-tag":   {"POST", "/profiles/web/suspend", "", tag, 412},
		"refuses/no-record":    {"POST", "/tokens", `{"name":"x","role":"admin"}`, "*", 412},
		"refuses/not-there":    {"POST", "/profiles/nope/suspend", "", tag, 404},
		"accepts/any-existing": {"POST", "/profiles/web/suspend", "", "*", 200},
	} {
		answer := admin(t, w, c.method, c.path, c.body, http.Header{"If-Match": {c.value}})
		if answer.Status != c.status || c.status == 412 && answer.Problem.Type != "urn:certloom:problem:changed-meanwhile" {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
	// The first of two who have seen the same gets through, and not the second; it may send the first's again.
	first := http.Header{"If-Match": {tag}, "Idempotency-Key": {"first"}}
	if answer := admin(t, w, "POST", "/profiles/istio/suspend", "", first); answer.Status != http.StatusOK {
		t.Fatalf("first: %d %s", answer.Status, answer.Body)
	}
	w.Clock.Advance(time.Second)
	if answer := admin(t, w, "POST", "/profiles/istio/activate", "", http.Header{"If-Match": {tag}}); answer.Status != http.StatusPreconditionFailed {
		t.Errorf("second: %d %s", answer.Status, answer.Body)
	}
	if answer := admin(t, w, "POST", "/profiles/istio/suspend", "", first); answer.Status != http.StatusOK || answer.Header.Get("Idempotency-Replayed") == "" {
		t.Errorf("first again: %d %s", answer.Status, answer.Body)
	}
}

func TestCompressesLargeAnswers(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	for range 20 {
		w.Issue(t, "istio", testca.Request{URIs: []string{testca.SPIFFE}})
	}
	for name, c := range map[string]struct {
		path, accept string
		want         bool
	}{
		"large": {"/certificates", "br, gzip", true}, "small": {"/cas?limit=1", "gzip", false}, "not-asked": {"/certificates", "identity", false},
		"refused": {"/certificates", "gzip;q=0", false}, "preferred": {"/certificates", "gzip;q=0.5", true},
	} {
		answer := admin(t, w, http.MethodGet, c.path, "", http.Header{"Accept-Encoding": {c.accept}})
		body := io.Reader(strings.NewReader(string(answer.Body)))
		if got := answer.Header.Get("Content-Encoding") == "gzip"; got != c.want || answer.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: headers %v", name, answer.Header)
		}
		if c.want {
			var err error
			if body, err = gzip.NewReader(body); err != nil {
				t.Fatal(err)
			}
		}
		var page apiv1.Page[apiv1.Certificate]
		if err := json.NewDecoder(body).Decode(&page); c.path == "/certificates" && (err != nil || len(page.Items) != 20) {
			t.Errorf("%s: %d items, %v", name, len(page.Items), err)
		}
	}
}

func TestHeadAndOptions(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	get, head := admin(t, w, http.MethodGet, "/profiles/istio", "", nil), admin(t, w, http.MethodHead, "/profiles/istio", "", nil)
	if head.Status != http.StatusOK || len(head.Body) != 0 || head.Header.Get("ETag") != get.Header.Get("ETag") ||
		head.Header.Get("Content-Length") != get.Header.Get("Content-Length") {
		t.Errorf("HEAD: %d %v, GET: %v", head.Status, head.Header, get.Header)
	}
	options := admin(t, w, http.MethodOptions, "/profiles/istio", "", nil)
	if options.Status != http.StatusNoContent || options.Header.Get("Allow") != "GET, PATCH, DELETE, OPTIONS" {
		t.Errorf("OPTIONS: %d %v", options.Status, options.Header)
	}
	if answer := admin(t, w, http.MethodGet, "/profiles/"+url.PathEscape("a/b?c"), "", nil); answer.Status != http.StatusNotFound {
		t.Errorf("an escaped name: %d %s", answer.Status, answer.Body)
	}
}
