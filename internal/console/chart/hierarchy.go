package chart

import "html/template"

// Node is a box of a hierarchy.
type Node struct {
	Name     string
	Lines    []string // below the name, in small letters: at most two
	Tone     Tone     // of the edge at its left
	Href     string   // where a click leads, "": nowhere
	Children []Node
}

// Hierarchy is boxes with lines to those below them. Where the page is narrow, or boxes are many, those below stand under
// each other and further right; the stylesheet chooses.
type Hierarchy struct {
	Label
	Roots []Node
}

// Sizes in pixels.
const (
	boxWidth   = 216
	boxHeight  = 76
	boxGap     = 20 // between boxes beside each other
	levelGap   = 44 // between a box and those below it
	indent     = 26 // of boxes below, where they stand under each other
	nestedGap  = 14
	mostLeaves = 5  // that stand beside each other
	nameRunes  = 22 // that fit into a box
	lineRunes  = 31
)

// Draw returns the picture.
func (h Hierarchy) Draw() template.HTML {
	columns := 0
	for _, root := range h.Roots {
		columns += leaves(root)
	}
	nested := h.nested()
	if columns > mostLeaves || columns < 2 {
		return template.HTML(`<div class="chart-hierarchy">`) + nested + template.HTML(`</div>`)
	}
	return template.HTML(`<div class="chart-hierarchy chart-two"><div class="chart-wide">`) + h.spread(columns) +
		template.HTML(`</div><div class="chart-narrow">`) + nested + template.HTML(`</div></div>`)
}

// leaves is how many boxes are at the lower end.
func leaves(n Node) int {
	if len(n.Children) == 0 {
		return 1
	}
	sum := 0
	for _, c := range n.Children {
		sum += leaves(c)
	}
	return sum
}

func depth(nodes []Node) int {
	most := 0
	for _, n := range nodes {
		most = max(most, 1+depth(n.Children))
	}
	return most
}

func size(nodes []Node) int {
	sum := len(nodes)
	for _, n := range nodes {
		sum += size(n.Children)
	}
	return sum
}

func linked(nodes []Node) bool {
	for _, n := range nodes {
		if n.Href != "" || linked(n.Children) {
			return true
		}
	}
	return false
}

// fixed begins a picture of a fixed size that is scaled down where there is no room for it.
func (h Hierarchy) fixed(suffix string, width, height int) *drawing {
	role := "img"
	if linked(h.Roots) {
		role = "group"
	}
	d := new(drawing)
	d.put(`<svg class="chart" role="%s" width="%d" height="%d" viewBox="0 0 %d %d"`, role, width, height, width, height)
	label := h.Label
	label.ID += suffix
	d.name(label)
	return d
}

// spread draws boxes below their parents.
func (h Hierarchy) spread(columns int) template.HTML {
	levels := depth(h.Roots)
	d := h.fixed("-wide", columns*(boxWidth+boxGap)-boxGap+2, levels*(boxHeight+levelGap)-levelGap+2)
	left := 1
	for _, root := range h.Roots {
		left += d.below(root, left, 1)
	}
	return d.close()
}

// below draws a box over those below it, from left, and returns the width of them all.
func (d *drawing) below(n Node, left, top int) int {
	width := leaves(n) * (boxWidth + boxGap)
	x := left + (width-boxGap-boxWidth)/2
	child := left
	for _, c := range n.Children {
		childWidth := leaves(c) * (boxWidth + boxGap)
		middle := child + (childWidth-boxGap)/2
		d.put(`<path class="edge" d="M%d %d V%d H%d V%d"/>`, x+boxWidth/2, top+boxHeight, top+boxHeight+levelGap/2, middle,
			top+boxHeight+levelGap)
		child += d.below(c, child, top+boxHeight+levelGap)
	}
	d.box(n, x, top)
	return width
}

// nested draws boxes under each other.
func (h Hierarchy) nested() template.HTML {
	d := h.fixed("-narrow", boxWidth+(max(depth(h.Roots), 1)-1)*indent+2, max(size(h.Roots)*(boxHeight+nestedGap)-nestedGap, 0)+2)
	top := 1
	for _, root := range h.Roots {
		top = d.under(root, 1, top)
	}
	return d.close()
}

// under draws a box with those below it, and returns where the next one begins.
func (d *drawing) under(n Node, left, top int) int {
	next := top + boxHeight + nestedGap
	for _, c := range n.Children {
		d.put(`<path class="edge" d="M%d %d V%d H%d"/>`, left+indent/2, top+boxHeight, next+boxHeight/2, left+indent)
		next = d.under(c, left+indent, next)
	}
	d.box(n, left, top)
	return next
}

// box draws one box.
func (d *drawing) box(n Node, x, y int) {
	if n.Href != "" {
		d.put(`<a href="%s">`, n.Href)
	}
	d.put(`<g class="box"><title>%s</title>`, n.Name)
	d.put(`<rect class="frame" x="%d" y="%d" width="%d" height="%d" rx="6"/>`, x, y, boxWidth, boxHeight)
	d.put(`<rect class="fill %s" x="%d" y="%d" width="4" height="%d" rx="2"/>`, n.Tone, x, y, boxHeight)
	const pad, first, line = 14, 24, 19
	d.put(`<text class="name" x="%d" y="%d">%s</text>`, x+pad, y+first, cut(n.Name, nameRunes))
	for i, text := range n.Lines[:min(len(n.Lines), 2)] { //nolint:mnd // as many as fit
		d.put(`<text class="label" x="%d" y="%d">%s</text>`, x+pad, y+first+line*(i+1), cut(text, lineRunes))
	}
	d.put(`</g>`)
	d.unlink(n.Href)
}
