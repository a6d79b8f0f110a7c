package cli_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/certloom/certloom/internal/cli"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

func TestHelpSession(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAuditor)
	for _, line := range []string{"", "--help", "ca", "profile create --help", "certificate list --help", "doctor --help"} {
		d.enter(t, line)
	}
	d.check(t)
}

// TestEveryCommandHelps walks the tree.
func TestEveryCommandHelps(t *testing.T) {
	t.Parallel()
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, inner := range cmd.Commands() {
			if inner.Name() != "help" && inner.Name() != "completion" {
				walk(inner)
			}
		}
		if cmd.Short == "" {
			t.Errorf("%s has no short description", cmd.CommandPath())
		}
		if cmd.HasSubCommands() || !cmd.HasParent() {
			return
		}
		if !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		for _, flag := range []string{"output", "server", "token-file", "ca-file"} {
			if cmd.InheritedFlags().Lookup(flag) == nil && cmd.Flags().Lookup(flag) == nil && cmd.PersistentFlags().Lookup(flag) == nil {
				t.Errorf("%s does not take --%s", cmd.CommandPath(), flag)
			}
		}
		// Base templates, views, clusters, alert rules and channels are few: their lists come whole.
		few := slices.Contains([]string{"template", "view", "cluster", "rule", "channel"}, cmd.Parent().Name())
		if cmd.Name() == "list" && !few && cmd.Flags().Lookup("limit") == nil {
			t.Errorf("%s does not take --limit", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no description", cmd.CommandPath(), f.Name)
			}
		})
	}
	walk(cli.New(cli.Config{}))
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	d := newDesk(t, apitest.New(t), pki.RoleAuditor)
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if r := d.run(t, "completion", shell); r.code != 0 || !strings.Contains(r.stdout, "certloom") {
			t.Errorf("%s: exit %d", shell, r.code)
		}
	}
}
