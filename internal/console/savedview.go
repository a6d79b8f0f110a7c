package console

import (
	"net/url"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
)

func (c *Console) viewRoutes() []route {
	return []route{
		{"POST /inventory/views", auth.Self, c.saveView},
		{"POST /inventory/views/delete", auth.Self, c.deleteView},
	}
}

// savedView is a selection that somebody has saved.
type savedView struct {
	tab
	ID     string
	Delete bool // by the visitor
}

// savedViews are the visitor's and those that are shared, of one list.
func (v *visit) savedViews(kind listKind) ([]savedView, error) {
	views, err := v.api.Views(v.ctx())
	if err != nil {
		return nil, err
	}
	selected := selection(v.r.URL.Query())
	var all []savedView
	for _, view := range views.Items {
		if view.System || view.List != kind.name {
			continue
		}
		query := url.Values{}
		for name, value := range view.Filters {
			query.Set(name, value)
		}
		current := selected != "" && selected == query.Encode()
		for _, column := range view.Columns {
			query.Add("columns", column)
		}
		all = append(all, savedView{tab{view.Name, kind.path + "?" + query.Encode(), current}, view.ID, view.Mine})
	}
	return all, nil
}

// listPath is the address of a list that has views.
func listPath(list string) string {
	if list == "certificates" {
		return "/inventory/certificates"
	}
	return "/inventory"
}

func (c *Console) saveView(v *visit) error {
	f := v.newForm(nil)
	selected, err := url.ParseQuery(v.value("selection"))
	if err != nil {
		selected = url.Values{} // it was not this page that sent it
	}
	in := apiv1.SaveView{
		List: v.value("list"), Name: f.value("/name"), Filters: map[string]string{}, Columns: selected["columns"], Shared: f.value("/shared") != "",
	}
	for name := range selected {
		if value := selected.Get(name); name != "columns" && name != "after" && value != "" {
			in.Filters[name] = value
		}
	}
	made, err := v.api.CreateView(v.ctx(), in)
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showSaveView(f, selected.Encode())
	}
	return v.done(listPath(made.List)+"?"+selected.Encode(), "inventory.saved", made.Name)
}

// saveViewView is the form of a view that could not be saved as it was.
type saveViewView struct {
	Form      *form
	List      string
	Selection string
	Name      field
	Shared    *field
	Back      string
}

func (v *visit) showSaveView(f *form, selected string) error {
	view := saveViewView{Form: f, List: v.value("list"), Selection: selected, Name: f.field("text", "/name", "inventory.viewName"), Back: listPath(v.value("list"))}
	view.Name.Required = true
	if v.may(auth.Operate) {
		shared := f.field("checkbox", "/shared", "inventory.viewShared")
		view.Shared = &shared
	}
	return f.render("saveview", view)
}

func (c *Console) deleteView(v *visit) error {
	if err := v.api.DeleteView(v.ctx(), v.value("id")); err != nil {
		return err
	}
	return v.done(listPath(v.value("list")), "inventory.forgotten")
}
