package browser

import (
	"fmt"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// stops is a function of the page: what can be reached by Tab, in the order of the document. Of radio buttons with one
// name only one is a stop.
const stops = `(() => {
	const groups = new Set();
	return [...document.querySelectorAll('a[href], button, input, select, textarea, summary, [tabindex]')].filter(e => {
		if (e.tabIndex < 0 || e.disabled || e.type === 'hidden' || !e.checkVisibility({visibilityProperty: true})) return false;
		if (e.type !== 'radio') return true;
		const group = [...document.getElementsByName(e.name)];
		const stop = group.find(r => r.checked);
		return stop ? stop === e : !groups.has(e.name) && groups.add(e.name);
	});
})()`

// focus says which stop has the focus: its number, -1 for none, and what is wrong with how it looks.
const focused = `(() => {
	const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
	const name = at.tagName.toLowerCase() + (at.id ? '#' + at.id : '') + ' "' + (at.innerText || at.value || at.getAttribute('aria-label') || '').slice(0, 40) + '"';
	const shown = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2) || style.boxShadow !== 'none';
	const inside = box.width > 0 && box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth;
	return {number: window.tabStops.indexOf(at), name, wrong: shown ? (inside ? '' : 'is out of sight') : 'does not show its focus'};
})()`

// Keyboard goes through the page by the Tab key, and returns what is wrong: controls that cannot be reached, that come in
// another order than they are read in, or that do not show that they have the focus.
func (tab *Tab) Keyboard() []string {
	tab.t.Helper()
	// Parts that refresh themselves would replace the stops that are not reached yet.
	Evaluate[bool](tab, "document.addEventListener('htmx:beforeRequest', e => e.preventDefault()), true")
	tab.Settle()
	// Tab goes on from what had the focus last, so the body gets it once.
	Evaluate[bool](tab, "document.body.tabIndex = -1, document.body.focus(), document.body.removeAttribute('tabindex'), "+
		"window.scrollTo(0, 0), window.tabStops = "+stops+", true")
	count := Evaluate[int](tab, "window.tabStops.length")
	var wrong []string
	if count == 0 || !Evaluate[bool](tab, "window.tabStops[0].matches('.skip')") {
		wrong = append(wrong, "the first stop is not the link that skips the navigation")
	}
	for next := range count {
		tab.do(chromedp.KeyEvent(kb.Tab))
		at := Evaluate[struct {
			Number int    `json:"number"`
			Name   string `json:"name"`
			Wrong  string `json:"wrong"`
		}](tab, focused)
		if at.Number != next {
			name := Evaluate[string](tab, fmt.Sprintf("window.tabStops[%d].outerHTML.slice(0, 120)", next))
			return append(wrong, fmt.Sprintf("stop %d is %s, number %d of the page; expected %s", next, at.Name, at.Number, name))
		}
		if at.Wrong != "" {
			wrong = append(wrong, at.Name+" "+at.Wrong)
		}
	}
	return wrong
}
