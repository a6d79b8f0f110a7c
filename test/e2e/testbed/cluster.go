package testbed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cmclient "github.com/cert-manager/cert-manager/pkg/client/clientset/versioned"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/certloom/certloom/test/e2e/parts"
)

// startPatience is how long a program may take to become ready. The slowest takes 5 s on an idle machine; this allows
// for one that is not.
const startPatience = 2 * time.Minute

// Cluster is a Kubernetes API server with etcd behind it and cert-manager's definitions in it. There is no scheduler,
// no kubelet and no controller manager: objects are what the tests make.
type Cluster struct {
	Kube        kubernetes.Interface
	CertManager cmclient.Interface

	server     *Process
	program    Program      // the API server, without its keys for tokens
	client     *http.Client // the administrator's
	tokenKeys  []string     // files with the keys of tokens; the first one signs
	dir        string       // folder of logs and files
	kubeconfig string       // file for the programs that talk to the API server
	kubectl    string       // program
	controller string       // program: cert-manager's controllers
}

// StartCluster starts etcd and the API server and installs the definitions. Parts that were never built are built
// first, which takes minutes.
func StartCluster(ctx context.Context, t T) *Cluster {
	t.Helper()
	built := ensure(ctx, t, "etcd", "apiserver", "certmanager")
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir := Folder(t)
	etcd := startEtcd(ctx, t, dir, filepath.Join(built["etcd"], "bin", "etcd"))
	c := &Cluster{
		dir:        dir,
		kubectl:    filepath.Join(built["apiserver"], "bin", "kubectl"),
		controller: filepath.Join(built["certmanager"], "bin", "certmanager"),
	}
	c.startAPIServer(ctx, t, filepath.Join(built["apiserver"], "bin", "kube-apiserver"), etcd)
	c.Kubectl(ctx, t, "create", "-f", filepath.Join(built["certmanager"], "crds"))
	c.Kubectl(ctx, t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	return c
}

// ensure builds the named parts where needed and returns their folders by name.
func ensure(ctx context.Context, t T, names ...string) map[string]string {
	t.Helper()
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{}
	for _, name := range names {
		part, err := parts.Find(name)
		if err != nil {
			t.Fatal(err)
		}
		if dirs[name], err = builder.Ensure(ctx, part); err != nil {
			t.Fatal(err)
		}
	}
	return dirs
}

// startEtcd returns the address of a fresh etcd. It does not sync its files: nothing here outlives the test.
func startEtcd(ctx context.Context, t T, dir, path string) string {
	t.Helper()
	base := Ports(t, 2)
	client, peer := "http://"+Addr(base), "http://"+Addr(base+1)
	proc := Start(t, Program{Name: "etcd", Path: path, Dir: dir, Args: []string{
		"--name=e2e", "--data-dir=" + filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=e2e=" + peer,
	}})
	if err := proc.Await(ctx, answers(http.DefaultClient, client+"/readyz")); err != nil {
		t.Fatal(err)
	}
	return client
}

// startAPIServer starts the API server and fills in the clients of c.
func (c *Cluster) startAPIServer(ctx context.Context, t T, path, etcd string) {
	t.Helper()
	port := Ports(t, 1)
	config, err := c.writeCredentials("https://" + Addr(port))
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(c.dir, "pki", name) }
	c.program = Program{Name: "kube-apiserver", Path: path, Dir: c.dir, Args: []string{
		"--etcd-servers=" + etcd, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + in("server.pem"), "--tls-private-key-file=" + in("server.key"),
		"--client-ca-file=" + in("ca.pem"),
		"--service-account-issuer=https://kubernetes.default.svc", "--api-audiences=https://kubernetes.default.svc,kubernetes",
		"--external-hostname=localhost", "--authorization-mode=RBAC", "--service-cluster-ip-range=10.0.0.0/24",
		"--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
	}}
	if c.client, err = rest.HTTPClientFor(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.server != nil {
			c.server.finish(t)
		}
	})
	c.launchAPIServer(ctx, t)
	if c.Kube, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	if c.CertManager, err = cmclient.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
}

// launchAPIServer starts the API server with the present keys for tokens, and waits until it is ready.
func (c *Cluster) launchAPIServer(ctx context.Context, t T) {
	t.Helper()
	program := c.program
	program.Args = append(slices.Clone(program.Args), "--service-account-signing-key-file="+c.tokenKeys[0])
	for _, file := range c.tokenKeys {
		program.Args = append(program.Args, "--service-account-key-file="+file)
	}
	var err error
	if c.server, err = start(program); err != nil {
		t.Fatal(err)
	}
	if err := c.server.Await(ctx, answers(c.client, "https://"+c.address()+"/readyz")); err != nil {
		t.Fatal(err)
	}
}

// address is the API server's HOST:PORT.
func (c *Cluster) address() string {
	for _, arg := range c.program.Args {
		if port, ok := strings.CutPrefix(arg, "--secure-port="); ok {
			return net.JoinHostPort("127.0.0.1", port)
		}
	}
	return ""
}

// Server is the running API server.
func (c *Cluster) Server() *Process { return c.server }

// writeCredentials makes the API server's keys and an administrator's, and the kubeconfig that names them.
func (c *Cluster) writeCredentials(url string) (*rest.Config, error) {
	ca, err := newAuthority("e2e-kubernetes")
	if err != nil {
		return nil, err
	}
	serverCert, serverKey, err := ca.leaf(pkix.Name{CommonName: "kube-apiserver"}, "localhost", "kubernetes.default.svc")
	if err != nil {
		return nil, err
	}
	adminCert, adminKey, err := ca.leaf(pkix.Name{CommonName: "e2e", Organization: []string{"system:masters"}})
	if err != nil {
		return nil, err
	}
	if err := c.addTokenKey(); err != nil {
		return nil, err
	}
	dir := filepath.Join(c.dir, "pki")
	c.kubeconfig = filepath.Join(dir, "kubeconfig")
	err = writeFiles(dir, map[string][]byte{
		"ca.pem": CertificatePEM(ca.cert.Raw), "server.pem": serverCert, "server.key": serverKey,
		"admin.pem": adminCert, "admin.key": adminKey,
		"kubeconfig": kubeconfig(url, dir),
	})
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read back the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = -1, -1 // the tests' own client is not what they measure
	return config, nil
}

func kubeconfig(url, dir string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: e2e, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: e2e, user: {client-certificate: %q, client-key: %q}}]
contexts: [{name: e2e, context: {cluster: e2e, user: e2e}}]
current-context: e2e
`, url, filepath.Join(dir, "ca.pem"), filepath.Join(dir, "admin.pem"), filepath.Join(dir, "admin.key"))
}

// StartController starts cert-manager's controllers.
func (c *Cluster) StartController(t T) *Process {
	t.Helper()
	return Start(t, Program{
		Name: "certmanager", Path: c.controller, Dir: c.dir, Args: []string{"--kubeconfig=" + c.kubeconfig},
	})
}

// Kubectl runs kubectl and returns what it printed; a failure ends the test.
func (c *Cluster) Kubectl(ctx context.Context, t T, args ...string) string {
	t.Helper()
	return c.KubectlInput(ctx, t, "", args...)
}

// KubectlInput runs kubectl with a text on standard input, as in "kubectl apply -f -".
func (c *Cluster) KubectlInput(ctx context.Context, t T, input string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, c.kubectl, append([]string{"--kubeconfig=" + c.kubeconfig}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+c.dir) // its discovery cache stays in our folder
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// answers returns a check that a GET of url is answered with 200.
func answers(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return Final(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 2000)) // only to say more
			return fmt.Errorf("%s answers %s: %s", url, resp.Status, body)
		}
		return nil
	}
}

// TrustingClient returns an HTTP client that trusts the certificates of a PEM file and nothing else.
func TrustingClient(caFile string) (*http.Client, error) {
	pool, err := Roots(caFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		MaxIdleConnsPerHost: 64, IdleConnTimeout: time.Minute,
	}
	return &http.Client{Transport: transport, Timeout: time.Minute}, nil
}

// Roots reads the certificates of a PEM file.
func Roots(caFile string) (*x509.CertPool, error) {
	data, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return pool, nil
}
