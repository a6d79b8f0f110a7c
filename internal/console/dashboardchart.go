package console

import (
	"html/template"
	"net/url"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/console/chart"
)

// statusBar is identities by status, as one bar, with what its parts are.
func (v *visit) statusBar(ids apiv1.IdentityStatistics) (template.HTML, []legend) {
	var classes []chart.Class
	var legends []legend
	for _, s := range []struct {
		status string
		count  int64
		tone   chart.Tone
	}{
		{"ok", ids.OK, chart.OK}, {"renewal-due", ids.RenewalDue, chart.Due}, {"lapsing", ids.Lapsing, chart.Warn}, {"lapsed", ids.Lapsed, chart.Bad}, {"gone", ids.Gone, chart.Quiet},
	} {
		name, path := v.text("dashboard.status."+s.status), "/inventory?status="+s.status
		classes = append(classes, chart.Class{Name: name, Count: s.count, Tone: s.tone})
		legends = append(legends, legend{ID: "status-" + s.status, Label: name, Value: number(s.count), Path: path, Tone: s.tone})
	}
	return chart.Parts{
		Label: chart.Label{
			ID: "statuses", Title: v.text("dashboard.statuses"),
			Description: v.text("dashboard.statuses.desc", number(ids.OK), number(ids.RenewalDue), number(ids.Lapsing), number(ids.Lapsed), number(ids.Gone)),
		}, Classes: classes,
	}.Draw(), legends
}

// issuedChart is how many certificates were issued in each step; name is minutes or hours. The minute that is not over is
// left out: the curve would always seem to fall.
func (v *visit) issuedChart(name string, series apiv1.Series) chartCard {
	if name == "minutes" {
		series.Counts = series.Counts[:max(0, len(series.Counts)-1)]
	}
	step, err := time.ParseDuration(series.Step)
	if err != nil {
		step = time.Minute // the server's own answer
	}
	sum, most := int64(0), int64(0)
	table := chart.Table{ID: "numbers-" + name, Summary: v.text("dashboard.numbers"), Head: []string{v.text("dashboard.from"), v.text("dashboard.certificates")}}
	for i, n := range series.Counts {
		sum += n
		most = max(most, n)
		at := series.Start.Add(step * time.Duration(i)).UTC()
		table.Rows = append(table.Rows, []string{at.Format("2006-01-02 15:04") + " UTC", number(n)})
	}
	title := v.text("dashboard.chart." + name)
	return chartCard{
		ID: "card-" + name, Title: title, Note: v.text("dashboard.utc"), Table: table.Draw(),
		Picture: chart.Curve{
			Label: chart.Label{ID: "chart-" + name, Title: title, Description: v.text("dashboard.chart."+name+".desc", number(sum), number(most))},
			Start: series.Start, Step: step, Counts: series.Counts, Empty: v.text("dashboard.chart.none"),
			Say: func(at time.Time, n int64) string {
				return at.Format("15:04") + "–" + at.Add(step).Format("15:04") + " UTC: " + number(n)
			},
		}.Draw(),
	}
}

// leftChart is identities by the part of the lifetime that is left. The edges are those of the statuses: a client renews
// with half of it left, and lapses with a quarter.
func (v *visit) leftChart(s *apiv1.Statistics) chartCard {
	classes := []chart.Class{{
		Name: v.text("dashboard.status.lapsed"), Count: s.Identities.Lapsed, Tone: chart.Bad, Href: "/inventory?status=lapsed",
	}}
	before := int64(0)
	for _, c := range s.LifetimeLeft {
		percent := strconv.FormatInt(c.Percent, 10)
		class := chart.Class{
			Name: "≤ " + percent + " %", Count: c.Count, Tone: chart.OK, Href: "/inventory?status=ok",
			Note: v.text("dashboard.share", strconv.FormatInt(before, 10), percent, number(c.Count)),
		}
		switch {
		case c.Percent <= 25:
			class.Tone, class.Href = chart.Warn, "/inventory?status=lapsing"
		case c.Percent <= 50:
			class.Tone, class.Href = chart.Due, "/inventory?status=renewal-due"
		}
		before = c.Percent
		classes = append(classes, class)
	}
	return v.histogram("left", classes)
}

// expiryChart is identities by when their certificate expires.
func (v *visit) expiryChart(s *apiv1.Statistics) chartCard {
	var classes []chart.Class
	var before time.Duration
	for _, c := range s.ExpiresIn {
		within, err := time.ParseDuration(c.Within)
		if err != nil { // the last one has none
			classes = append(classes, chart.Class{Name: v.text("dashboard.later"), Count: c.Count})
			continue
		}
		classes = append(classes, chart.Class{Name: "≤ " + v.shortSpan(within), Count: c.Count, Note: v.text("dashboard.within", v.shortSpan(before), v.shortSpan(within), number(c.Count))})
		before = within
	}
	return v.histogram("expiry", classes)
}

func (v *visit) histogram(name string, classes []chart.Class) chartCard {
	table := chart.Table{ID: "numbers-" + name, Summary: v.text("dashboard.numbers"), Head: []string{v.text("dashboard.chart." + name), v.text("dashboard.identities")}}
	for _, c := range classes {
		table.Rows = append(table.Rows, []string{c.Name, number(c.Count)})
	}
	title := v.text("dashboard.chart." + name)
	return chartCard{
		ID: "card-" + name, Title: title, Note: v.text("dashboard.chart." + name + ".note"), Table: table.Draw(),
		Picture: chart.Histogram{
			Label:   chart.Label{ID: "chart-" + name, Title: title, Description: v.text("dashboard.chart." + name + ".note")},
			Classes: classes, Empty: v.text("dashboard.identities.none"),
		}.Draw(),
	}
}

// shortSpan writes a length of time for an axis.
func (v *visit) shortSpan(d time.Duration) string {
	const day = 24 * time.Hour
	if d > day {
		return v.text("dashboard.days", strconv.Itoa(int(d/day)))
	}
	return v.text("dashboard.hours", strconv.Itoa(int(d/time.Hour)))
}

// refused lists what was refused, for who may know.
func (v *visit) refused(r *apiv1.Refused) *refusedView {
	if r == nil {
		return nil
	}
	const rows = 8
	view := &refusedView{Total: number(r.LastDay), Path: "/audit?outcome=refused"}
	for i, reason := range r.ByReason[:min(rows, len(r.ByReason))] {
		row := refusedRow{
			ID: "refused-" + strconv.Itoa(i), What: reason.Action, Why: reason.Problem, Hour: number(reason.LastHour), Day: number(reason.LastDay),
			Path: "/audit?outcome=refused&action=" + url.QueryEscape(reason.Action),
			Bar:  chart.Bar{Share: float64(reason.LastDay) / float64(max(1, r.ByReason[0].LastDay)), Tone: chart.Warn}.Draw(),
		}
		if key := "dashboard.action." + reason.Action; v.has(key) {
			row.What = v.text(key)
		}
		if key := "dashboard.problem." + reason.Problem; v.has(key) {
			row.Why = v.text(key)
		}
		view.Rows = append(view.Rows, row)
	}
	return view
}
