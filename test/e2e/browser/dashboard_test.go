package browser_test

import (
	"testing"

	"github.com/certloom/certloom/test/e2e/browser"
)

// TestDashboardRefreshes: the figures come anew by themselves; who stands on one of them with the keyboard stays there,
// and what somebody has opened to read is left alone.
func TestDashboardRefreshes(t *testing.T) {
	estate := browser.StartEstate(t.Context(), t)
	tab := browser.StartChromium(t.Context(), t, estate.Certloom, browser.Settings{}).NewTab(t)
	tab.SignIn(estate.AdminUser, estate.AdminPassword)
	tab.Open("/")
	tab.Wait("a bar of the histogram has the focus", `(() => {
		window.first = document.querySelector("#tile-alive");
		const bar = document.querySelector("#chart-left-1");
		bar.focus();
		return document.activeElement === bar;
	})()`)
	tab.Wait("the figures are others", `!document.contains(window.first)`)
	tab.Wait("the focus is where it was", `document.activeElement?.id === "chart-left-1"`)
	tab.Wait("the numbers are open", `(() => {
		window.second = document.querySelector("#tile-alive");
		document.querySelector("#figures details").open = true;
		window.addEventListener("htmx:beforeRequest", (event) => { window.spared ||= event.defaultPrevented; });
		return true;
	})()`)
	tab.Wait("figures that somebody reads are not replaced", `window.spared === true && document.contains(window.second)`)
	for _, trouble := range tab.Troubles() {
		t.Error(trouble)
	}
}
