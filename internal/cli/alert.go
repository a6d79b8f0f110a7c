package cli

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) alertCommand() *cobra.Command {
	rules := a.family("rule", "Alert rules: what people are told of", []string{"rules"},
		a.ruleList(), a.ruleGet(), a.ruleCreate(), a.ruleSet(), a.ruleDelete())
	return a.family("alert", "Alerts: what somebody should look at", []string{"alerts"}, a.alertList(), a.alertGet(), rules)
}

func (a *app) alertList() *cobra.Command {
	q := apiv1.AlertQuery{}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List alerts, the newest first",
		Example: `  certloom alert list
  certloom alert list --state resolved --rule identity-lapsing`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Alerts(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.print(page.Items, func() error {
				var rows [][]string
				for _, one := range page.Items {
					rows = append(rows, []string{a.when(one.FiredAt), one.State, one.Severity, one.Rule, one.Summary, one.ID})
				}
				return a.rows([]string{"SINCE", "STATE", "SEVERITY", "RULE", "SUMMARY", "ID"}, rows)
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Rule, "rule", "", "only those of this rule")
	flags.StringVar(&q.State, "state", "", "only those that are firing or resolved")
	flags.IntVar(&q.Limit, "limit", 100, "how many at most, up to 1000")
	return cmd
}

func (a *app) alertGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get ID",
		Short:   "Show an alert",
		Example: "  certloom alert get 06bj4v2r0s5o3k4m8d1q9f7h2n6c0a4e8i3g",
		Args:    args("ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			one, err := api.Alert(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(one, func() error {
				return a.fields(
					field{"ID", one.ID}, field{"State", one.State}, field{"Severity", one.Severity}, field{"Rule", one.Rule},
					field{"Subject", one.Subject}, field{"Summary", one.Summary}, field{"Since", a.when(one.FiredAt)},
					field{"Until", a.when(one.ResolvedAt)}, field{"Told", a.when(one.ToldAt)})
			})
		},
	}
}

func (a *app) ruleList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List alert rules",
		Example: "  certloom alert rule list",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.AlertRules(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(page.Items, func() error {
				var rows [][]string
				for _, r := range page.Items {
					rows = append(rows, []string{
						r.Name, r.Kind, onOff(r.Enabled), r.Severity, strconv.Itoa(r.Open), allOr(r.Channels), a.when(r.CheckedAt),
					})
				}
				return a.rows([]string{"NAME", "KIND", "STATE", "SEVERITY", "OPEN", "CHANNELS", "CHECKED"}, rows)
			})
		},
	}
}

func onOff(enabled bool) string {
	if enabled {
		return "on"
	}
	return "off"
}

func allOr(names []string) string {
	if len(names) == 0 {
		return "all"
	}
	return strings.Join(names, ",")
}

func (a *app) ruleGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME",
		Short:   "Show an alert rule",
		Example: "  certloom alert rule get identity-lapsing",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.AlertRule(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.printRule(r)
		},
	}
}

func (a *app) printRule(r *apiv1.AlertRule) error {
	return a.print(r, func() error {
		quiet := ""
		if q := r.Quiet; q != nil {
			quiet = q.From + "-" + q.To + " " + q.TimeZone + " " + strings.Join(q.Days, ",")
		}
		return a.fields(
			field{"Name", r.Name}, field{"Kind", r.Kind}, field{"State", onOff(r.Enabled)}, field{"Severity", r.Severity},
			field{"Profile", r.Profile}, field{"Namespace", r.Namespace}, field{"Cluster", r.Cluster}, field{"Status", r.Status},
			field{"Within", r.Within}, field{"Channels", allOr(r.Channels)}, field{"Group by", r.GroupBy}, field{"Repeat", r.Repeat},
			field{"Tells the end", strconv.FormatBool(r.Resolved)}, field{"Quiet hours", strings.TrimSpace(quiet)},
			field{"Open alerts", strconv.Itoa(r.Open)}, field{"Checked", a.when(r.CheckedAt)})
	})
}

// ruleSettings are the flags of a rule's settings.
type ruleSettings struct {
	set      apiv1.AlertSettings
	severity string
	quiet    string
	zone     string
	days     []string
	enabled  bool
}

func (f *ruleSettings) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.severity, "severity", "warning", "info, warning or critical")
	flags.StringVar(&f.set.Profile, "profile", "", "only about this profile")
	flags.StringVar(&f.set.Namespace, "namespace", "", "only about namespaces that match, such as 'team-a-*'")
	flags.StringVar(&f.set.Cluster, "cluster", "", "only about this cluster")
	flags.StringArrayVar(&f.set.Channels, "channel", nil, "channel that is told, may be repeated; none: all channels")
	flags.StringVar(&f.set.GroupBy, "group-by", "rule", "which alerts share a message: rule, namespace or alert")
	flags.StringVar(&f.set.Repeat, "repeat", "", "tell again of what goes on, such as 24h; empty: never")
	flags.BoolVar(&f.set.Resolved, "resolved", true, "tell the end of alerts, too")
	flags.StringVar(&f.set.Status, "status", "", "of identity-health: lapsing or lapsed begins an alert")
	flags.StringVar(&f.set.Within, "within", "", "of expiry: how long before, such as 30d; of credential-unused: since when")
	flags.Int64Var(&f.set.Count, "count", 0, "of issuance-failures: how many in an hour")
	flags.StringVar(&f.quiet, "quiet", "", "when nothing is told, such as 22:00-06:00")
	flags.StringVar(&f.zone, "quiet-time-zone", "UTC", "time zone of --quiet, such as Europe/Berlin")
	flags.StringArrayVar(&f.days, "quiet-day", nil, "day on which --quiet begins: mon to sun, may be repeated; none: every day")
	flags.BoolVar(&f.enabled, "enabled", true, "the rule is evaluated")
}

// apply puts the flags that were given over a rule's settings.
func (f *ruleSettings) apply(cmd *cobra.Command, to *apiv1.AlertSettings) {
	changed := cmd.Flags().Changed
	for name, pair := range map[string][2]*string{
		"profile": {&f.set.Profile, &to.Profile}, "namespace": {&f.set.Namespace, &to.Namespace}, "cluster": {&f.set.Cluster, &to.Cluster},
		"group-by": {&f.set.GroupBy, &to.GroupBy}, "repeat": {&f.set.Repeat, &to.Repeat}, "status": {&f.set.Status, &to.Status},
		"within": {&f.set.Within, &to.Within},
	} {
		if changed(name) {
			*pair[1] = *pair[0]
		}
	}
	if changed("channel") {
		to.Channels = cleared(f.set.Channels)
	}
	if changed("resolved") {
		to.Resolved = f.set.Resolved
	}
	if changed("count") {
		to.Count = f.set.Count
	}
	if changed("quiet") {
		to.Quiet = f.hours()
	}
}

// hours reads quiet hours; "" is none. What is wrong with them the server says.
func (f *ruleSettings) hours() *apiv1.QuietHours {
	if f.quiet == "" {
		return nil
	}
	from, to, _ := strings.Cut(f.quiet, "-")
	return &apiv1.QuietHours{TimeZone: f.zone, From: from, To: to, Days: f.days}
}

func (a *app) ruleCreate() *cobra.Command {
	in := apiv1.CreateAlertRule{}
	var f ruleSettings
	cmd := &cobra.Command{
		Use:   "create NAME --kind K",
		Short: "Create an alert rule",
		Long: `Create an alert rule. Kinds: identity-health (a workload has stopped renewing), ca-expiry, credential-expiry,
credential-unused, issuance-failures. A rule without --channel tells all channels.`,
		Example: `  certloom alert rule create shop --kind identity-health --namespace 'shop-*' --severity critical --channel pager
  certloom alert rule create night --kind identity-health --quiet 22:00-06:00 --quiet-time-zone Europe/Berlin
  certloom alert rule create ca --kind ca-expiry --within 90d --repeat 7d`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "kind"); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			in.Name, in.Severity, in.Enabled = names[0], f.severity, &f.enabled
			in.AlertSettings = f.set
			in.Quiet = f.hours()
			r, err := api.CreateAlertRule(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.printRule(r)
		},
	}
	cmd.Flags().StringVar(&in.Kind, "kind", "", "what the rule looks at (required)")
	f.add(cmd)
	return cmd
}

func (a *app) ruleSet() *cobra.Command {
	var f ruleSettings
	cmd := &cobra.Command{
		Use:   "set NAME",
		Short: "Change an alert rule; what no flag names stays",
		Example: `  certloom alert rule set identity-lapsing --channel mail --channel pager
  certloom alert rule set credential-expiry --enabled=false`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			r, err := api.AlertRule(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			in := apiv1.UpdateAlertRule{Enabled: r.Enabled, Severity: r.Severity, AlertSettings: r.AlertSettings}
			if cmd.Flags().Changed("enabled") {
				in.Enabled = f.enabled
			}
			if cmd.Flags().Changed("severity") {
				in.Severity = f.severity
			}
			f.apply(cmd, &in.AlertSettings)
			if r, err = api.UpdateAlertRule(cmd.Context(), names[0], in); err != nil {
				return err
			}
			return a.printRule(r)
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) ruleDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete an alert rule and end its alerts",
		Example: "  certloom alert rule delete credential-expiry",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.DeleteAlertRule(cmd.Context(), names[0]); err != nil {
				return err
			}
			return a.changed("alert rule", names[0], "deleted")
		},
	}
}
