package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) channelCommand() *cobra.Command {
	return a.family("channel", "Channels: where alerts are sent", []string{"channels"},
		a.channelList(), a.channelCreate(), a.channelSet(), a.channelDelete(), a.channelTest(), a.channelPreview())
}

func (a *app) channelList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List channels",
		Example: "  certloom channel list",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Channels(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(page.Items, func() error {
				var rows [][]string
				for _, c := range page.Items {
					rows = append(rows, []string{c.Name, c.Kind, onOff(c.Enabled), channelTarget(&c)})
				}
				return a.rows([]string{"NAME", "KIND", "STATE", "TO"}, rows)
			})
		},
	}
}

// channelTarget is where a channel's messages go, as far as it is no secret.
func channelTarget(c *apiv1.Channel) string {
	switch {
	case c.URL != "":
		return c.URL
	case len(c.To) > 0:
		return strings.Join(c.To, ",")
	default:
		return "(secret)"
	}
}

// channelFlags are the flags of a channel's settings.
type channelFlags struct {
	set        apiv1.ChannelSettings
	secretFile string
	caFile     string
	enabled    bool
}

func (f *channelFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.set.URL, "url", "", "of webhook and alertmanager: where messages go")
	flags.StringVar(&f.secretFile, "secret-file", "", "file with the signing key (webhook), the address (slack, teams), the integration key (pagerduty), the password (email) or a bearer token (alertmanager)")
	flags.BoolVar(&f.set.AllowPrivate, "allow-private", false, "let it reach loopback and private addresses")
	flags.StringVar(&f.caFile, "receiver-ca-file", "", "PEM file with the roots of the receiver's certificate; none: the system's")
	flags.StringVar(&f.set.Host, "host", "", "of email: the mail server")
	flags.IntVar(&f.set.Port, "port", 587, "of email")
	flags.StringVar(&f.set.TLS, "tls", "starttls", "of email: starttls, tls, or none, which reaches loopback only")
	flags.StringVar(&f.set.User, "user", "", "of email: who signs in at the mail server")
	flags.StringVar(&f.set.From, "from", "", "of email: sender")
	flags.StringArrayVar(&f.set.To, "to", nil, "of email: recipient, may be repeated")
	flags.BoolVar(&f.enabled, "enabled", true, "messages are sent to it")
}

// files reads what the flags name files for.
func (f *channelFlags) files() (secret, ca string, err error) {
	if f.secretFile != "" {
		if secret, err = readFile("secret-file", f.secretFile); err != nil {
			return "", "", err
		}
	}
	if f.caFile != "" {
		if ca, err = readFile("receiver-ca-file", f.caFile); err != nil {
			return "", "", err
		}
	}
	return strings.TrimSpace(secret), ca, nil
}

// settings leaves out what only e-mail has.
func (f *channelFlags) settings(kind, ca string) apiv1.ChannelSettings {
	set := f.set
	set.CA = ca
	if kind != "email" {
		set.Port, set.TLS = 0, ""
	}
	return set
}

func (a *app) channelCreate() *cobra.Command {
	in := apiv1.CreateChannel{}
	var f channelFlags
	cmd := &cobra.Command{
		Use:   "create NAME --kind K",
		Short: "Create a channel",
		Long: `Create a channel. Kinds: email, webhook (CloudEvents, signed), slack, teams, pagerduty, alertmanager. Its secret is read
from a file, kept encrypted, and never shown again. A webhook without one gets a signing key, which is shown once.`,
		Example: `  certloom channel create hook --kind webhook --url https://hooks.example.com/certloom
  certloom channel create mail --kind email --host smtp.example.com --user certloom --secret-file password --from ca@example.com --to team@example.com
  certloom channel create chat --kind slack --secret-file slack.url
  certloom channel create pager --kind pagerduty --secret-file pagerduty.key
  certloom channel create am --kind alertmanager --url http://alertmanager.monitoring:9093 --allow-private`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "kind"); err != nil {
				return err
			}
			secret, ca, err := f.files()
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			in.Name, in.Secret, in.Enabled, in.ChannelSettings = names[0], secret, &f.enabled, f.settings(in.Kind, ca)
			made, err := api.CreateChannel(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(made, func() error {
				if made.Secret == "" {
					return a.changed("channel", made.Name, "created")
				}
				a.note("Channel %s is created. The signing key is shown only now: give it to the receiver.", made.Name)
				return write(a.Stdout, made.Secret+"\n")
			})
		},
	}
	cmd.Flags().StringVar(&in.Kind, "kind", "", "email, webhook, slack, teams, pagerduty or alertmanager (required)")
	f.add(cmd)
	return cmd
}

func (a *app) channelSet() *cobra.Command {
	var f channelFlags
	cmd := &cobra.Command{
		Use:     "set NAME",
		Short:   "Change a channel; what no flag names stays",
		Example: "  certloom channel set mail --to team@example.com --to night@example.com\n  certloom channel set hook --enabled=false",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			secret, ca, err := f.files()
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			c, err := api.Channel(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			in := apiv1.UpdateChannel{Enabled: c.Enabled, Secret: secret, ChannelSettings: c.ChannelSettings}
			f.apply(cmd, &in, ca)
			if c, err = api.UpdateChannel(cmd.Context(), names[0], in); err != nil {
				return err
			}
			return a.print(c, func() error { return a.changed("channel", c.Name, "changed") })
		},
	}
	f.add(cmd)
	return cmd
}

// apply puts the flags that were given over a channel's settings.
func (f *channelFlags) apply(cmd *cobra.Command, in *apiv1.UpdateChannel, ca string) {
	changed, to := cmd.Flags().Changed, &in.ChannelSettings
	for name, pair := range map[string][2]*string{
		"url": {&f.set.URL, &to.URL}, "host": {&f.set.Host, &to.Host}, "tls": {&f.set.TLS, &to.TLS}, "user": {&f.set.User, &to.User},
		"from": {&f.set.From, &to.From}, "receiver-ca-file": {&ca, &to.CA},
	} {
		if changed(name) {
			*pair[1] = *pair[0]
		}
	}
	if changed("port") {
		to.Port = f.set.Port
	}
	if changed("to") {
		to.To = cleared(f.set.To)
	}
	if changed("allow-private") {
		to.AllowPrivate = f.set.AllowPrivate
	}
	if changed("enabled") {
		in.Enabled = f.enabled
	}
}

func (a *app) channelDelete() *cobra.Command {
	return &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete a channel; what waits for it has failed",
		Example: "  certloom channel delete chat",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.DeleteChannel(cmd.Context(), names[0]); err != nil {
				return err
			}
			return a.changed("channel", names[0], "deleted")
		},
	}
}

func (a *app) channelTest() *cobra.Command {
	return &cobra.Command{
		Use:     "test NAME",
		Short:   "Send a test to a channel, and say what became of it",
		Example: "  certloom channel test hook",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			d, err := api.TestChannel(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			if err := a.print(d, func() error { return a.deliveries([]apiv1.Delivery{*d}) }); err != nil {
				return err
			}
			if d.State != "delivered" {
				return WithHint(fmt.Errorf("the test did not arrive: %s", d.Error), "see what becomes of it: certloom delivery list --channel %s", names[0])
			}
			return nil
		},
	}
}

func (a *app) channelPreview() *cobra.Command {
	return &cobra.Command{
		Use:     "preview NAME",
		Short:   "Show an example of what a channel is sent",
		Example: "  certloom channel preview mail",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			p, err := api.PreviewChannel(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(p, func() error {
				if p.Subject != "" {
					a.note("Subject: %s", p.Subject)
				}
				return write(a.Stdout, p.Body+"\n")
			})
		},
	}
}

func (a *app) deliveryCommand() *cobra.Command {
	return a.family("delivery", "Deliveries: messages to channels, and what became of them", []string{"deliveries"}, a.deliveryList(), a.deliveryRetry())
}

func (a *app) deliveryList() *cobra.Command {
	q := apiv1.DeliveryQuery{}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List deliveries, the newest first",
		Example: "  certloom delivery list --state failed",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Deliveries(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.print(page.Items, func() error { return a.deliveries(page.Items) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Channel, "channel", "", "only those to this channel")
	flags.StringVar(&q.Rule, "rule", "", "only those of this rule")
	flags.StringVar(&q.State, "state", "", "only those that are pending, retrying, delivered or failed")
	flags.IntVar(&q.Limit, "limit", 100, "how many at most, up to 1000")
	return cmd
}

func (a *app) deliveries(all []apiv1.Delivery) error {
	var rows [][]string
	for _, d := range all {
		rows = append(rows, []string{a.when(d.CreatedAt), d.Channel, d.State, strconv.Itoa(d.Attempts), d.Title, d.Error, d.ID})
	}
	return a.rows([]string{"TIME", "CHANNEL", "STATE", "ATTEMPTS", "MESSAGE", "ERROR", "ID"}, rows)
}

func (a *app) deliveryRetry() *cobra.Command {
	return &cobra.Command{
		Use:     "retry ID",
		Short:   "Have a delivery tried again that has failed",
		Example: "  certloom delivery retry 06bj4v2r0s5o3k4m8d1q9f7h2n6c0a4e8i3g",
		Args:    args("ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			d, err := api.RetryDelivery(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(d, func() error { return a.changed("delivery", d.ID, d.State) })
		},
	}
}
