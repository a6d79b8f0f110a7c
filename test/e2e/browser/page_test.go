package browser_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/certloom/certloom/test/e2e/browser"
	"github.com/certloom/certloom/test/e2e/testbed"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

// picturesVariable names the environment variable with the folder that TestPages writes pictures to; "make screenshots" sets
// it.
const picturesVariable = "CERTLOOM_SCREENSHOTS"

// heaviest is how much a page may weigh at first sight, with everything that it needs.
const heaviest = 300 << 10

// TestPages looks at every page in both themes and at both widths: nothing that the browser complains of, nothing serious
// in axe-core's eyes, nothing that needs scrolling sideways, every control within reach of the keyboard, and no page
// heavier than it may be.
func TestPages(t *testing.T) {
	axe, err := browser.NewAxe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	estate := browser.StartEstate(t.Context(), t)
	chromium := browser.StartChromium(t.Context(), t, estate.Certloom, browser.Settings{})
	var weights []string
	walk := func(t *testing.T, chromium *browser.Chromium, pages []browser.Page) {
		for _, page := range pages {
			t.Run(page.Name, func(t *testing.T) {
				tab := chromium.NewTab(t)
				for _, status := range []int64{http.StatusNotFound, http.StatusForbidden, http.StatusUnprocessableEntity} {
					tab.Expect(status)
				}
				weight := look(t, tab, axe, page)
				weights = append(weights, fmt.Sprintf("%7.1f KB  %s", float64(weight)/1024, page.Path))
			})
		}
	}
	var public, reader, rest []browser.Page
	for _, page := range estate.Pages() {
		switch {
		case page.Public:
			public = append(public, page)
		case page.Reader:
			reader = append(reader, page)
		default:
			rest = append(rest, page)
		}
	}
	walk(t, chromium, public)
	readers := browser.StartChromium(t.Context(), t, estate.Certloom, browser.Settings{})
	readers.NewTab(t).SignIn(browser.Auditor, estate.AuditorPassword)
	walk(t, readers, reader)
	chromium.NewTab(t).SignIn(estate.AdminUser, estate.AdminPassword)
	walk(t, chromium, rest)
	walk(t, browser.StartChromium(t.Context(), t, withProvider(t), browser.Settings{}), []browser.Page{{Name: "sign-in-provider", Path: "/sign-in", Main: true}})
	for _, line := range weights {
		t.Log(line)
	}
	if dir := os.Getenv(picturesVariable); dir != "" {
		if err := browser.ContactSheet(dir); err != nil {
			t.Error(err)
		}
	}
}

// withProvider starts a server where people can sign in with a provider as well.
func withProvider(t *testing.T) *testbed.Certloom {
	t.Helper()
	return testbed.StartCertloom(t.Context(), t, testbed.Options{Provider: testbed.NewProvider(t.Context(), t, true)})
}

// look looks at one page in every way, and returns its weight.
func look(t *testing.T, tab *browser.Tab, axe *browser.Axe, page browser.Page) int {
	t.Helper()
	tab.Look(page)
	weight := tab.Received()
	if weight > heaviest {
		t.Errorf("the page weighs %d bytes; %d are too many", weight, heaviest)
	}
	said := make(map[string]bool)
	complain := func(where, what string) { // the same fault is mostly there in every way of looking
		if !said[what] {
			said[what] = true
			t.Errorf("%s: %s", where, what)
		}
	}
	languages := []string{"en"}
	if page.Main {
		languages = append(languages, "ja")
	}
	for _, language := range languages {
		tab.Language(language)
		tab.Look(page)
		for _, size := range []browser.Size{browser.Wide, browser.Narrow} {
			tab.Resize(size)
			for _, scheme := range []string{"light", "dark"} {
				tab.Scheme(scheme)
				where := language + "-" + scheme + "-" + size.Name
				if dir := os.Getenv(picturesVariable); dir != "" {
					tab.Picture(filepath.Join(dir, page.Name+"-"+where+".png"), size)
				}
				serious, _ := axe.Judge(tab)
				for _, violation := range serious {
					complain(where, violation)
				}
			}
			for _, wide := range tab.TooWide() {
				complain(language+"-"+size.Name, wide)
			}
			if language == "en" {
				for _, wrong := range tab.Keyboard() {
					complain("keyboard-"+size.Name, wrong)
				}
			}
		}
	}
	tab.Language("en")
	return weight
}
