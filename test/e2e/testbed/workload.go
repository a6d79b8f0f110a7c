package testbed

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// WorkloadOptions say who a workload is and where its certificates come from.
type WorkloadOptions struct {
	Namespace, Name string        // of its Pod, its ServiceAccount and its host
	CA              *Agent        // which pilot-agent asks
	Lifetime        time.Duration // of its certificates, as it asks for it
	Cluster         string        // which it thinks that it is in; "" is the name that the cluster has
	Files           *Identity     // what its program shows and trusts instead of what pilot-agent got; nil for that
}

// Identity is what a workload shows and trusts, in PEM.
type Identity struct{ Chain, Key, Roots []byte }

// Workload is a Pod of the mesh: Istio's pilot-agent, and Istio's echo programs as proxyless gRPC programs, which istiod
// tells when to demand and show certificates.
type Workload struct {
	Host    string // HOST:PORT by which others know it
	Address string // where it listens
	Account *corev1.ServiceAccount
	Pod     *corev1.Pod

	dir           string
	ip            string
	port, control int // of the mesh, and of our own calls
	sidecar       *Process
	echo, caller  *Process
}

// certificatesFolder is where pilot-agent writes certificates for the program (OUTPUT_CERTS).
const certificatesFolder = "certs"

// StartWorkload starts a workload and waits until its program serves with its certificate.
func (m *Mesh) StartWorkload(ctx context.Context, t T, o WorkloadOptions) *Workload {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	w := m.StartSidecar(ctx, t, o)
	err := w.sidecar.Await(ctx, func(context.Context) error {
		_, err := w.Leaf()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	m.startPrograms(ctx, t, w, o)
	return w
}

// StartSidecar starts a workload without its programs, and waits for nothing.
func (m *Mesh) StartSidecar(ctx context.Context, t T, o WorkloadOptions) *Workload {
	t.Helper()
	m.used++
	w := &Workload{dir: Folder(t), ip: fmt.Sprintf("127.0.0.%d", m.used), port: Ports(t, 3)}
	w.control = w.port + 1
	w.Host = fmt.Sprintf("%s.%s.svc.cluster.local:%d", o.Name, o.Namespace, w.port)
	w.Address = net.JoinHostPort(w.ip, strconv.Itoa(w.port))
	w.Account = m.cluster.CreateAccount(ctx, t, o.Namespace, o.Name)
	w.Pod = m.cluster.makePod(ctx, t, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, Labels: map[string]string{"app": o.Name}},
		Spec: corev1.PodSpec{
			ServiceAccountName: o.Name, NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "app"}},
		},
	})
	m.announce(ctx, t, w, o)
	m.launchSidecar(ctx, t, w, o)
	return w
}

// announce tells istiod of the workload: an address, since there is no kubelet, and a host. Endpoints may not be on the
// loopback, but a ServiceEntry takes the addresses of the Pods that it selects as they are.
func (m *Mesh) announce(ctx context.Context, t T, w *Workload, o WorkloadOptions) {
	t.Helper()
	status := fmt.Sprintf(`{"status": {"phase": "Running", "podIP": %[1]q, "podIPs": [{"ip": %[1]q}],
		"conditions": [{"type": "Ready", "status": "True"}]}}`, w.ip)
	_, err := m.cluster.Kube.CoreV1().Pods(o.Namespace).
		Patch(ctx, o.Name, types.MergePatchType, []byte(status), metav1.PatchOptions{}, "status")
	if err != nil {
		t.Fatal(err)
	}
	m.cluster.KubectlInput(ctx, t, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  hosts: [%[1]s.%[2]s.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{name: grpc, number: %[3]d, protocol: GRPC}]
  workloadSelector: {labels: {app: %[1]s}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: %[1]s, namespace: %[2]s}
spec:
  host: %[1]s.%[2]s.svc.cluster.local
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
`, o.Name, o.Namespace, w.port), "apply", "-f", "-")
}

// launchSidecar starts pilot-agent with what the kubelet and Istio's injection would give it.
func (m *Mesh) launchSidecar(ctx context.Context, t T, w *Workload, o WorkloadOptions) {
	t.Helper()
	secrets := filepath.Join(w.dir, "var", "run", "secrets")
	token := m.cluster.Token(ctx, t, w.Account, w.Pod, "istio-ca")
	if err := writeFiles(filepath.Join(secrets, "tokens"), map[string][]byte{"istio-token": []byte(token)}); err != nil {
		t.Fatal(err)
	}
	select { // a Pod whose ConfigMap is missing does not start
	case <-m.cluster.mount(t, filepath.Join(secrets, "istio"), o.Namespace, "istio-ca-root-cert", configMapKind):
	case <-ctx.Done():
		t.Fatalf("namespace %s has no ConfigMap istio-ca-root-cert: %v", o.Namespace, ctx.Err())
	}
	if err := os.MkdirAll(filepath.Join(w.dir, certificatesFolder), 0o755); err != nil {
		t.Fatal(err)
	}
	proxy, err := json.Marshal(map[string]any{
		"discoveryAddress": m.secure, "statusPort": w.port + 2, "configPath": filepath.Dir(w.bootstrap()),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.sidecar = Start(t, Program{
		Name: "pilot-agent-" + o.Name, Path: filepath.Join(m.bin, "pilot-agent"), Dir: w.dir,
		Args: []string{"proxy", "sidecar", "--domain=" + o.Namespace + ".svc.cluster.local"},
		Env: []string{
			"POD_NAME=" + o.Name, "POD_NAMESPACE=" + o.Namespace, "SERVICE_ACCOUNT=" + o.Name, "INSTANCE_IP=" + w.ip,
			"CA_ADDR=" + o.CA.istioAddress(), "PILOT_CERT_PROVIDER=istiod", "TRUST_DOMAIN=cluster.local",
			fmt.Sprintf("SECRET_TTL=%s", o.Lifetime), "SECRET_GRACE_PERIOD_RATIO=0.75", "PROXY_CONFIG=" + string(proxy),
			"ISTIO_META_CLUSTER_ID=" + cmp.Or(o.Cluster, "Kubernetes"), "ISTIO_META_GENERATOR=grpc", "ISTIO_META_MESH_ID=e2e", "ISTIO_META_DNS_CAPTURE=false",
			"DISABLE_ENVOY=true", "OUTPUT_CERTS=" + filepath.Join(w.dir, certificatesFolder), "GRPC_XDS_BOOTSTRAP=" + w.bootstrap(),
		},
	})
}

// Sidecar is its running pilot-agent.
func (w *Workload) Sidecar() *Process { return w.sidecar }

func (w *Workload) bootstrap() string {
	return filepath.Join(w.dir, "etc", "istio", "proxy", "grpc-bootstrap.json")
}

// Leaf is the certificate that pilot-agent has for the program now.
func (w *Workload) Leaf() (*x509.Certificate, error) {
	folder := filepath.Join(w.dir, certificatesFolder)
	if _, err := os.Stat(filepath.Join(folder, "root-cert.pem")); err != nil {
		return nil, err // it is written last
	}
	chain, err := os.ReadFile(filepath.Join(folder, "cert-chain.pem"))
	if err != nil {
		return nil, err
	}
	certs, err := ParseChain(chain)
	if err != nil {
		return nil, err
	}
	return certs[0], nil
}

// Roots are what pilot-agent has for the program to trust now.
func (w *Workload) Roots() ([]*x509.Certificate, error) {
	data, err := os.ReadFile(filepath.Join(w.dir, certificatesFolder, "root-cert.pem"))
	if err != nil {
		return nil, err
	}
	return ParseChain(data)
}

// refresh is how often the programs look at their files. pilot-agent would have them look every quarter of an hour, which
// is right for certificates that live for an hour and are renewed after half of it; these live for seconds.
const refresh = "0.25s"

// adaptBootstrap writes a program's own copy of the bootstrap file that pilot-agent has made, with another source of
// configuration unless that is "".
func (w *Workload) adaptBootstrap(name, source string, own *Identity) (string, error) {
	data, err := os.ReadFile(w.bootstrap())
	if err != nil {
		return "", err
	}
	var bootstrap map[string]any
	if err := json.Unmarshal(data, &bootstrap); err != nil {
		return "", fmt.Errorf("read the bootstrap file: %w", err)
	}
	providers, _ := bootstrap["certificate_providers"].(map[string]any)
	provider, _ := providers["default"].(map[string]any)
	config, ok := provider["config"].(map[string]any)
	if !ok {
		return "", errors.New("the bootstrap file has no default provider of certificates")
	}
	config["refresh_interval"] = refresh
	if own != nil {
		folder := filepath.Join(w.dir, "own")
		err := writeFiles(folder, map[string][]byte{"chain.pem": own.Chain, "key.pem": own.Key, "roots.pem": own.Roots})
		if err != nil {
			return "", err
		}
		config["certificate_file"], config["private_key_file"] = filepath.Join(folder, "chain.pem"), filepath.Join(folder, "key.pem")
		config["ca_certificate_file"] = filepath.Join(folder, "roots.pem")
	}
	if source != "" {
		bootstrap["xds_servers"] = []any{map[string]any{
			"server_uri": source, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"},
		}}
	}
	if data, err = json.Marshal(bootstrap); err != nil {
		return "", fmt.Errorf("write the bootstrap file: %w", err)
	}
	path := filepath.Join(w.dir, name+".json")
	return path, os.WriteFile(path, data, 0o600)
}

// startPrograms starts the workload's programs, both Istio's echo: one serves, with configuration that pilot-agent fetches
// from istiod. The other calls when it is told to, and asks istiod itself: pilot-agent passes only one stream of
// configuration on (istio.io/istio/pkg/istio-agent/xds_proxy.go, registerStream), and gRPC has one for each target.
func (m *Mesh) startPrograms(ctx context.Context, t T, w *Workload, o WorkloadOptions) {
	t.Helper()
	w.echo = m.startEcho(t, w, o, "echo", "", []string{
		fmt.Sprintf("--grpc=%d", w.port), fmt.Sprintf("--xds-grpc-server=%d", w.port), fmt.Sprintf("--bind-ip=%d", w.port), "--bind-localhost=0",
	})
	w.caller = m.startEcho(t, w, o, "caller", m.open, []string{fmt.Sprintf("--grpc=%d", w.control), fmt.Sprintf("--bind-localhost=%d,0", w.control)})
	err := w.echo.Await(ctx, func(ctx context.Context) error {
		_, err := w.Shown(ctx)
		return err
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, w.sidecar.Tail())
	}
	err = w.caller.Await(ctx, func(ctx context.Context) error { return w.Call(ctx, Calls{URL: "grpc://" + Addr(w.control)}) })
	if err != nil {
		t.Fatal(err)
	}
}

func (m *Mesh) startEcho(t T, w *Workload, o WorkloadOptions, name, source string, args []string) *Process {
	t.Helper()
	bootstrap, err := w.adaptBootstrap(name, source, o.Files)
	if err != nil {
		t.Fatal(err)
	}
	return Start(t, Program{
		Name: name + "-" + o.Name, Path: filepath.Join(m.bin, "server"), Dir: w.dir,
		Args: append(args, "--port=0", "--tcp=0"), // else it would take well-known ones
		Env: []string{
			"INSTANCE_IP=" + w.ip, "NAMESPACE=" + o.Namespace, "GRPC_XDS_BOOTSTRAP=" + bootstrap,
			"GRPC_XDS_EXPERIMENTAL_SECURITY_SUPPORT=true",
		},
	})
}

// Shown is the certificate that the program shows to others now.
func (w *Workload) Shown(ctx context.Context) (*x509.Certificate, error) {
	connection, err := w.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.ConnectionState().PeerCertificates[0], nil
}

// Greets tells whether the program talks to a client with that certificate. In TLS 1.3 the client learns it only when it
// reads: from an alert, or from the settings with which a server of HTTP/2 begins.
func (w *Workload) Greets(ctx context.Context, own tls.Certificate) error {
	connection, err := w.dial(ctx, own)
	if err != nil {
		return err
	}
	defer connection.Close()
	if err := connection.SetReadDeadline(time.Now().Add(programPatience)); err != nil {
		return err
	}
	_, err = connection.Read(make([]byte, 1))
	return err
}

// programPatience is how long a program may take to answer.
const programPatience = 2 * time.Second

func (w *Workload) dial(ctx context.Context, own ...tls.Certificate) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, programPatience)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // what it shows is looked at, and trusted with nothing
		Certificates:       own, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
	}}
	connection, err := dialer.DialContext(ctx, "tcp", w.Address)
	if err != nil {
		return nil, err
	}
	return connection.(*tls.Conn), nil
}

// Pair is the certificate that pilot-agent has for the programs now, with its key.
func (w *Workload) Pair() (tls.Certificate, error) {
	folder := filepath.Join(w.dir, certificatesFolder)
	return tls.LoadX509KeyPair(filepath.Join(folder, "cert-chain.pem"), filepath.Join(folder, "key.pem"))
}

// istioAddress is the agent's for CA_ADDR.
func (a *Agent) istioAddress() string { return strings.Replace(a.Address, "127.0.0.1", "localhost", 1) }
