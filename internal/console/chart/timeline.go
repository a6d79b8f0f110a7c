package chart

import (
	"html/template"
	"time"
)

// Span is one row of a timeline.
type Span struct {
	Name     string    // above the bar
	Note     string    // what is shown when somebody points at it
	From, To time.Time // To is where it would have ended
	Stopped  time.Time // when it was ended before that; zero: not
	Mark     time.Time // a moment in it, drawn as a line: when a renewal is due; zero: none
	Tone     Tone
	Href     string // where a click leads, "": nowhere
}

// Timeline is spans below each other on one axis of time.
type Timeline struct {
	Label
	Spans   []Span
	Now     time.Time // a line through all; zero: none
	NowText string    // what stands at that line
	Empty   string    // what is said when there is no span
}

// Sizes in pixels.
const (
	spanRow   = 36
	spanText  = 14 // from a row's top to its name's base line
	spanTop   = 20 // from a row's top to its bar
	spanThick = 10
	nowRoom   = 18 // above the rows, for the text at the line
)

// Draw returns the picture.
func (t Timeline) Draw() template.HTML {
	links := false
	var a axis
	for i, s := range t.Spans {
		links = links || s.Href != ""
		if i == 0 || s.From.Before(a.from) {
			a.from = s.From
		}
		if i == 0 || s.To.After(a.to) {
			a.to = s.To
		}
	}
	if !t.Now.IsZero() && len(t.Spans) > 0 && t.Now.After(a.to) {
		a.to = t.Now
	}
	base := float64(nowRoom + max(len(t.Spans), 1)*spanRow)
	var d drawing
	d.open(t.Label, "chart-timeline", base+axisHeight, links)
	if len(t.Spans) == 0 && t.Empty != "" {
		d.text("50%", base/2+spanText/2, "middle", "empty", t.Empty)
	}
	for i, s := range t.Spans {
		d.link(s.Href, t.ID, i)
		s.draw(&d, a, float64(nowRoom+i*spanRow))
		d.unlink(s.Href)
	}
	d.rule(base, "axis")
	if a.to.After(a.from) {
		a.draw(&d, base)
		t.now(&d, a, base)
	}
	return d.close()
}

// now writes the line of the present, its text on the side where there is room.
func (t Timeline) now(d *drawing, a axis, base float64) {
	if t.Now.IsZero() || t.Now.Before(a.from) {
		return
	}
	x, anchor := a.at(t.Now), "middle"
	switch {
	case x < edge:
		anchor = "start"
	case x > whole-edge:
		anchor = "end"
	}
	d.put(`<line class="now" x1="%s" x2="%s" y1="%d" y2="%s"/>`, percent(x), percent(x), nowRoom-2, px(base))
	d.text(percent(x), nowRoom-6, anchor, "label", t.NowText)
}

func (s Span) draw(d *drawing, a axis, top float64) {
	from, to := a.at(s.From), a.at(s.To)
	d.put(`<g class="class"><title>%s</title>`, s.Note)
	d.put(`<rect class="strip" x="0" y="%s" width="100%%" height="%d"/>`, px(top), spanRow)
	// The name begins where the bar does, or ends there where it would not fit.
	if from <= whole/2 {
		d.text(percent(from), top+spanText, "start", "label", s.Name)
	} else {
		d.text(percent(to), top+spanText, "end", "label", s.Name)
	}
	end := to
	if !s.Stopped.IsZero() {
		end = a.at(s.Stopped)
		d.put(`<rect class="track" x="%s" y="%s" width="%s" height="%d" rx="3"/>`, percent(from), px(top+spanTop), percent(max(to-from, 0.4)), spanThick)
	}
	d.put(`<rect class="fill %s" x="%s" y="%s" width="%s" height="%d" rx="3"/>`, s.Tone, percent(from), px(top+spanTop),
		percent(max(end-from, 0.4)), spanThick)
	if !s.Mark.IsZero() {
		d.put(`<rect class="mark" x="%s" y="%s" width="2" height="%d"/>`, percent(a.at(s.Mark)), px(top+spanTop), spanThick)
	}
	d.put(`</g>`)
}
