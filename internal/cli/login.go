package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/certloom/certloom/internal/apiv1"
)

func (a *app) loginCommand() *cobra.Command {
	user, passwordFile, code := "", "", ""
	cmd := a.client(&cobra.Command{
		Use:   "login --server URL --user NAME",
		Short: "Sign in to a server, so that commands need no flags",
		Long: `Sign in to a server with name and password. The server's address, a token that expires by itself and the root that was
named with --ca-file are saved in ~/.config/certloom/login.json (mode 0600), where the other commands find them.
The password is asked for, read from --password-file, or read from standard input; it is not saved. Of a user with a second
factor, the code of the authenticator app is asked for as well, unless --code has it. The token has the rights that the user has
at each use, and ends when the user's password changes.`,
		Example: `  certloom login --server https://ca.example.com:8443 --user admin --ca-file root.pem
  certloom login --server https://ca.example.com:8443 --user admin --password-file password.txt`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needs(cmd, "user"); err != nil {
				return err
			}
			file, err := a.loginFile()
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			c.token = ""
			api, err := a.dial(c)
			if err != nil {
				return err
			}
			password, err := a.password(passwordFile, user, c.server)
			if err != nil {
				return err
			}
			made, err := a.logIn(cmd.Context(), api, apiv1.Login{User: user, Password: password, Code: code})
			if err != nil {
				return err
			}
			if err := saveLogin(file, c, made, user); err != nil {
				return err
			}
			return a.print(made.Token, func() error {
				return write(a.Stdout, fmt.Sprintf("Signed in to %s as %s; the token expires %s.\n", c.server, user, a.when(made.ExpiresAt)))
			})
		},
	})
	cmd.Flags().StringVar(&user, "user", "", "name of the user (required)")
	cmd.Flags().StringVar(&code, "code", "", "code of the authenticator app, or a recovery code (default: it is asked for when it is needed)")
	cmd.Flags().StringVar(&passwordFile, "password-file", "", "file with the password (default: it is asked for)")
	return cmd
}

// logIn signs in, and asks for a code when the server wants one and somebody is there to be asked.
func (a *app) logIn(ctx context.Context, api *apiv1.Client, in apiv1.Login) (*apiv1.NewToken, error) {
	made, err := api.Login(ctx, in)
	problem, refused := errors.AsType[*apiv1.Problem](err)
	if !refused || in.Code != "" || !slices.ContainsFunc(problem.Errors, func(e apiv1.ProblemError) bool { return e.Pointer == "/code" }) {
		return made, err
	}
	if in.Code, err = a.prompt("Code of the authenticator app, or a recovery code: "); err != nil {
		return nil, errors.Join(problem, err)
	}
	return api.Login(ctx, in)
}

// password gets the password from a file, from the terminal, or from standard input.
func (a *app) password(file, user, server string) (string, error) {
	if file == "" {
		return a.prompt(fmt.Sprintf("Password of %s at %s: ", user, server))
	}
	text, err := readFile("password-file", file)
	return strings.TrimRight(text, "\r\n"), err
}

// readPassword asks on a terminal without showing what is typed; anything else is read one line of.
func (a *app) readPassword(question string) (string, error) {
	if file, ok := a.Stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(a.Stderr, question)
		raw, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(a.Stderr)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		return string(raw), nil
	}
	if a.lines == nil { // one for all questions: it reads ahead
		a.lines = bufio.NewReader(a.Stdin)
	}
	line, err := a.lines.ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		return "", UsageError(fmt.Errorf("there is no answer on standard input to %q", strings.TrimSuffix(question, ": ")))
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// saveLogin replaces the saved connection as a whole, so that nobody reads half of one.
func saveLogin(name string, c *connection, made *apiv1.NewToken, user string) error {
	saved := savedConnection{
		URL: c.server, APIToken: made.Secret, CAPEM: string(c.roots), User: user, Expires: made.ExpiresAt.Format(time.RFC3339),
	}
	raw, err := json.MarshalIndent(saved, "", "  ")
	if err != nil {
		return fmt.Errorf("write connection: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".login-*") // mode 0600
	if err != nil {
		return fmt.Errorf("save connection: %w", err)
	}
	_, err = file.Write(append(raw, '\n'))
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save connection: %w", err), os.Remove(file.Name()))
	}
	return nil
}
