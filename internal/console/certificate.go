package console

import (
	"context"
	"html/template"
	"net/url"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/console/chart"
)

type certificateRow struct {
	Serial, Short, Path    string
	Identity, IdentityPath string
	Status, Text           string
	Left                   string
	Bar                    template.HTML
	Profile, CA            string
	Credential             string
	Where                  string // cluster and Pod
	Cluster, Pod           string
	Agent, Address         string // the client's program and where it was
	Issued, Ends           stamp
}

func (v *visit) certificateRow(c *apiv1.Certificate) certificateRow {
	row := certificateRow{
		Serial: c.Serial, Short: c.Serial[:min(12, len(c.Serial))] + "…", Path: "/inventory/certificates/" + url.PathEscape(c.Serial),
		Identity: c.Identity, IdentityPath: identityPath(c.Identity), Status: c.Status, Text: v.text("inventory.status." + c.Status),
		Profile: c.Profile, CA: c.IssuingCA, Credential: c.CredentialName, Issued: v.stamp(c.IssuedAt), Ends: v.stamp(c.NotAfter),
		Agent: c.UserAgent, Address: c.Address,
	}
	if w := c.Workload; w != nil {
		row.Where = strings.Trim(w.Cluster+" · "+w.Pod, " ·")
		row.Cluster, row.Pod = w.Cluster, w.Pod
	}
	row.Left, row.Bar = v.timeLeft(c.NotBefore, c.NotAfter, !c.RevokedAt.IsZero(), toneOf(c.Status))
	return row
}

// certificateView is the page of one certificate, for the owner of a service.
type certificateView struct {
	certificateRow
	Names      []fact
	Validity   []fact
	Asked      []linkedFact // who asked, and where it went
	Technical  []fact
	Extensions []extensionRow
	Shortened  string        // what is said when less was granted than requested
	Share      template.HTML // of the requested lifetime that was granted
	Events     string        // address of its audit events, "" when there is no such page for the visitor
	Chain      []chainLink
	PEM        string
	Download   string
	ChainFile  string
	Revoke     string // addresses of forms, "" for what cannot be done
	Hold       string
	Release    string
	Held       bool
	RevokedAt  stamp
	Reason     string
}

// linkedFact is a fact that leads to more of its kind.
type linkedFact struct{ Name, Value, Path string }

// chainLink is one certificate of a chain, from the leaf up.
type chainLink struct{ Name, Path, Kind string }

func (c *Console) certificate(v *visit) error {
	certificate, err := v.api.Certificate(v.ctx(), v.r.PathValue("serial"))
	if err != nil {
		return err
	}
	view := certificateView{certificateRow: v.certificateRow(certificate), PEM: certificate.PEM, RevokedAt: v.stamp(certificate.RevokedAt), Reason: certificate.RevocationReason}
	view.Download, view.ChainFile = view.Path+"/pem", view.Path+"/pem?chain=true"
	view.offer(v, certificate)
	if v.may(auth.Read) && v.console.serves("/audit") {
		view.Events = "/audit?" + url.Values{"target": {certificate.Serial}}.Encode()
	}
	requested := certificate.Requested
	if requested == "" {
		requested = v.text("certificate.requested.none")
	}
	view.Validity = []fact{
		{v.text("certificate.requested"), requested},
		{v.text("certificate.granted"), certificate.Granted},
		{v.text("certificate.notBefore"), v.stamp(certificate.NotBefore).Text + " UTC"},
		{v.text("certificate.notAfter"), v.stamp(certificate.NotAfter).Text + " UTC"},
		{v.text("certificate.renewAt"), v.stamp(certificate.RenewAt).Text + " UTC"},
	}
	if asked, err := time.ParseDuration(certificate.Requested); err == nil && asked > 0 {
		if granted := certificate.NotAfter.Sub(certificate.IssuedAt); granted < asked-time.Minute {
			view.Shortened = v.text("certificate.requested.less")
			view.Share = chart.Bar{Share: float64(granted) / float64(asked), Tone: chart.Due}.Draw()
		}
	}
	for _, uri := range certificate.Names.URIs {
		view.Names = append(view.Names, fact{"URI", uri})
	}
	for _, name := range certificate.Names.DNS {
		view.Names = append(view.Names, fact{"DNS", name})
	}
	for _, address := range certificate.Names.IPs {
		view.Names = append(view.Names, fact{"IP", address})
	}
	view.Asked = v.askedFor(certificate)
	view.Technical = []fact{
		{v.text("certificate.serial"), certificate.Serial},
		{v.text("common.fingerprint"), pairs(certificate.Fingerprint)},
		{v.text("certificate.key"), certificate.KeyAlgorithm},
		{v.text("certificate.signature"), certificate.SignatureAlgorithm},
	}
	view.Extensions = v.extensions(certificate.Details)
	if view.Chain, err = v.chainOf(certificate); err != nil {
		return err
	}
	return v.render("certificate", view)
}

// offer says what the visitor may do with the certificate.
func (view *certificateView) offer(v *visit, certificate *apiv1.Certificate) {
	view.Held = certificate.Status == "held"
	if !v.may(auth.Operate) || !v.now.Before(certificate.NotAfter) {
		return
	}
	switch {
	case view.Held:
		view.Revoke, view.Release = view.Path+"/revoke", view.Path+"/release"
	case certificate.RevokedAt.IsZero():
		view.Revoke, view.Hold = view.Path+"/revoke", view.Path+"/hold"
	}
}

// askedFor is who asked for a certificate, as far as is known.
func (v *visit) askedFor(c *apiv1.Certificate) []linkedFact {
	w := c.Workload
	if w == nil {
		w = &apiv1.Workload{}
	}
	list := func(name, value string) string {
		if value == "" {
			return ""
		}
		return "/inventory/certificates?" + url.Values{name: {value}}.Encode()
	}
	profile, presented := "", ""
	if v.may(auth.Read) {
		profile = "/policies/profiles/" + url.PathEscape(c.Profile)
	}
	if w.Presented != "" {
		presented = "/inventory/certificates/" + url.PathEscape(w.Presented)
	}
	var known []linkedFact
	for _, f := range []linkedFact{
		{v.text("inventory.profile"), c.Profile, profile},
		{v.text("certificate.credential"), c.CredentialName, list("credential", c.Credential)},
		{v.text("credential.keyId"), c.Credential, ""},
		{v.text("certificate.account"), c.Account, ""},
		{v.text("certificate.order"), c.Order, ""},
		{v.text("certificate.address"), c.Address, ""},
		{v.text("certificate.userAgent"), c.UserAgent, ""},
		{v.text("certificate.cluster"), w.Cluster, list("cluster", w.Cluster)},
		{v.text("certificate.pod"), w.Pod, list("pod", w.Pod)},
		{v.text("certificate.node"), w.Node, ""},
		{v.text("certificate.impersonated"), w.ImpersonatedBy, ""},
		{v.text("certificate.presented"), w.Presented, presented},
		{v.text("certificate.replaces"), c.Replaces, ""},
	} {
		if f.Value != "" {
			known = append(known, f)
		}
	}
	return known
}

// chainOf walks from a certificate's issuing CA up to the root, as far as the CAs are here.
func (v *visit) chainOf(c *apiv1.Certificate) ([]chainLink, error) {
	links := []chainLink{{Name: c.Identity, Kind: v.text("certificate.leaf")}}
	if !v.may(auth.Read) {
		return append(links, chainLink{Name: c.IssuingCA, Kind: v.text("common.kind.issuing")}), nil
	}
	list, err := v.api.CAs(v.ctx())
	if err != nil {
		return nil, err
	}
	cas := make(map[string]*apiv1.CA)
	for i := range list.Items {
		cas[list.Items[i].Name] = &list.Items[i]
	}
	for name := c.IssuingCA; len(links) <= len(cas); {
		ca, ok := cas[name]
		if !ok {
			break
		}
		links = append(links, chainLink{ca.Name, authorityPath(ca.Name), v.text("common.kind." + ca.Kind)})
		name = ca.Parent
	}
	return links, nil
}

func (c *Console) certificatePEM(v *visit) error {
	serial := v.r.PathValue("serial")
	path := "/certificates/" + url.PathEscape(serial) + "/pem"
	if v.query("chain") == "true" {
		return v.pass(path+"?chain=true", serial+"-chain.pem")
	}
	return v.pass(path, serial+".pem")
}

// reasonOptions are the reasons of RFC 5280 that may be given.
func (v *visit) reasonOptions() []option {
	return v.options("certificate.reason.", "unspecified", "keyCompromise", "superseded", "cessationOfOperation", "affiliationChanged", "privilegeWithdrawn")
}

func (c *Console) revokeCertificateForm(v *visit) error { return v.showRevoke(v.newForm(nil)) }

func (v *visit) showRevoke(f *form) error {
	back := "/inventory/certificates/" + url.PathEscape(v.r.PathValue("serial"))
	reason := f.choice("radio", "/reason", "certificate.reason", v.reasonOptions())
	reason.Required = true
	return f.render("confirm", confirmView{
		Form: f, Question: v.text("certificate.revoke.question"), Means: v.text("certificate.revoke.means"), Button: v.text("credential.revoke"),
		Action: back + "/revoke", Back: back, Reason: &reason,
	})
}

func (c *Console) revokeCertificate(v *visit) error {
	f := v.newForm(nil)
	revoked, err := v.api.RevokeCertificate(v.ctx(), v.r.PathValue("serial"), apiv1.RevokeCertificate{Reason: f.value("/reason")})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showRevoke(f)
	}
	return v.done("/inventory/certificates/"+url.PathEscape(revoked.Serial), "certificate.revoked")
}

func (c *Console) holdCertificateForm(v *visit) error { return v.showHold(v.newForm(nil), "hold") }

func (c *Console) releaseCertificateForm(v *visit) error {
	return v.showHold(v.newForm(nil), "release")
}

// showHold asks whether a certificate is to be held or released.
func (v *visit) showHold(f *form, what string) error {
	back := "/inventory/certificates/" + url.PathEscape(v.r.PathValue("serial"))
	return f.render("confirm", confirmView{
		Form: f, Question: v.text("certificate." + what + ".question"), Means: v.text("certificate." + what + ".means"),
		Button: v.text("certificate." + what), Action: back + "/" + what, Back: back,
	})
}

func (c *Console) holdCertificate(v *visit) error {
	return v.changeCertificate("hold", v.api.HoldCertificate)
}

func (c *Console) releaseCertificate(v *visit) error {
	return v.changeCertificate("release", v.api.ReleaseCertificate)
}

func (v *visit) changeCertificate(what string, change func(context.Context, string) (*apiv1.Certificate, error)) error {
	f := v.newForm(nil)
	changed, err := change(v.ctx(), v.r.PathValue("serial"))
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showHold(f, what)
	}
	return v.done("/inventory/certificates/"+url.PathEscape(changed.Serial), "certificate."+what+".done")
}
