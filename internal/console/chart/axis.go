package chart

import "time"

// axis is a span of time that is as wide as the picture.
type axis struct{ from, to time.Time }

// at is where a moment is, in percent; what is outside is at the edge.
func (a axis) at(t time.Time) float64 {
	return share(float64(t.Sub(a.from)), float64(a.to.Sub(a.from)))
}

const day = 24 * time.Hour

// steps are the distances between an axis's labels, each a multiple that people count time in.
func steps() []time.Duration {
	return []time.Duration{
		time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute,
		15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day,
		2 * day, 5 * day, 10 * day, 30 * day, 60 * day, 90 * day, 180 * day, 365 * day, 730 * day, 1825 * day, 3650 * day,
	}
}

// mostTicks is how many labels fit beside each other on a telephone.
const mostTicks = 6

// edge is how near to an edge, in percent, a label would be cut off if it were centred.
const edge = 7.0

// draw writes the labels below a plot whose lower end is at y, and a mark for each.
func (a axis) draw(d *drawing, y float64) {
	span := a.to.Sub(a.from)
	step := steps()[len(steps())-1]
	for _, s := range steps() {
		if span/s < mostTicks {
			step = s
			break
		}
	}
	layout := "15:04"
	switch {
	case step < time.Minute:
		layout = "15:04:05"
	case step >= 365*day:
		layout = "2006"
	case span > 365*day:
		layout = "2006-01"
	case step >= day:
		layout = "01-02"
	case span > day:
		layout = "02. 15:04"
	}
	// Truncate counts from the zero time, whose days and hours begin where those of UTC do.
	for at := a.from.UTC().Truncate(step); !at.After(a.to); at = at.Add(step) {
		x := a.at(at)
		if at.Before(a.from) || x < edge || x > whole-edge {
			continue
		}
		d.put(`<line x1="%s" x2="%s" y1="%s" y2="%s" class="axis"/>`, percent(x), percent(x), px(y), px(y+4))
		d.text(percent(x), y+4+textHeight, "middle", "label", at.Format(layout))
	}
}
