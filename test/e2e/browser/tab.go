package browser

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// Size is that of a window, in CSS pixels.
type Size struct {
	Name          string
	Width, Height int
}

// Wide is a desktop's window, Narrow a telephone's.
var (
	Wide   = Size{Name: "1440", Width: 1440, Height: 900}
	Narrow = Size{Name: "390", Width: 390, Height: 844}
)

// patience is how long a page may take to show what is waited for, with the machine busy.
const patience = 30 * time.Second

// Tab is one page after the other. It is used by one goroutine at a time.
type Tab struct {
	ctx     context.Context //nolint:containedctx // chromedp keeps the tab in it
	t       testbed.T
	browser *Chromium

	mu       sync.Mutex // guards what follows, which events change
	troubles []string
	expected map[int64]bool               // statuses that are no trouble
	received float64                      // bytes from the network since the last Open
	requests map[network.RequestID]string // those that are under way
}

// NewTab opens a tab. It is closed with the test, which fails when the browser has complained by then.
func (c *Chromium) NewTab(t testbed.T) *Tab {
	t.Helper()
	tab := &Tab{t: t, browser: c, expected: make(map[int64]bool), requests: make(map[network.RequestID]string)}
	ctx, stop := chromedp.NewContext(c.ctx, chromedp.WithListener(tab.listen))
	tab.ctx = ctx
	t.Cleanup(func() {
		stop()
		for _, trouble := range tab.Troubles() {
			t.Errorf("the browser complains: %s", trouble)
		}
	})
	if err := chromedp.Do(ctx, watch(c.scripts)); err != nil { // without a deadline, which would be the tab's
		t.Fatalf("open a tab: %v", err)
	}
	return tab
}

// do does something in the tab.
func (tab *Tab) do(steps ...chromedp.Action[chromedp.Void]) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		tab.t.Fatalf("browser at %s: %v", tab.Location(), err)
	}
}

// ask does something in a tab that has a result.
func ask[T any](tab *Tab, action chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	return chromedp.Run(ctx, action)
}

// Location is the path that the tab shows.
func (tab *Tab) Location() string {
	location, err := ask(tab, chromedp.Location())
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(location, tab.browser.url)
}

// Open goes to a path and waits until everything on the page is there.
func (tab *Tab) Open(path string) {
	tab.t.Helper()
	tab.mu.Lock()
	tab.received = 0
	clear(tab.requests) // the page before asked for them, and nobody tells what became of them
	tab.mu.Unlock()
	tab.do(chromedp.Navigate(tab.browser.url + path))
	tab.Settle()
}

// Settle waits until the page is loaded and no request is under way, so that what scripts ask for is there as well.
func (tab *Tab) Settle() {
	tab.t.Helper()
	tab.Wait("the page to settle", `document.readyState === 'complete' && !document.querySelector('.htmx-request, .htmx-swapping, .htmx-settling')`)
	tab.await("requests to end", func() error {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		if len(tab.requests) > 0 {
			return fmt.Errorf("under way: %v", slices.Collect(maps.Values(tab.requests)))
		}
		return nil
	})
}

// Wait waits until an expression of JavaScript is true.
func (tab *Tab) Wait(what, expression string) {
	tab.t.Helper()
	tab.await(what, func() error {
		switch ok, err := ask(tab, chromedp.Evaluate[bool]("!!("+expression+")")); {
		case err != nil:
			return err // between two pages there may be nothing that evaluates
		case !ok:
			return fmt.Errorf("not yet: %s", expression)
		}
		return nil
	})
}

func (tab *Tab) await(what string, check func() error) {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.ctx, patience)
	defer cancel()
	if err := testbed.Poll(ctx, 20*time.Millisecond, func(context.Context) error { return check() }); err != nil {
		tab.t.Fatalf("%s: wait for %s: %v\n%s", tab.Location(), what, err, tab.Text("main"))
	}
}

// Text is what an element shows; "" when there is none.
func (tab *Tab) Text(selector string) string {
	tab.t.Helper()
	return Evaluate[string](tab, "(document.querySelector("+quote(selector)+")?.innerText ?? '')")
}

// Evaluate has an expression of JavaScript evaluated in a tab; a promise is awaited.
func Evaluate[T any](tab *Tab, expression string) T {
	tab.t.Helper()
	result, err := ask(tab, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		tab.t.Fatalf("browser at %s: %v", tab.Location(), err)
	}
	return result
}

// Click clicks the one visible element that a selector finds, and waits for what that does.
func (tab *Tab) Click(selector string) {
	tab.t.Helper()
	tab.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
	tab.Settle()
}

// ClickText clicks the first visible link or button whose text is this.
func (tab *Tab) ClickText(text string) {
	tab.t.Helper()
	path := fmt.Sprintf(`//main//*[self::a or self::button or self::summary][normalize-space(.)=%s]`, quote(text))
	tab.do(chromedp.Click(path, chromedp.NodeVisible))
	tab.Settle()
}

// Fill types into a field, in place of what it has.
func (tab *Tab) Fill(selector, text string) {
	tab.t.Helper()
	tab.do(chromedp.Clear(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text))
}

// Choose selects the option of a list by its value.
func (tab *Tab) Choose(selector, value string) {
	tab.t.Helper()
	chosen := Evaluate[bool](tab, fmt.Sprintf(`(() => {
		const list = document.querySelector(%[1]s);
		list.value = %[2]s;
		list.dispatchEvent(new Event("change", { bubbles: true }));
		return list.value === %[2]s;
	})()`, strconv.Quote(selector), strconv.Quote(value)))
	if !chosen {
		tab.t.Fatalf("%s has no option %q", selector, value)
	}
}

// Download clicks what a selector finds and returns the file that the browser saves.
func (tab *Tab) Download(selector, name string) []byte {
	tab.t.Helper()
	tab.do(chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
	var data []byte
	tab.await("the download of "+name, func() error {
		var err error
		data, err = os.ReadFile(filepath.Join(tab.browser.downloads, name))
		return err
	})
	return data
}

// SignIn signs a person in through the form.
func (tab *Tab) SignIn(user, password string) {
	tab.t.Helper()
	tab.Open("/sign-in")
	tab.Fill("[name=user]", user)
	tab.Fill("[name=password]", password)
	tab.do(chromedp.Click(chromedp.CSS("main form button.btn-primary")))
	tab.Wait("the dashboard", `document.querySelector('.shell') && location.pathname === '/'`)
	tab.Settle()
}

// Resize gives the window another size.
func (tab *Tab) Resize(size Size) {
	tab.t.Helper()
	tab.do(chromedp.EmulateViewport(int64(size.Width), int64(size.Height)))
}

// Scheme has the person's system prefer light or dark, and waits until the page is so.
func (tab *Tab) Scheme(scheme string) {
	tab.t.Helper()
	tab.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
		}})
		return err
	}))
	tab.Wait(scheme, `matchMedia('(prefers-color-scheme: `+scheme+`)').matches && document.documentElement.dataset.bsTheme === '`+scheme+`'`)
}

// Picture writes what the whole page looks like to a PNG file: with a window that is as high as the page, so that what sticks to
// the window's edges is where it belongs.
func (tab *Tab) Picture(file string, size Size) {
	tab.t.Helper()
	height := Evaluate[int](tab, "document.activeElement.blur(), window.scrollTo(0, 0), document.documentElement.scrollHeight")
	tab.Resize(Size{Width: size.Width, Height: max(height, size.Height)})
	defer tab.Resize(size)
	picture, err := ask(tab, func(ctx context.Context, _ *chromedp.Target) ([]byte, error) {
		shot, err := chromedp.Call(ctx, page.CaptureScreenshot, page.CaptureScreenshotParams{CaptureBeyondViewport: new(true)})
		return shot.Data, err
	})
	if err != nil {
		tab.t.Fatalf("picture of %s: %v", tab.Location(), err)
	}
	if err := os.WriteFile(file, picture, 0o644); err != nil {
		tab.t.Fatal(err)
	}
}

// Received is how many bytes came over the network since the last Open, headers and all.
func (tab *Tab) Received() int {
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return int(tab.received)
}
