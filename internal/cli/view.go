package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) viewCommand() *cobra.Command {
	return a.family("view", "Saved views of the inventory: filters that have a name", []string{"views"},
		a.viewList(), a.viewGet(), a.viewCreate(), a.viewUpdate(), a.viewDelete())
}

func (a *app) viewList() *cobra.Command {
	of := ""
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List saved views: your own, those that others share, and those that come with the product",
		Example: "  certloom view list\n  certloom view list --of certificates -o json",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("of", of, "identities", "certificates"); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Views(cmd.Context())
			if err != nil {
				return err
			}
			views := slices.DeleteFunc(page.Items, func(v apiv1.View) bool { return of != "" && v.List != of })
			return a.print(views, func() error {
				var rows [][]string
				for i := range views {
					v := &views[i]
					rows = append(rows, []string{v.Name, v.List, filtersOf(v.Filters), whose(v), v.ID})
				}
				return a.rows([]string{"NAME", "OF", "FILTERS", "WHOSE", "ID"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&of, "of", "", "only those of identities, or of certificates")
	return cmd
}

// whose tells in a cell who sees a view, and who can change it.
func whose(v *apiv1.View) string {
	switch {
	case v.System:
		return "product"
	case v.Mine && v.Shared:
		return "own, shared"
	case v.Mine:
		return "own"
	default:
		return "shared"
	}
}

func filtersOf(filters map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(filters)) {
		parts = append(parts, name+"="+filters[name])
	}
	return strings.Join(parts, " ")
}

func (a *app) viewGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID|NAME",
		Short:   "Show a saved view",
		Example: "  certloom view get 'Shop in the east'\n  certloom view get system-lapsing -o yaml",
		Args:    args("ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			v, err := findView(cmd.Context(), api, names[0])
			if err != nil {
				return err
			}
			return a.showView(v)
		},
	}
}

func (a *app) showView(v *apiv1.View) error {
	return a.print(v, func() error {
		return a.fields(
			field{"Name", v.Name},
			field{"Of", v.List},
			field{"Filters", filtersOf(v.Filters)},
			field{"Columns", strings.Join(v.Columns, ", ")},
			field{"Whose", whose(v)},
			field{"Changed", a.moment(v.UpdatedAt)},
			field{"ID", v.ID})
	})
}

// findView finds a view by its identifier, or by a name that only one has. The caller's own come first.
func findView(ctx context.Context, api *apiv1.Client, text string) (*apiv1.View, error) {
	page, err := api.Views(ctx)
	if err != nil {
		return nil, err
	}
	var named, own []*apiv1.View
	for i := range page.Items {
		v := &page.Items[i]
		switch {
		case v.ID == text:
			return v, nil
		case v.Name == text && v.Mine:
			own = append(own, v)
		case v.Name == text:
			named = append(named, v)
		}
	}
	if len(own) > 0 {
		named = own
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return nil, WithHint(fmt.Errorf("there is no view %.100q", text), "list them: certloom view list")
	default:
		return nil, WithHint(fmt.Errorf("%d views have the name %.100q", len(named), text), "name one by its ID: certloom view list")
	}
}

// viewFlags are what a view has.
type viewFlags struct {
	of      string
	name    string
	filters []string
	columns []string
	shared  bool
}

func (f *viewFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.filters, "filter", nil,
		"PARAMETER=VALUE of the list in the REST API, such as status=lapsing, namespace=shop or issuedWithin=1h; may be repeated")
	flags.StringSliceVar(&f.columns, "columns", nil, "columns that the console shows, such as name,status,cluster (default: the usual ones)")
	flags.BoolVar(&f.shared, "shared", false, "everybody sees it")
}

// over puts what the flags say into a view.
func (f *viewFlags) over(cmd *cobra.Command, view *apiv1.SaveView) error {
	changed := cmd.Flags().Changed
	if changed("filter") {
		view.Filters = make(map[string]string)
		for _, text := range cleared(f.filters) {
			name, value, ok := strings.Cut(text, "=")
			if !ok {
				return UsageError(fmt.Errorf("--filter %q is not PARAMETER=VALUE, such as status=lapsing", text))
			}
			view.Filters[name] = value
		}
	}
	if changed("columns") {
		view.Columns = cleared(f.columns)
	}
	if changed("shared") {
		view.Shared = f.shared
	}
	return nil
}

func (a *app) viewCreate() *cobra.Command {
	var flags viewFlags
	cmd := &cobra.Command{
		Use:   "create NAME --of LIST",
		Short: "Save a view",
		Example: `  certloom view create 'Shop in the east' --of identities --filter namespace=shop --filter cluster=east
  certloom view create 'New today' --of certificates --filter issuedWithin=24h --shared`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "of"); err != nil {
				return err
			}
			view := apiv1.SaveView{List: flags.of, Name: names[0]}
			if err := flags.over(cmd, &view); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			made, err := api.CreateView(cmd.Context(), view)
			if err != nil {
				return err
			}
			return a.showView(made)
		},
	}
	cmd.Flags().StringVar(&flags.of, "of", "", "identities or certificates (required)")
	flags.add(cmd)
	return cmd
}

func (a *app) viewUpdate() *cobra.Command {
	var flags viewFlags
	cmd := &cobra.Command{
		Use:   "update ID|NAME",
		Short: "Change a saved view of your own",
		Long:  `Change a saved view of your own. What no flag says stays. --filter replaces all filters; "" leaves none.`,
		Example: `  certloom view update 'Shop in the east' --filter namespace=shop --filter cluster=east-2
  certloom view update 'Shop in the east' --name 'Shop' --shared=false`,
		Args: args("ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			v, err := findView(cmd.Context(), api, names[0])
			if err != nil {
				return err
			}
			change := apiv1.SaveView{List: v.List, Name: v.Name, Filters: v.Filters, Columns: v.Columns, Shared: v.Shared}
			if cmd.Flags().Changed("name") {
				change.Name = flags.name
			}
			if err := flags.over(cmd, &change); err != nil {
				return err
			}
			if v, err = api.UpdateView(cmd.Context(), v.ID, change); err != nil {
				return err
			}
			return a.showView(v)
		},
	}
	cmd.Flags().StringVar(&flags.name, "name", "", "another name")
	flags.add(cmd)
	return cmd
}

func (a *app) viewDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete ID|NAME",
		Short:   "Delete a saved view of your own; administrators delete shared ones as well",
		Example: "  certloom view delete 'Shop in the east'",
		Args:    args("ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			v, err := findView(cmd.Context(), api, names[0])
			if err != nil {
				return err
			}
			if err := api.DeleteView(cmd.Context(), v.ID); err != nil {
				return err
			}
			gone := map[string]string{"id": v.ID, "name": v.Name, "state": "deleted"}
			return a.print(gone, func() error { return a.changed("view", v.Name, "deleted") })
		},
	}
}
