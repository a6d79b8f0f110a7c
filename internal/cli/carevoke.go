package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) caRevoke() *cobra.Command {
	reason, yes := "", false
	cmd := &cobra.Command{
		Use:   "revoke NAME --reason R --yes",
		Short: "Revoke an issuing CA, for good",
		Long: `Revoke the certificate of an issuing CA, for good: it is on the next CRL of the CA above, and it signs no certificates
any more. All that it has issued fails where CRLs of the whole chain are checked, as Istio's proxies do with the lists
that certloom-agent writes. Its own CRLs and OCSP answers go on. Move profiles to another CA first.

Reasons (RFC 5280): unspecified, cACompromise, affiliationChanged, superseded, cessationOfOperation, privilegeWithdrawn.`,
		Example: "  certloom ca revoke issuing --reason cACompromise --yes",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if !yes {
				return UsageError(fmt.Errorf("this revokes CA %q and so all that it has issued; say --yes if you mean that", names[0]))
			}
			ca, err := api.RevokeCA(cmd.Context(), names[0], apiv1.RevokeCA{Reason: reason})
			if err != nil {
				return err
			}
			return a.print(ca, func() error { return a.changed("CA", ca.Name, ca.State) })
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "unspecified", "why")
	cmd.Flags().BoolVar(&yes, "yes", false, "do it")
	return cmd
}
