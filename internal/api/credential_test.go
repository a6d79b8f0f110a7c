package api_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

func TestCredentials(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	answer := w.Do(t, http.MethodPost, "/credentials", w.Tokens[pki.RoleAdmin], strings.NewReader(
		`{"profile":"istio","name":"cluster-1","expiresAt":"2026-06-01T00:00:00Z","maxAccounts":3,"limit":{"spiffe":{"trustDomains":["cluster.local"],"allow":["team-*/*"]}}}`), nil)
	if answer.Status != http.StatusCreated {
		t.Fatalf("status %d: %s", answer.Status, answer.Body)
	}
	// Exactly these three: scripts read them, and nothing else may be there.
	var raw map[string]string
	if err := json.Unmarshal(answer.Body, &raw); err != nil || len(raw) != 3 {
		t.Fatalf("body %s, %v", answer.Body, err)
	}
	key, err := base64.RawURLEncoding.DecodeString(raw["hmacKey"])
	if err != nil || len(key) != 32 || raw["hmacKey"][0] == '-' {
		t.Errorf("HMAC key %q, %v", raw["hmacKey"], err)
	}
	if !regexp.MustCompile(`^[0-9a-z]{36}$`).MatchString(raw["keyId"]) || raw["directoryUrl"] != "https://ca.example/acme/directory" {
		t.Errorf("credential %v", raw)
	}
	stored, ok := w.Catalog.Snapshot().Credential(pki.CredentialID(raw["keyId"]))
	if !ok || strings.Contains(string(stored.SealedKey), string(key)) {
		t.Error("the credential is not in the catalog, or its key is not sealed")
	}
	unsealed, err := w.Catalog.CredentialKey(ctx, stored)
	if err != nil || string(unsealed) != string(key) {
		t.Errorf("unsealed key: %v", err)
	}
	list, err := client.Credentials(ctx, "istio")
	if err != nil || len(list.Items) != 1 {
		t.Fatalf("list: %+v, %v", list, err)
	}
	want := apiv1.Credential{
		KeyID: raw["keyId"], Name: "cluster-1", Profile: "istio", State: "active", MaxAccounts: 3, CreatedAt: w.Clock.Now(),
		ExpiresAt: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
		Limit: &apiv1.Names{
			SPIFFE: apiv1.SPIFFENames{TrustDomains: []string{"cluster.local"}, Allow: []string{"team-*/*"}, Deny: []string{}},
			DNS:    apiv1.DNSNames{Allow: []string{}, Deny: []string{}}, IP: apiv1.IPNames{Allow: []string{}, Deny: []string{}},
		},
	}
	if diff := cmp.Diff(want, list.Items[0]); diff != "" {
		t.Errorf("credential (-want +got):\n%s", diff)
	}
	w.Clock.Advance(365 * 24 * time.Hour)
	if list, err = client.Credentials(ctx, ""); err != nil || list.Items[0].State != "expired" {
		t.Errorf("after its time: %+v, %v", list, err)
	}
	revoked, err := client.RevokeCredential(ctx, raw["keyId"])
	if err != nil || revoked.State != "revoked" || revoked.RevokedAt.IsZero() {
		t.Errorf("revoke: %+v, %v", revoked, err)
	}
	if strings.Contains(w.Log.String(), raw["hmacKey"]) {
		t.Error("the log has the HMAC key")
	}
	for _, e := range append(w.Events(t, "credential.create"), w.Events(t, "credential.revoke")...) {
		if text, err := json.Marshal(e); err != nil || strings.Contains(string(text), raw["hmacKey"]) || e.Target != "istio/cluster-1" {
			t.Errorf("event %s, %v", text, err)
		}
	}
}

func TestRefusesCredentials(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	if _, err := w.Client(t, pki.RoleAdmin).CreateCredential(t.Context(), apiv1.CreateCredential{Profile: "web", Name: "taken"}); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		body   string
		status int
		fields []string
	}{
		"refuses/unknown-profile": {`{"profile":"nope","name":"x"}`, 400, []string{"/profile"}},
		"refuses/taken-name":      {`{"profile":"web","name":"taken"}`, 409, []string{"/name"}},
		"refuses/rest-profile":    {`{"profile":"ci","name":"x"}`, 400, []string{"/profile"}},
		"refuses/past":            {`{"profile":"web","name":"x","expiresAt":"2020-01-01T00:00:00Z"}`, 400, []string{"/expiresAt"}},
		"refuses/no-time":         {`{"profile":"web","name":"x","expiresAt":"90d"}`, 400, []string{"/expiresAt"}},
		"refuses/wider-limit":     {`{"profile":"web","name":"x","limit":{"dns":{"allow":["**.example.org"],"wildcards":true}}}`, 400, []string{"/limit/dns/allow/0", "/limit/dns/wildcards"}},
		"refuses/empty-limit":     {`{"profile":"web","name":"x","limit":{}}`, 400, []string{"/limit"}},
		"refuses/several":         {`{"profile":"web","name":"X","maxAccounts":-1,"limit":{"ip":{"allow":["x"]}}}`, 400, []string{"/limit/ip/allow/0", "/maxAccounts", "/name"}},
		"refuses/several-values":  {`{"profile":"web","name":"X","maxAccounts":-1,"limit":{"ip":{"allow":["10.0.0.0/8"]}}}`, 400, []string{"/limit/ip/allow/0", "/maxAccounts", "/name"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodPost, "/credentials", w.Tokens[pki.RoleAdmin], strings.NewReader(c.body), nil)
			if answer.Status != c.status {
				t.Fatalf("status %d, want %d: %s", answer.Status, c.status, answer.Body)
			}
			if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" {
				t.Errorf("fields (-want +got):\n%s\n%s", diff, answer.Body)
			}
		})
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	ctx, client := t.Context(), w.Client(t, pki.RoleAdmin)
	made, err := client.CreateToken(ctx, apiv1.CreateToken{Name: "dashboard", Role: "auditor", ExpiresAt: w.Clock.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(made.Secret, "clt_") {
		t.Errorf("secret has %d characters", len(made.Secret))
	}
	w.Clock.Advance(2 * time.Minute)
	viewer := w.ClientWith(t, made.Secret)
	if _, err := viewer.Whoami(ctx); err != nil {
		t.Fatal(err)
	}
	used := w.Clock.Now()
	w.Clock.Advance(30 * time.Second)
	if _, err := viewer.Whoami(ctx); err != nil {
		t.Fatal(err)
	}
	page, err := client.Tokens(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var shown apiv1.Token
	for _, token := range page.Items {
		if token.ID == made.ID {
			shown = token
		}
	}
	if !shown.LastUsedAt.Equal(used) || shown.State != "active" {
		t.Errorf("token %+v, want last use %s: it is kept to within a minute", shown, used)
	}
	if revoked, err := client.RevokeToken(ctx, made.ID); err != nil || revoked.State != "revoked" {
		t.Errorf("revoke: %+v, %v", revoked, err)
	}
	if _, err := client.RevokeToken(ctx, made.ID); err != nil {
		t.Errorf("revoke again: %v", err)
	}
	if _, err := client.RevokeToken(ctx, "nope"); statusOf(err) != http.StatusNotFound {
		t.Errorf("revoke what is not there: %v", err)
	}
	if _, err := viewer.Whoami(ctx); statusOf(err) != http.StatusUnauthorized {
		t.Errorf("a revoked token: %v", err)
	}
	if events := w.Events(t, "token.revoke"); len(events) != 1 || events[0].Target != "dashboard" {
		t.Errorf("events %+v", events)
	}
}

func TestRefusesTokens(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	cases := map[string]struct {
		body   string
		fields []string
	}{
		"refuses/several":                {`{"name":"X","role":"king","expiresAt":"2020-01-01T00:00:00Z"}`, []string{"/expiresAt", "/name", "/role"}},
		"refuses/requester-of-nothing":   {`{"name":"x","role":"requester"}`, []string{"/profile"}},
		"refuses/auditor-of-one-profile": {`{"name":"x","role":"auditor","profile":"ci"}`, []string{"/profile"}},
		"refuses/requester-over-acme":    {`{"name":"x","role":"requester","profile":"istio"}`, []string{"/profile"}},
		"refuses/unknown-profile":        {`{"name":"x","role":"requester","profile":"nope"}`, []string{"/profile"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := w.Do(t, http.MethodPost, "/tokens", w.Tokens[pki.RoleAdmin], strings.NewReader(c.body), nil)
			if diff := cmp.Diff(c.fields, fields(answer.Problem)); diff != "" || answer.Status != http.StatusBadRequest {
				t.Errorf("status %d, fields (-want +got):\n%s\n%s", answer.Status, diff, answer.Body)
			}
		})
	}
}

func TestRolesAreAllKnown(t *testing.T) {
	t.Parallel()
	for _, access := range auth.Accesses() {
		if !auth.Allows(pki.RoleAdmin, access) || auth.Allows("", access) || auth.Allows("king", access) {
			t.Errorf("access %s is not the admin's, or is somebody else's", access)
		}
	}
}
