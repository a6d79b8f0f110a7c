package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) whoamiCommand() *cobra.Command {
	return a.client(&cobra.Command{
		Use:     "whoami",
		Short:   "Show who you are to the server, and what your role is",
		Example: "  certloom whoami\n  certloom whoami -o json | jq -r .role",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			caller, err := api.Whoami(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(caller, func() error {
				factor := ""
				if caller.SecondFactor {
					factor = "yes, with " + amount(caller.RecoveryCodes, "recovery code")
				}
				return a.fields(
					field{"Name", caller.Name},
					field{"User", caller.User},
					field{"Role", caller.Role},
					field{"Profile", caller.Profile},
					field{"Sees", strings.Join(caller.Sees, ", ")},
					field{"Second factor", factor},
					field{"Token", caller.TokenID})
			})
		},
	})
}

// ownPassword changes the password of who has signed in; the token that asks stays, the user's others end.
func (a *app) ownPassword() *cobra.Command {
	oldFile, newFile := "", ""
	cmd := &cobra.Command{
		Use:   "change-password",
		Short: "Change your own password; your sessions and tokens but this one end",
		Long: `Change the password of who has signed in (certloom login). Both passwords are asked for, or read from files. The token of
the login goes on; everything else in which you have signed in ends.`,
		Example: `  certloom user change-password
  certloom user change-password --old-password-file old.txt --new-password-file new.txt`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			var in apiv1.ChangePassword
			if in.Old, err = a.passwordOf("old-password-file", oldFile, "Your password now: "); err != nil {
				return err
			}
			if in.New, err = a.passwordOf("new-password-file", newFile, "Your new password: "); err != nil {
				return err
			}
			if err := api.ChangeOwnPassword(cmd.Context(), in); err != nil {
				return err
			}
			return a.print(map[string]string{"password": "changed"}, func() error { return write(a.Stdout, "The password is changed.\n") })
		},
	}
	cmd.Flags().StringVar(&oldFile, "old-password-file", "", "file with the password that you have (default: it is asked for)")
	cmd.Flags().StringVar(&newFile, "new-password-file", "", "file with the new password (default: it is asked for)")
	return cmd
}

// passwordOf reads a password from the file that a flag names, or asks for it.
func (a *app) passwordOf(flag, file, question string) (string, error) {
	if file == "" {
		return a.prompt(question)
	}
	text, err := readFile(flag, file)
	return strings.TrimRight(text, "\r\n"), err
}
