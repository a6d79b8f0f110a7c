package console

import (
	"net/url"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/auth"
)

// listView is what the two lists of the inventory have in common: everything but the rows.
type listView struct {
	Tabs      []tab
	Views     []tab // ready-made selections
	Saved     []savedView
	List      string // its name
	Selection string // of the address with its columns, to be saved
	Share     bool   // the visitor may share what he saves
	Key       string // of the form that saves
	Form      listForm
	Show      map[string]bool // columns by key
	Filtered  bool
	Count     string // how many rows there are
	Self      string // address of the same page, to look again
	Next      string // address of the next page, "" on the last
	First     string // address of the first page, "" there
	CSV       string
	JSON      string
	PEM       string // of certificates only
	Elsewhere string // address of the other list with the same search, when nothing was found in this one
}

// listForm is the form above a list.
type listForm struct {
	Action  string
	Search  field
	Fields  []field // filters that are always there
	More    []field // filters that are behind a line
	Open    bool    // that line
	Columns []option
}

// column is a column of a list that can be left out.
type column struct {
	key, text string
	usual     bool // shown until somebody chooses
}

// chosenColumns are those of the address, or the usual ones.
func (v *visit) chosenColumns(all []column) (map[string]bool, []option) {
	chosen := v.r.URL.Query()["columns"]
	show := make(map[string]bool, len(all))
	options := make([]option, 0, len(all))
	for _, c := range all {
		show[c.key] = c.usual
		if len(chosen) > 0 {
			show[c.key] = slices.Contains(chosen, c.key)
		}
		options = append(options, option{Value: c.key, Label: v.text(c.text), Chosen: show[c.key]})
	}
	return show, options
}

// listKind is one of the two lists.
type listKind struct {
	name     string // of the tab
	path     string
	statuses []string
	columns  []column
	views    []readyView
	more     []string // filters behind the line; parameters of the API with the texts inventory.NAME
}

// readyView is a selection that everybody needs.
type readyView struct{ text, query string }

// newList makes everything but the rows; next is the API's cursor.
func (v *visit) newList(kind listKind, rows int, next string) (listView, error) {
	query := v.r.URL.Query()
	view := listView{Tabs: v.inventoryTabs(kind.name), Self: v.r.URL.RequestURI(), List: kind.name, Share: v.may(auth.Operate), Key: v.newKey()}
	view.First, view.Next = v.pages(next)
	view.Count = v.console.texts[v.lang].count("inventory.rows", int64(rows))
	if next != "" || view.First != "" {
		view.Count = v.text("inventory.page", number(int64(rows)))
	}
	view.Show, view.Form.Columns = v.chosenColumns(kind.columns)
	for name := range query {
		view.Filtered = view.Filtered || name != "columns" && name != "after" && query.Get(name) != ""
	}
	selected := selection(query)
	kept := v.r.URL.Query()
	kept.Del("after")
	view.Selection = kept.Encode()
	if !v.htmx() {
		var err error
		if view.Saved, err = v.savedViews(kind); err != nil {
			return view, err
		}
	}
	for _, ready := range kind.views {
		view.Views = append(view.Views, tab{v.text(ready.text), strings.TrimSuffix(kind.path+"?"+ready.query, "?"), selected == ready.query})
	}
	export := func(format string) string {
		query := v.r.URL.Query()
		query.Del("after")
		query.Del("columns")
		query.Set("format", format)
		return kind.path + "/export?" + query.Encode()
	}
	view.CSV, view.JSON, view.PEM = export("csv"), export("json"), export("pem")
	err := v.listFilters(&view.Form, kind)
	return view, err
}

// selection is what an address selects, without how it is shown.
func selection(query url.Values) string {
	kept := url.Values{}
	for name, values := range query {
		if name != "after" && name != "columns" && values[0] != "" {
			kept[name] = values
		}
	}
	return kept.Encode()
}

// listFilters makes the fields of the form. Whoever may not read the profiles types a name.
func (v *visit) listFilters(into *listForm, kind listKind) error {
	f := v.newForm(v.r.URL.Query())
	into.Action = kind.path
	into.Search = f.field("search", "q", "inventory.search")
	statuses := append([]option{{Value: "", Label: v.text("common.all")}}, v.options("inventory.status.", kind.statuses...)...)
	into.Fields = []field{f.choice("select", "status", "inventory.status", statuses), f.field("search", "namespace", "inventory.namespace")}
	if v.may(auth.Read) {
		profiles, err := v.api.Profiles(v.ctx())
		if err != nil {
			return err
		}
		options := []option{{Value: "", Label: v.text("common.all")}}
		for _, p := range profiles.Items {
			options = append(options, option{Value: p.Name, Label: p.Name})
		}
		into.Fields = append(into.Fields, f.choice("select", "profile", "inventory.profile", options))
	}
	for _, name := range kind.more {
		into.More = append(into.More, f.field("search", name, "inventory."+name))
		into.Open = into.Open || f.value(name) != ""
	}
	return nil
}

// inventoryPage is how many rows a page of the inventory has.
const inventoryPage = 50

// tab is one of several lists of an area.
type tab struct {
	Title, Path string
	Current     bool
}

func (v *visit) inventoryTabs(current string) []tab {
	return []tab{
		{v.text("nav.identities"), "/inventory", current == "identities"},
		{v.text("nav.certificates"), "/inventory/certificates", current == "certificates"},
	}
}

// maxTyped is how much of a search the API takes. What nobody has typed, but pasted, is cut.
const maxTyped = 200

// typed is what somebody looks for.
func (v *visit) typed() string {
	typed := strings.ToValidUTF8(strings.TrimSpace(v.query("q")), "\ufffd")
	if runes := []rune(typed); len(runes) > maxTyped {
		typed = string(runes[:maxTyped])
	}
	return typed
}

// chosen is a filter of the address.
func (v *visit) chosen(name string) string {
	return strings.ToValidUTF8(strings.TrimSpace(v.query(name)), "\ufffd")
}

// pages are the addresses of the first page and of the next one.
func (v *visit) pages(next string) (first, following string) {
	at := *v.r.URL
	query := at.Query()
	if query.Has("after") {
		query.Del("after")
		at.RawQuery = query.Encode()
		first = at.RequestURI()
	}
	if next != "" {
		query.Set("after", next)
		at.RawQuery = query.Encode()
		following = at.RequestURI()
	}
	return first, following
}
