package e2e_test

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"google.golang.org/grpc/codes"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestConnector applies packages as they are, without filling anything in, until workloads have certificates.
func TestConnector(t *testing.T) {
	cluster := testbed.StartCluster(t.Context(), t)
	cluster.StartController(t)
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{})
	m := &mesh{cluster: cluster, server: server, namespace: "istio-system", issued: map[string]*x509.Certificate{}}
	t.Run("cert-manager", m.connectCertManager)
	t.Run("agent", m.connectAgent)
}

// unpack makes a package, has istioctl render its IstioOperator, and applies its manifests, each by a dry run first.
func (m *mesh) unpack(t *testing.T, args ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "package")
	m.server.CLI(t.Context(), t, append([]string{"connector", "istio", "--out", dir}, args...)...)
	manifests, err := filepath.Glob(filepath.Join(dir, "[0-9]*.yaml"))
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	for _, file := range manifests {
		m.cluster.Kubectl(t.Context(), t, "apply", "--dry-run=server", "--filename", file)
		m.cluster.Kubectl(t.Context(), t, "apply", "--filename", file)
	}
	return dir
}

// istio checks what istiod and ztunnel would be started with.
func (m *mesh) istio(t *testing.T, dir, clusterName, address string) {
	t.Helper()
	text := testbed.IstioManifest(t.Context(), t, filepath.Join(dir, "istio-operator.yaml"))
	istiod := documents[appsv1.Deployment](t, text, "Deployment")
	ztunnel := documents[appsv1.DaemonSet](t, text, "DaemonSet")
	var found []string
	for _, d := range istiod {
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				found = append(found, d.Name+" "+e.Name+"="+e.Value)
			}
		}
	}
	for _, d := range ztunnel {
		for _, c := range d.Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				found = append(found, d.Name+" "+e.Name+"="+e.Value)
			}
		}
	}
	for _, want := range []string{
		"istiod ENABLE_CA_SERVER=false", "istiod CLUSTER_ID=" + clusterName,
		"ztunnel CA_ADDRESS=" + address, "ztunnel ISTIO_META_CLUSTER_ID=" + clusterName, "ztunnel TRUST_DOMAIN=cluster.local",
	} {
		if !slices.Contains(found, want) {
			t.Errorf("%s is missing among %s", want, strings.Join(found, "\n"))
		}
	}
	if !strings.Contains(text, "caAddress: "+address) && !strings.Contains(text, `"caAddress": "`+address+`"`) {
		t.Errorf("sidecars are not told to call %s", address)
	}
}

// connectorState reads how far a cluster has come.
func (m *mesh) connectorState(t *testing.T, name string) *apiv1.ConnectorStatus {
	t.Helper()
	status := new(apiv1.ConnectorStatus)
	if err := json.Unmarshal(m.server.CLI(t.Context(), t, "connector", "status", name, "-o", "json"), status); err != nil {
		t.Fatal(err)
	}
	return status
}

// connectCertManager stands in for istio-csr, which makes the same CertificateRequest.
func (m *mesh) connectCertManager(t *testing.T) {
	dir := m.unpack(t, "--profile", "istio", "--credential", "east", "--cluster", "Prod_EU.1", "--mode", "cert-manager", "--dataplane", "ambient",
		"--email", "mesh-owner@example.com")
	m.istio(t, dir, "Prod_EU.1", "cert-manager-istio-csr.cert-manager.svc:443")
	m.awaitIssuer(t, "certloom", cmmeta.ConditionTrue)
	if state := m.connectorState(t, "Prod_EU.1").Connector.State; state != "registered" {
		t.Errorf("state is %s, want registered", state)
	}
	m.createFrom(t, "certloom", "istio-csr-web", "spiffe://cluster.local/ns/demo/sa/web")
	request := m.awaitRequest(t, "istio-csr-web")
	if reason := requestReady(request).Reason; reason != "Issued" {
		t.Fatalf("reason = %s, want Issued\n%s", reason, m.describe(t, "certificaterequest", "istio-csr-web"))
	}
	m.verify(t, request.Status.Certificate)
	if status := m.connectorState(t, "Prod_EU.1"); status.Connector.State != "issuing" || status.Connector.Workloads != 1 {
		t.Errorf("status is %+v", status)
	}
}

// connectAgent starts the agent with exactly the flags and files that the package gives its Pods.
func (m *mesh) connectAgent(t *testing.T) {
	dir := m.unpack(t, "--profile", "mesh", "--credential", "west", "--mode", "agent", "--dataplane", "ambient",
		"--agent-image", "registry.example.com/certloom-agent:0.1.0")
	m.istio(t, dir, "west", "certloom-agent.istio-system.svc:443")
	text, err := testbed.NewHelm(t.Context(), t).Render(t.Context(), filepath.Join(dir, "certloom-agent.tgz"), filepath.Join(dir, "certloom-agent-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m.cluster.KubectlInput(t.Context(), t, text, "apply", "--dry-run=server", "--filename", "-")
	checkFlags(t, text)
	agent := m.startPackaged(t, documents[appsv1.Deployment](t, text, "Deployment")[0])

	f := &field{cluster: m.cluster, server: m.server}
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "demo")
	account, pod := f.workload(t, "packaged")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), Cluster: "west", CSR: requestOf(t, &x509.CertificateRequest{}, identityOf(account)), Seconds: 3600}
	f.callers = map[string]*testbed.Caller{"packaged": agent.Connect(t)}
	f.both(t, ask, codes.OK)
	if status := m.connectorState(t, "west"); status.Connector.State != "issuing" || status.Connector.Workloads != 1 {
		t.Errorf("status is %+v", status)
	}
}

// startPackaged runs a Deployment's container outside of a cluster: its Secret's files are in a folder, and ports are free ones.
func (m *mesh) startPackaged(t *testing.T, d appsv1.Deployment) *testbed.Agent {
	t.Helper()
	var secret *corev1.Secret
	for _, v := range d.Spec.Template.Spec.Volumes {
		if v.Secret != nil {
			found, err := m.cluster.Kube.CoreV1().Secrets("istio-system").Get(t.Context(), v.Secret.SecretName, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			secret = found
		}
	}
	if secret == nil {
		t.Fatal("the Deployment mounts no Secret")
	}
	dir := testbed.Folder(t)
	for name, data := range secret.Data {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var args []string
	for _, arg := range d.Spec.Template.Spec.Containers[0].Args {
		place := slices.ContainsFunc([]string{"--serving-address=", "--readiness-probe-port=", "--metrics-port=", "--serving-certificate-dns-names="}, func(flag string) bool {
			return strings.HasPrefix(arg, flag)
		})
		if !place {
			args = append(args, strings.ReplaceAll(arg, "/etc/certloom/", dir+"/"))
		}
	}
	return testbed.LaunchAgent(t.Context(), t, m.cluster, testbed.AgentOptions{Args: args, RootFile: m.server.RootFile})
}
