package chart_test

import (
	"encoding/xml"
	"errors"
	"flag"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/console/chart"
)

var update = flag.Bool("update", false, "write the golden files")

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func label(id string) chart.Label {
	return chart.Label{ID: id, Title: "A title <b>", Description: "What can be \"seen\""}
}

func ramp(n int) []int64 {
	counts := make([]int64, n)
	for i := range counts {
		counts[i] = int64((i*37)%113) + int64(i)
	}
	return counts
}

// picture is anything that can be drawn.
type picture interface{ Draw() template.HTML }

func classes() []chart.Class {
	return []chart.Class{
		{Name: "lapsed", Count: 3, Tone: chart.Bad, Href: "/inventory?status=lapsed&x=1"},
		{Name: "< 10 %", Count: 0, Tone: chart.Warn},
		{Name: "< 25 %", Count: 1_200, Tone: chart.Due, Note: "less than a quarter: 1,200"},
		{Name: "< 50 %", Count: 40_000, Tone: chart.OK},
		{Name: "more", Count: 1_250_000},
	}
}

func pictures() map[string]picture {
	tree := []chart.Node{{
		Name: "mesh-root", Lines: []string{"root, P-256", "ends 2036-11-25"}, Tone: chart.OK, Href: "/authorities/mesh-root",
		Children: []chart.Node{
			{Name: "mesh-issuing", Lines: []string{"issuing CA"}, Tone: chart.OK, Href: "/authorities/mesh-issuing"},
			{Name: "an-issuing-authority-with-a-very-long-name", Tone: chart.Warn},
			{Name: "gateways", Children: []chart.Node{{Name: "below"}}},
		},
	}}
	spans := []chart.Span{
		{Name: "4f:1a", Note: "24 hours", From: noon.Add(-30 * time.Hour), To: noon.Add(-6 * time.Hour), Tone: chart.Quiet},
		{Name: "77:02", From: noon.Add(-18 * time.Hour), To: noon.Add(6 * time.Hour), Stopped: noon.Add(-time.Hour), Tone: chart.Bad, Href: "/inventory/certificates/7702"},
		{Name: "a0:b1", From: noon.Add(-6 * time.Hour), To: noon.Add(18 * time.Hour), Mark: noon.Add(6 * time.Hour), Tone: chart.OK},
	}
	return map[string]picture{
		"curve": chart.Curve{Label: label("c1"), Start: noon.Add(-time.Hour), Step: time.Minute, Counts: ramp(60)},
		"curve-day": chart.Curve{Label: label("c2"), Start: noon.Add(-24 * time.Hour), Step: time.Hour, Counts: ramp(24), Tone: chart.Bad, Say: func(at time.Time, n int64) string {
			return at.Format(time.RFC3339) + " & " + template.HTMLEscapeString("x")
		}},
		"curve-empty":      chart.Curve{Label: label("c3"), Start: noon.Add(-time.Hour), Step: time.Minute, Counts: make([]int64, 60), Empty: "Nothing <yet>"},
		"curve-none":       chart.Curve{Label: chart.Label{ID: "c4", Title: "none"}},
		"curve-one":        chart.Curve{Label: label("c5"), Start: noon, Step: time.Minute, Counts: []int64{1}},
		"histogram":        chart.Histogram{Label: label("h1"), Classes: classes()},
		"histogram-empty":  chart.Histogram{Label: label("h2"), Classes: []chart.Class{{Name: "a"}, {Name: "b"}}, Empty: "No identity"},
		"parts":            chart.Parts{Label: label("p1"), Classes: classes()},
		"parts-empty":      chart.Parts{Label: label("p2")},
		"bar":              chart.Bar{Text: "5 hours <left>", Share: 0.42, Tone: chart.OK, Mark: 0.33},
		"bar-over":         chart.Bar{Share: 1.7},
		"bar-none":         chart.Bar{Text: "nothing left", Share: -1},
		"hierarchy":        chart.Hierarchy{Label: label("t1"), Roots: tree},
		"hierarchy-single": chart.Hierarchy{Label: label("t2"), Roots: []chart.Node{{Name: "alone"}}},
		"hierarchy-none":   chart.Hierarchy{Label: label("t3")},
		"timeline":         chart.Timeline{Label: label("l1"), Spans: spans, Now: noon, NowText: "now"},
		"timeline-past":    chart.Timeline{Label: label("l2"), Spans: spans[:1], Now: noon, NowText: "now"},
		"timeline-none":    chart.Timeline{Label: label("l3"), Now: noon, NowText: "now", Empty: "No certificate"},
		"table":            chart.Table{ID: "n1", Summary: "Numbers", Head: []string{"Time", "Issued"}, Rows: [][]string{{"11:00", "4"}, {"<11:01>", "1,234"}}},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, p := range pictures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := strings.ReplaceAll(string(p.Draw()), "><", ">\n<") + "\n"
			path := filepath.Join("testdata", name+".html")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("run with -update if this is meant:\n%s", diff)
			}
		})
	}
}

// TestSound: every picture is well formed, has a name, no style, nothing that runs, and no identifier twice.
func TestSound(t *testing.T) {
	t.Parallel()
	identifier := regexp.MustCompile(` id="([^"]+)"`)
	for name, p := range pictures() {
		html := string(p.Draw())
		decoder := xml.NewDecoder(strings.NewReader("<all>" + html + "</all>"))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v in %s", name, err, html)
				break
			}
		}
		if found := regexp.MustCompile(` style=|<style|<script| on[a-z]+=|<b>|NaN|Inf|%!`).FindString(html); found != "" {
			t.Errorf("%s has %q", name, found)
		}
		seen := make(map[string]bool)
		for _, match := range identifier.FindAllStringSubmatch(html, -1) {
			if seen[match[1]] {
				t.Errorf("%s has the identifier %q twice", name, match[1])
			}
			seen[match[1]] = true
		}
		for _, match := range regexp.MustCompile(`aria-labelledby="([^"]+)"`).FindAllStringSubmatch(html, -1) {
			for id := range strings.FieldsSeq(match[1]) {
				if !seen[id] {
					t.Errorf("%s is named by %q, which is not there", name, id)
				}
			}
		}
		if strings.Contains(html, "<a ") && strings.Contains(html, `role="img"`) {
			t.Errorf("%s has links in an image, where nobody can reach them", name)
		}
	}
}

// TestAxisIsUTC: labels do not depend on where the times come from.
func TestAxisIsUTC(t *testing.T) {
	t.Parallel()
	tokyo := time.FixedZone("JST", 9*60*60)
	utc := chart.Curve{Label: label("c"), Start: noon, Step: time.Minute, Counts: ramp(60)}
	elsewhere := utc
	elsewhere.Start = noon.In(tokyo)
	if diff := cmp.Diff(utc.Draw(), elsewhere.Draw()); diff != "" {
		t.Error(diff)
	}
	if html := string(utc.Draw()); !strings.Contains(html, ">12:15<") || strings.Contains(html, ">21:15<") {
		t.Errorf("labels are not those of UTC: %s", html)
	}
}

// TestAxisLabels: whatever the span, there are some labels and never more than fit on a telephone.
func TestAxisLabels(t *testing.T) {
	t.Parallel()
	for _, span := range []time.Duration{
		10 * time.Second, time.Minute, 7 * time.Minute, time.Hour, 5 * time.Hour, 24 * time.Hour, 26 * time.Hour,
		72 * time.Hour, 30 * 24 * time.Hour, 400 * 24 * time.Hour, 10 * 365 * 24 * time.Hour, 40 * 365 * 24 * time.Hour,
	} {
		for _, offset := range []time.Duration{0, 13 * time.Second, 5*time.Hour + 17*time.Minute} {
			html := string(chart.Curve{Label: label("c"), Start: noon.Add(offset), Step: span / 10, Counts: make([]int64, 10)}.Draw())
			if n := strings.Count(html, `class="label"`); n < 1 || n > 6 {
				t.Errorf("%s from %s has %d labels", span, offset, n)
			}
		}
	}
}

func TestCurveTop(t *testing.T) {
	t.Parallel()
	for most, want := range map[int64]string{
		1: "1", 2: "2", 3: "4", 7: "8", 9: "10", 11: "20", 99: "100", 101: "200", 4_500: "6,000", 61_000: "80 k", 2_100_000: "4 M",
	} {
		html := string(chart.Curve{Label: label("c"), Start: noon, Step: time.Minute, Counts: []int64{0, most, 1}}.Draw())
		if !strings.Contains(html, `class="label">`+want+"<") {
			t.Errorf("the axis of %d does not end at %s: %s", most, want, html)
		}
	}
}
