package api_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// sentences are what the checks that did not pass say.
func sentences(a *apiv1.PolicyAnswer) string {
	var all []string
	for _, check := range a.Checks {
		if !check.Passed {
			all = append(all, check.Rule+": "+check.Sentence)
		}
	}
	return strings.Join(all, "\n")
}

func TestCheckPolicy(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	mesh := csrPEM(t, testca.Request{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}})
	const id = "spiffe://cluster.local/ns/shop/sa/web"
	for name, test := range map[string]struct {
		question apiv1.PolicyQuestion
		refused  string // "": it would be issued
	}{
		"spiffe":                   {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: id}, ""},
		"csr":                      {apiv1.PolicyQuestion{Profile: "istio", CSR: mesh}, ""},
		"rsa":                      {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: id, Key: "rsa-4096"}, ""},
		"ed25519":                  {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: id, Key: "ed25519"}, ""},
		"long":                     {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: id, Validity: "900d"}, ""},
		"refuses/trust-domain":     {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: "spiffe://evil.example/ns/shop/sa/web"}, `trust domain "evil.example" is not one of`},
		"refuses/malformed-spiffe": {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: "spiffe://x"}, "spiffe: CSR's"},
		"refuses/dns":              {apiv1.PolicyQuestion{Profile: "web", DNS: []string{"evil.test", "also.test"}}, `"also.test" is not allowed by profile "web"`},
		"refuses/spiffe-on-server": {apiv1.PolicyQuestion{Profile: "web", SPIFFEID: id}, "at least one"},
		"refuses/nothing":          {apiv1.PolicyQuestion{Profile: "istio"}, "no SPIFFE ID"},
	} {
		a, err := client.CheckPolicy(t.Context(), test.question)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Issued != (test.refused == "") || !strings.Contains(sentences(a), test.refused) || (a.Certificate != nil) != a.Issued {
			t.Errorf("%s: issued %t, because %s", name, a.Issued, sentences(a))
		}
		if i := slices.IndexFunc(a.Checks, func(c apiv1.PolicyCheck) bool { return c.Sentence == "" }); i >= 0 {
			t.Errorf("%s: check %+v has no sentence", name, a.Checks[i])
		}
	}
	if events := w.Events(t, audit.CertificateIssue); len(events) > 0 {
		t.Errorf("asking left %d events", len(events))
	}
}

// TestCheckPolicyTellsTheTruth compares what is said with what is done.
func TestCheckPolicyTellsTheTruth(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	for _, names := range []testca.Request{
		{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}},
		{URIs: []string{"spiffe://other.local/ns/shop/sa/web"}},
		{URIs: []string{"spiffe://cluster.local/ns/shop"}},
		{DNS: []string{"web.shop.svc"}},
		{DNS: []string{"web.example"}},
		{CommonName: "not a name"},
		{},
	} {
		text := csrPEM(t, names)
		said, sayErr := client.CheckPolicy(t.Context(), apiv1.PolicyQuestion{Profile: "ci", CSR: text})
		done, doErr := client.CreateCertificate(t.Context(), apiv1.CreateCertificate{Profile: "ci", CSR: text})
		switch {
		case sayErr != nil:
			if doErr == nil {
				t.Errorf("%+v: %v, and yet it was issued", names, sayErr)
			}
		case said.Issued != (doErr == nil):
			t.Errorf("%+v: said %t (%s), done %v", names, said.Issued, sentences(said), doErr)
		case !said.Issued:
			problem, ok := errors.AsType[*apiv1.Problem](doErr)
			if !ok || !strings.Contains(sentences(said), problem.Detail) {
				t.Errorf("%+v: said %q, done %q", names, sentences(said), doErr)
			}
		default:
			whole, err := client.Certificate(t.Context(), done.Certificate.Serial)
			if err != nil {
				t.Fatal(err)
			}
			for i, e := range whole.Details.Extensions {
				like := said.Certificate.Extensions[i]
				if e.Name != like.Name || e.Critical != like.Critical || (e.Name != "subjectKeyIdentifier" && !slices.Equal(e.Values, like.Values)) {
					t.Errorf("%+v: said %+v, done %+v", names, like, e)
				}
			}
		}
	}
}

func TestPreviewPolicy(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	draft := func(template string, rules map[string]any) map[string]any {
		return map[string]any{"draft": map[string]any{"name": "draft", "template": template, "issuingCa": "issuing", "rules": rules}}
	}
	dns := func(allow ...string) map[string]any {
		return map[string]any{"names": map[string]any{"dns": map[string]any{"allow": allow}}}
	}
	for name, test := range map[string]struct {
		question any
		value    string // of the subjectAltName
	}{
		"profile": {apiv1.PolicyQuestion{Profile: "istio"}, "URI spiffe://cluster.local/ns/shop/sa/web"},
		"server":  {draft("private-server", dns("**.example.org")), "DNS web.example.org"},
		"any":     {draft("private-server", dns("**")), "DNS web.example.com"},
		"service": {draft("private-client", dns("**.svc.cluster.local")), "DNS web.shop.svc.cluster.local"},
	} {
		a, err := client.PreviewPolicy(t.Context(), test.question)
		if err != nil || !a.Issued {
			t.Errorf("%s: %v, %v", name, a, err)
			continue
		}
		if e := extension(t, a.Certificate, "subjectAltName"); !slices.Contains(e.Values, test.value) {
			t.Errorf("%s: %+v", name, e)
		}
		if len(a.Chain) != 2 || a.Granted == "" {
			t.Errorf("%s: chain %v, %s", name, a.Chain, a.Granted)
		}
	}
	_, err := client.PreviewPolicy(t.Context(), map[string]any{"draft": map[string]any{
		"name": "Not A Name", "template": "private-server", "issuingCa": "root",
		"rules": map[string]any{"keys": []string{"md5"}, "validity": map[string]any{"max": "a while"}, "names": map[string]any{"dns": map[string]any{"allow": []string{"**.example.org"}}}},
	}})
	problem, ok := errors.AsType[*apiv1.Problem](err)
	if !ok {
		t.Fatalf("a draft with mistakes: %v", err)
	}
	for _, pointer := range []string{"/draft/name", "/draft/issuingCa", "/draft/rules/keys/0", "/draft/rules/validity/max"} {
		if !slices.ContainsFunc(problem.Errors, func(e apiv1.ProblemError) bool { return e.Pointer == pointer }) {
			t.Errorf("nothing is said of %s: %+v", pointer, problem.Errors)
		}
	}
}

func TestCheckPolicyRefuses(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	for name, test := range map[string]struct {
		question apiv1.PolicyQuestion
		pointer  string
	}{
		"refuses/no-profile":  {apiv1.PolicyQuestion{SPIFFEID: "spiffe://a/ns/b/sa/c"}, "/profile"},
		"refuses/unknown":     {apiv1.PolicyQuestion{Profile: "nope"}, "/profile"},
		"refuses/csr":         {apiv1.PolicyQuestion{Profile: "istio", CSR: "nonsense"}, "/csr"},
		"refuses/dns":         {apiv1.PolicyQuestion{Profile: "web", DNS: []string{"ok.svc", "<b>"}}, "/dns/1"},
		"refuses/address":     {apiv1.PolicyQuestion{Profile: "web", IPs: []string{"300.1.1.1"}}, "/ips/0"},
		"refuses/key":         {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: "spiffe://a/ns/b/sa/c", Key: "dsa"}, "/keyAlgorithm"},
		"refuses/lifetime":    {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: "spiffe://a/ns/b/sa/c", Validity: "soon"}, "/validity"},
		"refuses/credential":  {apiv1.PolicyQuestion{Profile: "istio", SPIFFEID: "spiffe://a/ns/b/sa/c", Credential: "nope"}, "/credential"},
		"refuses/common-name": {apiv1.PolicyQuestion{Profile: "web", CommonName: "no name"}, "/commonName"},
	} {
		_, err := client.CheckPolicy(t.Context(), test.question)
		problem, ok := errors.AsType[*apiv1.Problem](err)
		if !ok || !slices.ContainsFunc(problem.Errors, func(e apiv1.ProblemError) bool { return e.Pointer == test.pointer }) {
			t.Errorf("%s: %v, want %s", name, err, test.pointer)
		}
	}
}
