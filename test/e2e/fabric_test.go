package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// shortLife is what workloads ask for. pilot-agent renews after a quarter of it here (instead of a half), so that three
// quarters are left to a machine that is slow.
const shortLife = 40 * time.Second

// fabric is Istio on a cluster, with a server.
type fabric struct {
	cluster *testbed.Cluster
	server  *testbed.Certloom
	mesh    *testbed.Mesh
}

// issuer returns what an agent is started with that gets its certificates in one of its ways, all of the same CA.
func (f *fabric) issuer(t *testing.T, name string) testbed.AgentOptions {
	t.Helper()
	credential := filepath.Join(testbed.Folder(t), "credential.json")
	switch name {
	case "certloom":
		testbed.WriteJSON(t, credential, f.server.Agent)
		return testbed.AgentOptions{Args: []string{"--credential-file=" + credential, "--server-ca-file=" + f.server.CAFile}}
	case "acme":
		testbed.WriteJSON(t, credential, f.server.ACME["istio"])
		return testbed.AgentOptions{Args: []string{
			"--issuer=acme", "--credential-file=" + credential, "--acme-ca-file=" + f.server.CAFile, "--root-ca-file=" + f.server.RootFile,
		}}
	default:
		f.cluster.StartController(t)
		m := &mesh{cluster: f.cluster, server: f.server, namespace: "istio-system"}
		m.applyIssuer(t, "mesh-ca", f.server.ACME["istio"])
		m.awaitIssuer(t, "mesh-ca", cmmeta.ConditionTrue)
		return testbed.AgentOptions{Args: []string{"--issuer=cert-manager", "--issuer-name=mesh-ca", "--root-ca-file=" + f.server.RootFile}}
	}
}

// startAgent starts an agent that Istio's programs find without a cluster's DNS.
func (f *fabric) startAgent(t *testing.T, o testbed.AgentOptions) *testbed.Agent {
	t.Helper()
	o.Args = append(slices.Clone(o.Args), "--serving-certificate-dns-names="+testbed.IstiodName)
	if o.RootFile == "" {
		o.RootFile = f.server.RootFile
	}
	agent := testbed.LaunchAgent(t.Context(), t, f.cluster, o)
	// In an orderly way, so that the next agent may write into the cluster at once.
	t.Cleanup(func() {
		if err := agent.Process().Stop(20 * time.Second); err != nil {
			t.Error(err)
		}
	})
	return agent
}

// TestMesh shows istiod and workloads of Istio with certloom-agent as their CA.
func TestMesh(t *testing.T) {
	f := &fabric{cluster: testbed.StartCluster(t.Context(), t), server: testbed.StartCertloom(t.Context(), t, testbed.Options{})}
	for _, namespace := range []string{"istio-system", "demo"} {
		f.cluster.Kubectl(t.Context(), t, "create", "namespace", namespace)
	}
	f.mesh = testbed.StartMesh(t.Context(), t, f.cluster)
	f.cluster.KubectlInput(t.Context(), t, `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
`, "apply", "-f", "-")
	if !t.Run("istiod-first", f.testIstiodFirst) {
		return // nothing of the rest would work
	}
	for _, issuer := range []string{"acme", "cert-manager", "certloom"} {
		t.Run(issuer, func(t *testing.T) { f.testIssuer(t, issuer) })
	}
}

// testIstiodFirst shows what a user sees who installed Istio before the agent, and that what he is told to do helps.
func (f *fabric) testIstiodFirst(t *testing.T) {
	if log := f.mesh.Istiod().Log(); !strings.Contains(log, "secure discovery service is disabled") {
		t.Errorf("istiod without a certificate does not say so:\n%s", log)
	}
	agent := f.startAgent(t, f.issuer(t, "certloom"))
	eventually(t, func(ctx context.Context) error {
		if _, err := f.cluster.Kube.CoreV1().Secrets("istio-system").Get(ctx, "istiod-tls", metav1.GetOptions{}); err != nil {
			return err
		}
		log := agent.Process().Log()
		if !strings.Contains(log, "istiod-0") || !strings.Contains(log, "kubectl rollout restart deployment --namespace istio-system --selector app=istiod") {
			return errors.New("the agent does not say that istiod-0 is to be restarted")
		}
		return nil
	})
	if err := f.mesh.Secure(t.Context()); err == nil {
		t.Error("istiod serves without having been restarted: it need not be told")
	}
	f.mesh.RestartIstiod(t.Context(), t)
	eventually(t, f.mesh.Secure)
}

// couple is two workloads that call each other all the time.
type couple struct {
	left, right *testbed.Workload
	stop        func() // ends the calls and reports
}

// testIssuer shows a mesh whose certificates come from one issuer.
func (f *fabric) testIssuer(t *testing.T, issuer string) {
	agent := f.startAgent(t, f.issuer(t, issuer))
	start := func(name string, files *testbed.Identity) *testbed.Workload {
		return f.mesh.StartWorkload(t.Context(), t, testbed.WorkloadOptions{
			Namespace: "demo", Name: name + "-" + issuer, CA: agent, Lifetime: shortLife, Files: files,
		})
	}
	p := &couple{left: start("left", nil), right: start("right", nil)}
	f.callAllTheTime(t, p)
	first := map[*testbed.Workload]*x509.Certificate{p.left: heldBy(t, p.left), p.right: heldBy(t, p.right)}

	t.Run("refuses/plaintext", func(t *testing.T) { refused(t, p.left, "grpc://"+p.right.Address, "reading server preface") })
	t.Run("refuses/other-root", func(t *testing.T) {
		foreign := f.foreignIdentity(t, identityOf(p.left.Account))
		refusesForeign(t, p, foreign)
		stranger := start("stranger", foreign)
		refused(t, stranger, "xds:///"+p.right.Host, "code = Unavailable")
		refused(t, p.left, "xds:///"+stranger.Host, "certificate signed by unknown authority")
	})
	if issuer == "certloom" {
		t.Run("second-root", func(t *testing.T) { f.testSecondRoot(t, p) })
		t.Run("refuses/other-cluster", func(t *testing.T) { f.testOtherCluster(t, agent) })
		t.Run("agent-gone", func(t *testing.T) { testAgentGone(t, agent, p) })
	}
	for workload, old := range first {
		// Once beyond the end of the first certificate; it takes as long as that lives.
		rotated(t, workload, old, issuer == "certloom")
	}
	p.stop()
	f.testRecorded(t, issuer, p)
}

// callAllTheTime has both call the other: left with a connection for each call, right with one for many.
func (f *fabric) callAllTheTime(t *testing.T, p *couple) {
	t.Helper()
	eventually(t, func(ctx context.Context) error { // istiod tells programs of one another in its own time
		return errors.Join(
			p.left.Call(ctx, testbed.Calls{URL: "xds:///" + p.right.Host, Timeout: time.Second}),
			p.right.Call(ctx, testbed.Calls{URL: "xds:///" + p.left.Host, Timeout: time.Second}))
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	call := func(who *testbed.Workload, calls testbed.Calls) {
		made := 0
		for ctx.Err() == nil {
			if err := who.Call(context.WithoutCancel(ctx), calls); err != nil {
				t.Errorf("after %d calls of %s: %v", made, calls.URL, err)
				return
			}
			made += calls.Count
		}
		t.Logf("%d calls of %s", made, calls.URL)
	}
	running.Go(func() { call(p.left, testbed.Calls{URL: "xds:///" + p.right.Host, Count: 10, QPS: 5, New: true}) })
	running.Go(func() { call(p.right, testbed.Calls{URL: "xds:///" + p.left.Host, Count: 40, QPS: 20}) })
	p.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(p.stop)
}

func heldBy(t *testing.T, w *testbed.Workload) *x509.Certificate {
	t.Helper()
	leaf, err := w.Leaf()
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// rotated waits until the program has shown at least two certificates after the first, and beyond the end of that one where
// so much is asked for.
func rotated(t *testing.T, w *testbed.Workload, first *x509.Certificate, beyond bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*shortLife)
	defer cancel()
	shown := map[string]bool{}
	err := testbed.Poll(ctx, 200*time.Millisecond, func(ctx context.Context) error {
		leaf, err := w.Shown(ctx)
		if err != nil {
			return err
		}
		if !time.Now().Before(leaf.NotAfter) {
			return testbed.Final(fmt.Errorf("%s shows a certificate that expired at %s", w.Host, leaf.NotAfter))
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > shortLife+5*time.Minute {
			return testbed.Final(fmt.Errorf("%s has a certificate for %s", w.Host, life))
		}
		if serial := testbed.Serial(leaf); serial != testbed.Serial(first) {
			shown[serial] = true
		}
		if len(shown) < 2 || beyond && time.Now().Before(first.NotAfter) {
			return fmt.Errorf("%s has shown %d more certificates; the first is good until %s", w.Host, len(shown), first.NotAfter)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// refused checks that a call fails, and with which words.
func refused(t *testing.T, w *testbed.Workload, address, why string) {
	t.Helper()
	err := w.Call(t.Context(), testbed.Calls{URL: address, Timeout: 3 * time.Second})
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("a call of %s: %v", address, err)
	}
}

// refusesForeign checks that a program talks to a client that has its peer's certificate, and refuses one that has the same
// name from another root.
func refusesForeign(t *testing.T, p *couple, foreign *testbed.Identity) {
	t.Helper()
	eventually(t, func(ctx context.Context) error { // the files may be changing
		own, err := p.left.Pair()
		if err != nil {
			return err
		}
		return p.right.Greets(ctx, own)
	})
	other, err := tls.X509KeyPair(foreign.Chain, foreign.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.right.Greets(t.Context(), other); err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
		t.Errorf("a client with a certificate of another root: %v", err)
	}
}

// foreignIdentity is a certificate for a workload of the mesh from a root that is not the mesh's, with the mesh's roots to
// trust: such a workload would talk to the others if they let it.
func (f *fabric) foreignIdentity(t *testing.T, id string) *testbed.Identity {
	t.Helper()
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	roots, err := os.ReadFile(f.server.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	chain, key := testbed.ForeignCertificate(t, uri)
	return &testbed.Identity{Chain: chain, Key: key, Roots: roots}
}

// testSecondRoot shows a second root on its way into the mesh: it reaches workloads that run, and then a workload whose
// certificate comes from it talks to the others, in both directions.
func (f *fabric) testSecondRoot(t *testing.T, p *couple) {
	cli := func(args ...string) []byte { return f.server.CLI(t.Context(), t, args...) }
	cli("ca", "create-root", "second-root")
	cli("ca", "create-issuing", "second", "--parent", "second-root")
	cli("profile", "create", "second", "--template", "private-mtls", "--method", "agent", "--issuing-ca", "second",
		"--trust-domain", "cluster.local", "--allow-namespace", "*", "--allow-dns", "**.svc", "--allow-dns", "**.svc.cluster.local")
	root := filepath.Join(testbed.Folder(t), "root.pem")
	if err := os.WriteFile(root, cli("ca", "get", "second-root", "--pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*testbed.Workload{p.left, p.right} {
		eventually(t, func(context.Context) error {
			roots, err := w.Roots()
			if err == nil && len(roots) != 2 {
				err = fmt.Errorf("%s trusts %d roots", w.Host, len(roots))
			}
			return err
		})
	}
	credential := filepath.Join(filepath.Dir(root), "credential.json")
	if err := os.WriteFile(credential, cli("credential", "create", "--profile", "second", "--name", "second", "-o", "json"), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := f.startAgent(t, testbed.AgentOptions{
		RootFile: root, Args: []string{"--credential-file=" + credential, "--server-ca-file=" + f.server.CAFile},
	})
	other := f.mesh.StartWorkload(t.Context(), t, testbed.WorkloadOptions{Namespace: "demo", Name: "second", CA: agent, Lifetime: shortLife})
	if leaf := heldBy(t, other); !strings.Contains(leaf.Issuer.String(), "second") {
		t.Errorf("the certificate of the second root is issued by %s", leaf.Issuer)
	}
	eventually(t, func(ctx context.Context) error {
		return errors.Join(other.Call(ctx, testbed.Calls{URL: "xds:///" + p.left.Host, Timeout: time.Second}),
			p.left.Call(ctx, testbed.Calls{URL: "xds:///" + other.Host, Timeout: time.Second}))
	})
	secret, err := f.cluster.Kube.CoreV1().Secrets("istio-system").Get(t.Context(), "istiod-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if roots, err := testbed.ParseChain(secret.Data["ca.crt"]); err != nil || len(roots) != 2 {
		t.Errorf("istiod is given %d roots: %v", len(roots), err)
	}
}

// testOtherCluster shows what becomes of a workload whose Istio has another name for the cluster.
func (f *fabric) testOtherCluster(t *testing.T, agent *testbed.Agent) {
	lost := f.mesh.StartSidecar(t.Context(), t, testbed.WorkloadOptions{
		Namespace: "demo", Name: "lost", CA: agent, Lifetime: shortLife, Cluster: "elsewhere",
	})
	eventually(t, func(ctx context.Context) error {
		if !strings.Contains(lost.Sidecar().Log(), "request authenticate failure") {
			return errors.New("pilot-agent does not say that it was refused")
		}
		events, err := f.cluster.Kube.CoreV1().Events("demo").List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=lost"})
		if err != nil {
			return err
		}
		for _, event := range events.Items {
			if strings.Contains(event.Message, `"elsewhere"`) && strings.Contains(event.Message, `"Kubernetes"`) {
				return nil
			}
		}
		return errors.New("no Event on the Pod says which cluster ID was sent and which is expected")
	})
	if leaf, err := lost.Leaf(); err == nil {
		t.Errorf("it has a certificate: %s", testbed.Serial(leaf))
	}
}

// testAgentGone kills the agent until a renewal has failed. Workloads keep what they have, and renew when it is back; the
// calls between them go on.
func testAgentGone(t *testing.T, agent *testbed.Agent, p *couple) {
	agent.Process().Kill()
	eventually(t, func(context.Context) error {
		for _, w := range []*testbed.Workload{p.left, p.right} {
			if !strings.Contains(w.Sidecar().Log(), "failed to sign CSR") {
				return fmt.Errorf("%s has not tried to renew", w.Host)
			}
		}
		return nil
	})
	kept := map[*testbed.Workload]*x509.Certificate{p.left: heldBy(t, p.left), p.right: heldBy(t, p.right)}
	agent.Restart(t.Context(), t)
	for w, old := range kept {
		eventually(t, func(context.Context) error {
			leaf, err := w.Leaf()
			if err == nil && leaf.Equal(old) {
				err = fmt.Errorf("%s has not renewed", w.Host)
			}
			return err
		})
	}
}

// testRecorded shows that what the workloads have is in the inventory, and for whom.
func (f *fabric) testRecorded(t *testing.T, issuer string, p *couple) {
	leaves := map[*testbed.Workload]*x509.Certificate{p.left: heldBy(t, p.left), p.right: heldBy(t, p.right)}
	inventory := f.server.Inventory(t.Context(), t)
	var identities []apiv1.Identity
	if err := json.Unmarshal(f.server.CLI(t.Context(), t, "identity", "list", "-o", "json"), &identities); err != nil {
		t.Fatal(err)
	}
	for w, leaf := range leaves {
		id := identityOf(w.Account)
		found, ok := inventory[testbed.Serial(leaf)]
		if !ok || found.Identity != id || len(leaf.URIs) != 1 || leaf.URIs[0].String() != id {
			t.Errorf("%s: the inventory has %+v", id, found)
		}
		if !slices.ContainsFunc(identities, func(known apiv1.Identity) bool { return known.Name == id }) {
			t.Errorf("%s is not in the list of identities", id)
		}
		if issuer != "certloom" {
			continue // other CAs are not told of Pods
		}
		want := apiv1.Workload{
			Cluster: "Kubernetes", Namespace: "demo", ServiceAccount: w.Account.Name, Pod: w.Pod.Name, PodUID: string(w.Pod.UID), Node: "node-1",
		}
		if found.Workload == nil || *found.Workload != want {
			t.Errorf("%s: the inventory says that it went to %+v", id, found.Workload)
		}
	}
}
