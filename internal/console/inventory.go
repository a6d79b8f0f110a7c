package console

import (
	"html/template"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/console/chart"
)

func (c *Console) inventoryRoutes() []route {
	return []route{
		{"GET /inventory", auth.Read, c.identities},
		{"GET /inventory/identity", auth.Read, c.identity},
		{"GET /inventory/certificates", auth.Read, c.certificates},
		{"GET /inventory/certificates/{serial}", auth.Read, c.certificate},
		{"GET /inventory/certificates/{serial}/pem", auth.Read, c.certificatePEM},
		{"GET /inventory/certificates/{serial}/revoke", auth.Write, c.revokeCertificateForm},
		{"POST /inventory/certificates/{serial}/revoke", auth.Write, c.revokeCertificate},
		{"GET /inventory/export", auth.Read, c.exportCertificates},
	}
}

// inventoryPage is how many rows a page of the inventory has.
const inventoryPage = 50

// identitiesView is the inventory by identity: what people look after is a workload, not the certificate of the hour.
type identitiesView struct {
	Tabs     []tab
	Fields   []field // filters
	Rows     []identityRow
	Filtered bool
	Self     string // address of the same page, to look again
	Next     string // address of the next page, "" on the last
	First    string // address of the first page, "" there
}

// tab is one of several lists of an area.
type tab struct {
	Title, Path string
	Current     bool
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
	LastIssued, Ends stamp
}

func (v *visit) inventoryTabs(current string) []tab {
	return []tab{
		{v.text("nav.identities"), "/inventory", current == "identities"},
		{v.text("nav.certificates"), "/inventory/certificates", current == "certificates"},
	}
}

func identityPath(name string) string { return "/inventory/identity?name=" + url.QueryEscape(name) }

func (v *visit) identityRow(i *apiv1.Identity) identityRow {
	row := identityRow{
		Name: i.Name, Path: identityPath(i.Name), Short: i.Name, Namespace: i.Namespace, TrustDomain: i.TrustDomain, Status: i.Status,
		Text: v.text("inventory.status." + i.Status), Newest: "/inventory/certificates/" + i.NewestSerial, Profile: i.Profile,
		Certificates: number(i.Certificates), LastIssued: v.stamp(i.LastIssuedAt), Ends: v.stamp(i.NotAfter),
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

// maxTyped is how much of a search the API takes. What nobody has typed, but pasted, is cut.
const maxTyped = 200

// typed is what somebody looks for.
func (v *visit) typed() string {
	typed := strings.ToValidUTF8(strings.TrimSpace(v.query("q")), "\ufffd")
	if runes := []rune(typed); len(runes) > maxTyped {
		typed = string(runes[:maxTyped])
	}
	return typed
}

func (c *Console) identities(v *visit) error {
	q := apiv1.IdentityQuery{
		Namespace: strings.TrimSpace(v.query("namespace")), TrustDomain: strings.TrimSpace(v.query("trustDomain")),
		Profile: v.query("profile"), Status: v.query("status"), After: v.query("after"), Limit: inventoryPage,
	}
	q.Text = v.typed()
	list, err := v.api.Identities(v.ctx(), q)
	if err != nil {
		return err
	}
	view := identitiesView{
		Tabs: v.inventoryTabs("identities"), Self: v.r.URL.RequestURI(),
		Filtered: q.Text != "" || q.Namespace != "" || q.TrustDomain != "" || q.Profile != "" || q.Status != "",
	}
	for i := range list.Items {
		view.Rows = append(view.Rows, v.identityRow(&list.Items[i]))
	}
	view.First, view.Next = v.pages(list.Next)
	if v.htmx() {
		return v.fragment("inventory", "rows", view)
	}
	if view.Fields, err = v.inventoryFilters([]string{"ok", "renewal-due", "lapsing", "lapsed"}); err != nil {
		return err
	}
	return v.render("inventory", view)
}

// pages are the addresses of the first page and of the next one.
func (v *visit) pages(next string) (first, following string) {
	at := *v.r.URL
	query := at.Query()
	if query.Has("after") {
		query.Del("after")
		at.RawQuery = query.Encode()
		first = at.RequestURI()
	}
	if next != "" {
		query.Set("after", next)
		at.RawQuery = query.Encode()
		following = at.RequestURI()
	}
	return first, following
}

// inventoryFilters are the fields above a list of the inventory.
func (v *visit) inventoryFilters(statuses []string) ([]field, error) {
	f := v.newForm(v.r.URL.Query())
	profiles, err := v.api.Profiles(v.ctx())
	if err != nil {
		return nil, err
	}
	anyProfile := []option{{Value: "", Label: v.text("common.all")}}
	for _, p := range profiles.Items {
		anyProfile = append(anyProfile, option{Value: p.Name, Label: p.Name})
	}
	anyStatus := append([]option{{Value: "", Label: v.text("common.all")}}, v.options("inventory.status.", statuses...)...)
	search := f.field("search", "q", "inventory.search")
	search.Help = ""
	return []field{search, f.choice("select", "status", "inventory.status", anyStatus), f.choice("select", "profile", "inventory.profile", anyProfile)}, nil
}

// identityView is the page of one identity: its certificates as a history.
type identityView struct {
	identityRow
	Facts    []fact
	Timeline template.HTML
	Rows     []certificateRow
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
	view := identityView{identityRow: v.identityRow(i)}
	line := chart.Timeline{
		Label: chart.Label{ID: "history", Title: v.text("inventory.history"), Description: v.text("inventory.history.help", number(int64(len(list.Items))))},
		Now:   v.now, NowText: v.text("inventory.now"), Empty: v.text("inventory.none"),
	}
	for n := range list.Items {
		certificate := &list.Items[n]
		row := v.certificateRow(certificate)
		view.Rows = append(view.Rows, row)
		line.Spans = append(line.Spans, chart.Span{
			Name: row.Issued.Text, Note: row.Serial, From: certificate.NotBefore, To: certificate.NotAfter, Stopped: certificate.RevokedAt,
			Mark: certificate.RenewAt, Tone: toneOf(certificate.Status), Href: row.Path,
		})
	}
	slices.Reverse(line.Spans)
	view.Timeline = line.Draw()
	for _, f := range []fact{
		{v.text("inventory.trustDomain"), i.TrustDomain}, {v.text("inventory.namespace"), i.Namespace}, {v.text("inventory.serviceAccount"), i.ServiceAccount},
		{v.text("inventory.profile"), i.Profile}, {v.text("inventory.issued"), number(i.Certificates)},
		{v.text("inventory.first"), v.stamp(i.FirstIssuedAt).Text + " UTC"}, {v.text("inventory.last"), v.stamp(i.LastIssuedAt).Text + " UTC"},
	} {
		if f.Value != "" {
			view.Facts = append(view.Facts, f)
		}
	}
	return v.render("identity", view)
}
