package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) templateCommand() *cobra.Command {
	return a.family("template", "Base templates that certificate profiles are made of", []string{"templates"}, a.templateList(), a.templateGet())
}

func (a *app) templateList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List base templates",
		Example: "  certloom template list\n  certloom template list -o json | jq -r '.[].name'",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Templates(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(page.Items, func() error {
				var rows [][]string
				for _, t := range page.Items {
					rows = append(rows, []string{t.Name, t.Method, t.Rules.Validity.Default, t.Rules.Validity.Max, strings.Join(t.Rules.ExtKeyUsage, ", ")})
				}
				return a.rows([]string{"NAME", "METHOD", "VALIDITY", "AT MOST", "EXTENDED KEY USAGE"}, rows)
			})
		},
	}
}

func (a *app) templateGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME",
		Short:   "Show what profiles of a base template start from",
		Example: "  certloom template get private-mtls -o yaml",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Templates(cmd.Context())
			if err != nil {
				return err
			}
			for i := range page.Items {
				if page.Items[i].Name == names[0] {
					return a.showTemplate(&page.Items[i])
				}
			}
			return WithHint(fmt.Errorf("there is no base template %.100q", names[0]), "list them: certloom template list")
		},
	}
}

func (a *app) showTemplate(t *apiv1.Template) error {
	return a.print(t, func() error {
		return a.fields(append([]field{{"Name", t.Name}, {"Enrollment", t.Method}}, ruleFields(&t.Rules)...)...)
	})
}
