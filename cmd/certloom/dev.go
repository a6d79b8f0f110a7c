package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/cli"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/server"
	"github.com/certloom/certloom/internal/telemetry"
)

func devCommand() *cobra.Command {
	o := server.DevOptions{}
	workloads := 0
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run the whole product on this machine, with no set-up",
		Long: `Run the whole product on this machine, with no set-up.

Makes, as far as they are not there yet, a root and an issuing CA, an administrator, the certificate profiles
"istio" (SPIFFE IDs of cluster.local, pre-authorized), "server" (names under .svc, .localhost and .example.com,
pre-authorized) and "challenge" (any name, validated by challenge on this machine), and an EAB credential for each of
the first two. Everything that a client needs is written to DIR/dev.json. Started again on the same folder it carries on.

It listens on --listen (ACME, REST API, console) and, two ports higher on 127.0.0.1, for health and metrics.`,
		Example: `  certloom dev
  certloom dev --data /tmp/ca --listen localhost:9443
  certloom dev --demo-workloads 50     # 50 simulated workloads get and renew short certificates`,
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runDev(cmd.Context(), cmd.OutOrStdout(), o, workloads)
		},
	}
	flags := c.Flags()
	flags.StringVar(&o.Data, "data", "certloom-data", "folder for the database, the keys and dev.json")
	flags.StringVar(&o.Listen, "listen", "localhost:8443", "HOST:PORT of ACME, API and console")
	flags.IntVar(&workloads, "demo-workloads", 0, "number of simulated workloads, 0 to 10000")
	flags.IntVar(&o.HTTP01Port, "http01-port", 5002, "port on which http-01 challenges are asked")
	flags.IntVar(&o.TLSALPN01Port, "tlsalpn01-port", 5001, "port on which tls-alpn-01 challenges are asked")
	flags.StringVar(&o.DNSResolver, "dns-resolver", "", "HOST:PORT of the DNS server that validates names (default: the system's)")
	flags.StringVar(&o.LogLevel, "log-level", "warn", "debug, info, warn or error")
	flags.BoolVar(&o.Pprof, "pprof", false, "serve Go profiles under /debug/pprof/ on the health address")
	return c
}

func runDev(ctx context.Context, out io.Writer, o server.DevOptions, workloads int) (err error) {
	if workloads < 0 || workloads > server.MaxDemoWorkloads {
		return cli.UsageError(fmt.Errorf("--demo-workloads: %d is not within 0 and %d", workloads, server.MaxDemoWorkloads))
	}
	settings, err := server.DevSettings(o)
	if err != nil {
		return cli.UsageError(err)
	}
	logger, err := telemetry.NewLogger(os.Stderr, settings.Log.Format, settings.Log.Level)
	if err != nil {
		return cli.UsageError(err)
	}
	start := server.Config{Settings: settings, Version: version, Logger: logger, Now: time.Now}
	listeners, parts, err := server.StartDev(ctx, start, rand.Reader)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = cli.WithHint(err, "end what listens there, or choose another port: certloom dev --listen localhost:9443")
	}
	if err != nil {
		return cli.UsageError(err)
	}
	defer listeners.Close()
	defer func() { err = errors.Join(err, parts.Close()) }()
	connection, err := parts.SetUpDev(ctx)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	running, err := server.New(ctx, parts, listeners)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := running.AddDemo(connection, workloads); err != nil {
		return fmt.Errorf("start demo workloads: %w", err)
	}
	printDev(out, connection, settings, workloads)
	if err := running.Run(ctx); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// printDev tells where to click.
func printDev(out io.Writer, c *server.Connection, settings *config.Config, workloads int) {
	health := "http://" + settings.Listen.Health
	file := shorten(filepath.Join(settings.DataDir, "dev.json"))
	fmt.Fprintf(out, `Certloom %s is running. This is a development set-up: do not trust its CA with anything real.

  Console        %s
  ACME           %s/acme/directory
  REST API       %s/api/v1/openapi.json
  Health         %s/readyz   %s/metrics
  Root CA        %s
  Administrator  %s / %s
  Credentials    %s (also read by the command line, without any flags)

Open the console and sign in; the browser does not know this CA yet, and says so. Or try, in another terminal:
  certloom certificate list
  certloom credential create --profile istio --name my-cluster
`, version, c.URL, c.URL, c.URL, health, health, shorten(c.RootFile), c.AdminUser, c.AdminPassword, file)
	if workloads > 0 {
		fmt.Fprintf(out, "\n%d simulated workloads get and renew certificates; watch them with: certloom identity list\n", workloads)
	}
	fmt.Fprintln(out, "\nStop with Ctrl-C.")
}

// shorten writes a path as people would: relative to where they are, if it lies below.
func shorten(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if short, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(short) {
		return short
	}
	return path
}
