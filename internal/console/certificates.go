package console

import (
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

// certificatesView is the inventory by certificate, newest first.
type certificatesView struct {
	listView
	Rows      []certificateRow
	Revoke    bool   // the visitor may
	RevokeAll string // address of the page that revokes everything that is selected, "" when nothing is
}

// certificateList is the list of certificates.
func certificateList() listKind {
	return listKind{
		name: "certificates", path: "/inventory/certificates", statuses: []string{"valid", "renewal-due", "expired", "held", "revoked"},
		more: []string{"cluster", "pod", "trustDomain", "issuingCa", "credential"},
		columns: []column{
			{"serial", "certificate.serial", true},
			{"status", "inventory.status", true},
			{"left", "inventory.timeLeft", true},
			{"profile", "inventory.profile", true},
			{"where", "certificate.where", true},
			{"last", "inventory.last", true},
			{"ends", "common.expires", false},
			{"ca", "inventory.issuingCa", false},
			{"credential", "certificate.credential", false},
			{"agent", "certificate.userAgent", false},
			{"address", "certificate.address", false},
		},
		views: []readyView{
			{"inventory.view.all", ""},
			{"inventory.view.hour", "issuedWithin=1h"},
			{"inventory.view.due", "status=renewal-due"},
			{"inventory.view.expired", "status=expired"},
			{"inventory.view.revoked", "status=revoked"},
		},
	}
}

// certificateQuery is what the page's address selects.
func (v *visit) certificateQuery() apiv1.CertificateQuery {
	q := apiv1.CertificateQuery{
		Text: v.typed(), Status: v.chosen("status"), Profile: v.chosen("profile"), Namespace: v.chosen("namespace"),
		TrustDomain: v.chosen("trustDomain"), Cluster: v.chosen("cluster"), Pod: v.chosen("pod"), IssuingCA: v.chosen("issuingCa"),
		Credential: v.chosen("credential"), Identity: v.chosen("identity"), After: v.query("after"), Limit: inventoryPage,
	}
	if within, err := time.ParseDuration(v.chosen("issuedWithin")); err == nil && within > 0 {
		q.IssuedAfter = v.now.Add(-within)
	}
	return q
}

func (c *Console) certificates(v *visit) error {
	list, err := v.api.Certificates(v.ctx(), v.certificateQuery())
	if err != nil {
		return err
	}
	view := certificatesView{Revoke: v.may(auth.Operate)}
	if view.listView, err = v.newList(certificateList(), len(list.Items), list.Next); err != nil {
		return err
	}
	for i := range list.Items {
		view.Rows = append(view.Rows, v.certificateRow(&list.Items[i]))
	}
	if selected := selection(v.r.URL.Query()); view.Revoke && len(view.Rows) > 0 && v.selectionOf() != (apiv1.CertificateSelection{}) && v.query("issuedWithin") == "" {
		view.RevokeAll = "/inventory/certificates/revoke?" + selected
	}
	if v.htmx() {
		return v.fragment("certificates", "rows", view)
	}
	return v.render("certificates", view)
}

// exportCertificates hands on the API's export of what the list selects.
func (c *Console) exportCertificates(v *visit) error {
	format := v.query("format")
	q := v.certificateQuery()
	query := url.Values{"format": {format}}
	for name, value := range map[string]string{
		"q": q.Text, "identity": q.Identity, "namespace": q.Namespace, "trustDomain": q.TrustDomain, "profile": q.Profile, "status": q.Status,
		"credential": q.Credential, "cluster": q.Cluster, "pod": q.Pod, "issuingCa": q.IssuingCA,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if !q.IssuedAfter.IsZero() {
		query.Set("issuedAfter", q.IssuedAfter.Format(time.RFC3339))
	}
	return v.pass("/certificates/export?"+query.Encode(), "certificates."+format)
}

// selectionOf is what the address selects, for a revocation.
func (v *visit) selectionOf() apiv1.CertificateSelection {
	q := v.certificateQuery()
	return apiv1.CertificateSelection{
		Text: q.Text, Identity: q.Identity, TrustDomain: q.TrustDomain, Namespace: q.Namespace, Profile: q.Profile, IssuingCA: q.IssuingCA,
		Credential: q.Credential, Cluster: q.Cluster, Pod: q.Pod,
	}
}

// revokeSeveralView asks whether several certificates are to be revoked, and says afterwards what has become of each.
type revokeSeveralView struct {
	Form     *form
	Reason   field
	Action   string
	Expected string // how many the page has shown
	Rows     []certificateRow
	Hidden   string // how many are not among the rows, "" when all are
	Nothing  bool
	Results  []revocationRow // afterwards
	Summary  string
	Back     string
}

type revocationRow struct{ Serial, Path, Status, Text, Detail string }

// maxRevoked is how many the API revokes at once.
const maxRevoked = 1000

func (c *Console) revokeSeveralForm(v *visit) error { return v.showRevokeSeveral(v.newForm(nil)) }

func (v *visit) showRevokeSeveral(f *form) error {
	view := revokeSeveralView{Form: f, Action: v.r.URL.RequestURI(), Back: "/inventory/certificates"}
	view.Reason = f.choice("radio", "/reason", "certificate.reason", v.reasonOptions())
	view.Reason.Required = true
	found, more, err := v.revocable()
	if err != nil {
		return err
	}
	if more {
		f.wrong("", v.text("certificate.several.many", number(maxRevoked)))
	}
	const shown = 100
	for i := range found[:min(len(found), shown)] {
		view.Rows = append(view.Rows, v.certificateRow(&found[i]))
	}
	if hidden := len(found) - len(view.Rows); hidden > 0 {
		view.Hidden = number(int64(hidden))
	}
	view.Expected, view.Nothing = strconv.Itoa(len(found)), len(found) == 0 || more
	return f.render("revokeseveral", view)
}

// revocable are the certificates that the address names, or those that it selects and that are neither expired nor
// revoked; more says that there are too many.
func (v *visit) revocable() (found []apiv1.Certificate, more bool, err error) {
	named := v.r.URL.Query()["serial"]
	if len(named) > 0 {
		for _, serial := range named[:min(len(named), maxRevoked)] {
			certificate, err := v.api.Certificate(v.ctx(), serial)
			if err != nil {
				return nil, false, err
			}
			if certificate.Status == "valid" || certificate.Status == "renewal-due" {
				found = append(found, *certificate)
			}
		}
		return found, len(named) > maxRevoked, nil
	}
	if v.selectionOf() == (apiv1.CertificateSelection{}) {
		return nil, false, nil
	}
	for _, status := range []string{"valid", "renewal-due"} {
		q := v.certificateQuery()
		q.Status, q.IssuedAfter, q.After, q.Limit = status, time.Time{}, "", maxRevoked
		page, err := v.api.Certificates(v.ctx(), q)
		if err != nil {
			return nil, false, err
		}
		found, more = append(found, page.Items...), more || page.Next != ""
	}
	return found, more || len(found) > maxRevoked, nil
}

func (c *Console) revokeSeveral(v *visit) error {
	f := v.newForm(nil)
	in := apiv1.RevokeCertificates{Reason: f.value("/reason"), Serials: v.r.URL.Query()["serial"]}
	if len(in.Serials) == 0 {
		selected := v.selectionOf()
		in.Filter = &selected
		in.Expected, _ = strconv.Atoi(f.value("/expected")) // what is no number is not how many there are
	} else {
		slices.Sort(in.Serials)
		in.Serials = slices.Compact(in.Serials)
	}
	answer, err := v.api.RevokeCertificates(v.ctx(), in)
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showRevokeSeveral(f)
	}
	view := revokeSeveralView{
		Form: f, Back: "/inventory/certificates",
		Summary: v.text("certificate.several.done", number(int64(answer.Revoked)), number(int64(len(answer.Items)))),
	}
	for _, item := range answer.Items {
		view.Results = append(view.Results, revocationRow{
			item.Serial, "/inventory/certificates/" + url.PathEscape(item.Serial), item.Outcome, v.text("certificate.outcome." + item.Outcome), item.Detail,
		})
	}
	return v.render("revokeseveral", view)
}
