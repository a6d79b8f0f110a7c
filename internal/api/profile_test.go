package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

func TestCreateProfile(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	p, err := client.CreateProfile(ctx, map[string]any{
		"name": "mesh", "template": "private-mtls", "issuingCa": "issuing",
		"rules": map[string]any{
			"validity": map[string]any{"default": "12h"},
			"names":    map[string]any{"spiffe": map[string]any{"trustDomains": []string{"a.example"}, "allow": []string{"prod/*"}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	// What was left out is the template's.
	if p.Method != "mtls-over-acme" || p.State != "active" || p.Version != 1 || p.Rules.Validity.Default != "12h" ||
		p.Rules.Validity.Max != "7d" || p.Rules.Validity.JitterPercent != 10 || len(p.Rules.ExtKeyUsage) != 2 || p.Rules.MaxNames != 100 {
		t.Errorf("profile %+v", p)
	}
	if p.Directory != w.BaseURL+"/acme/directory" {
		t.Errorf("directory %q", p.Directory)
	}
	got, err := client.Profile(ctx, "mesh")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("shown differently (-created +shown):\n%s", diff)
	}
	events := w.Events(t, "profile.create")
	if events[0].Target != "mesh" || events[0].Actor.Name != "admin" || events[0].Detail.Profile != pki.ProfileID(p.ID) {
		t.Errorf("event %+v", events[0])
	}
}

func TestProfilesValidatedByChallenge(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	p, err := client.CreateProfile(ctx, map[string]any{
		"name": "open", "template": "private-server", "issuingCa": "issuing",
		"rules": map[string]any{
			"names":      map[string]any{"dns": map[string]any{"allow": []string{"**.example.com"}}},
			"challenges": map[string]any{"types": []string{"http-01"}, "networks": []string{"10.0.0.0/8", "127.0.0.1"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if p.Directory != w.BaseURL+"/acme/p/open/directory" || p.Rules.Challenges == nil || p.Rules.Challenges.Networks[1] != "127.0.0.1/32" {
		t.Errorf("profile %+v", p)
	}
	p, err = client.UpdateProfile(ctx, "open", map[string]any{"version": 1, "rules": map[string]any{"challenges": nil}})
	if err != nil || p.Rules.Challenges != nil || p.Rules.Names.DNS.Allow[0] != "**.example.com" {
		t.Errorf("without challenges: %+v, %v", p, err)
	}
}

func TestUpdateProfile(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	before, err := client.Profile(ctx, "istio")
	if err != nil {
		t.Fatal(err)
	}
	p, err := client.UpdateProfile(ctx, "istio", map[string]any{
		"version": before.Version, "rules": map[string]any{"validity": map[string]any{"default": "1h"}, "names": map[string]any{"dns": map[string]any{"allow": []string{"a.svc", "b.svc"}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	before.Rules.Validity.Default, before.Rules.Names.DNS.Allow = "1h", []string{"a.svc", "b.svc"}
	if diff := cmp.Diff(before.Rules, p.Rules); diff != "" || p.Version != before.Version+1 {
		t.Errorf("version %d; rules (-want +got):\n%s", p.Version, diff)
	}
	changes := w.Events(t, "profile.update")[0].Detail.Changes
	if len(changes) != 2 || changes[0].Field != "/rules/names/dns/allow" || changes[1].Old != "24h" || changes[1].New != "1h" {
		t.Errorf("changes %+v", changes)
	}
	if _, err := client.UpdateProfile(ctx, "istio", map[string]any{"version": before.Version}); statusOf(err) != http.StatusConflict {
		t.Errorf("a version that was changed: %v", err)
	}
	unchanged, err := client.UpdateProfile(ctx, "istio", map[string]any{"version": p.Version, "rules": map[string]any{"validity": map[string]any{"default": "60m"}}})
	if err != nil || unchanged.Version != p.Version || len(w.Events(t, "profile.update")) != 1 {
		t.Errorf("a change of nothing: %+v, %v", unchanged, err)
	}
}

func TestProfileLife(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	if p, err := client.SuspendProfile(ctx, "ci"); err != nil || p.State != "suspended" {
		t.Fatalf("suspend: %+v, %v", p, err)
	}
	request := apiv1.CreateCertificate{Profile: "ci", CSR: csrPEM(t, testca.Request{URIs: []string{testca.SPIFFE}})}
	if _, err := client.CreateCertificate(ctx, request); statusOf(err) != http.StatusForbidden {
		t.Errorf("a suspended profile issues: %v", err)
	}
	clone, err := client.CloneProfile(ctx, "ci", apiv1.CloneProfile{Name: "ci-2"})
	if err != nil || clone.State != "active" || clone.Version != 1 || clone.Rules.Names.SPIFFE.Allow[0] != "*/*" {
		t.Fatalf("clone: %+v, %v", clone, err)
	}
	if _, err := client.CloneProfile(ctx, "ci", apiv1.CloneProfile{Name: "ci-2"}); statusOf(err) != http.StatusConflict {
		t.Errorf("clone to a taken name: %v", err)
	}
	if p, err := client.ActivateProfile(ctx, "ci"); err != nil || p.State != "active" {
		t.Fatalf("activate: %+v, %v", p, err)
	}
	if _, err := client.CreateCertificate(ctx, request); err != nil {
		t.Errorf("an active profile does not issue: %v", err)
	}
	if err := client.DeleteProfile(ctx, "ci-2"); err != nil {
		t.Errorf("delete: %v", err)
	}
	err = client.DeleteProfile(ctx, "ci")
	if statusOf(err) != http.StatusConflict || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("delete a profile in use: %v", err)
	}
	if len(w.Events(t, "profile.delete")) != 1 || len(w.Events(t, "profile.suspend")) != 1 {
		t.Error("events are missing")
	}
}

func TestRefusesProfiles(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	dns := `"names":{"dns":{"allow":["a.example"]}}`
	cases := map[string]struct {
		body   string
		status int
		fields []string
	}{
		"refuses/template":      {`{"name":"x","template":"nope","issuingCa":"issuing"}`, 400, []string{"/template"}},
		"refuses/root":          {`{"name":"x","template":"private-server","issuingCa":"root","rules":{` + dns + `}}`, 400, []string{"/issuingCa"}},
		"refuses/unknown-ca":    {`{"name":"x","template":"private-server","issuingCa":"nope","rules":{` + dns + `}}`, 400, []string{"/issuingCa"}},
		"refuses/no-names":      {`{"name":"x","template":"private-server","issuingCa":"issuing"}`, 400, []string{"/rules/names"}},
		"refuses/taken-name":    {`{"name":"istio","template":"private-server","issuingCa":"issuing","rules":{` + dns + `}}`, 409, []string{"/name"}},
		"refuses/state":         {`{"name":"x","template":"private-server","issuingCa":"issuing","state":"revoked","rules":{` + dns + `}}`, 400, []string{"/state"}},
		"refuses/path-length-0": {`{"name":"x","template":"mesh-intermediate","issuingCa":"issuing"}`, 400, []string{"/issuingCa"}},
		"refuses/several": {
			`{"name":"X","template":"private-server","issuingCa":"nope","method":"agent","rules":{"validity":{"default":"soon","max":"-1h"},"keys":["dsa"],` +
				`"names":{"dns":{"allow":["a b"]},"ip":{"allow":["10.0.0.0/33","10.0.0.1/8"]}}}}`,
			400,
			[]string{
				"/issuingCa", "/method", "/name", "/rules/keys/0", "/rules/names/dns/allow/0", "/rules/names/ip/allow/0",
				"/rules/names/ip/allow/1", "/rules/validity/default", "/rules/validity/max",
			},
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodPost, "/profiles", w.Tokens[pki.RoleAdmin], strings.NewReader(c.body), nil)
			if answer.Status != c.status {
				t.Fatalf("status %d, want %d: %s", answer.Status, c.status, answer.Body)
			}
			if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%s", diff, answer.Body)
			}
		})
	}
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	page, err := w.Client(t, pki.RoleAuditor).Templates(t.Context())
	if err != nil || len(page.Items) != 4 || page.Items[0].Rules.Validity.Default != "24h" {
		t.Errorf("templates %+v, %v", page, err)
	}
}

// TestReplicasAgreeAtOnce makes a profile behind this server's back, as another replica would, and uses it.
func TestReplicasAgreeAtOnce(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	p, _ := w.Catalog.Snapshot().ProfileByName("istio")
	elsewhere := *p
	elsewhere.ID, elsewhere.Name = "elsewhere", "elsewhere"
	if err := w.Store.CreateProfile(t.Context(), &elsewhere, audit.Event{Time: w.Clock.Now(), Action: audit.ProfileCreate}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Client(t, pki.RoleAdmin).CreateCredential(t.Context(), apiv1.CreateCredential{Profile: "elsewhere", Name: "x"}); err != nil {
		t.Errorf("a profile that another replica has made a moment ago: %v", err)
	}
}
