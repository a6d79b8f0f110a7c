package console

import (
	"html/template"
	"net/url"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/console/chart"
)

func (c *Console) inventoryRoutes() []route {
	return []route{
		{"GET /inventory", auth.Inventory, c.identities},
		{"GET /inventory/identity", auth.Inventory, c.identity},
		{"POST /inventory/identity/retire", auth.Operate, c.retireIdentity},
		{"GET /inventory/certificates", auth.Inventory, c.certificates},
		{"GET /inventory/certificates/export", auth.Inventory, c.exportCertificates},
		{"GET /inventory/certificates/revoke", auth.Operate, c.revokeSeveralForm},
		{"POST /inventory/certificates/revoke", auth.Operate, c.revokeSeveral},
		{"GET /inventory/certificates/{serial}", auth.Inventory, c.certificate},
		{"GET /inventory/certificates/{serial}/pem", auth.Inventory, c.certificatePEM},
		{"GET /inventory/certificates/{serial}/revoke", auth.Operate, c.revokeCertificateForm},
		{"POST /inventory/certificates/{serial}/revoke", auth.Operate, c.revokeCertificate},
		{"GET /inventory/certificates/{serial}/hold", auth.Operate, c.holdCertificateForm},
		{"POST /inventory/certificates/{serial}/hold", auth.Operate, c.holdCertificate},
		{"GET /inventory/certificates/{serial}/release", auth.Operate, c.releaseCertificateForm},
		{"POST /inventory/certificates/{serial}/release", auth.Operate, c.releaseCertificate},
		{"GET /inventory/export", auth.Inventory, c.exportIdentities},
	}
}

// identitiesView is the inventory by identity: what people look after is a workload, not the certificate of the hour.
type identitiesView struct {
	listView
	Rows []identityRow
}

type identityRow struct {
	Name, Path       string
	Short            string // service account, or the name
	Namespace        string
	TrustDomain      string
	Status, Text     string
	Newest           string // address of the newest certificate
	Left             string
	Bar              template.HTML
	Profile          string
	Certificates     string
	Cluster          string
	LastIssued, Ends stamp
	First            stamp
}

func identityPath(name string) string { return "/inventory/identity?name=" + url.QueryEscape(name) }

func (v *visit) identityRow(i *apiv1.Identity) identityRow {
	row := identityRow{
		Name: i.Name, Path: identityPath(i.Name), Short: i.Name, Namespace: i.Namespace, TrustDomain: i.TrustDomain, Status: i.Status,
		Text: v.text("inventory.status." + i.Status), Newest: "/inventory/certificates/" + i.NewestSerial, Profile: i.Profile,
		Certificates: number(i.Certificates), LastIssued: v.stamp(i.LastIssuedAt), Ends: v.stamp(i.NotAfter),
		Cluster: i.Cluster, First: v.stamp(i.FirstIssuedAt),
	}
	if i.ServiceAccount != "" {
		row.Short = i.ServiceAccount
	}
	row.Left, row.Bar = v.timeLeft(i.NotBefore, i.NotAfter, !i.RevokedAt.IsZero(), toneOf(i.Status))
	return row
}

// toneOf is the colour of a status.
func toneOf(status string) chart.Tone {
	switch status {
	case "ok", "valid":
		return chart.OK
	case "renewal-due":
		return chart.Due
	case "lapsing":
		return chart.Warn
	case "gone":
		return chart.Quiet
	default:
		return chart.Bad
	}
}

// timeLeft says how much of a lifetime is left, in words and as a bar.
func (v *visit) timeLeft(from, to time.Time, revoked bool, tone chart.Tone) (string, template.HTML) {
	left := to.Sub(v.now)
	share, text := 0.0, v.text("inventory.left.none")
	switch {
	case revoked:
		text = v.text("common.state.revoked")
	case left > 0:
		text, share = v.text("inventory.left", v.span(left)), float64(left)/float64(max(1, to.Sub(from)))
	}
	return text, chart.Bar{Share: min(1, share), Tone: tone}.Draw()
}

// identityList is the list of identities.
func identityList() listKind {
	return listKind{
		name: "identities", path: "/inventory", statuses: []string{"ok", "renewal-due", "lapsing", "lapsed", "gone"},
		more: []string{"trustDomain", "cluster"},
		columns: []column{
			{"namespace", "inventory.namespace", true},
			{"status", "inventory.status", true},
			{"left", "inventory.timeLeft", true},
			{"cluster", "inventory.cluster", true},
			{"profile", "inventory.profile", true},
			{"last", "inventory.last", true},
			{"issued", "inventory.issued", true},
			{"ends", "common.expires", false},
			{"first", "inventory.first", false},
			{"trustDomain", "inventory.trustDomain", false},
		},
		views: []readyView{
			{"inventory.view.all", ""},
			{"inventory.view.due", "status=renewal-due"},
			{"inventory.view.lapsing", "status=lapsing"},
			{"inventory.view.lapsed", "status=lapsed"},
		},
	}
}

func (c *Console) identities(v *visit) error {
	list, err := v.api.Identities(v.ctx(), v.identityQuery())
	if err != nil {
		return err
	}
	view := identitiesView{}
	if view.listView, err = v.newList(identityList(), len(list.Items), list.Next); err != nil {
		return err
	}
	for i := range list.Items {
		view.Rows = append(view.Rows, v.identityRow(&list.Items[i]))
	}
	if len(view.Rows) == 0 && v.typed() != "" { // a Pod, perhaps
		view.Elsewhere = "/inventory/certificates?" + url.Values{"q": {v.typed()}}.Encode()
	}
	if v.htmx() {
		return v.fragment("inventory", "rows", view)
	}
	return v.render("inventory", view)
}

// exportIdentities hands on the API's export of what the list selects.
func (c *Console) exportIdentities(v *visit) error {
	format, q := v.query("format"), v.identityQuery()
	query := url.Values{"format": {format}}
	for name, value := range map[string]string{
		"q": q.Text, "namespace": q.Namespace, "trustDomain": q.TrustDomain, "cluster": q.Cluster, "profile": q.Profile, "status": q.Status,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return v.pass("/identities/export?"+query.Encode(), "identities."+format)
}

// identityQuery is what the page's address selects.
func (v *visit) identityQuery() apiv1.IdentityQuery {
	return apiv1.IdentityQuery{
		Text: v.typed(), Namespace: v.chosen("namespace"), TrustDomain: v.chosen("trustDomain"), Cluster: v.chosen("cluster"),
		Profile: v.chosen("profile"), Status: v.chosen("status"), After: v.query("after"), Limit: inventoryPage,
	}
}

// identityView is the page of one identity: its certificates as a history.
type identityView struct {
	identityRow
	Facts    []fact
	Timeline template.HTML
	Gaps     []string // times without a certificate
	Rows     []certificateRow
	All      string // address of all its certificates
	Revoke   string // address of the page that revokes them, "" for who may not
	Retire   string // address that marks the identity as gone, or takes the mark away; "" for who may not
	Gone     bool
}

func (c *Console) identity(v *visit) error {
	i, err := v.api.Identity(v.ctx(), v.query("name"))
	if err != nil {
		return err
	}
	const shown = 20
	list, err := v.api.Certificates(v.ctx(), apiv1.CertificateQuery{Identity: i.Name, Limit: shown})
	if err != nil {
		return err
	}
	view := identityView{
		identityRow: v.identityRow(i), All: "/inventory/certificates?" + url.Values{"identity": {i.Name}}.Encode(), Gaps: v.gaps(list.Items),
	}
	if v.may(auth.Operate) && i.Status != "lapsed" {
		view.Revoke = "/inventory/certificates/revoke?" + url.Values{"identity": {i.Name}}.Encode()
	}
	view.Gone = i.Status == "gone"
	if v.may(auth.Operate) {
		view.Retire = "/inventory/identity/retire"
	}
	view.history(v, list.Items)
	renewal := ""
	if i.Status == "ok" {
		expected := v.stamp(i.RenewAt)
		renewal = expected.Text + " UTC (" + expected.Ago + ")"
	}
	rolledUp := ""
	if sum := i.RolledUp; sum != nil {
		rolledUp = v.text("inventory.rolledUp.what", number(sum.Certificates), v.stamp(sum.FirstIssuedAt).Text, v.stamp(sum.LastIssuedAt).Text)
	}
	for _, f := range []fact{
		{v.text("inventory.next"), renewal},
		{v.text("inventory.gone"), v.stamp(i.GoneAt).Text},
		{v.text("inventory.cluster"), i.Cluster},
		{v.text("inventory.trustDomain"), i.TrustDomain},
		{v.text("inventory.namespace"), i.Namespace},
		{v.text("inventory.serviceAccount"), i.ServiceAccount},
		{v.text("inventory.profile"), i.Profile},
		{v.text("inventory.issued"), number(i.Certificates)},
		{v.text("inventory.rolledUp"), rolledUp},
		{v.text("inventory.first"), v.stamp(i.FirstIssuedAt).Text + " UTC"},
		{v.text("inventory.last"), v.stamp(i.LastIssuedAt).Text + " UTC"},
	} {
		if f.Value != "" {
			view.Facts = append(view.Facts, f)
		}
	}
	return v.render("identity", view)
}

// history draws the lifetimes of certificates, newest first.
func (view *identityView) history(v *visit, certificates []apiv1.Certificate) {
	line := chart.Timeline{
		Label: chart.Label{ID: "history", Title: v.text("inventory.history"), Description: v.text("inventory.history.help", number(int64(len(certificates))))},
		Now:   v.now, NowText: v.text("inventory.now"), Empty: v.text("inventory.none"),
	}
	for n := range certificates {
		certificate := &certificates[n]
		row := v.certificateRow(certificate)
		view.Rows = append(view.Rows, row)
		line.Spans = append(line.Spans, chart.Span{
			Name: row.Issued.Text, Note: row.Serial, From: certificate.NotBefore, To: certificate.NotAfter, Stopped: certificate.RevokedAt,
			Mark: certificate.RenewAt, Tone: toneOf(certificate.Status), Href: row.Path,
		})
	}
	slices.Reverse(line.Spans)
	view.Timeline = line.Draw()
}

// retireIdentity marks an identity as gone, or takes the mark away.
func (c *Console) retireIdentity(v *visit) error {
	name := v.value("name")
	page := "/inventory/identity?" + url.Values{"name": {name}}.Encode()
	if v.value("restore") != "" {
		if _, err := v.api.RestoreIdentities(v.ctx(), []string{name}); err != nil {
			return err
		}
		return v.done(page, "inventory.restored")
	}
	if _, err := v.api.RetireIdentities(v.ctx(), []string{name}); err != nil {
		return err
	}
	return v.done(page, "inventory.retired")
}

// gaps are the times between certificates, newest first, in which none was valid.
func (v *visit) gaps(newestFirst []apiv1.Certificate) []string {
	var gaps []string
	var covered time.Time // until when those before had one
	for i := len(newestFirst) - 1; i >= 0; i-- {
		certificate := &newestFirst[i]
		if !covered.IsZero() && certificate.NotBefore.After(covered) {
			gaps = append(gaps, v.text("inventory.gap", v.stamp(covered).Text, v.stamp(certificate.NotBefore).Text))
		}
		end := certificate.NotAfter
		if !certificate.RevokedAt.IsZero() {
			end = certificate.RevokedAt
		}
		if end.After(covered) {
			covered = end
		}
	}
	slices.Reverse(gaps)
	return gaps
}
