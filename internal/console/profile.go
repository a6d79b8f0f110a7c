package console

import (
	"net/url"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

func (c *Console) policyRoutes() []route {
	return []route{
		{"GET /policies/templates", auth.Read, c.templates},
		{"GET /policies/profiles", auth.Read, c.profiles},
		{"GET /policies/profiles/new", auth.Operate, c.newProfile},
		{"POST /policies/profiles/new", auth.Operate, c.createProfile},
		{"POST /policies/profiles/preview", auth.Read, c.previewProfile},
		{"GET /policies/profiles/{profile}", auth.Read, c.profile},
		{"POST /policies/profiles/{profile}/check", auth.Read, c.tryProfile},
		{"GET /policies/profiles/{profile}/json", auth.Read, c.profileJSON},
		{"GET /policies/profiles/{profile}/edit", auth.Operate, c.editProfile},
		{"POST /policies/profiles/{profile}/edit", auth.Operate, c.updateProfile},
		{"GET /policies/profiles/{profile}/clone", auth.Operate, c.cloneForm},
		{"POST /policies/profiles/{profile}/clone", auth.Operate, c.cloneProfile},
		{"POST /policies/profiles/{profile}/suspend", auth.Operate, c.suspendProfile},
		{"POST /policies/profiles/{profile}/activate", auth.Operate, c.activateProfile},
		{"GET /policies/profiles/{profile}/delete", auth.Operate, c.deleteForm},
		{"POST /policies/profiles/{profile}/delete", auth.Operate, c.deleteProfile},
		{"GET /policies/credentials", auth.Read, c.credentials},
		{"GET /policies/credentials/new", auth.Operate, c.newCredential},
		{"POST /policies/credentials/new", auth.Operate, c.createCredential},
		{"GET /policies/credentials/{key}/revoke", auth.Operate, c.revokeCredentialForm},
		{"POST /policies/credentials/{key}/revoke", auth.Operate, c.revokeCredential},
		{"GET /policies/alerts", auth.Read, c.alerts},
	}
}

// templatesView is the page of the base templates.
type templatesView struct {
	Templates []templateView
	MayCreate bool
}

type templateView struct {
	Name, Title, Use string
	Method           string
	Default, Max     string // lifetimes
	Usages           string
	New              string // address of the form
}

func (c *Console) templates(v *visit) error {
	list, err := v.api.Templates(v.ctx())
	if err != nil {
		return err
	}
	view := templatesView{MayCreate: v.may(auth.Operate)}
	for _, t := range list.Items {
		view.Templates = append(view.Templates, templateView{
			Name: t.Name, Title: v.text("profile.template." + t.Name), Use: v.text("profile.template." + t.Name + ".help"),
			Method: v.text("profile.method." + t.Method), Default: t.Rules.Validity.Default, Max: t.Rules.Validity.Max,
			Usages: strings.Join(append(slices.Clone(t.Rules.KeyUsage), t.Rules.ExtKeyUsage...), ", "),
			New:    "/policies/profiles/new?template=" + url.QueryEscape(t.Name),
		})
	}
	return v.render("templates", view)
}

// profilesView is the list of certificate profiles.
type profilesView struct {
	Profiles  []profileRow
	MayCreate bool
}

type profileRow struct {
	Name, Path, Template, IssuingCA, Method, State, StateText, Validity string
	Changed                                                             stamp
}

func (v *visit) profileRow(p *apiv1.Profile) profileRow {
	return profileRow{
		Name: p.Name, Path: "/policies/profiles/" + url.PathEscape(p.Name), Template: v.text("profile.template." + p.Template),
		IssuingCA: p.IssuingCA, Method: v.text("profile.method." + p.Method), State: p.State, StateText: v.text("common.state." + p.State),
		Validity: p.Rules.Validity.Default, Changed: v.stamp(p.UpdatedAt),
	}
}

func (c *Console) profiles(v *visit) error {
	list, err := v.api.Profiles(v.ctx())
	if err != nil {
		return err
	}
	view := profilesView{MayCreate: v.may(auth.Operate)}
	for i := range list.Items {
		view.Profiles = append(view.Profiles, v.profileRow(&list.Items[i]))
	}
	return v.render("profiles", view)
}

// profileView is the page of one profile.
type profileView struct {
	profileRow
	Facts       []fact
	Names       []fact
	Directory   string
	Credentials []credentialRow
	MayChange   bool
	Active      bool
	Key         string // of the forms
	Bound       bool   // clients need a credential
	New         string // address of the form of a new credential
	Inventory   string // address of its certificates
	Try         field
	As          *field // which credential asks, when there are any
	Preview     previewView
}

// fact is a name with what is known of it.
type fact struct{ Name, Value string }

func (c *Console) profile(v *visit) error { return v.showProfile(v.newForm(nil)) }

// showProfile shows the page, with an answer to what the form asks.
func (v *visit) showProfile(f *form) error {
	p, err := v.api.Profile(v.ctx(), v.r.PathValue("profile"))
	if err != nil {
		return err
	}
	view := profileView{
		profileRow: v.profileRow(p), Directory: p.Directory, MayChange: v.may(auth.Operate), Active: p.State == "active", Key: v.newKey(),
		Bound: p.Rules.Challenges == nil && p.Method != "rest-api", New: "/policies/credentials/new?profile=" + url.QueryEscape(p.Name),
	}
	r := p.Rules
	view.Facts = []fact{
		{v.text("profile.validity"), v.text("profile.lifetimes", r.Validity.Default, r.Validity.Max)},
		{v.text("profile.keys"), strings.Join(r.Keys, ", ")},
		{v.text("profile.keyUsage"), strings.Join(r.KeyUsage, ", ")},
		{v.text("profile.extKeyUsage"), orNone(v, r.ExtKeyUsage)},
		{v.text("profile.subject"), v.text("profile.subject." + r.Subject)},
		{v.text("profile.includeRoot"), v.yesNo(r.IncludeRoot)},
	}
	for _, part := range []struct {
		key    string
		values []string
	}{
		{"profile.trustDomains", r.Names.SPIFFE.TrustDomains},
		{"profile.spiffeAllow", r.Names.SPIFFE.Allow},
		{"profile.spiffeDeny", r.Names.SPIFFE.Deny},
		{"profile.dnsAllow", r.Names.DNS.Allow},
		{"profile.dnsDeny", r.Names.DNS.Deny},
		{"profile.ipAllow", r.Names.IP.Allow},
		{"profile.ipDeny", r.Names.IP.Deny},
	} {
		if len(part.values) > 0 {
			view.Names = append(view.Names, fact{v.text(part.key), strings.Join(part.values, ", ")})
		}
	}
	if r.Challenges != nil {
		view.Names = append(view.Names, fact{v.text("profile.challenges"), strings.Join(r.Challenges.Types, ", ")})
	}
	credentials, err := v.api.Credentials(v.ctx(), p.Name)
	if err != nil {
		return err
	}
	for i := range credentials.Items {
		view.Credentials = append(view.Credentials, v.credentialRow(&credentials.Items[i]))
	}
	view.Inventory = "/inventory/certificates?profile=" + url.QueryEscape(p.Name)
	view.Try, view.As = f.tried(), v.asCredential(f, credentials.Items)
	if view.Preview, err = v.preview(profileQuestion(p.Name, f), f); err != nil {
		return err
	}
	return v.render("profile", view)
}

// asCredential chooses the credential that asks; nil when there is none.
func (v *visit) asCredential(f *form, credentials []apiv1.Credential) *field {
	choices := []option{{Value: "", Label: v.text("preview.credential.any")}}
	for i := range credentials {
		if credentials[i].State == "active" {
			choices = append(choices, option{Value: credentials[i].KeyID, Label: credentials[i].Name})
		}
	}
	if len(choices) == 1 {
		return nil
	}
	made := f.choice("select", "/credential", "preview.credential", choices)
	return &made
}

func (v *visit) yesNo(yes bool) string {
	if yes {
		return v.text("common.yes")
	}
	return v.text("common.no")
}

func orNone(v *visit, values []string) string {
	if len(values) == 0 {
		return v.text("common.none")
	}
	return strings.Join(values, ", ")
}

// suspendProfile and activateProfile say what has changed on the profile's own page.
func (c *Console) suspendProfile(v *visit) error {
	p, err := v.api.SuspendProfile(v.ctx(), v.r.PathValue("profile"))
	if err != nil {
		return err
	}
	return v.done("/policies/profiles/"+url.PathEscape(p.Name), "profile.suspended", p.Name)
}

func (c *Console) activateProfile(v *visit) error {
	p, err := v.api.ActivateProfile(v.ctx(), v.r.PathValue("profile"))
	if err != nil {
		return err
	}
	return v.done("/policies/profiles/"+url.PathEscape(p.Name), "profile.activated", p.Name)
}

// nameFormView is a form with one field.
type nameFormView struct {
	Form   *form
	Name   string // of what it is about
	Field  field
	Back   string
	Action string
}

func (c *Console) cloneForm(v *visit) error {
	f := v.newForm(url.Values{"/name": {v.r.PathValue("profile") + "-copy"}})
	return v.showClone(f)
}

func (v *visit) showClone(f *form) error {
	name := v.r.PathValue("profile")
	back := "/policies/profiles/" + url.PathEscape(name)
	view := nameFormView{Form: f, Name: name, Back: back, Action: back + "/clone", Field: f.field("text", "/name", "profile.name")}
	view.Field.Mono, view.Field.Required = true, true
	return f.render("clone", view)
}

func (c *Console) cloneProfile(v *visit) error {
	f := v.newForm(nil)
	p, err := v.api.CloneProfile(v.ctx(), v.r.PathValue("profile"), apiv1.CloneProfile{Name: f.value("/name")})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showClone(f)
	}
	return v.done("/policies/profiles/"+url.PathEscape(p.Name), "profile.created", p.Name)
}

// confirmView asks before something that cannot be taken back.
type confirmView struct {
	Form            *form
	Question, Means string
	Button          string
	Action, Back    string
	Reason          *field
}

func (c *Console) deleteForm(v *visit) error { return v.showDelete(v.newForm(nil)) }

func (v *visit) showDelete(f *form) error {
	name := v.r.PathValue("profile")
	back := "/policies/profiles/" + url.PathEscape(name)
	return f.render("confirm", confirmView{
		Form: f, Question: v.text("profile.delete.question", name), Means: v.text("profile.delete.means"), Button: v.text("common.delete"),
		Action: back + "/delete", Back: back,
	})
}

func (c *Console) deleteProfile(v *visit) error {
	f := v.newForm(nil)
	name := v.r.PathValue("profile")
	if err := v.api.DeleteProfile(v.ctx(), name); err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showDelete(f)
	}
	return v.done("/policies/profiles", "profile.deleted", name)
}
