package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) clusterCommand() *cobra.Command {
	return a.family("cluster", "Clusters that certificates go into", []string{"clusters"}, a.clusterList())
}

func (a *app) clusterList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List clusters, with how their identities are",
		Long: `List the clusters that the newest certificates of identities went into: those whose agents name them, and those of
connectors. The figures are a few seconds old.`,
		Example: "  certloom cluster list\n  certloom cluster list -o json",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			s, err := api.Statistics(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(s.Clusters, func() error { return a.rows(clusterHeading(), a.clusterRows(s.Clusters)) })
		},
	}
}

func clusterHeading() []string {
	return []string{"CLUSTER", "IDENTITIES", "LAPSING", "LAPSED", "ISSUED LAST HOUR", "LAST ISSUED"}
}

func (a *app) clusterRows(clusters []apiv1.ClusterStatistic) [][]string {
	var rows [][]string
	for _, c := range clusters {
		issued := ""
		if c.IssuedLastHour != nil {
			issued = strconv.FormatInt(*c.IssuedLastHour, 10)
		}
		rows = append(rows, []string{
			c.Name, strconv.FormatInt(c.Identities, 10), strconv.FormatInt(c.Lapsing, 10), strconv.FormatInt(c.Lapsed, 10), issued, a.when(c.LastIssuedAt),
		})
	}
	return rows
}
