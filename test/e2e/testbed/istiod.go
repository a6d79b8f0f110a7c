package testbed

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IstiodName is what Istio's programs expect of a server whose address has "localhost" in it, be it istiod or the CA
// (istio.io/istio/pilot/pkg/grpc/tls.go). So nothing has to resolve the names that a cluster's DNS would.
const IstiodName = "istiod.istio-system.svc"

// Mesh is Istio on a cluster: istiod, and workloads.
type Mesh struct {
	cluster *Cluster
	bin     string // folder of Istio's programs
	dir     string // of istiod's Pod
	process *Process
	program Program
	ready   string // URL
	secure  string // address of XDS over TLS
	open    string // address of XDS without TLS
	used    int    // the last number of a Pod's address that has been given
}

// StartMesh installs Istio's definitions and starts istiod, without a CA of its own. Its Pod gets Secret istiod-tls and
// the roots where Istio's chart mounts them, when they are there. There must be a namespace istio-system.
func StartMesh(ctx context.Context, t T, c *Cluster) *Mesh {
	t.Helper()
	built := ensure(ctx, t, "istio")
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	c.Kubectl(ctx, t, "create", "-f", filepath.Join(built["istio"], "crds"))
	c.Kubectl(ctx, t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	dir, port := Folder(t), Ports(t, 4)
	m := &Mesh{
		cluster: c, bin: filepath.Join(built["istio"], "bin"), dir: dir, used: 1,
		ready: "http://" + Addr(port) + "/ready", secure: fmt.Sprintf("localhost:%d", port+1), open: Addr(port + 2),
	}
	if err := writeFiles(dir, map[string][]byte{"mesh.yaml": []byte("trustDomain: cluster.local\n")}); err != nil {
		t.Fatal(err)
	}
	secrets := filepath.Join(dir, "var", "run", "secrets", "istiod")
	c.mount(t, filepath.Join(secrets, "tls"), "istio-system", "istiod-tls", secretKind)
	c.mount(t, filepath.Join(secrets, "ca"), "istio-system", "istio-ca-root-cert", configMapKind)
	m.program = Program{
		Name: "istiod", Path: filepath.Join(m.bin, "pilot-discovery"), Dir: dir,
		Args: []string{
			"discovery", "--kubeconfig=" + c.kubeconfig, "--meshConfig=mesh.yaml", "--registries=Kubernetes", "--domain=cluster.local",
			"--clusterID=Kubernetes", "--httpAddr=" + Addr(port), "--secureGRPCAddr=" + Addr(port+1), "--grpcAddr=" + m.open,
			"--monitoringAddr=" + Addr(port+3), "--httpsAddr=", "--ctrlz_port=0",
		},
		Env: []string{
			"POD_NAME=istiod-0", "POD_NAMESPACE=istio-system", "REVISION=default", "CLUSTER_ID=Kubernetes", "PILOT_CERT_PROVIDER=istiod",
			"ENABLE_CA_SERVER=false", "ENABLE_LEADER_ELECTION=false", "INJECT_ENABLED=false", "VALIDATION_ENABLED=false",
			"INJECTION_WEBHOOK_CONFIG_NAME=", "VALIDATION_WEBHOOK_CONFIG_NAME=",
		},
	}
	t.Cleanup(func() {
		if m.process != nil {
			m.process.finish(t)
		}
	})
	m.start(ctx, t)
	return m
}

// start starts istiod with a Pod of its own, and waits until it is ready.
func (m *Mesh) start(ctx context.Context, t T) {
	t.Helper()
	pod := m.cluster.makePod(ctx, t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "istiod-0", Labels: map[string]string{"app": "istiod"}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "istiod", NodeName: "node-1", Containers: []corev1.Container{{Name: "discovery", Image: "pilot"}},
		},
	})
	// The agent tries port 15012 of the Pod, while istiod listens elsewhere. It gives istiod half a minute to start.
	m.cluster.MarkRunning(ctx, t, pod, Deaf, time.Now().Add(-time.Minute))
	process, err := start(m.program)
	if err != nil {
		t.Fatal(err)
	}
	m.process = process
	if err := process.Await(ctx, answers(http.DefaultClient, m.ready)); err != nil {
		t.Fatal(err)
	}
}

// RestartIstiod does what "kubectl rollout restart" would.
func (m *Mesh) RestartIstiod(ctx context.Context, t T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	m.process.Kill()
	m.cluster.DeletePod(ctx, t, "istio-system", "istiod-0")
	m.start(ctx, t)
}

// Istiod is the running istiod.
func (m *Mesh) Istiod() *Process { return m.process }

// Secure tells whether istiod listens for workloads.
func (m *Mesh) Secure(ctx context.Context) error {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", m.secure)
	if err != nil {
		return err
	}
	return connection.Close()
}
