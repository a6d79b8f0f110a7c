package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) tokenCommand() *cobra.Command {
	return a.family("token", "Tokens of the REST API", []string{"tokens"}, a.tokenCreate(), a.tokenList(), a.tokenRevoke())
}

func (a *app) tokenCreate() *cobra.Command {
	var in apiv1.CreateToken
	expires := ""
	cmd := &cobra.Command{
		Use:   "create NAME --role R",
		Short: "Create an API token; it is shown once",
		Long: `Create an API token. It is printed once, alone on standard output, so that it can be redirected into a file.

Roles: admin does everything; operator changes profiles and credentials and revokes; auditor reads everything; namespace-viewer sees
the identities that match --sees; requester asks for certificates under one profile, and nothing else.`,
		Example: `  (umask 077; certloom token create dashboard --role auditor > dashboard.token)
  certloom token create shop --role namespace-viewer --sees 'spiffe://cluster.local/ns/shop/*'
  certloom token create ci --role requester --profile ci --expires 30d
  certloom token create break-glass --role admin --expires never`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "role"); err != nil {
				return err
			}
			in.Name = names[0]
			var err error
			if in.ExpiresAt, err = a.expiry("expires", expires); err != nil {
				return err
			}
			api, err := a.api()
			if err != nil {
				return err
			}
			made, err := api.CreateToken(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(made, func() error {
				until := "It never expires."
				if !made.ExpiresAt.IsZero() {
					until = "It expires " + a.when(made.ExpiresAt) + "."
				}
				a.note("Token %s (%s), ID %s. It is shown only now. %s", made.Name, made.Role, made.ID, until)
				return write(a.Stdout, made.Secret+"\n")
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Role, "role", "", "admin, operator, auditor, namespace-viewer or requester (required)")
	flags.StringArrayVar(&in.Sees, "sees", nil, "of a namespace viewer: an identity that it sees, or the beginning of names with * at the end; can be given several times")
	flags.StringVar(&in.Profile, "profile", "", "of a requester: the profile that it may ask for certificates under")
	flags.StringVar(&expires, "expires", "90d", "when it expires: 90d, 2027-01-31T00:00:00Z or never")
	return cmd
}

func (a *app) tokenList() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List API tokens",
		Example: "  certloom token list",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "tokens", func(after string, size int) (*apiv1.Page[apiv1.Token], error) {
				return api.TokenPage(cmd.Context(), after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, t := range items {
					expires := a.when(t.ExpiresAt)
					if expires == "" {
						expires = "never"
					}
					rows = append(rows, []string{t.Name, t.Role, t.Profile, t.State, expires, a.when(t.LastUsedAt), t.ID})
				}
				return a.rows([]string{"NAME", "ROLE", "PROFILE", "STATE", "EXPIRES", "LAST USED", "ID"}, rows)
			})
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID|NAME",
		Short:   "Revoke an API token at once",
		Example: "  certloom token revoke dashboard\n  certloom token revoke 06bj4v2r0s5o3k4m8d1q9f7h2n6c0a4e8i3g",
		Args:    args("ID"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			page, err := api.Tokens(cmd.Context())
			if err != nil {
				return err
			}
			id, err := tokenID(page.Items, names[0])
			if err != nil {
				return err
			}
			t, err := api.RevokeToken(cmd.Context(), id)
			if err != nil {
				return err
			}
			return a.print(t, func() error { return a.changed("token", t.Name, t.State) })
		},
	}
}

// tokenID finds a token by ID, or by name where that is clear: names of tokens need not be unique.
func tokenID(tokens []apiv1.Token, text string) (string, error) {
	var named []string
	for _, t := range tokens {
		if t.ID == text {
			return text, nil
		}
		if t.Name == text && t.State != "revoked" {
			named = append(named, t.ID)
		}
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return "", WithHint(fmt.Errorf("there is no token %q that is not revoked", text), "list them: certloom token list")
	default:
		return "", WithHint(fmt.Errorf("%d tokens have the name %q", len(named), text), "name one by its ID: certloom token list")
	}
}
