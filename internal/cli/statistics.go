package cli

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) statisticsCommand() *cobra.Command {
	return a.client(&cobra.Command{
		Use:   "statistics",
		Short: "Show what there is and what happens, in figures",
		Long: `Show the figures of the console's dashboard: identities by status and by the part of their certificate's lifetime that is
left, certificates issued, what was refused, clusters, and when CAs expire. They are a few seconds old.`,
		Example: "  certloom statistics\n  certloom statistics -o json",
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
			return a.print(s, func() error { return a.showStatistics(s) })
		},
	})
}

func (a *app) showStatistics(s *apiv1.Statistics) error {
	ids := s.Identities
	list := []field{
		{"Taken", a.moment(s.At)},
		{"Identities", fmt.Sprintf("%d: %d ok, %d renewal due, %d lapsing, %d lapsed", ids.Total, ids.OK, ids.RenewalDue, ids.Lapsing, ids.Lapsed)},
	}
	if s.Certificates != nil {
		list = append(list, field{"Certificates", fmt.Sprintf("%d alive, %d issued so far, %d revoked", s.Certificates.Alive, s.Certificates.Issued, s.Certificates.Revoked)})
	}
	if s.Issued != nil {
		list = append(list, field{"Issued", fmt.Sprintf("%d in the last hour", s.Issued.LastHour)})
	}
	if s.Refused != nil {
		list = append(list, field{"Refused", fmt.Sprintf("%d in the last hour, %d in the last day", s.Refused.LastHour, s.Refused.LastDay)})
	}
	for _, class := range s.LifetimeLeft {
		list = append(list, field{fmt.Sprintf("At most %d%% left", class.Percent), strconv.FormatInt(class.Count, 10)})
	}
	if err := a.fields(list...); err != nil {
		return err
	}
	return a.statisticsTables(s)
}

// statisticsTables writes the parts that have any rows.
func (a *app) statisticsTables(s *apiv1.Statistics) error {
	var lapsing, refused, cas [][]string
	for _, i := range s.Lapsing {
		lapsing = append(lapsing, []string{i.Name, i.Profile, a.when(i.NotAfter), a.when(i.LastIssuedAt)})
	}
	if s.Refused != nil {
		for _, r := range s.Refused.ByReason {
			refused = append(refused, []string{r.Action, r.Problem, strconv.FormatInt(r.LastHour, 10), strconv.FormatInt(r.LastDay, 10)})
		}
	}
	for _, ca := range s.CAs {
		cas = append(cas, []string{ca.Name, ca.Kind, ca.State, a.when(ca.NotAfter), strconv.FormatInt(ca.Alive, 10)})
	}
	for _, table := range []struct {
		heading []string
		rows    [][]string
	}{
		{[]string{"LAPSING IDENTITY", "PROFILE", "EXPIRES", "LAST ISSUED"}, lapsing},
		{clusterHeading(), a.clusterRows(s.Clusters)},
		{[]string{"REFUSED", "PROBLEM", "LAST HOUR", "LAST DAY"}, refused},
		{[]string{"CA", "KIND", "STATE", "EXPIRES", "CERTIFICATES ALIVE"}, cas},
	} {
		if len(table.rows) == 0 {
			continue
		}
		if err := write(a.Stdout, "\n"); err != nil {
			return err
		}
		if err := a.rows(table.heading, table.rows); err != nil {
			return err
		}
	}
	return nil
}
