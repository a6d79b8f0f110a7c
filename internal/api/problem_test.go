package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

// statusOf is the HTTP status of what the server refused, 0 for nil and other errors.
func statusOf(err error) int {
	if problem, ok := errors.AsType[*apiv1.Problem](err); ok {
		return problem.Status
	}
	return 0
}

// fields are the members and parameters that a problem names.
func fields(p apiv1.Problem) []string {
	var out []string
	for _, e := range p.Errors {
		out = append(out, e.Field())
	}
	return sorted(out)
}

func members(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "\"m%d\":1,", i)
	}
	return b.String()
}

func TestRefusesBodies(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	valid := `{"name":"x","template":"private-server","issuingCa":"issuing","rules":{"names":{"dns":{"allow":["a.example"]}}}}`
	cases := map[string]struct {
		body   string
		header http.Header
		status int
		fields []string
		detail string
	}{
		"refuses/empty":                {body: "", status: 400},
		"refuses/truncated":            {body: valid[:40], status: 400},
		"refuses/binary":               {body: "\x00\x01\xff\xfe", status: 400},
		"refuses/array":                {body: `[]`, status: 400},
		"refuses/null":                 {body: `null`, status: 400},
		"refuses/string":               {body: `"x"`, status: 400},
		"refuses/two-values":           {body: valid + valid, status: 400},
		"refuses/unknown-member":       {body: `{"name":"x","template":"private-server","issuingCa":"issuing","colour":"red"}`, status: 400, fields: []string{"/colour"}},
		"refuses/unknown-inner-member": {body: `{"name":"x","template":"private-server","issuingCa":"issuing","rules":{"names":{"dns":{"alow":[]}}}}`, status: 400, fields: []string{"/rules/names/dns/alow"}},
		"refuses/other-case":           {body: strings.Replace(valid, `"name"`, `"NAME"`, 1), status: 400, fields: []string{"/NAME"}, detail: "not known"},
		"refuses/member-twice":         {body: strings.Replace(valid, `{`, `{"name":"y",`, 1), status: 400, fields: []string{"/name"}, detail: "twice"},
		"refuses/missing-members":      {body: `{"name":"x"}`, status: 400, detail: "issuingCa"},
		"refuses/wrong-types":          {body: `{"name":1,"template":true,"issuingCa":"issuing","rules":{"maxNames":"many"}}`, status: 400, fields: []string{"/name", "/rules/maxNames", "/template"}},
		"refuses/too-large":            {body: `{"name":"` + strings.Repeat("x", 300<<10) + `"}`, status: 413},
		"refuses/deep":                 {body: strings.Repeat(`[`, 20_000), status: 400},
		"refuses/deep-member":          {body: `{"rules":` + strings.Repeat(`{"names":`, 12_000), status: 400},
		"refuses/many-members":         {body: `{` + strings.TrimSuffix(members(5000), ",") + `}`, status: 400, detail: "5003 things are wrong"},
		"refuses/long-member":          {body: `{"` + strings.Repeat("m", 100_000) + `":1}`, status: 400},
		"refuses/form":                 {body: "name=x", header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, status: 415},
		"refuses/cbor":                 {body: valid, header: http.Header{"Content-Type": {"application/cbor"}}, status: 415},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodPost, "/profiles", w.Tokens[pki.RoleAdmin], strings.NewReader(c.body), c.header)
			if answer.Status != c.status || answer.Problem.Status != c.status || answer.Problem.Detail == "" || answer.Problem.Request == "" {
				t.Fatalf("status %d, want %d: %s", answer.Status, c.status, answer.Body)
			}
			if c.fields != nil {
				if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" {
					t.Errorf("fields (-want +got):\n%s\n%s", diff, answer.Body)
				}
			}
			if !strings.Contains(string(answer.Body), c.detail) {
				t.Errorf("body does not have %q: %s", c.detail, answer.Body)
			}
			if len(answer.Body) > 8<<10 {
				t.Errorf("the answer has %d bytes", len(answer.Body))
			}
		})
	}
	if _, taken := w.Catalog.Snapshot().ProfileByName("x"); taken {
		t.Error("a refused body made a profile")
	}
}

func TestRefusesParameters(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	cases := map[string]struct {
		path   string
		fields []string
	}{
		"refuses/unknown-parameter": {"/certificates?colour=red", []string{"colour"}},
		"refuses/limit-word":        {"/certificates?limit=many", []string{"limit"}},
		"refuses/limit-zero":        {"/certificates?limit=0", []string{"limit"}},
		"refuses/limit-large":       {"/certificates?limit=1001", []string{"limit"}},
		"refuses/status":            {"/certificates?status=fine", []string{"status"}},
		"refuses/time":              {"/certificates?issuedAfter=yesterday", []string{"issuedAfter"}},
		"refuses/cursor":            {"/certificates?after=zz", []string{"after"}},
		"refuses/several": {
			"/certificates?profile=nope&issuingCa=nope&fingerprint=12&after=zz",
			[]string{"after", "fingerprint", "issuingCa", "profile"},
		},
		"refuses/serial":          {"/certificates/xyz", []string{"serial"}},
		"refuses/export-format":   {"/certificates/export?format=xml", []string{"format"}},
		"refuses/identity-status": {"/identities?status=fine", []string{"status"}},
		"refuses/event-cursor":    {"/events?after=-1", []string{"after"}},
		"refuses/event-outcome":   {"/events?outcome=fine", []string{"outcome"}},
		"refuses/profile-of-list": {"/credentials?profile=nope", []string{"profile"}},
		"refuses/long-name":       {"/profiles/" + strings.Repeat("x", 200), []string{"profile"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodGet, c.path, w.Tokens[pki.RoleAuditor], nil, nil)
			if answer.Status != http.StatusBadRequest {
				t.Fatalf("status %d: %s", answer.Status, answer.Body)
			}
			if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%s", diff, answer.Body)
			}
		})
	}
}

func TestAnswersWhatIsNotThere(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	serial := strings.Repeat("ab", 20)
	for _, path := range []string{
		"/nothing", "/cas/nope", "/cas/nope/csr", "/cas/root/csr", "/profiles/nope", "/certificates/" + serial,
		"/certificates/" + serial + "/pem", "/identities/nope", "/identities/spiffe:%2F%2Fcluster.local%2Fns%2Fa%2Fsa%2Fb",
	} {
		answer := w.Do(t, http.MethodGet, path, w.Tokens[pki.RoleAuditor], nil, nil)
		if answer.Status != http.StatusNotFound || answer.Problem.Type != "urn:certloom:problem:not-found" {
			t.Errorf("GET %s: %d %s", path, answer.Status, answer.Body)
		}
	}
	if answer := w.Do(t, http.MethodGet, "/../v2/cas", w.Tokens[pki.RoleAuditor], nil, nil); answer.Problem.Status != http.StatusNotFound {
		t.Errorf("another version: %d %s", answer.Status, answer.Body)
	}
	answer := w.Do(t, http.MethodPut, "/profiles/istio", w.Tokens[pki.RoleAdmin], nil, nil)
	if answer.Status != http.StatusMethodNotAllowed || answer.Header.Get("Allow") != "GET, PATCH, DELETE" {
		t.Errorf("PUT on a profile: %d, Allow %q, %s", answer.Status, answer.Header.Get("Allow"), answer.Body)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	for _, path := range []string{"/profiles", "/profiles/nope", "/certificates?limit=x"} {
		answer := w.Do(t, http.MethodGet, path, w.Tokens[pki.RoleAuditor], nil, nil)
		if answer.Header.Get("X-Request-Id") == "" || answer.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("GET %s: headers %v", path, answer.Header)
		}
		if answer.Status != http.StatusOK && answer.Problem.Request != answer.Header.Get("X-Request-Id") {
			t.Errorf("GET %s: problem is of request %q, header says %q", path, answer.Problem.Request, answer.Header.Get("X-Request-Id"))
		}
	}
}

// TestSaysNothingOfWhatItDidNotForesee ends the database under the server.
func TestSaysNothingOfWhatItDidNotForesee(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	token := w.Tokens[pki.RoleAdmin]
	if err := w.Store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/certificates", "/profiles", "/events", "/status"} {
		answer := w.Do(t, http.MethodGet, path, token, nil, nil)
		if answer.Status < 500 || strings.Contains(strings.ToLower(string(answer.Body)), "sql") {
			t.Errorf("GET %s: %d %s", path, answer.Status, answer.Body)
		}
	}
	if !strings.Contains(w.Log.String(), "request not served") {
		t.Error("the log does not say why")
	}
}

// Every request has one line, with what a search needs and without what is secret.
func TestLogsEachRequest(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	wrong := "clt_" + strings.Repeat("w", 43)
	cases := []struct {
		path, token string
		want        []string
	}{
		{"/whoami", w.Tokens[pki.RoleAuditor], []string{"level=DEBUG", "resource=whoami", "status=200", "actor=auditor", "duration="}},
		{"/cas/nope", w.Tokens[pki.RoleAuditor], []string{"level=INFO", "resource=get-ca", "status=404", "actor=auditor", `there is no CA`}},
		{"/certificates?status=fine", w.Tokens[pki.RoleAuditor], []string{"level=INFO", "resource=list-certificates", "status=400", "not one of valid, renewal-due"}},
		{"/cas", wrong, []string{"level=INFO", "resource=list-cas", "status=401", "address=127.0.0.1", "error="}},
	}
	for _, c := range cases {
		before := len(w.Log.String())
		w.Do(t, http.MethodGet, c.path, c.token, nil, nil)
		line := w.Log.String()[before:]
		if strings.Count(line, "api request") != 1 {
			t.Errorf("GET %s: not one line: %s", c.path, line)
		}
		for _, want := range c.want {
			if !strings.Contains(line, want) {
				t.Errorf("GET %s: no %q in %s", c.path, want, line)
			}
		}
		if strings.Contains(line, c.token) {
			t.Errorf("GET %s: the token is in %s", c.path, line)
		}
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	status, err := w.Client(t, pki.RoleAuditor).Status(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	if !status.Ready || status.Version != "1.2.3" || status.Database.Kind != "sqlite" || !status.Time.Equal(w.Clock.Now()) || len(status.CAs) != 2 {
		t.Errorf("status %+v", status)
	}
	// The catalog is polled by Run, which does not run here; the requests of other operations refresh it, this one's not.
	w.Clock.Advance(time.Minute)
	status, err = w.Client(t, pki.RoleAuditor).Status(t.Context())
	if err != nil || status.Ready || len(status.Problems) != 1 {
		t.Errorf("status with an old catalog: %+v, %v", status, err)
	}
}
