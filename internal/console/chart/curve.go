package chart

import (
	"html/template"
	"strings"
	"time"
)

// Curve is counts over time. The zero values of its fields but Label are usable.
type Curve struct {
	Label
	Start  time.Time     // when the first count's time began
	Step   time.Duration // of one count
	Counts []int64
	Height float64 // of the plot; 0: 160 pixels
	Tone   Tone
	// Say is what is shown for a count when somebody points at it. Nil: the time and the number.
	Say   func(at time.Time, count int64) string
	Empty string // what is said where nothing was counted
}

const defaultHeight = 160

// Draw returns the picture.
func (c Curve) Draw() template.HTML {
	height, most := c.Height, peak(c.Counts)
	if height == 0 {
		height = defaultHeight
	}
	top := ceiling(most)
	var d drawing
	d.open(c.Label, "chart-curve", height+topSpace+axisHeight, false)
	base := height + topSpace
	if most > 0 {
		c.grid(&d, top, height)
		c.line(&d, top, height)
	} else if c.Empty != "" {
		d.text("50%", topSpace+height/2, "middle", "empty", c.Empty)
	}
	d.rule(base, "axis")
	if c.Step > 0 && len(c.Counts) > 0 {
		axis{c.Start, c.Start.Add(c.Step * time.Duration(len(c.Counts)))}.draw(&d, base)
		if most > 0 {
			c.notes(&d, base)
		}
	}
	return d.close()
}

func peak(counts []int64) int64 {
	most := int64(0)
	for _, n := range counts {
		most = max(most, n)
	}
	return most
}

// grid writes the lines of the highest number and of its half, with the numbers on them.
func (c Curve) grid(d *drawing, top int64, height float64) {
	d.rule(topSpace, "grid")
	d.text("0", topSpace-4, "start", "label", short(top))
	if top%2 == 0 {
		d.rule(topSpace+height/2, "grid")
		d.text("0", topSpace+height/2-4, "start", "label", short(top/2))
	}
}

// line writes the curve, which is the one thing that is stretched to the width: its thickness is not.
func (c Curve) line(d *drawing, top int64, height float64) {
	line := path(c.Counts, top, height)
	d.put(`<svg x="0" y="%d" width="100%%" height="%s" viewBox="0 0 100 %s" preserveAspectRatio="none" overflow="visible" class="%s">`,
		topSpace, px(height), px(height), c.Tone)
	d.put(`<path class="area" d="M0 %s %s L100 %s Z"/>`, px(height), strings.Replace(line, "M", "L", 1), px(height))
	d.put(`<path class="line" d="%s" vector-effect="non-scaling-stroke"/></svg>`, line)
}

// path is a line through the counts, each at the middle of its time, from edge to edge.
func path(counts []int64, top int64, height float64) string {
	var b strings.Builder
	step := whole / float64(max(len(counts), 1))
	for i, n := range counts {
		y := px(height * (1 - share(float64(n), float64(top))/whole))
		if i == 0 {
			b.WriteString("M0 " + y)
		}
		b.WriteString(" L" + px(step*(float64(i)+0.5)) + " " + y)
		if i == len(counts)-1 {
			b.WriteString(" L100 " + y)
		}
	}
	return b.String()
}

// notes writes a strip for each count, to point at.
func (c Curve) notes(d *drawing, base float64) {
	step := whole / float64(len(c.Counts))
	for i, n := range c.Counts {
		at := c.Start.Add(c.Step * time.Duration(i)).UTC()
		said := at.Format("15:04") + " UTC: " + number(n)
		if c.Say != nil {
			said = c.Say(at, n)
		}
		d.put(`<rect class="strip" x="%s" y="0" width="%s" height="%s"><title>%s</title></rect>`,
			percent(step*float64(i)), percent(step), px(base), said)
	}
}
