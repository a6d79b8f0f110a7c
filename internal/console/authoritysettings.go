package console

import (
	"net/url"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// authoritySettingsView is the form of what a CA puts into the certificates that it signs from now on.
type authoritySettingsView struct {
	Form       *form
	Name, Path string
	Fields     []field
}

func (c *Console) authoritySettingsForm(v *visit) error {
	ca, err := v.api.CA(v.ctx(), v.r.PathValue("ca"))
	if err != nil {
		return err
	}
	return v.showAuthoritySettings(v.newForm(url.Values{
		"/crlUrls": {strings.Join(ca.Settings.CRLURLs, "\n")}, "/ocspUrls": {strings.Join(ca.Settings.OCSPURLs, "\n")},
		"/issuerUrls": {strings.Join(ca.Settings.IssuerURLs, "\n")},
	}), ca.Name)
}

func (v *visit) showAuthoritySettings(f *form, name string) error {
	view := authoritySettingsView{Form: f, Name: name, Path: authorityPath(name), Fields: []field{
		f.field("textarea", "/crlUrls", "authority.crl"), f.field("textarea", "/ocspUrls", "authority.ocsp"), f.field("textarea", "/issuerUrls", "authority.aia"),
	}}
	for i := range view.Fields {
		view.Fields[i].Mono, view.Fields[i].Rows = true, 3
	}
	return f.render("authoritysettings", view)
}

func (c *Console) updateAuthoritySettings(v *visit) error {
	f := v.newForm(nil)
	name := v.r.PathValue("ca")
	ca, err := v.api.UpdateCASettings(v.ctx(), name, apiv1.CASettings{
		CRLURLs: f.list("/crlUrls"), OCSPURLs: f.list("/ocspUrls"), IssuerURLs: f.list("/issuerUrls"),
	})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showAuthoritySettings(f, name)
	}
	return v.done(authorityPath(ca.Name), "authority.settings.saved", ca.Name)
}
