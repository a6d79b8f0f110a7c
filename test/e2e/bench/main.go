// Command bench measures certificates per second, ours and peers' in the same run on the same machine, with the same
// client code: over ACME, with how the server does with a large inventory, and as Istio's workloads ask for them.
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
	acme, mesh   bool
	peer         bool
	http2        bool
}

func main() {
	o := options{}
	flag.IntVar(&o.clients, "clients", 16, "ACME clients at once, each with an account of its own")
	flag.IntVar(&o.seconds, "seconds", 12, "how long each line is measured")
	flag.IntVar(&o.rounds, "rounds", 2, "over how many turns, alternating with the other lines")
	flag.DurationVar(&o.warmUp, "warm-up", 2*time.Second, "load before each turn that is not counted")
	flag.IntVar(&o.certificates, "certificates", 100_000, "size of the inventory for memory and start time; 0: not measured")
	flag.StringVar(&o.profile, "profile", "", "write CPU profiles of our programs to this folder and print where their time goes")
	flag.StringVar(&o.postgres, "postgres", "", "connection string (a URL) of a PostgreSQL server to run SPIFFE orders on, instead of all else")
	flag.BoolVar(&o.acme, "acme", true, "measure ACME")
	flag.BoolVar(&o.mesh, "mesh", true, "measure CreateCertificate, as Istio's workloads call it, against a Kubernetes API server")
	flag.BoolVar(&o.peer, "peer", true, "measure step-ca and istiod's own CA as well")
	flag.BoolVar(&o.http2, "http2", false, "have clients speak HTTP/2; cert-manager and lego speak HTTP/1.1")
	flag.Parse()
	// The clients' garbage is no server's business; memory is there.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := new(session).run(func(s *session) { bench(ctx, s, o) })
	testbed.Sweep()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
