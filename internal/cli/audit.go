package cli

import (
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) auditCommand() *cobra.Command {
	return a.family("audit", "The audit log: who did what, and what was refused", nil, a.auditList(), a.auditExport())
}

func (a *app) auditList() *cobra.Command {
	var query apiv1.EventQuery
	since, limit := "", 0
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List audit events, newest first",
		Example: `  certloom audit list
  certloom audit list --action 'profile.*' --since 7d
  certloom audit list --outcome refused --since 1h -o json
  certloom audit list --target istio/cluster-1`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			query.Since, err = a.past("since", since)
			if err := errors.Join(err, oneOf("outcome", query.Outcome, "done", "refused")); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "events", func(after string, size int) (*apiv1.Page[apiv1.Event], error) {
				query.After, query.Limit = after, size
				return api.Events(cmd.Context(), query)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				const most = 100
				var rows [][]string
				for _, e := range items {
					rows = append(rows, []string{a.when(e.Time), e.Action, e.Outcome, e.Target, actor(&e), short(detail(&e), most)})
				}
				return a.rows([]string{"WHEN", "ACTION", "OUTCOME", "TARGET", "ACTOR", "DETAIL"}, rows)
			})
		},
	}
	eventFlags(cmd, &query, &since)
	limitFlag(cmd, &limit)
	return cmd
}

// eventFlags select events.
func eventFlags(cmd *cobra.Command, query *apiv1.EventQuery, since *string) {
	flags := cmd.Flags()
	flags.StringVar(&query.Action, "action", "", "such as profile.create; a prefix when it ends with *")
	flags.StringVar(&query.Target, "target", "", "name, identifier or serial of what was acted upon")
	flags.StringVar(&query.Actor, "actor", "", "identifier of who acted: a token, an ACME account, a user")
	flags.StringVar(&query.Outcome, "outcome", "", "done or refused")
	flags.StringVar(since, "since", "", "a time, or how long ago: 1h, 7d")
}

func (a *app) auditExport() *cobra.Command {
	var query apiv1.EventQuery
	since, format, out, quiet := "", "", "", false
	cmd := &cobra.Command{
		Use:   "export",
		Short: "Export audit events as JSON or CSV, newest first",
		Long: `Export audit events as JSON (an array, one event a line) or CSV, newest first. The export is streamed, and may be as large
as the log. A file appears under its name only when it is complete. In CSV, cells that a spreadsheet would take for formulas
begin with an apostrophe.`,
		Example: `  certloom audit export --since 30d --out audit.csv
  certloom audit export --action 'certificate.*' --format json > certificates.json`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if format == "" {
				format = formatOf(out)
			}
			var err error
			query.Since, err = a.past("since", since)
			if err := errors.Join(err, oneOf("format", format, "json", "csv"), oneOf("outcome", query.Outcome, "done", "refused")); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			export := &exportRun{app: a, what: "event", format: format, progress: !quiet && out != "" && isTerminal(a.Stderr)}
			return export.run(func() (io.ReadCloser, error) { return api.ExportEvents(cmd.Context(), format, query) }, out)
		},
	}
	eventFlags(cmd, &query, &since)
	cmd.Flags().StringVar(&format, "format", "", "json or csv (default: by the ending of --out, else json)")
	cmd.Flags().StringVar(&out, "out", "", "file to write (default: standard output)")
	cmd.Flags().BoolVar(&quiet, "quiet", false, "do not show progress")
	return cmd
}

func actor(e *apiv1.Event) string {
	switch {
	case e.ActorName != "":
		return e.ActorKind + " " + e.ActorName
	case e.ActorID != "":
		return e.ActorKind + " " + e.ActorID
	default:
		return e.ActorKind
	}
}

// detail is the most telling part of an event.
func detail(e *apiv1.Event) string {
	if e.Reason != "" {
		return e.Reason
	}
	if n := e.Names; n != nil {
		return strings.Join(append(append(append([]string{}, n.URIs...), n.DNS...), n.IPs...), ", ")
	}
	parts := make([]string, 0, len(e.Changes))
	for _, c := range e.Changes {
		switch {
		case c.Old == "":
			parts = append(parts, c.Field+"="+c.New)
		case c.New == "":
			parts = append(parts, c.Field+" was "+c.Old)
		default:
			parts = append(parts, c.Field+": "+c.Old+" → "+c.New)
		}
	}
	if len(parts) == 0 && e.Profile != "" {
		return "profile " + e.Profile
	}
	return strings.Join(parts, ", ")
}
