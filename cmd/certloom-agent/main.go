// Command certloom-agent gives Istio's workloads in a Kubernetes cluster their certificates.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/certloom/certloom/internal/agent/command"
)

// version is set when the binary is built.
var version = "unknown" //nolint:gochecknoglobals // the linker sets variables only

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command.New(command.Config{
		Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Getenv, Version: version, Now: time.Now, Random: rand.Reader,
	}).ExecuteContext(ctx)
	command.PrintError(os.Stderr, err)
	return command.ExitCode(err)
}
