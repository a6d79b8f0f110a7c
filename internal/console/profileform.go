package console

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// profileFormView is the form of a new or changed profile.
type profileFormView struct {
	Form     *form
	Edit     string // name of the profile that is changed, "" for a new one
	Action   string
	Back     string
	Version  string
	Template string // title
	Primary  []field
	Lifetime []field
	SPIFFE   []field
	DNS      []field
	Advanced []field
	Proof    []field // by challenge
	Try      field
	Preview  previewView
}

// Members of the API's rules that the form has, by what they are.
func profileTexts() []string {
	return []string{"/rules/validity/default", "/rules/validity/max", "/rules/validity/backdate", "/rules/retention", "/rules/subject"}
}

func profileLists() []string {
	return []string{
		"/rules/names/spiffe/trustDomains", "/rules/names/spiffe/allow", "/rules/names/spiffe/deny", "/rules/names/dns/allow", "/rules/names/dns/deny",
		"/rules/names/ip/allow", "/rules/names/ip/deny", "/rules/keys", "/rules/keyUsage", "/rules/extKeyUsage",
	}
}

func profileNumbers() []string { return []string{"/rules/validity/jitterPercent", "/rules/maxNames"} }

// Fields of challenges, which a profile has altogether or not at all.
const (
	challengeTypes    = "/rules/challenges/types"
	challengeNetworks = "/rules/challenges/networks"
)

func profileSwitches() []string { return []string{"/rules/names/dns/wildcards", "/rules/includeRoot"} }

// rulesValues are the fields' values of rules that are there.
func rulesValues(r *apiv1.Rules) url.Values {
	lines := func(values []string) []string { return []string{strings.Join(values, "\n")} }
	values := url.Values{
		"/rules/validity/default": {r.Validity.Default}, "/rules/validity/max": {r.Validity.Max}, "/rules/subject": {r.Subject},
		"/rules/names/spiffe/trustDomains": lines(r.Names.SPIFFE.TrustDomains), "/rules/names/spiffe/allow": lines(r.Names.SPIFFE.Allow),
		"/rules/names/spiffe/deny": lines(r.Names.SPIFFE.Deny), "/rules/names/dns/allow": lines(r.Names.DNS.Allow),
		"/rules/names/dns/deny": lines(r.Names.DNS.Deny), "/rules/names/ip/allow": lines(r.Names.IP.Allow), "/rules/names/ip/deny": lines(r.Names.IP.Deny),
		"/rules/keys": r.Keys, "/rules/keyUsage": r.KeyUsage, "/rules/extKeyUsage": r.ExtKeyUsage, "/rules/maxNames": {strconv.Itoa(r.MaxNames)},
		"/rules/retention": {r.Retention}, "/rules/validity/backdate": {r.Validity.Backdate}, "/rules/validity/jitterPercent": {strconv.Itoa(r.Validity.JitterPercent)},
	}
	if r.Challenges != nil {
		values[challengeTypes], values[challengeNetworks] = r.Challenges.Types, lines(r.Challenges.Networks)
	}
	if r.Names.DNS.Wildcards {
		values.Set("/rules/names/dns/wildcards", "on")
	}
	if r.IncludeRoot {
		values.Set("/rules/includeRoot", "on")
	}
	return values
}

func (c *Console) newProfile(v *visit) error {
	template, err := v.template(v.query("template"))
	if err != nil {
		return err
	}
	values := rulesValues(&template.Rules)
	values.Set("/template", template.Name)
	values.Set("/method", template.Method)
	if template.Name == "private-mtls" { // what a mesh has, unless somebody changed it
		values.Set("/rules/names/spiffe/trustDomains", "cluster.local")
		values.Set("/rules/names/spiffe/allow", "*/*")
		values.Set("/rules/names/dns/allow", "**.svc\n**.svc.cluster.local")
	}
	return v.showProfileForm(v.newForm(values), nil)
}

// template finds a base template; the first one when none is named.
func (v *visit) template(name string) (*apiv1.Template, error) {
	list, err := v.api.Templates(v.ctx())
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(list.Items, func(t apiv1.Template) bool { return t.Name == name })
	return &list.Items[max(0, at)], nil
}

// showProfileForm shows the form of a new profile, or of one that is changed.
func (v *visit) showProfileForm(f *form, old *apiv1.Profile) error {
	template, err := v.template(f.value("/template"))
	if err != nil {
		return err
	}
	view := profileFormView{Form: f, Template: v.text("profile.template." + template.Name), Action: "/policies/profiles/new", Back: "/policies/profiles"}
	if old != nil {
		view.Edit, view.Version = old.Name, f.value("/version")
		view.Back = "/policies/profiles/" + url.PathEscape(old.Name)
		view.Action = view.Back + "/edit"
	}
	if view.Primary, err = v.primaryFields(f, template, old); err != nil {
		return err
	}
	view.Lifetime = []field{
		f.field("text", "/rules/validity/default", "profile.default"), f.field("text", "/rules/validity/max", "profile.max"),
		f.field("text", "/rules/validity/backdate", "profile.backdate"), f.field("number", "/rules/validity/jitterPercent", "profile.jitter"),
		f.field("text", "/rules/retention", "profile.retention"),
	}
	mono := func(pointer, key string, rows int) field {
		made := f.field("textarea", pointer, key)
		made.Mono, made.Rows = true, rows
		return made
	}
	if template.Name == "private-mtls" {
		view.SPIFFE = []field{
			mono("/rules/names/spiffe/trustDomains", "profile.trustDomains", 2), mono("/rules/names/spiffe/allow", "profile.spiffeAllow", 3),
			mono("/rules/names/spiffe/deny", "profile.spiffeDeny", 2),
		}
	}
	if template.Name != "mesh-intermediate" {
		view.DNS = []field{
			mono("/rules/names/dns/allow", "profile.dnsAllow", 3), mono("/rules/names/dns/deny", "profile.dnsDeny", 2),
			f.field("checkbox", "/rules/names/dns/wildcards", "profile.wildcards"),
			mono("/rules/names/ip/allow", "profile.ipAllow", 2), mono("/rules/names/ip/deny", "profile.ipDeny", 2),
		}
	}
	if template.Name != "mesh-intermediate" {
		view.Proof = []field{
			f.choice("checks", challengeTypes, "profile.challengeTypes", plainOptions([]string{"http-01", "dns-01", "tls-alpn-01"})),
			mono(challengeNetworks, "profile.challengeNetworks", 2),
		}
	}
	view.Advanced = []field{
		f.choice("checks", "/rules/keys", "profile.keys", plainOptions(template.Rules.Keys)),
		f.choice("checks", "/rules/keyUsage", "profile.keyUsage", plainOptions(usagesOf(template))),
		f.choice("checks", "/rules/extKeyUsage", "profile.extKeyUsage", plainOptions(template.Rules.ExtKeyUsage)),
		f.choice("radio", "/rules/subject", "profile.subject", v.options("profile.subject.", "empty", "common-name")),
		f.field("number", "/rules/maxNames", "profile.maxNames"),
		f.field("checkbox", "/rules/includeRoot", "profile.includeRoot"),
	}
	view.Try = f.tried()
	if view.Preview, err = v.preview(draftQuestion(f, view.Edit), f); err != nil {
		return err
	}
	return f.render("profileform", view)
}

// usagesOf are the key usages that profiles of a template can have (RFC 5280 section 4.2.1.3).
func usagesOf(t *apiv1.Template) []string {
	if t.Name == "mesh-intermediate" {
		return []string{"keyCertSign", "cRLSign", "digitalSignature"}
	}
	return []string{"digitalSignature", "keyEncipherment", "keyAgreement"}
}

// primaryFields are the fields that every profile has first.
func (v *visit) primaryFields(f *form, template *apiv1.Template, old *apiv1.Profile) ([]field, error) {
	cas, err := v.api.CAs(v.ctx())
	if err != nil {
		return nil, err
	}
	var issuing []option
	for _, ca := range cas.Items {
		if ca.Kind == "issuing" && ca.State == "active" {
			issuing = append(issuing, option{Value: ca.Name, Label: ca.Name})
		}
	}
	methods := []string{"acme", "rest-api"}
	switch template.Name {
	case "private-mtls":
		methods = []string{"mtls-over-acme", "agent", "acme", "rest-api"}
	case "mesh-intermediate":
		methods = []string{"rest-api"}
	}
	if f.value("/issuingCa") == "" && len(issuing) > 0 {
		f.values.Set("/issuingCa", issuing[0].Value) // what browsers send of a list that nobody has touched
	}
	ca := f.choice("select", "/issuingCa", "profile.issuingCa", issuing)
	method := f.choice("radio", "/method", "profile.method", v.options("profile.method.", methods...))
	ca.Required, method.Required = true, true
	if old != nil {
		return []field{ca, method}, nil
	}
	name := f.field("text", "/name", "profile.name")
	name.Mono, name.Required, name.Placeholder = true, true, "istio"
	return []field{name, ca, method}, nil
}

// options are choices whose labels, and explanations if there are any, are texts below a prefix.
func (v *visit) options(prefix string, values ...string) []option {
	var made []option
	for _, value := range values {
		o := option{Value: value, Label: v.text(prefix + value)}
		if v.has(prefix + value + ".help") {
			o.Help = v.text(prefix + value + ".help")
		}
		made = append(made, o)
	}
	return made
}

// plainOptions are choices that are called what they are.
func plainOptions(values []string) []option {
	var made []option
	for _, value := range values {
		made = append(made, option{Value: value, Label: value})
	}
	return made
}

// profileBody is what the form asks the API for. Fields that the form did not have stay as they are.
func profileBody(f *form) body {
	b := body{}
	has := func(pointer string) bool { _, ok := f.values[pointer]; return ok }
	for _, pointer := range profileTexts() {
		if has(pointer) {
			b.set(pointer, f.value(pointer))
		}
	}
	for _, pointer := range profileLists() {
		if has(pointer) {
			b.set(pointer, f.list(pointer))
		}
	}
	for _, pointer := range profileNumbers() {
		if n, err := strconv.Atoi(f.value(pointer)); err == nil {
			b.set(pointer, n)
		} else if f.value(pointer) != "" {
			b.set(pointer, f.value(pointer)) // the API says what is wrong with it
		}
	}
	for _, pointer := range profileSwitches() {
		b.set(pointer, f.value(pointer) != "")
	}
	switch types, networks := f.list(challengeTypes), f.list(challengeNetworks); {
	case len(types)+len(networks) > 0:
		b.set(challengeTypes, types)
		b.set(challengeNetworks, networks)
	case has(challengeNetworks):
		b.set("/rules/challenges", nil)
	}
	b.set("/issuingCa", f.value("/issuingCa"))
	b.set("/method", f.value("/method"))
	return b
}

func (c *Console) createProfile(v *visit) error {
	f := v.newForm(nil)
	asked := profileBody(f)
	asked.set("/name", f.value("/name"))
	asked.set("/template", f.value("/template"))
	p, err := v.api.CreateProfile(v.ctx(), asked)
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showProfileForm(f, nil)
	}
	return v.done("/policies/profiles/"+url.PathEscape(p.Name), "profile.created", p.Name)
}

func (c *Console) editProfile(v *visit) error {
	p, err := v.api.Profile(v.ctx(), v.r.PathValue("profile"))
	if err != nil {
		return err
	}
	values := rulesValues(&p.Rules)
	values.Set("/template", p.Template)
	values.Set("/method", p.Method)
	values.Set("/issuingCa", p.IssuingCA)
	values.Set("/version", strconv.FormatInt(p.Version, 10))
	return v.showProfileForm(v.newForm(values), p)
}

func (c *Console) updateProfile(v *visit) error {
	p, err := v.api.Profile(v.ctx(), v.r.PathValue("profile"))
	if err != nil {
		return err
	}
	f := v.newForm(nil)
	change := profileBody(f)
	version, err := strconv.ParseInt(f.value("/version"), 10, 64)
	if err != nil {
		version = 0 // no profile has it: the API says so
	}
	change.set("/version", version)
	updated, err := v.api.UpdateProfile(v.ctx(), p.Name, change)
	if err != nil {
		if version != p.Version && version > 0 { // somebody else was faster: what he wrote is seen, and can be written over
			f.values.Set("/version", strconv.FormatInt(p.Version, 10))
			f.Key = v.newKey()
			f.wrong("", v.text("profile.conflict", strconv.FormatInt(p.Version, 10)))
			return v.showProfileForm(f, p)
		}
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showProfileForm(f, p)
	}
	return v.done("/policies/profiles/"+url.PathEscape(updated.Name), "profile.updated", updated.Name)
}
