package console

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"strings"

	"github.com/certloom/certloom/internal/auth"
)

// page is a page's templates in one language.
type page struct{ template *template.Template }

// loadPages parses templates/NAME.html, each with the layout and the parts, once for each language.
func (c *Console) loadPages() (map[string]map[string]*page, error) {
	entries, err := files.ReadDir("templates")
	if err != nil {
		return nil, fmt.Errorf("read templates: %w", err)
	}
	all := make(map[string]map[string]*page)
	for _, lang := range languages() {
		shared, err := template.New("layout.html").Funcs(c.functions(lang)).ParseFS(files, "templates/layout.html", "templates/parts/*.html")
		if err != nil {
			return nil, fmt.Errorf("parse layout: %w", err)
		}
		all[lang] = make(map[string]*page)
		for _, entry := range entries {
			if entry.IsDir() || entry.Name() == "layout.html" {
				continue
			}
			own, err := shared.Clone()
			if err == nil {
				own, err = own.ParseFS(files, path.Join("templates", entry.Name()))
			}
			if err != nil {
				return nil, fmt.Errorf("parse template %s: %w", entry.Name(), err)
			}
			all[lang][strings.TrimSuffix(entry.Name(), ".html")] = &page{own}
		}
	}
	return all, nil
}

// functions are what templates can call.
func (c *Console) functions(lang string) template.FuncMap {
	texts := c.texts[lang]
	return template.FuncMap{
		"t":     texts.say,
		"n":     func(key string, n int64, args ...any) string { return texts.count(key, n, args...) },
		"asset": c.assets.address,
		"icon":  c.icon,
		"lang":  func() string { return lang },
	}
}

// icon is an image that says nothing to who cannot see it: the text beside it does.
func (c *Console) icon(name string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="icon" aria-hidden="true" focusable="false"><use href="%s#%s"/></svg>`, //nolint:gosec // both are escaped
		template.HTMLEscapeString(c.assets.address("vendor/icons.svg")), template.HTMLEscapeString(name)))
}

// layout is what is around every page.
type layout struct {
	Lang, Theme string
	Version     string
	Path        string // with the query, to come back to
	SignedIn    bool
	Narrow      bool   // a page with one small form
	Name, Role  string // of the visitor
	Navigation  []navGroup
	Flash       string
	Page        any
}

// navGroup is a heading of the navigation with what is below it.
type navGroup struct {
	Title string // "" for entries that need none
	Items []navItem
}

// navItem is one entry of the navigation.
type navItem struct {
	Title, Icon, Path string
	Current           bool
}

// navEntry is an entry of the navigation as it is written down: the text's key, the icon, and the page.
type navEntry struct{ key, icon, path string }

// navEntries are all entries below their headings. The names are those of the field's products, so that people find
// what they know.
func navEntries() []struct {
	heading string
	entries []navEntry
} {
	return []struct {
		heading string
		entries []navEntry
	}{
		{"", []navEntry{
			{"nav.dashboard", "dashboard", "/"},
			{"nav.inventory", "list-check", "/inventory"},
		}},
		{"nav.policies", []navEntry{
			{"nav.templates", "template", "/policies/templates"},
			{"nav.profiles", "file-certificate", "/policies/profiles"},
			{"nav.credentials", "key", "/policies/credentials"},
			{"nav.alerts", "bell-ringing", "/policies/alerts"},
		}},
		{"nav.trust", []navEntry{
			{"nav.authorities", "building-bank", "/authorities"},
		}},
		{"nav.integrations", []navEntry{
			{"nav.connectors", "plug-connected", "/integrations/connectors"},
		}},
		{"nav.administration", []navEntry{
			{"nav.audit", "history", "/audit"},
			{"nav.users", "users", "/settings/users"},
			{"nav.tokens", "api", "/settings/tokens"},
			{"nav.sessions", "device-laptop", "/settings/sessions"},
		}},
	}
}

// navigation lists what the visitor can make use of: pages that are there, and that need no access that he lacks.
func (v *visit) navigation() []navGroup {
	needs := make(map[string]auth.Access)
	for _, r := range v.console.routes() {
		if page, ok := strings.CutPrefix(r.pattern, "GET "); ok {
			needs[strings.TrimSuffix(page, "{$}")] = r.access
		}
	}
	var groups []navGroup
	for _, group := range navEntries() {
		made := navGroup{}
		if group.heading != "" {
			made.Title = v.text(group.heading)
		}
		for _, e := range group.entries {
			if access, ok := needs[e.path]; !ok || !v.may(access) {
				continue
			}
			here := v.r.URL.Path
			made.Items = append(made.Items, navItem{
				Title: v.text(e.key), Icon: e.icon, Path: e.path,
				Current: here == e.path || (e.path != "/" && strings.HasPrefix(here, e.path+"/")),
			})
		}
		if len(made.Items) > 0 {
			groups = append(groups, made)
		}
	}
	return groups
}

// render answers with a whole page.
func (v *visit) render(name string, view any) error { return v.renderStatus(http.StatusOK, name, view) }

// renderStatus is render with a status that is not 200.
func (v *visit) renderStatus(status int, name string, view any) error {
	whole := layout{
		Lang: v.lang, Theme: v.theme, Version: v.console.config.Version, Path: v.r.URL.RequestURI(),
		SignedIn: v.signedIn(), Name: v.who.Name, Role: string(v.who.Role), Flash: v.flash(), Page: view,
	}
	if v.r.Method != http.MethodGet {
		whole.Path = v.r.URL.Path
	}
	whole.Narrow = name == "signin" || name == "error"
	if whole.SignedIn {
		whole.Navigation = v.navigation()
	}
	return v.execute(status, name, "layout.html", whole)
}

// fragment answers with one block of a page, for scripts that replace it.
func (v *visit) fragment(name, block string, view any) error {
	return v.execute(http.StatusOK, name, block, view)
}

func (v *visit) execute(status int, name, block string, data any) error {
	known, ok := v.console.pages[v.lang][name]
	if !ok {
		return fmt.Errorf("there is no page %s", name)
	}
	var out bytes.Buffer
	if err := known.template.ExecuteTemplate(&out, block, data); err != nil {
		// A template that does not fit its view is a bug that the tests find.
		return fmt.Errorf("write page: %w", err)
	}
	v.write(status, &out)
	return nil
}
