package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/certloom/certloom/test/e2e/testbed"
)

const (
	fewWorkloads  = 50
	manyWorkloads = 200
	allWorkloads  = 1000
	// requestsEach is how many keys the workloads go round with.
	requestsEach = 32
)

// benchMesh measures CreateCertificate as Istio's workloads call it.
func benchMesh(ctx context.Context, s *session, o options) {
	cluster := testbed.StartCluster(ctx, s)
	cluster.Kubectl(ctx, s, "create", "namespace", "istio-system")
	workloads := makeWorkloads(ctx, s, cluster, allWorkloads, func(i int) int {
		if i < manyWorkloads {
			return requestsEach
		}
		return 1
	})
	server := testbed.StartCertloom(ctx, s, testbed.Options{Pprof: true})
	// istiod keeps a ConfigMap of the usual name.
	agent := testbed.StartAgent(ctx, s, cluster, server, "--pprof", "--root-configmap-name=certloom-root-cert")
	ours := &ca{
		title: "certloom-agent, certloom on SQLite", address: agent.Address, name: testbed.AgentName, roots: agent.Roots(),
		processes: []*testbed.Process{agent.Process(), server.Process(), cluster.Server()},
	}
	all := []*ca{ours}
	if o.peer {
		all = append(all, istiods(ctx, s, cluster)...)
	}

	fmt.Printf("\nCreateCertificate, each client with a connection, a token and a Pod of its own\n\n")
	lines := ours.lines(s, workloads)
	var names []string
	if o.profile != "" {
		for _, l := range lines {
			agentName, serverName := fmt.Sprintf("agent-%d", len(l.clients)), fmt.Sprintf("server-%d", len(l.clients))
			l.during = both(profiler(agent.Debug(), o.profile, agentName), profiler(server.Health(), o.profile, serverName))
			names = append(names, agentName, serverName)
		}
	}
	for _, peer := range all[1:] {
		lines = append(lines, peer.lines(s, workloads)...)
	}
	run(ctx, s, o, lines, "agent or istiod", "server", "API server")
	for _, l := range lines {
		for _, c := range l.clients {
			must(s, c.(*caller).check())
		}
	}
	if o.peer {
		fmt.Println()
	}
	for i := 2; i < len(lines); i++ { // ours come first, with as many clients as each peer's
		fmt.Printf("%.1f times as many as %s\n", lines[i%2].rate()/lines[i].rate(), lines[i].title)
	}
	fmt.Println()
	atOnce := func(to *ca) {
		must(s, inParallel(s, allWorkloads, func(i int) error {
			workloads[i].renewToken(ctx, s, cluster)
			return nil
		}))
		must(s, burst(ctx, to, workloads))
	}
	for range o.rounds {
		for _, one := range all {
			atOnce(one)
		}
	}
	if o.profile != "" {
		names = append(names, "agent-burst", "server-burst", "clients-burst")
		profileAll(ctx, s, o.profile, agent, server, func() { atOnce(ours) })
	}
	ours.compare(ctx, s, server)
	printProfiles(ctx, s, o.profile, names...)
}

// profileAll profiles agent, server and clients while something short is done again and again.
func profileAll(ctx context.Context, s *session, dir string, agent *testbed.Agent, server *testbed.Certloom, again func()) {
	const long = 25 * time.Second
	own, err := os.Create(filepath.Join(dir, "clients-burst.pprof"))
	must(s, err)
	defer own.Close()
	must(s, pprof.StartCPUProfile(own))
	defer pprof.StopCPUProfile()
	done := make(chan error, 1)
	go func() {
		done <- both(profiler(agent.Debug(), dir, "agent-burst"), profiler(server.Health(), dir, "server-burst"))(ctx, long)
	}()
	for {
		select {
		case err := <-done:
			must(s, err)
			return
		default:
			again()
		}
	}
}

// istiods starts istiod with its own CA twice: as it comes, and with its limit of requests to the API server out of the way.
func istiods(ctx context.Context, s *session, cluster *testbed.Cluster) []*ca {
	var peers []*ca
	for _, peer := range []struct {
		title string
		args  []string
	}{
		{"istiod's own CA, which records nothing", nil},
		{"istiod's own CA, --kubernetesApiQPS=10000", []string{"--kubernetesApiQPS=10000", "--kubernetesApiBurst=20000"}},
	} {
		istiod := testbed.StartIstiodCA(ctx, s, cluster, peer.args...)
		peers = append(peers, &ca{
			title: peer.title, address: istiod.Address, name: testbed.IstiodName, roots: istiod.Roots,
			processes: []*testbed.Process{istiod.Process(), nil, cluster.Server()},
		})
	}
	return peers
}

// lines are what is measured of a ca with few and with many clients.
func (c *ca) lines(s *session, workloads []*workload) []*line {
	var lines []*line
	for _, n := range []int{fewWorkloads, manyWorkloads} {
		l := &line{title: fmt.Sprintf("%s: %d clients", c.title, n), servers: c.processes}
		for _, w := range workloads[:n] {
			one, err := c.connect(w)
			must(s, err)
			s.Cleanup(func() { one.close() })
			l.clients = append(l.clients, one)
		}
		lines = append(lines, l)
	}
	return lines
}

// both does two things at once.
func both(a, b func(context.Context, time.Duration) error) func(context.Context, time.Duration) error {
	return func(ctx context.Context, d time.Duration) error {
		other := make(chan error, 1)
		go func() { other <- b(ctx, d) }()
		err := a(ctx, d)
		if second := <-other; err == nil {
			err = second
		}
		return err
	}
}

// compare checks that the inventory has exactly what the callers got.
func (c *ca) compare(ctx context.Context, s *session, server *testbed.Certloom) {
	recorded := 0
	for _, entry := range server.Inventory(ctx, s) {
		if strings.HasPrefix(entry.Identity, workloadPrefix) {
			recorded++
		}
	}
	fmt.Printf("\ncertificates that the clients got: %d; in the inventory: %d\n", c.issued.Load(), recorded)
	if int64(recorded) != c.issued.Load() {
		s.Errorf("the clients got %d certificates, and the inventory has %d", c.issued.Load(), recorded)
	}
}

// burst has all workloads connect and ask at the same moment, with tokens that were not seen before, and prints when the
// last has its certificate. Nobody asks twice.
func burst(ctx context.Context, to *ca, workloads []*workload) error {
	l := &line{servers: to.processes}
	callers := make([]*caller, len(workloads))
	for i, w := range workloads {
		var err error
		if callers[i], err = to.connect(w); err != nil {
			return err
		}
	}
	runtime.GC() // the garbage of what was measured before is not theirs
	before, err := l.serversCPU()
	if err != nil {
		return err
	}
	own := ownCPU()
	var (
		wait  sync.WaitGroup
		start = make(chan struct{})
		done  = make([]time.Duration, len(callers))
		errs  = make([]error, len(callers))
		began time.Time
	)
	for i, c := range callers {
		wait.Go(func() {
			<-start
			errs[i] = c.obtain(ctx, 0)
			done[i] = time.Since(began)
		})
	}
	began = time.Now()
	close(start)
	wait.Wait()
	l.elapsed, l.done, l.clientCPU = time.Since(began), done, ownCPU()-own
	after, err := l.serversCPU()
	if err != nil {
		return err
	}
	fmt.Printf("%s: %d clients at once, the last has its certificate after %s, half of them after %s; CPU: agent or istiod %s, server %s, clients %s\n",
		to.title, len(callers), l.elapsed.Round(time.Millisecond), l.percentile(50).Round(time.Millisecond),
		after[0]-before[0], after[1]-before[1], l.clientCPU.Round(10*time.Millisecond))
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: one of %d clients at once: %w", to.title, len(callers), err)
		}
	}
	return closeAll(callers)
}
