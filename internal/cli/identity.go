package cli

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) identityCommand() *cobra.Command {
	return a.family("identity", "What certificates are for, each with its newest certificate", []string{"identities"},
		a.identityList(), a.identityGet(), a.identityRetire(), a.identityRestore(), a.identityExport(), a.identityRevoke(), a.identityDeny(), a.identityAllow(), a.identityDenied())
}

func (a *app) identityList() *cobra.Command {
	var query apiv1.IdentityQuery
	limit := 0
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List identities",
		Long: `List identities: SPIFFE IDs, DNS names and addresses that certificates were issued for, judged by their newest
certificate and by their history: ok, renewal-due (usually it had a newer one by now), lapsing (past three quarters of its life,
or later if it was renewed later before: its client has stopped renewing), lapsed (expired or revoked) or gone (nothing runs
that needs it).`,
		Example: `  certloom identity list
  certloom identity list --status lapsing
  certloom identity list --search checkout
  certloom identity list --namespace payments --limit 0 -o json`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("status", query.Status, identityStates()...); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "identities", func(after string, size int) (*apiv1.Page[apiv1.Identity], error) {
				query.After, query.Limit = after, size
				return api.Identities(cmd.Context(), query)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, i := range items {
					rows = append(rows, []string{i.Name, i.Status, i.Profile, a.when(i.NotAfter), a.when(i.LastIssuedAt), strconv.FormatInt(i.Certificates, 10)})
				}
				return a.rows([]string{"IDENTITY", "STATUS", "PROFILE", "EXPIRES", "LAST ISSUED", "CERTIFICATES"}, rows)
			})
		},
	}
	identityFlags(cmd, &query)
	limitFlag(cmd, &limit)
	return cmd
}

func identityStates() []string { return []string{"ok", "renewal-due", "lapsing", "lapsed", "gone"} }

// identityFlags select identities.
func identityFlags(cmd *cobra.Command, query *apiv1.IdentityQuery) {
	flags := cmd.Flags()
	flags.StringVar(&query.Text, "search", "", "part of the name, beginning of the cluster's name, or serial or fingerprint of a certificate")
	flags.StringVar(&query.Name, "name", "", "SPIFFE ID, DNS name or address; a prefix when it ends with *")
	flags.StringVar(&query.Status, "status", "", "ok, renewal-due, lapsing, lapsed or gone")
	flags.StringVar(&query.TrustDomain, "trust-domain", "", "trust domain of the SPIFFE ID")
	flags.StringVar(&query.Namespace, "namespace", "", "namespace of the SPIFFE ID")
	flags.StringVar(&query.Cluster, "cluster", "", "cluster that the newest certificate went to")
	flags.StringVar(&query.Profile, "profile", "", "name of the profile of the newest certificate")
}

func (a *app) identityGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get IDENTITY",
		Short:   "Show an identity",
		Example: "  certloom identity get spiffe://cluster.local/ns/payments/sa/api\n  certloom identity get istiod.istio-system.svc",
		Args:    args("IDENTITY"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			i, err := api.Identity(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			rolledUp := ""
			if sum := i.RolledUp; sum != nil {
				rolledUp = fmt.Sprintf("%d, issued from %s to %s", sum.Certificates, a.moment(sum.FirstIssuedAt), a.moment(sum.LastIssuedAt))
			}
			return a.print(i, func() error {
				return a.fields(
					field{"Identity", i.Name},
					field{"Status", i.Status},
					field{"Trust domain", i.TrustDomain},
					field{"Namespace", i.Namespace},
					field{"Service account", i.ServiceAccount},
					field{"Cluster", i.Cluster},
					field{"Profile", i.Profile},
					field{"Newest serial", i.NewestSerial},
					field{"Not before", a.moment(i.NotBefore)},
					field{"Not after", a.moment(i.NotAfter)},
					field{"Revoked", a.moment(i.RevokedAt)},
					field{"Certificates", strconv.FormatInt(i.Certificates, 10)},
					field{"Rolled up", rolledUp},
					field{"Renewal expected", a.moment(i.RenewAt)},
					field{"Lapsing from", a.moment(i.LapsingAt)},
					field{"Gone since", a.moment(i.GoneAt)},
					field{"First issued", a.moment(i.FirstIssuedAt)},
					field{"Last issued", a.moment(i.LastIssuedAt)})
			})
		},
	}
}

func (a *app) identityRetire() *cobra.Command {
	return a.identityMark(&cobra.Command{
		Use:   "retire IDENTITY...",
		Short: "Mark identities as gone, so that nobody is alarmed when they lapse",
		Long: `Mark identities as gone: nothing runs that needs them, and nobody is alarmed when they lapse. certloom-agent does so for the
workloads of its cluster. A new certificate takes the mark away.`,
		Example: "  certloom identity retire spiffe://cluster.local/ns/payments/sa/old-api\n  certloom identity list --status lapsed -o json | jq -r .[].name | xargs certloom identity retire",
	}, (*apiv1.Client).RetireIdentities, "gone")
}

func (a *app) identityRestore() *cobra.Command {
	return a.identityMark(&cobra.Command{
		Use:     "restore IDENTITY...",
		Short:   "Take the mark of being gone away from identities",
		Example: "  certloom identity restore spiffe://cluster.local/ns/payments/sa/old-api",
	}, (*apiv1.Client).RestoreIdentities, "watched again")
}

func (a *app) identityMark(cmd *cobra.Command, mark func(*apiv1.Client, context.Context, []string) (*apiv1.IdentityNames, error), what string) *cobra.Command {
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		api, err := a.api()
		if err != nil {
			return err
		}
		marked, err := mark(api, cmd.Context(), names)
		if err != nil {
			return err
		}
		return a.print(marked.Names, func() error {
			for _, name := range marked.Names {
				a.note("%s is %s.", name, what)
			}
			if len(marked.Names) < len(names) {
				a.note("%d were so already.", len(names)-len(marked.Names))
			}
			return nil
		})
	}
	return cmd
}
