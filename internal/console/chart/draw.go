package chart

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Label says what a picture shows to who cannot see it.
type Label struct {
	ID          string // of the picture, once on a page
	Title       string // what it is
	Description string // what can be seen in it, in a sentence; may be empty
}

// Tone is the meaning of a colour: a class of the stylesheet.
type Tone string

// The tones. The zero Tone is the accent.
const (
	OK    Tone = "tone-ok"
	Due   Tone = "tone-due"
	Warn  Tone = "tone-warn"
	Bad   Tone = "tone-bad"
	Quiet Tone = "tone-quiet" // there, but of no importance
)

// Line heights and gaps, in pixels.
const (
	textHeight = 12 // of axis labels
	axisHeight = 22 // below the plot, for its labels
	topSpace   = 18 // above the plot, for the highest label
	whole      = 100.0
)

// drawing is SVG in the making.
type drawing struct{ b strings.Builder }

// open begins a picture that is as wide as its place and some pixels high. One with links in it is a group: the content
// of an image cannot be reached.
func (d *drawing) open(l Label, class string, height float64, links bool) {
	role := "img"
	if links {
		role = "group"
	}
	d.put(`<svg class="chart %s" role="%s" width="100%%" height="%s"`, class, role, px(height))
	d.name(l)
}

// name ends the start tag of a picture and names it.
func (d *drawing) name(l Label) {
	names := l.ID + "-title"
	if l.Description != "" {
		names += " " + l.ID + "-desc"
	}
	d.put(` id="%s" aria-labelledby="%s" focusable="false"><title id="%s-title">%s</title>`, l.ID, names, l.ID, l.Title)
	if l.Description != "" {
		d.put(`<desc id="%s-desc">%s</desc>`, l.ID, l.Description)
	}
}

func (d *drawing) close() template.HTML {
	d.b.WriteString(`</svg>`)
	return template.HTML(d.b.String()) //nolint:gosec // put escapes everything that is not of this package
}

// put writes markup. Arguments are escaped, all of them: the markup is the format's.
func (d *drawing) put(format string, args ...any) {
	for i, arg := range args {
		switch arg := arg.(type) {
		case string:
			args[i] = template.HTMLEscapeString(arg)
		case Tone:
			args[i] = template.HTMLEscapeString(string(arg))
		}
	}
	fmt.Fprintf(&d.b, format, args...)
}

// text writes a label; anchor is where in it the position is: start, middle or end.
func (d *drawing) text(x string, y float64, anchor, class, text string) {
	d.put(`<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`, x, px(y), anchor, class, text)
}

// rule writes a horizontal line.
func (d *drawing) rule(y float64, class string) {
	d.put(`<line x1="0" x2="100%%" y1="%s" y2="%s" class="%s"/>`, px(y), px(y), class)
}

// link begins what leads to a page, when there is one; the caller ends it with unlink. Its identifier is made of the
// picture's and a number, so that a picture that is drawn anew keeps the focus where it was.
func (d *drawing) link(href, picture string, n int) {
	if href != "" {
		d.put(`<a href="%s" id="%s-%d">`, href, picture, n)
	}
}

func (d *drawing) unlink(href string) {
	if href != "" {
		d.b.WriteString(`</a>`)
	}
}

// px writes a number of pixels; percent a part of the width. Two decimals are finer than any screen.
func px(v float64) string {
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

func percent(v float64) string { return px(v) + "%" }

// share is a part of a whole as a percentage, 0 of nothing.
func share(part, of float64) float64 {
	if of <= 0 {
		return 0
	}
	return min(max(part/of, 0), 1) * whole
}

// ceiling is the end of an axis that starts at 0: the next number with one digit, even where it can be, so that its half
// is a count too.
func ceiling(most int64) int64 {
	unit := int64(1)
	for most > 10*unit && unit < math.MaxInt64/100 {
		unit *= 10
	}
	for _, n := range []int64{1, 2, 4, 6, 8, 10} {
		if most <= n*unit {
			return n * unit
		}
	}
	return most
}

// number writes a count with separators between thousands; large ones on an axis are shortened by short.
func number(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 && digits[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(digit)
	}
	return b.String()
}

func short(n int64) string {
	const thousand = 1000
	switch {
	case n >= thousand*thousand:
		return px(float64(n)/(thousand*thousand)) + " M"
	case n >= 10*thousand:
		return px(float64(n)/thousand) + " k"
	default:
		return number(n)
	}
}

// cut shortens a text to a number of runes, at its middle: names differ at both ends.
func cut(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	head := (most - 1) / 2 //nolint:mnd // the middle
	return string(runes[:head]) + "…" + string(runes[len(runes)-(most-1-head):])
}
