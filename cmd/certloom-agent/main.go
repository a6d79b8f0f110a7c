// Command certloom-agent gives Istio's workloads in a Kubernetes cluster their certificates.
package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/certloom/certloom/internal/agent/command"
)

// version is set when the binary is built.
var version = "unknown" //nolint:gochecknoglobals // the linker sets variables only

func main() {
	os.Exit(run())
}

// garbagePercent lets more garbage gather than Go does by default: an agent whose live data is some 15 MB collects half as
// often for 15 MB more, which matters when a thousand workloads start at once.
const garbagePercent = 200

// collectLess sets it, unless GOGC says something else.
func collectLess() {
	const usual = 100
	if before := debug.SetGCPercent(garbagePercent); before != usual {
		debug.SetGCPercent(before)
	}
}

func run() int {
	collectLess()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command.New(command.Config{
		Stdout: os.Stdout, Stderr: os.Stderr, Env: os.Getenv, Version: version, Now: time.Now, Random: rand.Reader,
	}).ExecuteContext(ctx)
	command.PrintError(os.Stderr, err)
	return command.ExitCode(err)
}
