package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

// podTarget reads [CLUSTER/]NAMESPACE/POD.
func podTarget(text string) (cluster, namespace, pod string, err error) {
	parts := strings.Split(text, "/")
	switch len(parts) {
	case 2:
		return "", parts[0], parts[1], nil
	case 3:
		return parts[0], parts[1], parts[2], nil
	default:
		return "", "", "", UsageError(fmt.Errorf("--pod %q is not NAMESPACE/POD or CLUSTER/NAMESPACE/POD", text))
	}
}

// denialTarget is what a command denies or allows: the identity in its argument, or the Pod of its flag.
func denialTarget(names []string, pod string) (in apiv1.CreateDenial, err error) {
	switch {
	case (len(names) == 1) == (pod != "") || len(names) > 1:
		return in, UsageError(errors.New("name one identity, or one Pod with --pod"))
	case pod == "":
		in.Identity = names[0]
	default:
		in.Cluster, in.Namespace, in.Pod, err = podTarget(pod)
	}
	return in, err
}

func (a *app) identityDeny() *cobra.Command {
	pod, until, note := "", "", ""
	cmd := &cobra.Command{
		Use:   "deny IDENTITY | --pod NAMESPACE/POD",
		Short: "Deny certificates to an identity or a Pod",
		Long: `Deny certificates to an identity, to all that begin with a prefix, or to a Pod, until that is lifted ("certloom identity
allow") or a time has come. It counts for each way to ask, ACME, agents and the API, on every replica within seconds. A
certificate that is there stays good: "certloom identity revoke" ends it.`,
		Example: `  certloom identity deny spiffe://cluster.local/ns/payments/sa/api --note 'incident 4711'
  certloom identity deny 'spiffe://cluster.local/ns/sandbox/*' --until 7d
  certloom identity deny --pod east/payments/api-7d9c5b6f4-x2x8q`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			in, err := denialTarget(names, pod)
			if err != nil {
				return err
			}
			in.Note = note
			if in.Until, err = a.future("until", until); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			denied, err := api.CreateDenial(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(denied, func() error { return a.changed("identity", denialName(denied), "denied") })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&pod, "pod", "", "a Pod instead of an identity: NAMESPACE/POD or CLUSTER/NAMESPACE/POD")
	flags.StringVar(&until, "until", "", "when it ends by itself: a time, or how soon: 1h, 7d")
	flags.StringVar(&note, "note", "", "why, for people")
	return cmd
}

func denialName(d *apiv1.Denial) string {
	if d.Identity != "" {
		return d.Identity
	}
	return strings.TrimPrefix(d.Cluster+"/", "/") + d.Namespace + "/" + d.Pod
}

// denials reads the whole deny list.
func denials(ctx context.Context, api *apiv1.Client) ([]apiv1.Denial, error) {
	var all []apiv1.Denial
	for after := ""; ; {
		page, err := api.Denials(ctx, after)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

func (a *app) identityAllow() *cobra.Command {
	pod := ""
	cmd := &cobra.Command{
		Use:   "allow IDENTITY | --pod NAMESPACE/POD",
		Short: "Lift a denial",
		Long: `Lift the denial of an identity, of a prefix or of a Pod: it can have certificates again, as its profile says. Certificates
that were revoked stay revoked.`,
		Example: `  certloom identity allow spiffe://cluster.local/ns/payments/sa/api
  certloom identity allow --pod east/payments/api-7d9c5b6f4-x2x8q`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, names []string) error {
			target, err := denialTarget(names, pod)
			if err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := denials(cmd.Context(), api)
			if err != nil {
				return err
			}
			for i := range all {
				d := &all[i]
				if d.Identity != target.Identity || d.Cluster != target.Cluster || d.Namespace != target.Namespace || d.Pod != target.Pod {
					continue
				}
				if err := api.DeleteDenial(cmd.Context(), d.ID); err != nil {
					return err
				}
				return a.print(d, func() error { return a.changed("identity", denialName(d), "allowed") })
			}
			return WithHint(fmt.Errorf("%q is not on the deny list", denialName(&apiv1.Denial{
				Identity: target.Identity, Cluster: target.Cluster, Namespace: target.Namespace, Pod: target.Pod,
			})), "list it: certloom identity denied")
		},
	}
	cmd.Flags().StringVar(&pod, "pod", "", "a Pod instead of an identity: NAMESPACE/POD or CLUSTER/NAMESPACE/POD")
	return cmd
}

func (a *app) identityDenied() *cobra.Command {
	return &cobra.Command{
		Use:     "denied",
		Short:   "List the deny list",
		Example: "  certloom identity denied",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			all, err := denials(cmd.Context(), api)
			if err != nil {
				return err
			}
			return a.print(all, func() error {
				var rows [][]string
				for i := range all {
					until := a.when(all[i].Until)
					switch {
					case all[i].Ended:
						until = "ended"
					case until == "":
						until = "lifted"
					}
					rows = append(rows, []string{denialName(&all[i]), until, a.when(all[i].CreatedAt), all[i].CreatedBy, all[i].Note})
				}
				return a.rows([]string{"IDENTITY OR POD", "UNTIL", "SINCE", "BY", "NOTE"}, rows)
			})
		},
	}
}

// identityRevocation are the flags of identityRevoke.
type identityRevocation struct {
	reason, until, note string
	deny, yes           bool
}

func (a *app) identityRevoke() *cobra.Command {
	var r identityRevocation
	cmd := &cobra.Command{
		Use:   "revoke IDENTITY --reason R",
		Short: "Revoke all certificates of an identity, and deny it others",
		Long: `Revoke all certificates of an identity, or of all that begin with a prefix, that have not expired: those that are held too.
With --deny, or the reason keyCompromise, the identity is denied others first. What was revoked stays so when this is
interrupted; the same command goes on with the rest.

Reasons (RFC 5280): unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn.`,
		Example: `  certloom identity revoke spiffe://cluster.local/ns/payments/sa/api --reason keyCompromise --yes
  certloom identity revoke 'spiffe://cluster.local/ns/sandbox/*' --reason cessationOfOperation --deny --yes`,
		Args: args("IDENTITY"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if !cmd.Flags().Changed("deny") {
				r.deny = r.reason == "keyCompromise"
			}
			return a.revokeIdentity(cmd.Context(), names[0], &r)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&r.reason, "reason", "unspecified", "why")
	flags.BoolVar(&r.deny, "deny", false, "deny it other certificates; without the flag: when the reason is keyCompromise")
	flags.StringVar(&r.until, "until", "", "when the denial ends by itself: a time, or how soon: 1h, 7d")
	flags.StringVar(&r.note, "note", "", "why, for people, in the deny list")
	flags.BoolVar(&r.yes, "yes", false, "do it")
	return cmd
}

func (a *app) revokeIdentity(ctx context.Context, identity string, r *identityRevocation) error {
	until, err := a.future("until", r.until)
	if err != nil {
		return err
	}
	api, err := a.api()
	if err != nil {
		return err
	}
	selection := apiv1.CertificateSelection{Identity: identity}
	if !r.yes {
		return a.unconfirmed(ctx, api, &selection)
	}
	if r.deny {
		if _, err := api.CreateDenial(ctx, apiv1.CreateDenial{Identity: identity, Until: until, Note: r.note}); err != nil {
			return err
		}
		a.note("%s is denied other certificates", identity)
	}
	return a.revokeAll(ctx, api, selection, r.reason)
}

// unconfirmed says how much would be revoked.
func (a *app) unconfirmed(ctx context.Context, api *apiv1.Client, selection *apiv1.CertificateSelection) error {
	const most = 1000
	count, err := revocable(ctx, api, selection)
	if err != nil {
		return err
	}
	if count > most {
		return UsageError(fmt.Errorf("this revokes more than %d certificates; say --yes if you mean that", most))
	}
	return UsageError(fmt.Errorf("this revokes %d certificates; say --yes if you mean that", count))
}

// revokedAll is what has become of a selection.
type revokedAll struct {
	Revoked int `json:"revoked"`
}

// revokeAll revokes what a selection has, in as many calls as it takes. What one call has done stays done; whoever calls
// again goes on.
func (a *app) revokeAll(ctx context.Context, api *apiv1.Client, selection apiv1.CertificateSelection, reason string) error {
	var sum revokedAll
	for {
		done, err := api.RevokeCertificates(ctx, apiv1.RevokeCertificates{Reason: reason, Filter: &selection, Batch: true})
		if err != nil {
			return fmt.Errorf("after %d certificates: %w", sum.Revoked, err)
		}
		sum.Revoked += done.Revoked
		for _, item := range done.Items {
			if item.Outcome == apiv1.Failed {
				return WithHint(fmt.Errorf("after %d certificates: certificate %s: %s", sum.Revoked, item.Serial, item.Detail), "the same command goes on")
			}
		}
		if !done.More || done.Revoked == 0 {
			break
		}
		a.note("%d certificates are revoked, and there are more", sum.Revoked)
	}
	return a.print(sum, func() error {
		a.note("%d certificates were revoked", sum.Revoked)
		return nil
	})
}
