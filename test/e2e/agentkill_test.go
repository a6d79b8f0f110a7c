package e2e_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// replicas are two of the agent behind one address, and workloads that get certificates there as Istio's do.
type replicas struct {
	cluster   *testbed.Cluster
	server    *testbed.Certloom
	agents    []*testbed.Agent
	front     *testbed.Balancer
	namespace int // the last one
}

// TestAgentKill has Istio's workloads ask for certificates while replicas of the agent, and the server, go away.
func TestAgentKill(t *testing.T) {
	m := &replicas{cluster: testbed.StartCluster(t.Context(), t), server: testbed.StartCertloom(t.Context(), t, testbed.Options{})}
	m.cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	for range 2 {
		m.agents = append(m.agents, testbed.StartAgent(t.Context(), t, m.cluster, m.server))
	}
	m.front = testbed.StartBalancer(t, m.agents...)
	t.Run("agent-killed", m.testAgentKilled)
	t.Run("agents-restarted", m.testAgentsRestarted)
	t.Run("server-killed", m.testServerKilled)
	t.Run("server-killed-often", m.testServerKilledOften)
}

// fleet is a number of workloads, each with a Pod, a token and connections of its own.
type fleet struct {
	replicas  *replicas
	namespace string
	workloads []*testbed.ProxyAgent
	got       atomic.Int64 // certificates so far
}

// newFleet makes workloads in a namespace of their own.
func (m *replicas) newFleet(t *testing.T, n int) *fleet {
	t.Helper()
	m.namespace++
	f := &fleet{replicas: m, namespace: fmt.Sprintf("load-%d", m.namespace), workloads: make([]*testbed.ProxyAgent, n)}
	m.cluster.Kubectl(t.Context(), t, "create", "namespace", f.namespace)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			name := fmt.Sprintf("workload-%03d", i)
			account := m.cluster.CreateAccount(t.Context(), t, f.namespace, name)
			pod := m.cluster.CreatePod(t.Context(), t, f.namespace, name, name, "node-1")
			f.workloads[i] = &testbed.ProxyAgent{
				Address: m.front.Address, Roots: m.agents[0].Roots(), RootFile: m.server.RootFile,
				ID: identityOf(account), Token: m.cluster.Token(t.Context(), t, account, pod, "istio-ca"),
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		for _, w := range f.workloads {
			w.Close()
		}
	})
	return f
}

// each has every workload get certificates, one after the other, until more says that it is enough. It returns at once,
// and what it returns waits.
func (f *fleet) each(ctx context.Context, t *testing.T, atOnce int, more func(w *testbed.ProxyAgent) bool) (wait func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	var running sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for _, w := range f.workloads {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for more(w) {
				if err := w.Obtain(ctx); err != nil {
					t.Errorf("a workload is left without a certificate: %v", err)
					return
				}
				f.got.Add(1)
			}
		})
	}
	return func() {
		running.Wait()
		cancel()
	}
}

// times is a limit for each.
func times(n int) func(*testbed.ProxyAgent) bool {
	return func(w *testbed.ProxyAgent) bool { return len(w.Obtained) < n }
}

// until waits until the workloads have n certificates together.
func (f *fleet) until(t *testing.T, n int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := testbed.Poll(ctx, time.Millisecond, func(context.Context) error {
		if got := f.got.Load(); got < n {
			return fmt.Errorf("%d certificates, want %d", got, n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// toll is what the certificates of a fleet took.
type toll struct {
	certificates int
	errors       map[codes.Code]int // of single attempts
	troubled     int                // certificates with an attempt that failed
	loops        int                // calls that failed with all of their retries
	slowest      time.Duration
	waited       time.Duration // for the slowest attempt that failed
}

func (f *fleet) toll() toll {
	sum := toll{errors: map[codes.Code]int{}}
	for _, w := range f.workloads {
		for _, o := range w.Obtained {
			sum.certificates++
			sum.loops += o.Loops
			sum.slowest, sum.waited = max(sum.slowest, o.Took), max(sum.waited, o.Waited)
			if len(o.Errors) > 0 {
				sum.troubled++
			}
			for _, err := range o.Errors {
				sum.errors[status.Code(err)]++
			}
		}
	}
	return sum
}

// account checks the inventory against what the workloads hold and against how often they asked: everything that is held
// is there, one call has one certificate at most, and a key has no more certificates than its workload made attempts.
func (f *fleet) account(t *testing.T) (recorded, unclaimed int) {
	t.Helper()
	calls, serials := map[string]string{}, map[string]bool{}
	for serial, entry := range f.replicas.server.Inventory(t.Context(), t, "--namespace", f.namespace) {
		serials[serial] = true
		if other, twice := calls[entry.Order]; twice || entry.Order == "" {
			t.Errorf("call %q has certificates %s and %s", entry.Order, serial, other)
		}
		calls[entry.Order] = serial
	}
	keys := map[string]int{}
	for _, certificate := range f.exported(t) {
		keys[string(certificate.RawSubjectPublicKeyInfo)]++
	}
	for _, w := range f.workloads {
		for _, o := range w.Obtained {
			if !serials[testbed.Serial(o.Leaf)] {
				t.Errorf("%s holds %s, and the inventory lacks it", w.ID, testbed.Serial(o.Leaf))
			}
			key := string(o.Leaf.RawSubjectPublicKeyInfo)
			if n := keys[key]; n < 1 || n > 1+len(o.Errors) {
				t.Errorf("%s asked %d times with one key, and the inventory has %d certificates for that", w.ID, 1+len(o.Errors), n)
			}
			unclaimed += keys[key] - 1
			delete(keys, key)
		}
	}
	if len(keys) > 0 {
		t.Errorf("the inventory has certificates for %d keys that no workload used", len(keys))
	}
	return len(serials), unclaimed
}

// exported returns every certificate of the fleet's namespace in the inventory.
func (f *fleet) exported(t *testing.T) []*x509.Certificate {
	t.Helper()
	rest := f.replicas.server.CLI(t.Context(), t, "certificate", "export", "--quiet", "--format", "pem", "--namespace", f.namespace)
	var all []*x509.Certificate
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, certificate)
	}
}

// report checks the inventory and tells what happened.
func (f *fleet) report(t *testing.T) toll {
	t.Helper()
	recorded, unclaimed := f.account(t)
	sum := f.toll()
	t.Logf("%d certificates, %d of them not at the first attempt (failed attempts: %v, the slowest after %s), %d calls failed with all retries, the slowest certificate took %s; "+
		"in the inventory: %d, of which %d were made for attempts whose answer was lost",
		sum.certificates, sum.troubled, sum.errors, sum.waited.Round(time.Millisecond), sum.loops, sum.slowest.Round(time.Millisecond), recorded, unclaimed)
	return sum
}

// testAgentKilled kills one of the two agents in the middle of 500 workloads' requests.
func (m *replicas) testAgentKilled(t *testing.T) {
	const workloads, atOnce, mostLoops = 500, 100, 10
	f := m.newFleet(t, workloads)
	wait := f.each(t.Context(), t, atOnce, times(1))
	f.until(t, workloads/2)
	m.agents[0].Process().Kill()
	wait()
	if sum := f.report(t); sum.certificates != workloads || sum.loops > mostLoops || sum.errors[codes.Unavailable] == 0 {
		t.Errorf("%d of %d workloads have a certificate, %d calls failed with all retries, failed attempts: %v", sum.certificates, workloads, sum.loops, sum.errors)
	}
	m.agents[0].Restart(t.Context(), t)
	m.front.Await(t.Context(), t)
}

// testAgentsRestarted restarts one agent after the other, in an orderly way, under load: not one call fails, neither of
// workloads that have connections nor of those that come new.
func (m *replicas) testAgentsRestarted(t *testing.T) {
	const workloads, between = 200, 500
	f := m.newFleet(t, workloads)
	newcomers := map[*testbed.ProxyAgent]bool{}
	for _, w := range f.workloads[:workloads/2] {
		newcomers[w] = true
	}
	var over atomic.Bool
	wait := f.each(t.Context(), t, workloads, func(w *testbed.ProxyAgent) bool {
		if newcomers[w] {
			w.Close()
		}
		return !over.Load()
	})
	for _, agent := range m.agents {
		f.until(t, f.got.Load()+between)
		if err := agent.Process().Stop(30 * time.Second); err != nil {
			t.Errorf("%v\n%s", err, agent.Process().Tail())
		}
		f.until(t, f.got.Load()+between)
		agent.Restart(t.Context(), t)
		m.front.Await(t.Context(), t)
	}
	over.Store(true)
	wait()
	sum := f.report(t)
	for code, n := range sum.errors {
		t.Errorf("%d attempts failed with %s while agents were restarted, the first with %v", n, code, f.first(code))
	}
}

// first returns the first error with the code.
func (f *fleet) first(code codes.Code) error {
	for _, w := range f.workloads {
		for _, o := range w.Obtained {
			for _, err := range o.Errors {
				if status.Code(err) == code {
					return err
				}
			}
		}
	}
	return nil
}

// testServerKilled takes the server away for ten seconds under load.
func (m *replicas) testServerKilled(t *testing.T) {
	const (
		workloads, before = 100, 500
		away              = 10 * time.Second
		quick             = 6 * time.Second // two tries of the agent at the server
	)
	f := m.newFleet(t, workloads)
	pids := []int{m.agents[0].Process().Pid(), m.agents[1].Process().Pid()}
	var back atomic.Bool
	counted := map[*testbed.ProxyAgent]int{}
	var mu sync.Mutex // guards counted
	wait := f.each(t.Context(), t, workloads, func(w *testbed.ProxyAgent) bool {
		if !back.Load() {
			return true
		}
		mu.Lock()
		defer mu.Unlock()
		counted[w]++
		return counted[w] <= 3 // certificates of the server that is back
	})
	f.until(t, before)
	m.server.Kill()
	gone := time.NewTimer(away)
	defer gone.Stop()
	for _, agent := range m.agents {
		awaitReadiness(t, agent, http.StatusServiceUnavailable)
	}
	<-gone.C
	m.server.Restart(t.Context(), t)
	restarted := time.Now()
	for _, agent := range m.agents {
		awaitReadiness(t, agent, http.StatusOK)
	}
	t.Logf("both agents are ready %s after the server", time.Since(restarted).Round(time.Millisecond))
	back.Store(true)
	wait()
	if sum := f.report(t); sum.waited > quick {
		t.Errorf("a workload was told after %s only that it cannot have a certificate", sum.waited)
	}
	for i, agent := range m.agents {
		select {
		case <-agent.Process().Done():
			t.Errorf("agent %d has ended", i)
		default:
		}
		if agent.Process().Pid() != pids[i] {
			t.Errorf("agent %d is another process", i)
		}
	}
}

// testServerKilledOften has the server come back at once, so that what was committed without an answer is asked for again.
func (m *replicas) testServerKilledOften(t *testing.T) {
	const workloads, kills, between = 100, 5, 200
	f := m.newFleet(t, workloads)
	var over atomic.Bool
	wait := f.each(t.Context(), t, workloads, func(*testbed.ProxyAgent) bool { return !over.Load() })
	for range kills {
		f.until(t, f.got.Load()+between)
		m.server.Kill()
		m.server.Restart(t.Context(), t)
	}
	f.until(t, f.got.Load()+between)
	over.Store(true)
	wait()
	f.report(t)
}

// awaitReadiness waits until /readyz of the agent answers with the code.
func awaitReadiness(t *testing.T, agent *testbed.Agent, want int) {
	t.Helper()
	eventually(t, func(context.Context) error {
		if code, text := get(t, agent.Health+"/readyz"); code != want {
			return errors.New(text)
		}
		return nil
	})
}
