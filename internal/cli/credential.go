package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) credentialCommand() *cobra.Command {
	return a.family("credential", "EAB credentials: what clients register ACME accounts with, and agents enrol with", []string{"credentials"},
		a.credentialCreate(), a.credentialList(), a.credentialGet(), a.credentialRevoke())
}

func (a *app) credentialCreate() *cobra.Command {
	var (
		in      apiv1.CreateCredential
		expires string
		names   nameFlags
	)
	cmd := &cobra.Command{
		Use:   "create --profile P --name N",
		Short: "Create an EAB credential; its HMAC key is shown once",
		Long: `Create an EAB credential for one client, a cluster, say. Make one for each: it can be revoked without touching the
others. The HMAC key is shown once.

The flags that allow names make the credential narrower than its profile; without them it may have what the profile
allows.`,
		Example: `  certloom credential create --profile istio --name cluster-1 --expires 365d
  certloom credential create --profile istio --name cluster-1 -o json > credential.json
  certloom credential create --profile istio --name team-a --allow-namespace 'team-a-*' --max-accounts 3`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needs(cmd, "profile", "name"); err != nil {
				return err
			}
			var err error
			if in.ExpiresAt, err = a.expiry("expires", expires); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			if in.Limit, err = names.limit(cmd, api, in.Profile); err != nil {
				return err
			}
			created, err := api.CreateCredential(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(created, func() error {
				a.note("The HMAC key is shown only now. Put it where the client reads it, and nowhere else.")
				return a.fields(
					field{"Directory URL", created.DirectoryURL},
					field{"Agent URL", created.AgentURL},
					field{"Key ID", created.KeyID},
					field{"HMAC key", created.HMACKey})
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Profile, "profile", "", "name of the profile (required)")
	flags.StringVar(&in.Name, "name", "", "name of the credential, unique within the profile (required)")
	flags.StringVar(&expires, "expires", "never", "when it expires: 90d, 2027-01-31T00:00:00Z or never")
	flags.IntVar(&in.MaxAccounts, "max-accounts", 0, "most ACME accounts that may be registered with it; 0: no limit")
	names.add(cmd)
	return cmd
}

// limit makes a credential's limit of the flags; nil when there are none.
func (f *nameFlags) limit(cmd *cobra.Command, api *apiv1.Client, profile string) (*apiv1.Names, error) {
	given := false
	for _, flag := range []string{
		"trust-domain", "allow-namespace", "allow-spiffe", "deny-spiffe", "allow-dns", "deny-dns", "allow-ip", "deny-ip", "wildcards",
	} {
		given = given || cmd.Flags().Changed(flag)
	}
	if !given {
		return nil, nil
	}
	spiffe := cleared(f.spiffe)
	for _, namespace := range cleared(f.namespaces) {
		spiffe = append(spiffe, namespace+"/*")
	}
	limit := &apiv1.Names{
		SPIFFE: apiv1.SPIFFENames{TrustDomains: cleared(f.trustDomains), Allow: spiffe, Deny: cleared(f.denySPIFFE)},
		DNS:    apiv1.DNSNames{Allow: cleared(f.dns), Deny: cleared(f.denyDNS), Wildcards: f.wildcards},
		IP:     apiv1.IPNames{Allow: cleared(f.ips), Deny: cleared(f.denyIPs)},
	}
	if len(spiffe) > 0 && len(limit.SPIFFE.TrustDomains) == 0 {
		// Namespaces of which trust domain? Those of the profile, which usually has one.
		p, err := api.Profile(cmd.Context(), profile)
		if err != nil {
			return nil, err
		}
		limit.SPIFFE.TrustDomains = lists(p.Rules.Names.SPIFFE.TrustDomains)
	}
	return limit, nil
}

func (a *app) credentialList() *cobra.Command {
	profile := ""
	limit := 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List EAB credentials",
		Example: "  certloom credential list\n  certloom credential list --profile istio",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "credentials", func(after string, size int) (*apiv1.Page[apiv1.Credential], error) {
				return api.CredentialPage(cmd.Context(), profile, after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for i := range items {
					c := &items[i]
					expires := a.when(c.ExpiresAt)
					if expires == "" {
						expires = "never"
					}
					rows = append(rows, []string{c.Profile, c.Name, c.State, expires, accountsOf(c), a.when(c.LastUsedAt), c.KeyID})
				}
				return a.rows([]string{"PROFILE", "NAME", "STATE", "EXPIRES", "ACCOUNTS", "LAST USED", "KEY ID"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&profile, "profile", "", "only those of this profile")
	limitFlag(cmd, &limit)
	return cmd
}

func accountsOf(c *apiv1.Credential) string {
	accounts := strconv.Itoa(c.Accounts)
	if c.MaxAccounts > 0 {
		accounts += " of " + strconv.Itoa(c.MaxAccounts)
	}
	return accounts
}

func (a *app) credentialGet() *cobra.Command {
	return &cobra.Command{
		Use:     "get KEY-ID|PROFILE/NAME",
		Short:   "Show an EAB credential, without its key",
		Example: "  certloom credential get istio/cluster-1\n  certloom credential get istio/cluster-1 -o yaml",
		Args:    args("KEY-ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			id, err := credentialID(cmd.Context(), api, names[0])
			if err != nil {
				return err
			}
			c, err := api.Credential(cmd.Context(), id)
			if err != nil {
				return err
			}
			expires := a.moment(c.ExpiresAt)
			if expires == "" {
				expires = "never"
			}
			return a.print(c, func() error {
				list := []field{{"Name", c.Name}, {"Profile", c.Profile}, {"Key ID", c.KeyID}, {"State", c.State}, {"Expires", expires}, {"Accounts", accountsOf(c)}}
				return a.fields(append(append(list, limitFields(c.Limit)...),
					field{"Created", a.moment(c.CreatedAt)}, field{"Last used", a.moment(c.LastUsedAt)}, field{"Revoked", a.moment(c.RevokedAt)})...)
			})
		},
	}
}

// limitFields are the lines of what a credential may have of what its profile allows.
func limitFields(limit *apiv1.Names) []field {
	if limit == nil {
		return []field{{"Names", "those of the profile"}}
	}
	wildcards := ""
	if limit.DNS.Wildcards {
		wildcards = "allowed"
	}
	return []field{
		{"Trust domains", strings.Join(limit.SPIFFE.TrustDomains, ", ")},
		{"SPIFFE allow", strings.Join(limit.SPIFFE.Allow, ", ")},
		{"SPIFFE deny", strings.Join(limit.SPIFFE.Deny, ", ")},
		{"DNS allow", strings.Join(limit.DNS.Allow, ", ")},
		{"DNS deny", strings.Join(limit.DNS.Deny, ", ")},
		{"DNS wildcards", wildcards},
		{"IP allow", strings.Join(limit.IP.Allow, ", ")},
		{"IP deny", strings.Join(limit.IP.Deny, ", ")},
	}
}

func (a *app) credentialRevoke() *cobra.Command {
	reason, certificates, yes := "", false, false
	cmd := &cobra.Command{
		Use:   "revoke KEY-ID|PROFILE/NAME",
		Short: "Revoke an EAB credential: its accounts obtain nothing more",
		Long: `Revoke an EAB credential. Accounts that were registered with it can order and finalize nothing more, on every
replica within seconds. Certificates that were issued stay valid until they expire, or are revoked with --certificates:
then the same command goes on when it was interrupted.`,
		Example: "  certloom credential revoke istio/cluster-1\n  certloom credential revoke istio/cluster-1 --certificates --reason keyCompromise --yes\n  certloom credential revoke 06bj4v2r0s5o3k4m8d1q9f7h2n6c0a4e8i3g",
		Args:    args("KEY-ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			id, err := credentialID(cmd.Context(), api, names[0])
			if err != nil {
				return err
			}
			selection := apiv1.CertificateSelection{Credential: id}
			if certificates && !yes {
				return a.unconfirmed(cmd.Context(), api, &selection)
			}
			c, err := api.RevokeCredential(cmd.Context(), id)
			if err != nil {
				return err
			}
			if !certificates {
				return a.print(c, func() error { return a.changed("credential", c.Profile+"/"+c.Name, c.State) })
			}
			a.note("credential %s is %s", c.Profile+"/"+c.Name, c.State)
			return a.revokeAll(cmd.Context(), api, selection, reason)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&certificates, "certificates", false, "revoke the certificates too that were issued for it and have not expired")
	flags.StringVar(&reason, "reason", "unspecified", "why certificates are revoked")
	flags.BoolVar(&yes, "yes", false, "revoke certificates")
	return cmd
}

// credentialID finds the KID of PROFILE/NAME; anything else is one already.
func credentialID(ctx context.Context, api *apiv1.Client, text string) (string, error) {
	profile, name, pair := strings.Cut(text, "/")
	if !pair {
		return text, nil
	}
	page, err := api.Credentials(ctx, profile)
	if err != nil {
		return "", err
	}
	for _, c := range page.Items {
		if c.Name == name {
			return c.KeyID, nil
		}
	}
	return "", WithHint(fmt.Errorf("profile %q has no credential %q", profile, name), "list them: certloom credential list --profile %s", profile)
}
