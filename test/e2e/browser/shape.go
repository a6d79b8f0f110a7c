package browser

import (
	"context"
	"fmt"
	"html"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// Language has the console speak a language, as the button does that sets the cookie. It applies to what is opened next.
func (tab *Tab) Language(language string) {
	tab.t.Helper()
	tab.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Call(ctx, network.SetCookie, network.SetCookieParams{
			Name: "__Host-certloom-lang", Value: language, URL: tab.browser.url, Path: "/", Secure: new(true), HTTPOnly: new(true),
		})
		return err
	}))
}

// wide is a function of the page: the elements that make it wider than the window.
const wide = `(() => {
	const room = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth <= room) return [];
	return [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > room + 1 && e.checkVisibility())
		.slice(-3).map(e => e.outerHTML.slice(0, 160));
})()`

// TooWide returns what needs scrolling sideways.
func (tab *Tab) TooWide() []string {
	tab.t.Helper()
	var found []string
	for _, element := range Evaluate[[]string](tab, wide) {
		found = append(found, "wider than the window: "+element)
	}
	return found
}

// ContactSheet writes index.html with all pictures of a folder, a row for each page.
func ContactSheet(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.png"))
	if err != nil {
		return fmt.Errorf("list the pictures: %w", err)
	}
	slices.Sort(files)
	var out strings.Builder
	out.WriteString("<!doctype html><meta charset=utf-8><title>Certloom</title><style>body{font:14px sans-serif}" +
		"figure{display:inline-block;margin:8px;vertical-align:top}img{height:360px;border:1px solid #888}</style>\n")
	for _, file := range files {
		name := html.EscapeString(filepath.Base(file))
		fmt.Fprintf(&out, "<figure><a href=%q><img loading=lazy src=%q alt=%q></a><figcaption>%s</figcaption></figure>\n", name, name, name, name)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte(out.String()), 0o644); err != nil {
		return fmt.Errorf("write the contact sheet: %w", err)
	}
	return nil
}
