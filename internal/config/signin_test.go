package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/config"
)

const signIn = minimal + `
signIn:
  oidc:
    issuer: https://login.example.com/realms/company
    clientId: certloom
    clientSecretFile: oidc.secret
    roles:
      - {group: ca-admins, role: admin}
      - group: shop
        role: namespace-viewer
        sees: ["spiffe://cluster.local/ns/shop/*", db.example.com]
`

func TestOIDC(t *testing.T) {
	t.Parallel()
	c, err := config.Parse([]byte(signIn), "/etc/certloom")
	if err != nil {
		t.Fatal(err)
	}
	want := config.OIDC{
		Issuer: "https://login.example.com/realms/company", ClientID: "certloom", ClientSecretFile: "/etc/certloom/oidc.secret",
		Scopes: []string{"profile", "email"}, GroupsClaim: "groups", NameClaim: "preferred_username",
		Roles: []config.GroupRole{
			{Group: "ca-admins", Role: "admin"},
			{Group: "shop", Role: "namespace-viewer", Sees: []string{"spiffe://cluster.local/ns/shop/*", "db.example.com"}},
		},
	}
	if diff := cmp.Diff(want, c.SignIn.OIDC); diff != "" {
		t.Error(diff)
	}
	if title := c.SignIn.OIDC.Title(); title != "login.example.com" || !c.SignIn.OIDC.Enabled() {
		t.Errorf("the provider is called %q", title)
	}
	c.SignIn.OIDC.DisplayName = "Company login"
	if title := c.SignIn.OIDC.Title(); title != "Company login" {
		t.Errorf("the provider is called %q", title)
	}
	if c := config.Default(); c.SignIn.OIDC.Enabled() {
		t.Error("a provider that nobody named")
	}
}

func TestOIDCRefuses(t *testing.T) {
	t.Parallel()
	replace := func(old, with string) string {
		if !strings.Contains(signIn, old) {
			t.Fatalf("%q is not in the settings", old)
		}
		return strings.Replace(signIn, old, with, 1)
	}
	for name, tt := range map[string]struct {
		yaml string
		want []string
	}{
		"no issuer":         {replace("    issuer: https://login.example.com/realms/company\n", ""), []string{"signIn.oidc.issuer: is missing"}},
		"plain http":        {replace("https://login", "http://login"), []string{"signIn.oidc.issuer: ", "does not begin with https://"}},
		"query":             {replace("company", "company?x=1"), []string{"signIn.oidc.issuer: ", "more or less"}},
		"no client":         {replace("clientId: certloom", "clientId: ''"), []string{"signIn.oidc.clientId: is missing"}},
		"no secret":         {replace("    clientSecretFile: oidc.secret\n", ""), []string{"signIn.oidc.clientSecretFile: is missing"}},
		"secret in place":   {replace("clientSecretFile: oidc.secret", "clientSecret: s3cret"), []string{"signIn.oidc.clientSecret: is not a setting"}},
		"scope":             {replace("clientId", "scopes: ['a b']\n    clientId"), []string{`signIn.oidc.scopes[0]: "a b" is not a scope`}},
		"claims":            {replace("clientId", "groupsClaim: ''\n    nameClaim: ''\n    clientId"), []string{"groupsClaim: is empty", "nameClaim: is empty"}},
		"long title":        {replace("clientId", "displayName: "+strings.Repeat("x", 61)+"\n    clientId"), []string{"displayName: "}},
		"roles of no list":  {replace("- {group: ca-admins, role: admin}\n      - group: shop\n        role: namespace-viewer\n        sees: [\"spiffe://cluster.local/ns/shop/*\", db.example.com]", "ca-admins: admin"), []string{"signIn.oidc.roles: is not a list"}},
		"role of no map":    {replace("{group: ca-admins, role: admin}", "ca-admins"), []string{`signIn.oidc.roles[0]: "ca-admins" is not a mapping`}},
		"unknown key":       {replace("role: admin}", "role: admin, colour: red}"), []string{"signIn.oidc.roles[0].colour: is not a setting"}},
		"no group":          {replace("group: ca-admins, ", ""), []string{"signIn.oidc.roles[0].group: is missing"}},
		"role":              {replace("role: admin", "role: root"), []string{`signIn.oidc.roles[0].role: "root" is not one of`}},
		"role for machines": {replace("role: admin", "role: requester"), []string{`signIn.oidc.roles[0].role: "requester" is not one of`}},
		"sees nothing":      {replace("        sees: [\"spiffe://cluster.local/ns/shop/*\", db.example.com]\n", ""), []string{"signIn.oidc.roles[1].sees: is empty"}},
		"admin sees less":   {replace("role: admin}", "role: admin, sees: ['a*']}"), []string{"signIn.oidc.roles[0].sees: is given"}},
		"sees everything":   {replace("db.example.com", "'*'"), []string{"signIn.oidc.roles[1].sees[1]: \"*\" names no identity"}},
		"star inside":       {replace("db.example.com", "'*.example.com'"), []string{"signIn.oidc.roles[1].sees[1]: ", "elsewhere than at its end"}},
		"space":             {replace("db.example.com", "'a b'"), []string{"signIn.oidc.roles[1].sees[1]: "}},
		"group twice":       {replace("group: shop", "group: ca-admins"), []string{"signIn.oidc.roles[1].group: ", "roles[0]"}},
		"nobody":            {signIn[:strings.Index(signIn, "    roles:")], []string{"signIn.oidc.roles: is empty"}},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			_, err := config.Parse([]byte(tt.yaml), "/etc/certloom")
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is missing in:\n%v", want, err)
				}
			}
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret is in the message: %v", err)
			}
		})
	}
}

// The client's secret is a secret like the others.
func TestOIDCSecretIsPrivate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"certloom.key": 0o600, "oidc.secret": 0o644, "certloom.yaml": 0o644} {
		content := "x"
		if name == "certloom.yaml" {
			content = signIn
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	_, err := config.Load(filepath.Join(dir, "certloom.yaml"))
	if err == nil || !strings.Contains(err.Error(), "signIn.oidc.clientSecretFile: ") || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("got %v", err)
	}
}
