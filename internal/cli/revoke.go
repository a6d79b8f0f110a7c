package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) certificateRevoke() *cobra.Command {
	reason, yes := "", false
	var selection apiv1.CertificateSelection
	cmd := &cobra.Command{
		Use:   "revoke SERIAL... --reason R",
		Short: "Revoke certificates",
		Long: `Revoke certificates, for good: they are in the next CRL, and OCSP answers say so at once. After keyCompromise, no
certificate is issued for the same key again.

Several are named by their serials, or selected by flags: then those are revoked that are not expired and not revoked,
1,000 at most, and --yes is needed. What has become of each is said.

Reasons (RFC 5280): unspecified, keyCompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn.`,
		Example: `  certloom certificate revoke 3476a1c2d4e5f60718293a4b5c6d7e8f90a1b2c3 --reason keyCompromise
  certloom certificate revoke --identity spiffe://cluster.local/ns/payments/sa/api --reason superseded --yes
  certloom certificate revoke --cluster lost --reason cessationOfOperation --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, serials []string) error {
			selected := selection != apiv1.CertificateSelection{}
			if selected == (len(serials) > 0) {
				return UsageError(fmt.Errorf("name certificates by their serials, or select them with flags such as --identity"))
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			if len(serials) == 1 {
				c, err := api.RevokeCertificate(cmd.Context(), serials[0], apiv1.RevokeCertificate{Reason: reason})
				if err != nil {
					return err
				}
				return a.print(c, func() error { return a.changed("certificate", c.Serial, c.Status) })
			}
			in := apiv1.RevokeCertificates{Reason: reason, Serials: serials}
			if selected {
				in.Filter = &selection
				if in.Expected, err = revocable(cmd.Context(), api, &selection); err != nil {
					return err
				}
				if !yes {
					return UsageError(fmt.Errorf("this revokes %d certificates; say --yes if you mean that", in.Expected))
				}
			}
			return a.revokeSeveral(cmd.Context(), api, in)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&reason, "reason", "unspecified", "why")
	flags.BoolVar(&yes, "yes", false, "revoke what the other flags select")
	flags.StringVar(&selection.Text, "search", "", "part of the identity's name, beginning of a Pod's or cluster's name")
	flags.StringVar(&selection.Identity, "identity", "", "SPIFFE ID, DNS name or address; a prefix when it ends with *")
	flags.StringVar(&selection.Namespace, "namespace", "", "namespace of the SPIFFE ID")
	flags.StringVar(&selection.Profile, "profile", "", "name of the profile")
	flags.StringVar(&selection.IssuingCA, "issuing-ca", "", "name of the issuing CA")
	flags.StringVar(&selection.Credential, "credential", "", "KID of the EAB credential")
	flags.StringVar(&selection.Cluster, "cluster", "", "cluster of the agent that asked")
	return cmd
}

func (a *app) certificateHold() *cobra.Command {
	return &cobra.Command{
		Use:   "hold SERIAL",
		Short: "Revoke a certificate until it is released",
		Long: `Revoke a certificate for the time being, with the reason certificateHold of RFC 5280: it is in the next CRL, OCSP says
that it is revoked, and nothing is renewed from it. "certloom certificate release" takes that back, and "certloom
certificate revoke" makes it final.`,
		Example: "  certloom certificate hold 3476a1c2d4e5f60718293a4b5c6d7e8f90a1b2c3",
		Args:    args("SERIAL"),
		RunE:    a.changeCertificate((*apiv1.Client).HoldCertificate),
	}
}

func (a *app) certificateRelease() *cobra.Command {
	return &cobra.Command{
		Use:   "release SERIAL",
		Short: "Release a certificate that is held",
		Long: `Release a certificate that is held: it is not in the next CRL, and OCSP calls it good again. What was revoked for good
stays revoked.`,
		Example: "  certloom certificate release 3476a1c2d4e5f60718293a4b5c6d7e8f90a1b2c3",
		Args:    args("SERIAL"),
		RunE:    a.changeCertificate((*apiv1.Client).ReleaseCertificate),
	}
}

func (a *app) changeCertificate(change func(*apiv1.Client, context.Context, string) (*apiv1.Certificate, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, serials []string) error {
		api, err := a.api()
		if err != nil {
			return err
		}
		c, err := change(api, cmd.Context(), serials[0])
		if err != nil {
			return err
		}
		return a.print(c, func() error { return a.changed("certificate", c.Serial, c.Status) })
	}
}

// revocable counts the certificates of a selection that can be revoked, up to more than the API revokes at once.
func revocable(ctx context.Context, api *apiv1.Client, selection *apiv1.CertificateSelection) (int, error) {
	const most = 1000
	count := 0
	for _, status := range []string{"valid", "renewal-due"} {
		query := apiv1.CertificateQuery{
			Text: selection.Text, Identity: selection.Identity, Namespace: selection.Namespace, Profile: selection.Profile,
			IssuingCA: selection.IssuingCA, Credential: selection.Credential, Cluster: selection.Cluster, Status: status, Limit: most,
		}
		for {
			page, err := api.Certificates(ctx, query)
			if err != nil {
				return 0, err
			}
			if count += len(page.Items); page.Next == "" || count > most {
				break
			}
			query.After = page.Next
		}
	}
	return count, nil
}

// revokeSeveral fails when one of the certificates has not been revoked.
func (a *app) revokeSeveral(ctx context.Context, api *apiv1.Client, in apiv1.RevokeCertificates) error {
	answer, err := api.RevokeCertificates(ctx, in)
	if err != nil {
		return err
	}
	err = a.print(answer, func() error {
		rows := make([][]string, 0, len(answer.Items))
		for _, item := range answer.Items {
			rows = append(rows, []string{item.Serial, item.Outcome, item.Detail})
		}
		return a.rows([]string{"SERIAL", "OUTCOME", "DETAIL"}, rows)
	})
	if err != nil {
		return err
	}
	if missed := len(answer.Items) - answer.Revoked; missed > 0 {
		return fmt.Errorf("%d of %d certificates were not revoked by this call", missed, len(answer.Items))
	}
	return nil
}
