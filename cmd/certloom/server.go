package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/cli"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/server"
	"github.com/certloom/certloom/internal/telemetry"
)

const defaultConfig = "/etc/certloom/certloom.yaml"

func serverCommand() *cobra.Command {
	file, checkOnly := "", false
	c := &cobra.Command{
		Use:   "server",
		Short: "Run the server",
		Long: `Run the server with a settings file. All settings are checked before anything is opened; what is wrong is
reported together, and the exit status is 2. docs/reference/configuration.md lists every setting.

A new database is made by "certloom init".`,
		Example: `  certloom server --config /etc/certloom/certloom.yaml
  certloom server --config certloom.yaml --check     # only check the settings`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if checkOnly {
				return checkSettings(cmd.OutOrStdout(), file)
			}
			return runServer(cmd.Context(), file)
		},
	}
	c.Flags().StringVar(&file, "config", defaultConfig, "settings file")
	c.Flags().BoolVar(&checkOnly, "check", false, "check the settings and exit")
	return c
}

// load reads the settings file. Its errors are those of usage.
func load(file string) (*config.Config, error) {
	settings, err := config.Load(file)
	if _, missing := os.Stat(file); errors.Is(missing, fs.ErrNotExist) {
		err = cli.WithHint(err, "write one, as docs/guide/server.md shows, or name it: --config FILE")
	}
	return settings, cli.UsageError(err)
}

func checkSettings(out io.Writer, file string) error {
	if _, err := load(file); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s is good\n", file)
	return nil
}

func runServer(ctx context.Context, file string) (err error) {
	settings, err := load(file)
	if err != nil {
		return err
	}
	logger, err := telemetry.NewLogger(os.Stderr, settings.Log.Format, settings.Log.Level)
	if err != nil {
		return cli.UsageError(err)
	}
	listeners, parts, err := server.Start(ctx, server.Config{Settings: settings, Version: version, Logger: logger, Now: time.Now}, false)
	if err != nil {
		return cli.UsageError(err)
	}
	defer listeners.Close()
	defer func() { err = errors.Join(err, parts.Close()) }()
	running, err := server.New(ctx, parts, listeners)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := running.Run(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

func initCommand() *cobra.Command {
	file, o := "", server.InitOptions{}
	c := &cobra.Command{
		Use:   "init",
		Short: "Make the database of a new server, its first CAs and its administrator",
		Long: `Make the database of a new server: a root and an issuing CA (unless --no-ca), the profile of the server's own
certificate (tls.profile of the settings), and an administrator with an API token. How to reach the server and the
administrator's password and token are written to DATADIR/admin.json, readable by you only.

It refuses a database that has an administrator already.`,
		Example: `  certloom init --config certloom.yaml --organization "Example Corp"
  certloom init --config certloom.yaml --no-ca      # CAs will be imported, or signed by an outside root`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runInit(cmd.Context(), cmd.OutOrStdout(), file, o) },
	}
	c.Flags().StringVar(&file, "config", defaultConfig, "settings file")
	c.Flags().StringVar(&o.Organization, "organization", "Certloom", "organization in the subjects of the CAs")
	c.Flags().BoolVar(&o.NoCA, "no-ca", false, "make no CA; needs tls.certificateFile in the settings")
	return c
}

func runInit(ctx context.Context, out io.Writer, file string, o server.InitOptions) (err error) {
	settings, err := load(file)
	if err != nil {
		return err
	}
	if o.NoCA && settings.TLS.Profile != "" {
		return cli.UsageError(errors.New("--no-ca: the settings have tls.profile, which needs an issuing CA; give tls.certificateFile instead"))
	}
	logger, err := telemetry.NewLogger(os.Stderr, settings.Log.Format, settings.Log.Level)
	if err != nil {
		return cli.UsageError(err)
	}
	parts, err := server.Open(ctx, server.Config{Settings: settings, Version: version, Logger: logger, Now: time.Now}, true)
	if err != nil {
		return cli.UsageError(err)
	}
	defer func() { err = errors.Join(err, parts.Close()) }()
	connection, err := parts.Initialize(ctx, o)
	if err != nil {
		return fmt.Errorf("initialize: %w", err)
	}
	login := fmt.Sprintf("certloom login --server %s --user %s", connection.URL, connection.AdminUser)
	if connection.CAFile != "" { // without a CA of ours it is not for us to know which root the server's certificate has
		login += " --ca-file " + connection.CAFile
	}
	written := filepath.Join(settings.DataDir, server.AdminFile)
	fmt.Fprintf(out, `Initialized. Start the server:
  certloom server --config %s

The administrator's password and token are in %s; keep that file as you would keep the CA's keys.
Use it from the command line:
  %s
`, file, written, login)
	return nil
}
