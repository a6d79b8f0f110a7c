package e2e_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// istioReader is what Istio lets the account of its remote Secrets do, as far as it is about what the agent needs
// (istio manifests/charts/istio-control/istio-discovery/templates/reader-clusterrole.yaml).
const istioReader = `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: { name: istio-reader-clusterrole-istio-system }
rules:
  - { apiGroups: [""], resources: [endpoints, pods, services, nodes, replicationcontrollers, namespaces, secrets], verbs: [get, list, watch] }
  - { apiGroups: [authentication.k8s.io], resources: [tokenreviews], verbs: [create] }
  - { apiGroups: [authorization.k8s.io], resources: [subjectaccessreviews], verbs: [create] }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: istio-reader-clusterrole-istio-system }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: istio-reader-clusterrole-istio-system }
subjects: [{ kind: ServiceAccount, name: istio-reader-service-account, namespace: istio-system }]
`

// pair is two clusters whose API servers call themselves by the same name, with one agent, which runs in the first.
type pair struct {
	*field // the agent's own cluster
	west   *testbed.Cluster
	agent  *testbed.Agent
	caller *testbed.Caller
	secret []byte // kubeconfig for west, as istioctl makes it
}

func newPair(t *testing.T) *pair {
	t.Helper()
	ctx := t.Context()
	p := &pair{
		field: &field{cluster: testbed.StartCluster(ctx, t), server: testbed.StartCertloom(ctx, t, testbed.Options{})},
		west:  testbed.StartCluster(ctx, t),
	}
	for _, cluster := range []*testbed.Cluster{p.cluster, p.west} {
		cluster.Kubectl(ctx, t, "create", "namespace", "demo")
		cluster.Kubectl(ctx, t, "create", "namespace", "istio-system")
	}
	p.cluster.Apply(ctx, t, "rbac-remote-clusters.yaml")
	p.west.KubectlInput(ctx, t, istioReader, "apply", "-f", "-")
	reader := p.west.CreateAccount(ctx, t, "istio-system", "istio-reader-service-account")
	p.secret = p.west.Kubeconfig(t, &clientcmdapi.AuthInfo{Token: p.west.Token(ctx, t, reader, nil)})
	p.agent = testbed.StartAgent(ctx, t, p.cluster, p.server, "--remote-clusters-namespace=istio-system", "--ca-trusted-node-accounts=istio-system/ztunnel")
	p.caller = p.agent.Connect(t)
	return p
}

// workload makes a ServiceAccount and a Pod of it, and returns what it asks with.
func workload(t *testing.T, c *testbed.Cluster, cluster, name string) testbed.Ask {
	t.Helper()
	account := c.CreateAccount(t.Context(), t, "demo", name)
	pod := c.CreatePod(t.Context(), t, "demo", name, name, "node-1")
	return testbed.Ask{
		Token: c.Token(t.Context(), t, account, pod, "istio-ca"), Cluster: cluster, CSR: spiffeRequest(t, identityOf(account)),
	}
}

// becomes asks until the answer has the code, and returns the last one.
func (p *pair) becomes(t *testing.T, patience time.Duration, ask testbed.Ask, want codes.Code) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var chain []string
	err := testbed.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		var err error
		if chain, err = p.caller.Create(ctx, ask); status.Code(err) != want {
			return fmt.Errorf("got %w, want %s", err, want)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// counts waits until the agent's metrics have so many remote clusters in a state.
func (p *pair) counts(t *testing.T, state string, n int) {
	t.Helper()
	want := fmt.Sprintf("certloom_agent_remote_clusters{state=%q} %d\n", state, n)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a connection that hangs is noticed after 45 s
	defer cancel()
	err := testbed.Poll(ctx, 100*time.Millisecond, func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.agent.Metrics, http.NoBody)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err == nil && !strings.Contains(string(body), want) {
			err = fmt.Errorf("the metrics do not have %q", want)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRemoteClusters shows that one agent serves the workloads of two clusters, each with its own tokens only.
func TestRemoteClusters(t *testing.T) {
	p := newPair(t)
	near, far := workload(t, p.cluster, "Kubernetes", "near"), workload(t, p.west, "west", "far")
	p.create(t, p.caller, near, codes.OK)
	p.create(t, p.caller, far, codes.Unauthenticated) // nobody knows west yet
	p.cluster.WriteRemoteSecret(t.Context(), t, "west", p.secret)
	p.becomes(t, 30*time.Second, far, codes.OK)
	p.counts(t, "ready", 1)

	for _, how := range []string{"review", "local"} {
		if how == "local" {
			p.west.Apply(t.Context(), t, "rbac-in-remote-cluster.yaml")
			p.logs(t, "remote cluster connected", "cluster=west", "token_review=false events=true")
			p.counts(t, "ready", 1)
		}
		p.logs(t, "remote cluster connected", "cluster=west", fmt.Sprintf("token_review=%t", how == "review"))
		t.Run(how, func(t *testing.T) {
			t.Run("tokens", func(t *testing.T) { p.testRemoteTokens(t, how) })
			t.Run("impersonation", func(t *testing.T) { p.testRemoteImpersonation(t, how) })
			t.Run("hangs", func(t *testing.T) { p.testHangs(t, how) })
		})
	}
	t.Run("event", p.testEvent)
	t.Run("roots", func(t *testing.T) {
		p.logs(t, "remote cluster connected", "cluster=west", "roots=true")
		far := &field{cluster: p.west, server: p.server}
		eventually(t, far.holdsRoot("demo"))
		p.west.Kubectl(t.Context(), t, "delete", "configmap", "istio-ca-root-cert", "--namespace", "demo")
		eventually(t, far.holdsRoot("demo"))
		eventually(t, func(ctx context.Context) error {
			_, lists, err := far.crlMap(ctx, "demo")
			if err == nil && len(lists) < 2 {
				err = fmt.Errorf("%d revocation lists, not one of the root and one of the issuing CA", len(lists))
			}
			return err
		})
	})
	t.Run("refused-secret", p.testRefusedSecret)
	t.Run("removed", func(t *testing.T) {
		p.cluster.Kubectl(t.Context(), t, "delete", "secret", "istio-remote-secret-west", "--namespace", "istio-system")
		p.becomes(t, 10*time.Second, far, codes.Unauthenticated)
		p.create(t, p.caller, near, codes.OK)
		p.counts(t, "ready", 0)
	})
}

// logs waits until a line of the agent's log has all the words.
func (p *pair) logs(t *testing.T, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	err := testbed.Poll(ctx, 100*time.Millisecond, func(context.Context) error {
		for line := range strings.SplitSeq(p.agent.Process().Log(), "\n") {
			found := true
			for _, word := range words {
				found = found && strings.Contains(line, word)
			}
			if found {
				return nil
			}
		}
		return fmt.Errorf("no line of the agent's log has %q", words)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (p *pair) testRemoteTokens(t *testing.T, how string) {
	near, far := workload(t, p.cluster, "Kubernetes", "near-"+how), workload(t, p.west, "west", "far-"+how)
	chain := p.create(t, p.caller, far, codes.OK)
	block, _ := pem.Decode([]byte(chain[0]))
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	got := string(p.server.CLI(t.Context(), t, "certificate", "get", testbed.Serial(leaf), "-o", "json"))
	for _, want := range []string{`"west"`, `"far-` + how + `"`, `"node-1"`} {
		if !strings.Contains(got, want) {
			t.Errorf("the inventory does not have %s:\n%s", want, got)
		}
	}
	// The same names in both clusters: nothing but keys and UIDs tells them apart.
	twin := workload(t, p.cluster, "Kubernetes", "far-"+how)
	for name, c := range map[string]struct {
		token, cluster string
		csr            []byte
		want           codes.Code
	}{
		"accepts/near":               {near.Token, "Kubernetes", near.CSR, codes.OK},
		"accepts/near-unnamed":       {near.Token, "", near.CSR, codes.OK},
		"accepts/twin":               {twin.Token, "Kubernetes", far.CSR, codes.OK},
		"refuses/near-token-to-west": {near.Token, "west", near.CSR, codes.Unauthenticated},
		"refuses/twin-token-to-west": {twin.Token, "west", far.CSR, codes.Unauthenticated},
		"refuses/west-token-to-near": {far.Token, "Kubernetes", far.CSR, codes.Unauthenticated},
		"refuses/west-token-unnamed": {far.Token, "", far.CSR, codes.Unauthenticated},
		"refuses/west-token-to-east": {far.Token, "east", far.CSR, codes.Unauthenticated},
		"refuses/other-identity":     {far.Token, "west", near.CSR, codes.Unauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			p.create(t, p.caller, testbed.Ask{Token: c.token, Cluster: c.cluster, CSR: c.csr}, c.want)
		})
	}
}

func (p *pair) testRemoteImpersonation(t *testing.T, how string) {
	here, there := "only-near-"+how, "only-far-"+how
	workload(t, p.cluster, "", here)
	workload(t, p.west, "", there)
	if how == "review" {
		p.west.CreateAccount(t.Context(), t, "istio-system", "ztunnel")
	}
	account, err := p.west.Kube.CoreV1().ServiceAccounts("istio-system").Get(t.Context(), "ztunnel", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod := p.west.CreatePod(t.Context(), t, "istio-system", "ztunnel-"+how, "ztunnel", "node-1")
	ask := testbed.Ask{Token: p.west.Token(t.Context(), t, account, pod, "istio-ca"), Cluster: "west"}
	for name, want := range map[string]codes.Code{there: codes.OK, here: codes.Unauthenticated} {
		ask.Impersonate = "spiffe://cluster.local/ns/demo/sa/" + name
		ask.CSR = spiffeRequest(t, ask.Impersonate)
		p.create(t, p.caller, ask, want)
	}
}

// testHangs shows that an API server that takes connections and answers nothing costs its own callers a bounded time, and
// others nothing.
func (p *pair) testHangs(t *testing.T, how string) {
	near, far, unknown := workload(t, p.cluster, "Kubernetes", "awake-"+how), workload(t, p.west, "west", "asleep-"+how), workload(t, p.west, "west", "gone-"+how)
	p.create(t, p.caller, far, codes.OK)
	p.west.DeletePod(t.Context(), t, "demo", "gone-"+how)
	p.becomes(t, 30*time.Second, unknown, codes.Unauthenticated)
	if err := p.west.Server().Pause(); err != nil {
		t.Fatal(err)
	}
	resume := func() {
		if err := p.west.Server().Resume(); err != nil {
			t.Error(err)
		}
	}
	defer resume()
	slow := make(chan error, 1)
	began := time.Now()
	go func() {
		_, err := p.caller.Create(t.Context(), unknown) // has to be looked up
		if took := time.Since(began); status.Code(err) != codes.Unavailable || took > 9*time.Second {
			err = fmt.Errorf("got %w after %s", err, took)
		} else {
			err = nil
		}
		slow <- err
	}()
	for range 20 {
		one := time.Now()
		p.create(t, p.caller, near, codes.OK)
		if took := time.Since(one); took > 3*time.Second {
			t.Errorf("a caller of the other cluster waited %s", took)
		}
	}
	if how == "local" {
		p.create(t, p.caller, far, codes.OK) // is known
	}
	if err := <-slow; err != nil {
		t.Error(err)
	}
	if how == "review" { // what was known counts for 5 s
		p.becomes(t, 20*time.Second, far, codes.Unavailable)
	}
	p.counts(t, "unreachable", 1)
	if err := p.agent.Await(t.Context()); err != nil {
		t.Errorf("readiness is about the agent's own cluster: %v", err)
	}
	resume()
	p.becomes(t, time.Minute, unknown, codes.Unauthenticated)
	p.becomes(t, time.Minute, far, codes.OK)
	p.counts(t, "ready", 1)
}

// testEvent shows that a Pod is told in its own cluster.
func (p *pair) testEvent(t *testing.T) {
	account := p.west.CreateAccount(t.Context(), t, "demo", "event")
	pod := p.west.CreatePod(t.Context(), t, "demo", "event", "event", "node-1")
	ask := testbed.Ask{Token: p.west.Token(t.Context(), t, account, pod, "vault"), Cluster: "west", CSR: spiffeRequest(t, identityOf(account))}
	p.create(t, p.caller, ask, codes.Unauthenticated)
	eventually(t, func(ctx context.Context) error {
		events, err := p.west.Kube.CoreV1().Events("demo").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=event"})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if strings.Contains(event.Message, `"vault"`) && strings.Contains(event.Message, `"istio-ca"`) {
				return nil
			}
		}
		return errors.New("no Event says which audience was sent and which is expected")
	})
}

// testRefusedSecret shows that a kubeconfig cannot make the agent run a program.
func (p *pair) testRefusedSecret(t *testing.T) {
	mark := filepath.Join(testbed.Folder(t), "mark")
	kubeconfig := p.west.Kubeconfig(t, &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: "touch", Args: []string{mark}, InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}})
	p.cluster.WriteRemoteSecret(t.Context(), t, "evil", kubeconfig)
	p.counts(t, "refused", 1)
	far := workload(t, p.west, "evil", "evil")
	p.create(t, p.caller, far, codes.Unauthenticated)
	p.logs(t, "certificate request", "cluster=evil", "exec, which runs a program")
	far.Cluster = "west"
	p.create(t, p.caller, far, codes.OK)
	if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the program of the kubeconfig was run: %v", err)
	}
}
