// Command bench measures certificates per second over ACME, ours and a peer's in the same run on the same machine, with
// the same client code, and then how the server does with a large inventory.
//
// Everything shares the machine: the clients, the servers, the validated hosts. What a number means is therefore the
// ratio between lines of one run, and what a line costs the server in processor time.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// options are the flags.
type options struct {
	clients      int
	seconds      int
	rounds       int
	warmUp       time.Duration
	certificates int
	profile      string
	postgres     string
	peer         bool
	http2        bool
}

func main() {
	o := options{}
	flag.IntVar(&o.clients, "clients", 16, "clients at once, each with an account of its own")
	flag.IntVar(&o.seconds, "seconds", 12, "how long each line is measured")
	flag.IntVar(&o.rounds, "rounds", 2, "over how many turns, alternating with the other lines")
	flag.DurationVar(&o.warmUp, "warm-up", 2*time.Second, "load before each turn that is not counted")
	flag.IntVar(&o.certificates, "certificates", 100_000, "size of the inventory for memory and start time; 0: not measured")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of our server to this folder and print where its time goes")
	flag.StringVar(&o.postgres, "postgres", "", "connection string (a URL) of a PostgreSQL server to run SPIFFE orders on, instead of all else")
	flag.BoolVar(&o.peer, "peer", true, "measure step-ca as well")
	flag.BoolVar(&o.http2, "http2", false, "have clients speak HTTP/2; cert-manager and lego speak HTTP/1.1")
	flag.Parse()
	// The clients' garbage is no server's business; memory is there.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	s := &session{}
	err := s.run(func() { bench(ctx, s, o) })
	testbed.Sweep()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
