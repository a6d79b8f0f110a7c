// Package cli owns the commands of operators: each is one or a few calls of the REST API, and prints what came back.
//
// It must never decide what the server decides, and never print a secret that it was not asked to make. It trusts the
// server that its connection names, once TLS has shown that it is that server.
package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Config is what the commands need of the process.
type Config struct {
	Stdin   io.Reader
	Stdout  io.Writer
	Stderr  io.Writer
	Env     func(name string) string // environment variables
	Version string
	Now     func() time.Time
}

// app is what the commands share.
type app struct {
	Config
	output    string // table, json or yaml
	server    string
	tokenFile string
	caFile    string
	timeout   time.Duration
	devFile   string // where `certloom dev` leaves its connection
	prompt    func(question string) (string, error)
	lines     *bufio.Reader // of standard input, once something was asked for
}

// New returns the root command with everything that an operator does. Commands that run a server are added by main.
// Execute it with a context that ends on interrupt; print its error with PrintError, and exit with ExitCode.
func New(config Config) *cobra.Command {
	a := &app{Config: config, devFile: "certloom-data/dev.json"}
	a.prompt = a.readPassword
	root := &cobra.Command{
		Use:   "certloom",
		Short: "A private CA and certificate lifecycle manager for service meshes",
		Long: `A private CA and certificate lifecycle manager for service meshes.

Commands find their server by --server, --token-file and --ca-file, or by the environment variables CERTLOOM_SERVER,
CERTLOOM_TOKEN_FILE and CERTLOOM_CA_FILE; without them, by certloom-data/dev.json, which "certloom dev" writes into the
folder where it is started, or by what "certloom login" has saved.`,
		Version:       config.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(config.Stdin)
	root.SetOut(config.Stdout)
	root.SetErr(config.Stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return UsageError(fmt.Errorf("%w; see: %s --help", err, cmd.CommandPath()))
	})
	root.Args, root.RunE, root.SuggestionsMinimumDistance = cobra.ArbitraryArgs, unknownCommand, suggestWithin
	root.AddCommand(
		a.caCommand(), a.templateCommand(), a.profileCommand(), a.credentialCommand(), a.connectorCommand(), a.certificateCommand(), a.identityCommand(), a.importedCommand(), a.viewCommand(), a.clusterCommand(),
		a.tokenCommand(), a.userCommand(), a.sessionCommand(), a.auditCommand(), a.statisticsCommand(), a.loginCommand(), a.whoamiCommand(), a.doctorCommand(),
		a.alertCommand(), a.channelCommand(), a.deliveryCommand(),
	)
	root.InitDefaultCompletionCmd()
	return root
}

// client adds the flags that every command takes which calls a server.
func (a *app) client(cmd *cobra.Command) *cobra.Command {
	flags := cmd.PersistentFlags()
	flags.StringVarP(&a.output, "output", "o", "table", "table, json or yaml")
	flags.StringVar(&a.server, "server", "", "URL of the server (CERTLOOM_SERVER)")
	flags.StringVar(&a.tokenFile, "token-file", "", "file with the API token (CERTLOOM_TOKEN_FILE)")
	flags.StringVar(&a.caFile, "ca-file", "", "PEM file with the root of the server's certificate (CERTLOOM_CA_FILE)")
	flags.DurationVar(&a.timeout, "timeout", 30*time.Second, "how long to wait for an answer of the server")
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		switch a.output {
		case "table", "json", "yaml":
			return nil
		default:
			return UsageError(fmt.Errorf("--output %q is not one of table, json, yaml", a.output))
		}
	}
	return cmd
}

// family returns a command that only has commands below it.
func (a *app) family(use, short string, aliases []string, commands ...*cobra.Command) *cobra.Command {
	cmd := a.client(&cobra.Command{Use: use, Short: short, Aliases: aliases, Args: cobra.ArbitraryArgs, RunE: unknownCommand})
	cmd.SuggestionsMinimumDistance = suggestWithin
	cmd.AddCommand(commands...)
	return cmd
}

// suggestWithin is how many letters a mistyped command may be away from one that is suggested.
const suggestWithin = 2

// unknownCommand is what a command with commands below it does by itself: cobra would print help and call it a success.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help() //nolint:wrapcheck // it only writes
	}
	message := fmt.Sprintf("there is no command %q;", cmd.CommandPath()+" "+args[0])
	if similar := cmd.SuggestionsFor(args[0]); len(similar) > 0 {
		message += " did you mean " + strings.Join(similar, " or ") + "?"
	}
	return UsageError(fmt.Errorf("%s see: %s --help", message, cmd.CommandPath()))
}

// args checks the number of arguments, by the names that the usage line has for them.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		switch {
		case len(given) < len(names):
			return UsageError(fmt.Errorf("%s is missing; usage: %s", names[len(given)], cmd.UseLine()))
		case len(given) > len(names):
			return UsageError(fmt.Errorf("there is no place for %q; usage: %s", given[len(names)], cmd.UseLine()))
		}
		return nil
	}
}

// NoArgs refuses arguments as the commands here do, for those that main adds.
func NoArgs(cmd *cobra.Command, given []string) error { return args()(cmd, given) }

// needs refuses to run without flags, all that are missing at once.
func needs(cmd *cobra.Command, flags ...string) error {
	var missing []string
	for _, name := range flags {
		if !cmd.Flags().Changed(name) {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return UsageError(fmt.Errorf("%s missing; usage: %s, examples: %s --help", strings.Join(missing, " and "), cmd.UseLine(), cmd.CommandPath()))
}

// oneOf refuses a flag's value that is not one of those that there are. "" is a flag that was not given.
func oneOf(flag, value string, allowed ...string) error {
	if value == "" || slices.Contains(allowed, value) {
		return nil
	}
	return UsageError(fmt.Errorf("--%s %q is not one of %s", flag, value, strings.Join(allowed, ", ")))
}

// usageError is a command line that cannot be understood.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// UsageError marks an error as one of the command line or of settings: ExitCode is 2. Nil stays nil.
func UsageError(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}

// Exit statuses.
const (
	exitFailure = 1
	exitUsage   = 2
)

// ExitCode is 0 for nil, 2 for a UsageError, and 1 for everything else.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitFailure
}
