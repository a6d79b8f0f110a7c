package console

import (
	"encoding/base64"
	"fmt"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

// credentialsView is the list of EAB credentials.
type credentialsView struct {
	Credentials []credentialRow
	MayCreate   bool
}

type credentialRow struct {
	KeyID, Name, Profile, ProfilePath string
	State, StateText                  string
	Expires, Used                     stamp
	Accounts                          string
	Revoke                            string // address of the form; "" for one that cannot be revoked
}

func (v *visit) credentialRow(c *apiv1.Credential) credentialRow {
	row := credentialRow{
		KeyID: c.KeyID, Name: c.Name, Profile: c.Profile, ProfilePath: "/policies/profiles/" + url.PathEscape(c.Profile),
		State: c.State, StateText: v.text("common.state." + c.State), Expires: v.stamp(c.ExpiresAt), Used: v.stamp(c.LastUsedAt),
		Accounts: number(int64(c.Accounts)),
	}
	if c.MaxAccounts > 0 {
		row.Accounts += " / " + number(int64(c.MaxAccounts))
	}
	if c.State == "active" && v.may(auth.Operate) {
		row.Revoke = "/policies/credentials/" + url.PathEscape(c.KeyID) + "/revoke"
	}
	return row
}

func (c *Console) credentials(v *visit) error {
	list, err := v.api.Credentials(v.ctx(), "")
	if err != nil {
		return err
	}
	view := credentialsView{MayCreate: v.may(auth.Operate)}
	for i := range list.Items {
		view.Credentials = append(view.Credentials, v.credentialRow(&list.Items[i]))
	}
	return v.render("credentials", view)
}

// credentialFormView is the form of a new credential.
type credentialFormView struct {
	Form   *form
	Fields []field
}

func (c *Console) newCredential(v *visit) error {
	return v.showCredentialForm(v.newForm(url.Values{"/profile": {v.query("profile")}, "/expiresAt": {""}}))
}

func (v *visit) showCredentialForm(f *form) error {
	profiles, err := v.api.Profiles(v.ctx())
	if err != nil {
		return err
	}
	var choices []option
	for _, p := range profiles.Items {
		if p.Rules.Challenges == nil && p.Method != "rest-api" {
			choices = append(choices, option{Value: p.Name, Label: p.Name + " · " + v.text("profile.method."+p.Method)})
		}
	}
	profile := f.choice("select", "/profile", "credential.profile", choices)
	name := f.field("text", "/name", "credential.name")
	name.Mono, name.Placeholder = true, "prod-cluster-1"
	profile.Required, name.Required = true, true
	expires := f.choice("select", "/expiresAt", "credential.expires", []option{
		{Value: "", Label: v.text("credential.never")},
		{Value: "30d", Label: v.span(30 * 24 * time.Hour)},
		{Value: "90d", Label: v.span(90 * 24 * time.Hour)},
		{Value: "365d", Label: v.span(365 * 24 * time.Hour)},
	})
	return f.render("credentialform", credentialFormView{Form: f, Fields: []field{profile, name, expires}})
}

// newCredentialView shows a credential that was just made. Its HMAC key is shown here and nowhere else.
type newCredentialView struct {
	Name, Profile, ProfilePath string
	Directory, KeyID, HMACKey  string
	All                        string // to copy at once
	Agent                      bool
	Secret, Issuer, JSON       string
	File                       template.URL // the JSON, to keep as a file
}

// lifetimes are the choices of a credential's expiry.
func lifetimeOf(choice string) time.Duration {
	switch choice {
	case "30d":
		return 30 * 24 * time.Hour
	case "90d":
		return 90 * 24 * time.Hour
	case "365d":
		return 365 * 24 * time.Hour
	default:
		return 0
	}
}

func (c *Console) createCredential(v *visit) error {
	f := v.newForm(nil)
	asked := apiv1.CreateCredential{Profile: f.value("/profile"), Name: f.value("/name")}
	if lifetime := lifetimeOf(f.value("/expiresAt")); lifetime > 0 {
		asked.ExpiresAt = v.now.Add(lifetime)
	}
	made, err := v.api.CreateCredential(v.ctx(), asked)
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showCredentialForm(f)
	}
	view := newCredentialView{
		Name: asked.Name, Profile: asked.Profile, ProfilePath: "/policies/profiles/" + url.PathEscape(asked.Profile),
		Directory: made.DirectoryURL, KeyID: made.KeyID, HMACKey: made.HMACKey, Agent: made.AgentURL != "",
	}
	if view.Agent {
		view.Directory = made.AgentURL
		view.JSON = fmt.Sprintf("{\n  \"agentUrl\": %q,\n  \"keyId\": %q,\n  \"hmacKey\": %q\n}\n", made.AgentURL, made.KeyID, made.HMACKey)
	} else {
		view.JSON = fmt.Sprintf("{\n  \"directoryUrl\": %q,\n  \"keyId\": %q,\n  \"hmacKey\": %q\n}\n", made.DirectoryURL, made.KeyID, made.HMACKey)
		view.Secret = "kubectl create secret generic mesh-eab --namespace istio-system --from-literal secret=" + made.HMACKey
		view.Issuer = issuerYAML(made.DirectoryURL, made.KeyID)
	}
	view.File = template.URL("data:application/json;base64," + base64.StdEncoding.EncodeToString([]byte(view.JSON))) //nolint:gosec // base64 of what was made here
	view.All = strings.Join([]string{
		v.text("credential.directory") + ": " + view.Directory, v.text("credential.keyId") + ": " + made.KeyID, v.text("credential.hmacKey") + ": " + made.HMACKey,
	}, "\n")
	return v.render("newcredential", view)
}

// issuerYAML is cert-manager's Issuer for a credential whose key is in Secret mesh-eab.
func issuerYAML(directory, keyID string) string {
	return fmt.Sprintf(`apiVersion: cert-manager.io/v1
kind: Issuer
metadata:
  name: mesh-acme-issuer
  namespace: istio-system
spec:
  acme:
    server: %s
    privateKeySecretRef:
      name: mesh-acme-account
    externalAccountBinding:
      keyID: %s
      keySecretRef:
        name: mesh-eab
        key: secret
    enableDurationFeature: true
    solvers: []
`, directory, keyID)
}

func (c *Console) revokeCredentialForm(v *visit) error {
	key := v.r.PathValue("key")
	return v.render("confirm", confirmView{
		Form: v.newForm(nil), Question: v.text("credential.revoke.question", key), Means: v.text("credential.revoke.means"),
		Button: v.text("credential.revoke"), Action: "/policies/credentials/" + url.PathEscape(key) + "/revoke", Back: "/policies/credentials",
	})
}

func (c *Console) revokeCredential(v *visit) error {
	revoked, err := v.api.RevokeCredential(v.ctx(), v.r.PathValue("key"))
	if err != nil {
		return err
	}
	return v.done("/policies/credentials", "credential.revoked", revoked.Name)
}
