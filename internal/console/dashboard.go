package console

import (
	"html/template"
	"net/url"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/console/chart"
)

func (c *Console) dashboardRoutes() []route {
	return []route{
		{"GET /{$}", auth.Self, c.dashboard},
	}
}

// dashboardView is the first page after signing in. Parts that the visitor does not see are empty.
type dashboardView struct {
	At       string   // when the figures were taken
	Trouble  []string // why the server is not ready
	Steps    []step   // what to do on a server that is empty
	Tiles    []tile
	Statuses template.HTML // identities by status
	Legend   []legend      // of it
	Charts   []chartCard
	Lapsing  []lapsingRow
	Calm     string // what is said when nothing lapses
	More     string // where the rest of those that lapse is; "": these are all
	Refused  *refusedView
	CAs      []dashboardCA
	Clusters []clusterTile
}

// tile is a number with what it counts.
type tile struct {
	ID, Label, Value, Note, Path string
	Tone                         chart.Tone
}

// legend names a part of a bar.
type legend struct {
	ID, Label, Value, Path string
	Tone                   chart.Tone
}

// chartCard is a picture with its numbers.
type chartCard struct {
	ID, Title, Note string
	Picture, Table  template.HTML
}

type lapsingRow struct {
	ID, Name, Path, Profile string
	Expires, Issued         stamp
	Bar                     template.HTML
}

type refusedView struct {
	Rows  []refusedRow
	Total string
	Path  string
}

type refusedRow struct {
	ID, What, Why, Path string
	Hour, Day           string
	Bar                 template.HTML
}

type dashboardCA struct {
	ID, Name, Kind, Path string
	Alive                string
	Expires              stamp
	Bar                  template.HTML
}

type clusterTile struct {
	ID, Name, Path     string
	Identities, Issued string // Issued is "" for who does not see everything
	Last               stamp
	Trouble            string // "" when all identities are well
	Tone               chart.Tone
}

// dashboard shows the figures; with part=figures those only, for the script that replaces them every few seconds.
func (c *Console) dashboard(v *visit) error {
	figures, err := v.api.Statistics(v.ctx())
	if err != nil {
		return err
	}
	view := &dashboardView{At: figures.At.UTC().Format("15:04:05")}
	if v.may(auth.Read) {
		status, err := v.api.Status(v.ctx())
		if err != nil {
			return err
		}
		view.Trouble = status.Problems
	}
	if figures.Certificates != nil && figures.Certificates.Issued == 0 {
		if view.Steps, err = v.firstSteps(figures); err != nil {
			return err
		}
	}
	v.fillFigures(view, figures)
	if v.htmx() && v.query("part") == "figures" {
		return v.fragment("dashboard", "figures", view)
	}
	return v.render("dashboard", view)
}

func (v *visit) fillFigures(view *dashboardView, s *apiv1.Statistics) {
	view.Tiles = v.dashboardTiles(s)
	view.Statuses, view.Legend = v.statusBar(s.Identities)
	if s.Issued != nil {
		view.Charts = append(view.Charts, v.issuedChart("minutes", s.Issued.PerMinute), v.issuedChart("hours", s.Issued.PerHour))
	}
	view.Charts = append(view.Charts, v.leftChart(s), v.expiryChart(s))
	for i, id := range s.Lapsing {
		path := "/inventory/identity?name=" + url.QueryEscape(id.Name)
		view.Lapsing = append(view.Lapsing, lapsingRow{
			ID: "lapsing-" + strconv.Itoa(i), Name: id.Name, Path: path, Profile: id.Profile, Expires: v.stamp(id.NotAfter),
			Issued: v.stamp(id.LastIssuedAt), Bar: v.leftBar(id.NotBefore, id.NotAfter, chart.Warn),
		})
	}
	if len(s.Lapsing) == 0 && s.Identities.Total > 0 {
		view.Calm = v.text("dashboard.lapsing.none")
	}
	if s.Identities.Lapsing > int64(len(s.Lapsing)) {
		view.More = "/inventory?status=lapsing"
	}
	view.Refused = v.refused(s.Refused)
	for i, ca := range s.CAs {
		view.CAs = append(view.CAs, dashboardCA{
			ID: "ca-" + strconv.Itoa(i), Name: ca.Name, Kind: v.text("common.kind." + ca.Kind), Path: "/authorities/" + url.PathEscape(ca.Name),
			Alive: number(ca.Alive), Expires: v.stamp(ca.NotAfter), Bar: v.caBar(ca),
		})
	}
	view.Clusters = v.clusterTiles(s.Clusters)
}

func (v *visit) dashboardTiles(s *apiv1.Statistics) []tile {
	var tiles []tile
	if s.Certificates != nil {
		tiles = append(tiles, tile{
			ID: "alive", Label: v.text("dashboard.alive"), Value: number(s.Certificates.Alive), Path: "/inventory/certificates",
			Note: v.text("dashboard.alive.note", number(s.Certificates.Issued)),
		})
	}
	if s.Issued != nil {
		tiles = append(tiles, tile{
			ID: "issued", Label: v.text("dashboard.hour"), Value: number(s.Issued.LastHour), Path: "/inventory/certificates",
			Note: v.text("dashboard.hour.note", perMinute(s.Issued.PerMinute.Counts)),
		})
	}
	tiles = append(tiles,
		tile{ID: "identities", Label: v.text("dashboard.identities"), Value: number(s.Identities.Total), Path: "/inventory", Note: v.text("dashboard.identities.note", number(s.Identities.OK+s.Identities.RenewalDue))},
		tile{ID: "lapsing", Label: v.text("dashboard.lapsing"), Value: number(s.Identities.Lapsing), Path: "/inventory?status=lapsing", Note: v.text("dashboard.lapsing.note"), Tone: alarm(s.Identities.Lapsing, chart.Warn)},
		tile{ID: "lapsed", Label: v.text("dashboard.lapsed"), Value: number(s.Identities.Lapsed), Path: "/inventory?status=lapsed", Note: v.text("dashboard.lapsed.note"), Tone: alarm(s.Identities.Lapsed, chart.Bad)},
	)
	if s.Refused != nil {
		tiles = append(tiles, tile{
			ID: "refused", Label: v.text("dashboard.refused"), Value: number(s.Refused.LastHour), Path: "/audit?outcome=refused",
			Note: v.text("dashboard.refused.note", number(s.Refused.LastDay)), Tone: alarm(s.Refused.LastHour, chart.Warn),
		})
	}
	return tiles
}

// alarm is a colour for a number that should be 0.
func alarm(n int64, tone chart.Tone) chart.Tone {
	if n == 0 {
		return ""
	}
	return tone
}

// perMinute is the rate of the last five minutes that are over.
func perMinute(counts []int64) string {
	const last = 5
	if len(counts) <= last {
		return "0"
	}
	sum := int64(0)
	for _, n := range counts[len(counts)-1-last : len(counts)-1] {
		sum += n
	}
	if sum < last*last { // few: the decimal matters
		return strconv.FormatFloat(float64(sum)/last, 'f', -1, 64)
	}
	return number(sum / last)
}

func (v *visit) clusterTiles(clusters []apiv1.ClusterStatistic) []clusterTile {
	tiles := make([]clusterTile, 0, len(clusters))
	for i, c := range clusters {
		made := clusterTile{
			ID: "cluster-" + strconv.Itoa(i), Name: c.Name, Path: "/inventory?cluster=" + url.QueryEscape(c.Name),
			Identities: number(c.Identities), Last: v.stamp(c.LastIssuedAt), Tone: chart.OK,
		}
		if c.IssuedLastHour != nil {
			made.Issued = number(*c.IssuedLastHour)
		}
		switch {
		case c.Lapsed > 0:
			made.Tone, made.Trouble = chart.Bad, v.text("dashboard.cluster.trouble", number(c.Lapsing), number(c.Lapsed))
		case c.Lapsing > 0:
			made.Tone, made.Trouble = chart.Warn, v.text("dashboard.cluster.trouble", number(c.Lapsing), number(c.Lapsed))
		}
		tiles = append(tiles, made)
	}
	return tiles
}

// leftBar is how much of a lifetime is left.
func (v *visit) leftBar(from, to time.Time, tone chart.Tone) template.HTML {
	left := to.Sub(v.now)
	return chart.Bar{
		Text: v.text("dashboard.left", strconv.Itoa(int(max(0, left)*100/max(1, to.Sub(from))))), Share: float64(left) / float64(max(1, to.Sub(from))), Tone: tone,
	}.Draw()
}

// caBar is leftBar with the colour of how urgent a CA is: before it expires, all that is below must have another one.
func (v *visit) caBar(ca apiv1.CAStatistics) template.HTML {
	const month = 30 * 24 * time.Hour
	left, tone := ca.NotAfter.Sub(v.now), chart.OK
	switch {
	case ca.NotAfter.IsZero():
		return ""
	case left < month:
		tone = chart.Bad
	case left < 6*month, left < ca.NotAfter.Sub(ca.NotBefore)/10:
		tone = chart.Warn
	}
	return v.leftBar(ca.NotBefore, ca.NotAfter, tone)
}
