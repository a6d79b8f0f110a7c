package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) userCommand() *cobra.Command {
	return a.family("user", "People who sign in to the console", []string{"users"},
		a.userCreate(), a.userList(), a.userGet(), a.userUpdate(), a.userState("suspend", "suspended", "Suspend a user: no sign-in, and all sessions end"),
		a.userState("activate", "active", "Activate a suspended user"), a.userPassword(), a.ownPassword(),
		a.userUnlock(), a.userFactor(), a.userDelete())
}

const rolesHelp = `Roles: admin does everything; operator changes profiles and credentials and revokes; auditor reads everything; namespace-viewer sees
the identities that match --sees, and their certificates.`

func (a *app) userCreate() *cobra.Command {
	var in apiv1.CreateUser
	passwordFile := ""
	cmd := &cobra.Command{
		Use:   "create NAME --role R",
		Short: "Create a user who signs in with a password",
		Long:  "Create a user. The password is asked for, read from --password-file, or read from standard input.\n\n" + rolesHelp,
		Example: `  certloom user create ann --role operator
  certloom user create shop-team --role namespace-viewer --sees 'spiffe://cluster.local/ns/shop/*' --password-file password.txt`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			if err := needs(cmd, "role"); err != nil {
				return err
			}
			in.Name = names[0]
			api, err := a.api()
			if err != nil {
				return err
			}
			if in.Password, err = a.newPassword(passwordFile, in.Name); err != nil {
				return err
			}
			made, err := api.CreateUser(cmd.Context(), in)
			if err != nil {
				return err
			}
			return a.print(made, func() error { return a.changed("user", made.Name, made.State) })
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&in.Role, "role", "", "admin, operator, auditor or namespace-viewer (required)")
	flags.StringArrayVar(&in.Sees, "sees", nil, "of a namespace viewer: an identity, or the beginning of names with * at the end; can be given several times")
	flags.StringVar(&in.DisplayName, "display-name", "", "the user's name for people")
	flags.StringVar(&in.Email, "email", "", "the user's e-mail address")
	flags.StringVar(&passwordFile, "password-file", "", "file with the password (default: it is asked for)")
	return cmd
}

// newPassword gets the password of another user.
func (a *app) newPassword(file, user string) (string, error) {
	if file == "" {
		return a.prompt("New password of " + user + ": ")
	}
	text, err := readFile("password-file", file)
	return strings.TrimRight(text, "\r\n"), err
}

func (a *app) userList() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List users",
		Example: "  certloom user list",
		Args:    args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "users", func(after string, size int) (*apiv1.Page[apiv1.User], error) {
				return api.UserPage(cmd.Context(), after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, u := range items {
					state := u.State
					if !u.LockedUntil.IsZero() {
						state += ", locked"
					}
					rows = append(rows, []string{u.Name, u.Role, strings.Join(u.Sees, " "), state, u.Source, a.when(u.LastSignInAt)})
				}
				return a.rows([]string{"NAME", "ROLE", "SEES", "STATE", "SOURCE", "LAST SIGN-IN"}, rows)
			})
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

func (a *app) userGet() *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show a user", Example: "  certloom user get ann", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			u, err := api.User(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(u, func() error {
				return a.fields(
					field{"Name", u.Name},
					field{"Display name", u.DisplayName},
					field{"E-mail", u.Email},
					field{"Role", u.Role},
					field{"Sees", strings.Join(u.Sees, ", ")},
					field{"State", u.State},
					field{"Source", u.Source},
					field{"Issuer", u.Issuer},
					field{"Locked until", a.moment(u.LockedUntil)},
					field{"Last sign-in", a.moment(u.LastSignInAt)},
					field{"Created", a.moment(u.CreatedAt)})
			})
		},
	}
}

func (a *app) userUpdate() *cobra.Command {
	role, displayName, email := "", "", ""
	var sees []string
	cmd := &cobra.Command{
		Use:     "update NAME",
		Short:   "Change a user's role or names; what is not given stays",
		Long:    "Change a user. It counts at once, also in sessions that have begun.\n\n" + rolesHelp,
		Example: "  certloom user update ann --role auditor",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			change := apiv1.UpdateUser{Role: role}
			for flag, to := range map[string]func(){
				"sees": func() { change.Sees = &sees }, "display-name": func() { change.DisplayName = &displayName }, "email": func() { change.Email = &email },
			} {
				if cmd.Flags().Changed(flag) {
					to()
				}
			}
			return a.changeUser(cmd, names[0], change)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&role, "role", "", "admin, operator, auditor or namespace-viewer")
	flags.StringArrayVar(&sees, "sees", nil, "of a namespace viewer: an identity, or the beginning of names with * at the end; can be given several times")
	flags.StringVar(&displayName, "display-name", "", "the user's name for people")
	flags.StringVar(&email, "email", "", "the user's e-mail address")
	return cmd
}

func (a *app) changeUser(cmd *cobra.Command, name string, change apiv1.UpdateUser) error {
	api, err := a.api()
	if err != nil {
		return err
	}
	user, err := api.UpdateUser(cmd.Context(), name, change)
	if err != nil {
		return err
	}
	return a.print(user, func() error { return a.changed("user", user.Name, user.State) })
}

func (a *app) userState(use, state, short string) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME", Short: short, Example: "  certloom user " + use + " ann", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.changeUser(cmd, names[0], apiv1.UpdateUser{State: state})
		},
	}
}

func (a *app) userPassword() *cobra.Command {
	file := ""
	cmd := &cobra.Command{
		Use:     "reset-password NAME",
		Short:   "Give a user another password; all of the user's sessions end",
		Example: "  certloom user reset-password ann --password-file password.txt",
		Args:    args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			password, err := a.newPassword(file, names[0])
			if err != nil {
				return err
			}
			return a.changeUser(cmd, names[0], apiv1.UpdateUser{Password: password})
		},
	}
	cmd.Flags().StringVar(&file, "password-file", "", "file with the password (default: it is asked for)")
	return cmd
}

func (a *app) userUnlock() *cobra.Command {
	return &cobra.Command{
		Use: "unlock NAME", Short: "Forget a user's wrong passwords", Example: "  certloom user unlock ann", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			user, err := api.UnlockUser(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(user, func() error { return a.changed("user", user.Name, "unlocked") })
		},
	}
}

func (a *app) userFactor() *cobra.Command {
	return &cobra.Command{
		Use: "reset-second-factor NAME", Short: "Take a user's second factor away, whose app and recovery codes are gone",
		Example: "  certloom user reset-second-factor ann", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			user, err := api.ResetSecondFactor(cmd.Context(), names[0])
			if err != nil {
				return err
			}
			return a.print(user, func() error { return a.changed("user", user.Name, "without a second factor") })
		},
	}
}

func (a *app) userDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Delete a user with all sessions", Example: "  certloom user delete ann", Args: args("NAME"),
		RunE: func(cmd *cobra.Command, names []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.DeleteUser(cmd.Context(), names[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"deleted": names[0]}, func() error { return a.changed("user", names[0], "deleted") })
		},
	}
}

func (a *app) sessionCommand() *cobra.Command {
	return a.family("session", "Sessions of the console", []string{"sessions"}, a.sessionList(), a.sessionEnd())
}

func (a *app) sessionList() *cobra.Command {
	limit := 0
	cmd := &cobra.Command{
		Use: "list", Short: "List everybody's sessions", Example: "  certloom session list", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			items, err := collect(a, limit, "sessions", func(after string, size int) (*apiv1.Page[apiv1.Session], error) {
				return api.SessionPage(cmd.Context(), true, after, size)
			})
			if err != nil {
				return err
			}
			return a.print(items, func() error {
				var rows [][]string
				for _, s := range items {
					rows = append(rows, []string{s.User, s.Address, a.when(s.CreatedAt), a.when(s.LastUsedAt), s.ID})
				}
				return a.rows([]string{"USER", "ADDRESS", "SINCE", "LAST USED", "ID"}, rows)
			})
		},
	}
	limitFlag(cmd, &limit)
	return cmd
}

func (a *app) sessionEnd() *cobra.Command {
	return &cobra.Command{
		Use: "end ID", Short: "End a session at once", Example: "  certloom session end 06bj4v2r0s5o3k4m8d1q9f7h2n6c0a4e8i3g", Args: args("ID"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			api, err := a.api()
			if err != nil {
				return err
			}
			if err := api.EndSession(cmd.Context(), ids[0]); err != nil {
				return err
			}
			return a.print(map[string]string{"ended": ids[0]}, func() error { return a.changed("session", ids[0], "ended") })
		},
	}
}
