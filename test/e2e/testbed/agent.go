package testbed

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	istio "istio.io/api/security/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// AgentName is the host of the agent's serving certificate.
const AgentName = "certloom-agent.istio-system.svc"

// Agent is a running certloom-agent.
type Agent struct {
	Address string // of Istio's certificate service
	Health  string // base URL of /readyz and /livez
	Metrics string // URL

	process *Process
	program Program
	roots   *x509.CertPool
}

// AgentOptions say what an agent is started with besides addresses and its permissions in the cluster.
type AgentOptions struct {
	Args     []string // the flags of the issuer, and others
	RootFile string   // PEM with the roots that its callers trust
	Unready  bool     // it is not waited for
}

// StartAgent starts an agent with the credential of the server's profile "mesh", and waits until it is ready.
func StartAgent(ctx context.Context, t T, c *Cluster, s *Certloom, args ...string) *Agent {
	t.Helper()
	credential := filepath.Join(Folder(t), "credential.json")
	WriteJSON(t, credential, s.Agent)
	return LaunchAgent(ctx, t, c, AgentOptions{
		Args: append([]string{"--credential-file=" + credential, "--server-ca-file=" + s.CAFile}, args...), RootFile: s.RootFile,
	})
}

// LaunchAgent builds the agent of this tree, gives it the permissions that its users give it, and starts it. There must be
// a namespace istio-system.
func LaunchAgent(ctx context.Context, t T, c *Cluster, o AgentOptions) *Agent {
	t.Helper()
	binary, err := agentBinaryOnce()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	dir, port := Folder(t), Ports(t, 3)
	a := &Agent{
		Address: Addr(port), Health: "http://" + Addr(port+1), Metrics: "http://" + Addr(port+2) + "/metrics",
		program: Program{Name: "certloom-agent", Path: binary, Dir: dir, Env: []string{"TOKEN_AUDIENCES="}},
	}
	a.program.Args = append([]string{
		"--kubeconfig=" + c.agentKubeconfig(ctx, t, dir), "--serving-address=" + a.Address,
		fmt.Sprintf("--readiness-probe-port=%d", port+1), fmt.Sprintf("--metrics-port=%d", port+2),
		"--serving-certificate-dns-names=" + AgentName,
	}, o.Args...)
	root, err := os.ReadFile(o.RootFile)
	if err != nil {
		t.Fatal(err)
	}
	a.roots = x509.NewCertPool()
	a.roots.AppendCertsFromPEM(root)
	t.Cleanup(func() {
		if a.process != nil {
			a.process.finish(t)
		}
	})
	if a.process, err = start(a.program); err != nil {
		t.Fatal(err)
	}
	if o.Unready {
		return a
	}
	if err := a.Await(ctx); err != nil {
		t.Fatal(err)
	}
	return a
}

// WriteJSON writes a value to a file that others cannot read.
func WriteJSON(t T, path string, value any) {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// agentKubeconfig grants the agent what deploy/agent/rbac.yaml does, and writes a kubeconfig for it.
func (c *Cluster) agentKubeconfig(ctx context.Context, t T, dir string) string {
	t.Helper()
	root, err := moduleFolder()
	if err != nil {
		t.Fatal(err)
	}
	c.Kubectl(ctx, t, "apply", "-f", filepath.Join(root, "deploy", "agent", "rbac.yaml"))
	c.writeToken(ctx, t, dir)
	config, err := clientcmd.LoadFromFile(c.kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range config.AuthInfos {
		*user = clientcmdapi.AuthInfo{TokenFile: filepath.Join(dir, tokenFile)}
	}
	path := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// tokenFile has the agent's own token.
const tokenFile = "token"

func (c *Cluster) writeToken(ctx context.Context, t T, dir string) {
	t.Helper()
	account, err := c.Kube.CoreV1().ServiceAccounts("istio-system").Get(ctx, "certloom-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(dir, map[string][]byte{tokenFile: []byte(c.Token(ctx, t, account, nil))}); err != nil {
		t.Fatal(err)
	}
}

// RenewToken gives the agent a new token of its own, as kubelet does.
func (a *Agent) RenewToken(ctx context.Context, t T, c *Cluster) {
	t.Helper()
	c.writeToken(ctx, t, a.program.Dir)
}

// Restart starts the agent again after Kill, and waits until it is ready.
func (a *Agent) Restart(ctx context.Context, t T) {
	t.Helper()
	process, err := start(a.program)
	if err != nil {
		t.Fatal(err)
	}
	a.process = process
	if err := a.Await(ctx); err != nil {
		t.Fatal(err)
	}
}

// Await waits until the agent says that it is ready.
func (a *Agent) Await(ctx context.Context) error {
	return a.process.Await(ctx, answers(http.DefaultClient, a.Health+"/readyz"))
}

// Debug is the base URL of /debug/pprof/, of an agent that was started with --pprof.
func (a *Agent) Debug() string { return strings.TrimSuffix(a.Metrics, "/metrics") }

// Roots are what workloads trust.
func (a *Agent) Roots() *x509.CertPool { return a.roots }

// Process is the running agent.
func (a *Agent) Process() *Process { return a.process }

// Caller is a client of the agent as Istio's are: a connection of its own.
type Caller struct {
	connection *grpc.ClientConn
	client     istio.IstioCertificateServiceClient
}

// Connect makes a connection that trusts what workloads trust, with a client certificate or none.
func (a *Agent) Connect(t T, own ...tls.Certificate) *Caller {
	t.Helper()
	secure := &tls.Config{RootCAs: a.roots, ServerName: AgentName, MinVersion: tls.VersionTLS12, Certificates: own}
	connection, err := grpc.NewClient("passthrough:///"+a.Address, grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return &Caller{connection: connection, client: istio.NewIstioCertificateServiceClient(connection)}
}

// Ask is what a caller sends.
type Ask struct {
	Token       string // "" sends no token
	Scheme      string // before the token; "" is "Bearer "
	Cluster     string // "" sends none
	CSR         []byte // PEM
	Seconds     int64
	Impersonate string
}

// Create calls CreateCertificate.
func (c *Caller) Create(ctx context.Context, ask Ask) ([]string, error) {
	if ask.Token != "" {
		scheme := ask.Scheme
		if scheme == "" {
			scheme = "Bearer "
		}
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", scheme+ask.Token)
	}
	if ask.Cluster != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "ClusterID", ask.Cluster)
	}
	fields := map[string]any{"CertSigner": ""}
	if ask.Impersonate != "" {
		fields = map[string]any{"ImpersonatedIdentity": ask.Impersonate}
	}
	extra, err := structpb.NewStruct(fields)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	answer, err := c.client.CreateCertificate(ctx, &istio.IstioCertificateRequest{
		Csr: string(ask.CSR), ValidityDuration: ask.Seconds, Metadata: extra,
	})
	return answer.GetCertChain(), err
}
