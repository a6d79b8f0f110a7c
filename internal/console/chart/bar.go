package chart

import (
	"html/template"
)

// Bar is how much of something is there, or is left.
type Bar struct {
	Text  string  // what it says to who cannot see it: "5 hours left"; with an empty one it is decoration
	Share float64 // 0 to 1
	Tone  Tone
	Mark  float64 // where a line is, 0 to 1; 0: none
}

const barHeight = 8

// Draw returns the picture: 8 pixels high, as wide as its place.
func (b Bar) Draw() template.HTML {
	var d drawing
	d.put(`<svg class="chart chart-bar" width="100%%" height="%d"`, barHeight)
	if b.Text == "" {
		d.put(` aria-hidden="true" focusable="false">`)
	} else {
		d.put(` role="img" aria-label="%s" focusable="false"><title>%s</title>`, b.Text, b.Text)
	}
	d.put(`<rect class="track" width="100%%" height="%d" rx="3"/>`, barHeight)
	if part := share(b.Share, 1); part > 0 {
		d.put(`<rect class="fill %s" width="%s" height="%d" rx="3"/>`, b.Tone, percent(part), barHeight)
	}
	if at := share(b.Mark, 1); at > 0 {
		d.put(`<rect class="mark" x="%s" width="2" height="%d"/>`, percent(at), barHeight)
	}
	return d.close()
}

// Class is one bar of a histogram, or one part of a whole.
type Class struct {
	Name  string // short: it stands below the bar
	Count int64
	Tone  Tone
	Note  string // what is shown when somebody points at it; "": name and count
	Href  string // where a click leads, "": nowhere
}

func (c Class) note() string {
	if c.Note != "" {
		return c.Note
	}
	return c.Name + ": " + number(c.Count)
}

func anyLink(classes []Class) bool {
	for _, c := range classes {
		if c.Href != "" {
			return true
		}
	}
	return false
}

// Histogram is a bar for each of up to about ten classes.
type Histogram struct {
	Label
	Classes []Class
	Height  float64 // of the highest bar; 0: 160 pixels
	Empty   string  // what is said when all counts are 0
}

// least is how high the bar of a count is that would be too low to be seen.
const least = 2

// Draw returns the picture.
func (h Histogram) Draw() template.HTML {
	height, most := h.Height, int64(0)
	if height == 0 {
		height = defaultHeight
	}
	for _, c := range h.Classes {
		most = max(most, c.Count)
	}
	base := height + topSpace
	var d drawing
	d.open(h.Label, "chart-histogram", base+axisHeight, anyLink(h.Classes))
	if most == 0 && h.Empty != "" {
		d.text("50%", topSpace+height/2, "middle", "empty", h.Empty)
	}
	d.rule(base, "axis")
	step := whole / float64(max(len(h.Classes), 1))
	for i, c := range h.Classes {
		left, middle := step*float64(i), percent(step*(float64(i)+0.5))
		d.link(c.Href, h.ID, i)
		d.put(`<g class="class"><title>%s</title>`, c.note())
		d.put(`<rect class="strip" x="%s" y="0" width="%s" height="%s"/>`, percent(left), percent(step), px(base+axisHeight))
		if tall := height * share(float64(c.Count), float64(most)) / whole; c.Count > 0 {
			tall = max(tall, least)
			d.put(`<rect class="fill %s" x="%s" y="%s" width="%s" height="%s" rx="2"/>`, c.Tone,
				percent(left+step/8), px(base-tall), percent(step*3/4), px(tall))
			d.text(middle, base-tall-5, "middle", "value", short(c.Count))
		}
		d.text(middle, base+5+textHeight, "middle", "label", c.Name)
		d.put(`</g>`)
		d.unlink(c.Href)
	}
	return d.close()
}

// Parts is one bar whose parts add up to a whole. A legend is the caller's: the names do not fit into small parts.
type Parts struct {
	Label
	Classes []Class
}

const partsHeight = 14

// Draw returns the picture: 14 pixels high, as wide as its place. Parts of nothing are not drawn.
func (p Parts) Draw() template.HTML {
	total, at := int64(0), 0.0
	for _, c := range p.Classes {
		total += max(c.Count, 0)
	}
	var d drawing
	d.open(p.Label, "chart-parts", partsHeight, anyLink(p.Classes))
	d.put(`<rect class="track" width="100%%" height="%d" rx="3"/>`, partsHeight)
	for i, c := range p.Classes {
		if c.Count <= 0 {
			continue
		}
		width := share(float64(c.Count), float64(total))
		d.link(c.Href, p.ID, i)
		d.put(`<rect class="fill part %s" x="%s" width="%s" height="%d"><title>%s</title></rect>`, c.Tone,
			percent(at), percent(width), partsHeight, c.note())
		d.unlink(c.Href)
		at += width
	}
	return d.close()
}
