package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// bench runs everything and prints it.
func bench(ctx context.Context, s *session, o options) {
	fmt.Printf("%d cores, %s, %d clients, %d s for each line in %d turns\n\n",
		runtime.NumCPU(), runtime.Version(), o.clients, o.seconds, o.rounds)
	if o.postgres != "" {
		benchPostgres(ctx, s, o)
		return
	}
	zone := testbed.StartZone(s)
	port := testbed.Ports(s, 1)
	solver := httpSolver{testbed.StartResponder(s, port)}
	server := testbed.StartCertloom(ctx, s, testbed.Options{DNSResolver: zone.Addr(), HTTP01Port: port, Pprof: true})
	spiffe := spiffeLine(ctx, s, server, o)
	dns := &line{
		title: "certloom, SQLite: ACME, DNS name by http-01", server: server.Process(),
		clients: registered(ctx, s, target{
			directory: server.URL + "/acme/p/challenge/directory", http: func() *http.Client { return server.HTTPClient(s) },
		}, o, solver),
	}
	lines := []*line{spiffe, dns}
	var peer *line
	if o.peer {
		other := testbed.StartStepCA(ctx, s, zone.Addr(), port)
		peer = &line{
			title: "step-ca, Badger: ACME, DNS name by http-01", server: other.Process(),
			clients: registered(ctx, s, target{
				directory: other.DirectoryURL, http: func() *http.Client { return other.HTTPClient(s) },
			}, o, solver),
		}
		lines = append(lines, peer)
	}
	if o.profile != "" {
		must(s, os.MkdirAll(o.profile, 0o755))
		spiffe.during = profiler(server, o.profile, "spiffe")
		dns.during = profiler(server, o.profile, "http-01")
	}
	run(ctx, s, o, lines)
	if peer != nil {
		fmt.Printf("\nDNS name by http-01, certloom against step-ca: %.1f times as many\n", dns.rate()/peer.rate())
	}
	if o.profile != "" {
		printProfiles(ctx, s, o.profile)
	}
	if o.certificates > 0 {
		grow(ctx, s, server, spiffe, o.certificates)
	}
}

// benchPostgres measures SPIFFE orders with everything recorded in PostgreSQL.
func benchPostgres(ctx context.Context, s *session, o options) {
	server := testbed.StartCertloom(ctx, s, testbed.Options{Postgres: testbed.FreshDatabase(ctx, s, o.postgres)})
	l := spiffeLine(ctx, s, server, o)
	l.title = "certloom, PostgreSQL: ACME, SPIFFE ID with EAB"
	run(ctx, s, o, []*line{l})
}

func spiffeLine(ctx context.Context, s *session, server *testbed.Certloom, o options) *line {
	credential, err := binding(server.ACME["istio"])
	must(s, err)
	return &line{
		title: "certloom, SQLite: ACME, SPIFFE ID with EAB", server: server.Process(),
		clients: registered(ctx, s, target{
			directory: server.ACME["istio"].DirectoryURL, binding: credential,
			http: func() *http.Client { return server.HTTPClient(s) },
		}, o, nil),
	}
}

// run takes turns and prints the table.
func run(ctx context.Context, s *session, o options, lines []*line) {
	counted := time.Duration(o.seconds) * time.Second / time.Duration(o.rounds)
	for range o.rounds {
		for _, l := range lines {
			must(s, l.turn(ctx, o.warmUp, counted))
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "work\tcertificates/s\tp50\tp99\tserver CPU each\tserver cores\tclients' cores")
	for _, l := range lines {
		fmt.Fprintf(table, "%s\t%.0f\t%s\t%s\t%s\t%.2f\t%.2f\n", l.title, l.rate(),
			l.percentile(50).Round(100*time.Microsecond), l.percentile(99).Round(100*time.Microsecond),
			l.each(l.serverCPU).Round(10*time.Microsecond),
			l.serverCPU.Seconds()/l.elapsed.Seconds(), l.clientCPU.Seconds()/l.elapsed.Seconds())
	}
	must(s, table.Flush())
}

func registered(ctx context.Context, s *session, to target, o options, solver acmeclient.Solver) []*client {
	clients, err := to.clients(ctx, o, solver)
	must(s, err)
	return clients
}

// must ends the run on an error.
func must(s *session, err error) {
	if err != nil {
		s.Fatal(err)
	}
}
