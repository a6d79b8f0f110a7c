package console

import (
	"html/template"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/console/chart"
)

func (c *Console) authorityRoutes() []route {
	return []route{
		{"GET /authorities", auth.Read, c.authorities},
		{"GET /authorities/new", auth.Administer, c.newAuthority},
		{"POST /authorities/new", auth.Administer, c.createAuthority},
		{"GET /authorities/import", auth.Administer, c.importForm},
		{"POST /authorities/import", auth.Administer, c.importAuthority},
		{"GET /authorities/{ca}", auth.Read, c.authority},
		{"POST /authorities/{ca}/certificate", auth.Administer, c.installCertificate},
		{"GET /authorities/{ca}/settings", auth.Administer, c.authoritySettingsForm},
		{"POST /authorities/{ca}/settings", auth.Administer, c.updateAuthoritySettings},
		{"GET /authorities/{ca}/suspend", auth.Administer, c.suspendAuthorityForm},
		{"POST /authorities/{ca}/suspend", auth.Administer, c.suspendAuthority},
		{"POST /authorities/{ca}/activate", auth.Administer, c.activateAuthority},
	}
}

// authoritiesView is the list of CAs, with a picture of who signed whom.
type authoritiesView struct {
	Picture   template.HTML
	CAs       []authorityRow
	MayCreate bool
}

type authorityRow struct {
	Name, Path, Kind, State, StateText, Subject, Key, Fingerprint string
	Parent                                                        string
	Expires                                                       stamp
	PEM, CER, CRL                                                 string // addresses; "" while it is pending
}

func authorityPath(name string) string { return "/authorities/" + url.PathEscape(name) }

func (v *visit) authorityRow(ca *apiv1.CA) authorityRow {
	row := authorityRow{
		Name: ca.Name, Path: authorityPath(ca.Name), Kind: v.text("common.kind." + ca.Kind), State: ca.State,
		StateText: v.text("common.state." + ca.State), Subject: ca.Subject, Key: ca.KeyAlgorithm, Parent: ca.Parent,
		Fingerprint: pairs(ca.Fingerprint), Expires: v.stamp(ca.NotAfter),
	}
	if ca.Fingerprint != "" {
		row.PEM, row.CER, row.CRL = "/ca/"+ca.ID+".pem", "/ca/"+ca.ID+".cer", "/crl/"+ca.ID+".crl"
	}
	return row
}

// pairs writes hexadecimal digits as browsers and openssl do.
func pairs(digits string) string {
	var b strings.Builder
	for i, digit := range strings.ToUpper(digits) {
		if i > 0 && i%2 == 0 {
			b.WriteByte(':')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

func (c *Console) authorities(v *visit) error {
	list, err := v.api.CAs(v.ctx())
	if err != nil {
		return err
	}
	// Roots first: whoever comes for something to trust should not have to search.
	slices.SortStableFunc(list.Items, func(a, b apiv1.CA) int { return strings.Compare(b.Kind, a.Kind) })
	view := authoritiesView{MayCreate: v.may(auth.Administer)}
	for i := range list.Items {
		view.CAs = append(view.CAs, v.authorityRow(&list.Items[i]))
	}
	if len(list.Items) > 0 {
		view.Picture = chart.Hierarchy{
			Label: chart.Label{ID: "hierarchy", Title: v.text("authority.hierarchy"), Description: v.text("authority.hierarchy.help")},
			Roots: v.below(list.Items, ""),
		}.Draw()
	}
	return v.render("authorities", view)
}

// below are the boxes of the CAs that a CA signed; of "", those that nobody here did.
func (v *visit) below(cas []apiv1.CA, parent string) []chart.Node {
	var nodes []chart.Node
	for i := range cas {
		ca := &cas[i]
		if ca.Parent != parent {
			continue
		}
		node := chart.Node{Name: ca.Name, Href: authorityPath(ca.Name), Lines: []string{v.text("common.kind." + ca.Kind)}, Tone: chart.OK, Children: v.below(cas, ca.Name)}
		switch {
		case ca.State != "active":
			node.Tone, node.Lines = chart.Warn, append(node.Lines, v.text("common.state."+ca.State))
		default:
			left := ca.NotAfter.Sub(v.now)
			if left < ca.NotAfter.Sub(ca.NotBefore)/10 {
				node.Tone = chart.Warn
			}
			node.Lines = append(node.Lines, v.text("authority.expires", v.stamp(ca.NotAfter).Ago))
		}
		nodes = append(nodes, node)
	}
	return nodes
}

// authorityView is the page of one CA.
type authorityView struct {
	authorityRow
	Facts     []fact
	Addresses []fact
	Profiles  []string // that issue from it
	Children  []string
	MayChange bool
	Active    bool
	Pending   bool
	CSR       string

	Extensions []extensionRow

	Form  *form
	Chain field
}

func (c *Console) authority(v *visit) error { return v.showAuthority(v.newForm(nil)) }

func (v *visit) showAuthority(f *form) error {
	ca, err := v.api.CA(v.ctx(), v.r.PathValue("ca"))
	if err != nil {
		return err
	}
	view := authorityView{
		authorityRow: v.authorityRow(ca), MayChange: v.may(auth.Administer), Active: ca.State == "active", Pending: ca.State == "pending", Form: f,
	}
	view.Extensions = v.extensions(ca.Details)
	view.Facts = []fact{{v.text("authority.key"), ca.KeyAlgorithm}}
	if ca.Serial != "" {
		view.Facts = append(view.Facts, fact{v.text("authority.issuer"), ca.Issuer}, fact{v.text("authority.serial"), ca.Serial})
	}
	if ca.PathLength != nil {
		view.Facts = append(view.Facts, fact{v.text("authority.pathLength"), number(int64(*ca.PathLength))})
	}
	if ca.Constraints != nil {
		view.Facts = append(view.Facts, fact{v.text("authority.constraints"), strings.Join(append(slices.Clone(ca.Constraints.TrustDomains), ca.Constraints.DNS...), ", ")})
	}
	for key, values := range map[string][]string{"authority.crl": ca.Settings.CRLURLs, "authority.ocsp": ca.Settings.OCSPURLs, "authority.aia": ca.Settings.IssuerURLs} {
		for _, value := range values {
			view.Addresses = append(view.Addresses, fact{v.text(key), value})
		}
	}
	slices.SortFunc(view.Addresses, func(a, b fact) int { return strings.Compare(a.Name+a.Value, b.Name+b.Value) })
	if err := v.dependents(&view, ca.Name); err != nil {
		return err
	}
	if view.Pending && view.MayChange {
		csr, err := v.api.CACSR(v.ctx(), ca.Name)
		if err != nil {
			return err
		}
		view.CSR = csr.PEM
		view.Chain = f.field("textarea", "/chain", "authority.chain")
		view.Chain.Mono, view.Chain.Rows, view.Chain.File = true, 8, true
	}
	return f.render("authority", view)
}

// dependents finds what stops working when a CA is suspended.
func (v *visit) dependents(view *authorityView, name string) error {
	profiles, err := v.api.Profiles(v.ctx())
	if err != nil {
		return err
	}
	for _, p := range profiles.Items {
		if p.IssuingCA == name {
			view.Profiles = append(view.Profiles, p.Name)
		}
	}
	cas, err := v.api.CAs(v.ctx())
	if err != nil {
		return err
	}
	for _, ca := range cas.Items {
		if ca.Parent == name {
			view.Children = append(view.Children, ca.Name)
		}
	}
	return nil
}

// authorityFormView is the form of a new or imported CA.
type authorityFormView struct {
	Form     *form
	Primary  []field
	Advanced []field
}

func (c *Console) newAuthority(v *visit) error {
	kind := "issuing"
	if v.query("kind") == "root" {
		kind = "root"
	}
	return v.showAuthorityForm(v.newForm(url.Values{"/kind": {kind}, "/parent": {v.query("parent")}, "/keyAlgorithm": {"ecdsa-p256"}}))
}

func (v *visit) showAuthorityForm(f *form) error {
	list, err := v.api.CAs(v.ctx())
	if err != nil {
		return err
	}
	parents := []option{{Value: "", Label: v.text("authority.outside")}}
	for _, ca := range list.Items {
		if ca.State == "active" && (ca.PathLength == nil || *ca.PathLength > 0) {
			parents = append(parents, option{Value: ca.Name, Label: ca.Name})
		}
	}
	if f.value("/parent") == "" && f.visit.r.Method == "GET" && len(parents) > 1 && f.value("/kind") != "root" {
		f.values.Set("/parent", parents[1].Value)
	}
	name := f.field("text", "/name", "authority.name")
	name.Mono, name.Required = true, true
	validity := f.field("text", "/validity", "authority.validity")
	validity.Placeholder = "5y"
	kind := f.choice("radio", "/kind", "common.kind", []option{
		{Value: "root", Label: v.text("common.kind.root"), Help: v.text("authority.root.help")},
		{Value: "issuing", Label: v.text("common.kind.issuing"), Help: v.text("authority.issuing.help")},
	})
	view := authorityFormView{
		Form: f,
		Primary: []field{
			kind, name, f.choice("select", "/parent", "authority.parent", parents),
			f.field("text", "/commonName", "authority.commonName"), f.field("text", "/organization", "authority.organization"), validity,
		},
		Advanced: []field{
			f.choice("select", "/keyAlgorithm", "authority.key", plainOptions([]string{"ecdsa-p256", "ecdsa-p384", "rsa-3072", "rsa-4096", "ed25519"})),
			f.field("number", "/pathLength", "authority.depth"),
			f.field("textarea", "/constraints/trustDomains", "authority.onlyTrustDomains"), f.field("textarea", "/constraints/dns", "authority.onlyDNS"),
		},
	}
	for i := range view.Advanced {
		view.Advanced[i].Rows = 2
	}
	return f.render("authorityform", view)
}

func (c *Console) createAuthority(v *visit) error {
	f := v.newForm(nil)
	asked := apiv1.CreateCA{
		Name: f.value("/name"), Kind: f.value("/kind"), Parent: f.value("/parent"), KeyAlgorithm: f.value("/keyAlgorithm"),
		CommonName: f.value("/commonName"), Organization: f.value("/organization"), Validity: f.value("/validity"),
	}
	if asked.Kind == "root" {
		asked.Parent = "" // the field is of no meaning then
	}
	if domains, names := f.list("/constraints/trustDomains"), f.list("/constraints/dns"); len(domains)+len(names) > 0 {
		asked.Constraints = &apiv1.Constraints{TrustDomains: domains, DNS: names}
	}
	if depth := f.value("/pathLength"); depth != "" {
		n, err := strconv.Atoi(depth)
		if err != nil {
			f.wrong("/pathLength", v.text("authority.depth.wrong"))
			return v.showAuthorityForm(f)
		}
		asked.PathLength = &n
	}
	ca, err := v.api.CreateCA(v.ctx(), asked)
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showAuthorityForm(f)
	}
	return v.done(authorityPath(ca.Name), "authority.created", ca.Name)
}

func (c *Console) importForm(v *visit) error { return v.showImport(v.newForm(nil)) }

func (v *visit) showImport(f *form) error {
	name := f.field("text", "/name", "authority.name")
	chain := f.field("textarea", "/chain", "authority.chain")
	key := f.field("textarea", "/key", "authority.privateKey")
	key.Value = "" // a secret never comes back
	name.Mono, chain.Mono, key.Mono = true, true, true
	name.Required, chain.File, key.File = true, true, true // a file or a text: the API says when there is neither
	chain.Rows, key.Rows = 8, 6
	return f.render("authorityimport", authorityFormView{Form: f, Primary: []field{name, chain, key}})
}

func (c *Console) importAuthority(v *visit) error {
	f := v.newForm(nil)
	ca, err := v.api.ImportCA(v.ctx(), apiv1.ImportCA{Name: f.value("/name"), Chain: f.value("/chain"), Key: f.value("/key")})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showImport(f)
	}
	return v.done(authorityPath(ca.Name), "authority.imported", ca.Name)
}

func (c *Console) installCertificate(v *visit) error {
	f := v.newForm(nil)
	ca, err := v.api.InstallCertificate(v.ctx(), v.r.PathValue("ca"), apiv1.InstallCertificate{Chain: f.value("/chain")})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showAuthority(f)
	}
	return v.done(authorityPath(ca.Name), "authority.installed", ca.Name)
}

func (c *Console) suspendAuthorityForm(v *visit) error {
	back := authorityPath(v.r.PathValue("ca"))
	return v.render("confirm", confirmView{
		Form: v.newForm(nil), Question: v.text("authority.suspend.question", v.r.PathValue("ca")), Means: v.text("authority.suspend.means"),
		Button: v.text("profile.suspend"), Action: back + "/suspend", Back: back,
	})
}

func (c *Console) suspendAuthority(v *visit) error {
	ca, err := v.api.SuspendCA(v.ctx(), v.r.PathValue("ca"))
	if err != nil {
		return err
	}
	return v.done(authorityPath(ca.Name), "authority.suspended", ca.Name)
}

func (c *Console) activateAuthority(v *visit) error {
	ca, err := v.api.ActivateCA(v.ctx(), v.r.PathValue("ca"))
	if err != nil {
		return err
	}
	return v.done(authorityPath(ca.Name), "authority.activated", ca.Name)
}
