// Command certloom is a private CA and certificate lifecycle manager for service meshes: the server, a complete
// development set-up, and the command line of its operators.
package main

import (
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/cli"
	"github.com/certloom/certloom/internal/config"
)

// version is set when the binary is built.
var version = "unknown" //nolint:gochecknoglobals // the linker sets variables only

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	collectLess()
	root := command()
	err := root.ExecuteContext(ctx)
	if err != nil {
		cli.PrintError(os.Stderr, err)
	}
	return cli.ExitCode(err)
}

// garbagePercent lets more garbage gather than Go does by default: a server whose live data is some 25 MB collects half
// as often for 25 MB more.
const garbagePercent = 200

// collectLess sets it, unless GOGC says something else.
func collectLess() {
	const usual = 100
	if before := debug.SetGCPercent(garbagePercent); before != usual {
		debug.SetGCPercent(before)
	}
}

// command is the whole command tree.
func command() *cobra.Command {
	root := cli.New(cli.Config{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Env: config.Env, Version: version, Now: time.Now,
	})
	root.AddCommand(devCommand(), serverCommand(), initCommand())
	return root
}
