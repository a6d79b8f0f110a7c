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
	fmt.Printf("%d cores, %s, %d s for each line in %d turns\n", runtime.NumCPU(), runtime.Version(), o.seconds, o.rounds)
	if o.profile != "" {
		must(s, os.MkdirAll(o.profile, 0o755))
	}
	if o.postgres != "" {
		benchPostgres(ctx, s, o)
		return
	}
	// One after the other, each with servers of its own: what is not measured does not run.
	if o.acme {
		must(s, new(session).run(func(s *session) { benchACME(ctx, s, o) }))
	}
	if o.mesh {
		must(s, new(session).run(func(s *session) { benchMesh(ctx, s, o) }))
	}
}

// benchACME measures certificates over ACME, and the server with a large inventory.
func benchACME(ctx context.Context, s *session, o options) {
	fmt.Printf("\nACME, %d clients\n\n", o.clients)
	zone := testbed.StartZone(s)
	port := testbed.Ports(s, 1)
	solver := httpSolver{testbed.StartResponder(s, port)}
	server := testbed.StartCertloom(ctx, s, testbed.Options{DNSResolver: zone.Addr(), HTTP01Port: port, Pprof: true})
	spiffe := spiffeLine(ctx, s, server, o)
	dns := &line{
		title: "certloom, SQLite: ACME, DNS name by http-01", servers: []*testbed.Process{server.Process()},
		clients: registered(ctx, s, target{
			directory: server.URL + "/acme/p/challenge/directory", http: func() *http.Client { return server.HTTPClient(s) },
		}, o, solver),
	}
	lines := []*line{spiffe, dns}
	var peer *line
	if o.peer {
		other := testbed.StartStepCA(ctx, s, zone.Addr(), port)
		peer = &line{
			title: "step-ca, Badger: ACME, DNS name by http-01", servers: []*testbed.Process{other.Process()},
			clients: registered(ctx, s, target{
				directory: other.DirectoryURL, http: func() *http.Client { return other.HTTPClient(s) },
			}, o, solver),
		}
		lines = append(lines, peer)
	}
	if o.profile != "" {
		spiffe.during = profiler(server.Health(), o.profile, "spiffe")
		dns.during = profiler(server.Health(), o.profile, "http-01")
	}
	run(ctx, s, o, lines, "server")
	if peer != nil {
		fmt.Printf("\nDNS name by http-01, certloom against step-ca: %.1f times as many\n", dns.rate()/peer.rate())
	}
	if o.profile != "" {
		printProfiles(ctx, s, o.profile, "spiffe", "http-01")
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
	run(ctx, s, o, []*line{l}, "server")
}

func spiffeLine(ctx context.Context, s *session, server *testbed.Certloom, o options) *line {
	credential, err := binding(server.ACME["istio"])
	must(s, err)
	return &line{
		title: "certloom, SQLite: ACME, SPIFFE ID with EAB", servers: []*testbed.Process{server.Process()},
		clients: registered(ctx, s, target{
			directory: server.ACME["istio"].DirectoryURL, binding: credential,
			http: func() *http.Client { return server.HTTPClient(s) },
		}, o, nil),
	}
}

// run takes turns and prints the table. servers names the programs of the lines' servers.
func run(ctx context.Context, s *session, o options, lines []*line, servers ...string) {
	counted := time.Duration(o.seconds) * time.Second / time.Duration(o.rounds)
	for range o.rounds {
		for _, l := range lines {
			must(s, l.turn(ctx, o.warmUp, counted))
		}
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprint(table, "work\tcertificates/s\tp50\tp99\t")
	for _, name := range servers {
		fmt.Fprintf(table, "%[1]s CPU each\t%[1]s cores\t", name)
	}
	fmt.Fprintln(table, "clients' cores")
	for _, l := range lines {
		fmt.Fprintf(table, "%s\t%.0f\t%s\t%s\t", l.title, l.rate(),
			l.percentile(50).Round(100*time.Microsecond), l.percentile(99).Round(100*time.Microsecond))
		for i := range servers {
			if l.servers[i] == nil {
				fmt.Fprint(table, "–\t–\t")
				continue
			}
			fmt.Fprintf(table, "%s\t%.2f\t", l.each(i).Round(10*time.Microsecond), l.serverCPU[i].Seconds()/l.elapsed.Seconds())
		}
		fmt.Fprintf(table, "%.2f\n", l.clientCPU.Seconds()/l.elapsed.Seconds())
	}
	must(s, table.Flush())
}

func registered(ctx context.Context, s *session, to target, o options, solver acmeclient.Solver) []client {
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
