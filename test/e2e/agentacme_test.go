package e2e_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestAgentACME has two agents get their certificates over ACME, as another CA's customers would.
func TestAgentACME(t *testing.T) {
	f := &field{
		cluster: testbed.StartCluster(t.Context(), t), server: testbed.StartCertloom(t.Context(), t, testbed.Options{}),
		agents: map[string]*testbed.Agent{}, callers: map[string]*testbed.Caller{},
	}
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "demo")
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	f.server.CLI(t.Context(), t, "profile", "create", "mesh-acme", "--template", "private-mtls", "--method", "mtls-over-acme", "--issuing-ca", "issuing",
		"--trust-domain", "cluster.local", "--allow-namespace", "demo", "--allow-namespace", "istio-system", "--allow-dns", "**.svc", "--validity", "24h")
	credential := filepath.Join(testbed.Folder(t), "credential.json")
	testbed.WriteJSON(t, credential, f.server.CreateCredential(t.Context(), t, "mesh-acme", "cluster-1"))
	for _, name := range []string{"one", "two"} { // both start at once
		f.agents[name] = testbed.LaunchAgent(t.Context(), t, f.cluster, testbed.AgentOptions{Unready: true, RootFile: f.server.RootFile, Args: []string{
			"--issuer=acme", "--credential-file=" + credential, "--acme-ca-file=" + f.server.CAFile, "--root-ca-file=" + f.server.RootFile,
			"--acme-email=mesh@example.com",
		}})
	}
	for name, agent := range f.agents {
		if err := agent.Await(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.callers[name] = agent.Connect(t)
	}
	t.Run("one-account", f.testOneAccount)
	t.Run("root-configmap", f.testRootMap)
	t.Run("istiod-secret", f.testIstiodSecret)
	t.Run("refused", f.testRefusedByCA)
	t.Run("server-gone", f.testACMEServerGone)
	t.Run("credential-revoked", func(t *testing.T) { f.testCredentialRevoked(t, credential) })
	for name, agent := range f.agents {
		if log := agent.Process().Log(); strings.Contains(log, "forbidden") {
			t.Errorf("%s: deploy/agent/rbac.yaml does not allow what the agent does:\n%s", name, log)
		}
	}
}

// testOneAccount gets certificates from both agents and finds them under one account in the inventory.
func (f *field) testOneAccount(t *testing.T) {
	account, pod := f.workload(t, "shared")
	token := f.cluster.Token(t.Context(), t, account, pod, "istio-ca")
	for name, caller := range f.callers {
		began := time.Now()
		chain := f.create(t, caller, testbed.Ask{Token: token, CSR: spiffeRequest(t, identityOf(account)), Seconds: 86400}, codes.OK)
		t.Logf("%s: a certificate in %s", name, time.Since(began))
		f.checkLayout(t, chain, identityOf(account))
	}
	accounts := map[string]int{}
	for _, c := range f.server.Inventory(t.Context(), t) {
		if c.Account != "" {
			accounts[c.Account]++
		}
	}
	if len(accounts) != 1 {
		t.Errorf("certificates by account: %v", accounts)
	}
}

// testRefusedByCA asks for a certificate that the CA's profile does not allow: the workload is told that it is for good, and
// nobody else notices.
func (f *field) testRefusedByCA(t *testing.T) {
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "elsewhere")
	account := f.cluster.CreateAccount(t.Context(), t, "elsewhere", "web")
	pod := f.cluster.CreatePod(t.Context(), t, "elsewhere", "web", "web", "node-1")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	for range 5 {
		f.both(t, ask, codes.PermissionDenied)
	}
	for name, agent := range f.agents {
		eventually(t, reads(t, agent, http.StatusOK, "[+] issuer"))
		if !strings.Contains(agent.Process().Log(), "rejectedIdentifier") {
			t.Errorf("%s: the log does not say why", name)
		}
	}
}

// testACMEServerGone kills the server: callers are told soon, then at once, and all is well when it is back.
func (f *field) testACMEServerGone(t *testing.T) {
	account, pod := f.workload(t, "gone")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, ask, codes.OK)
	f.server.Kill()
	for name, caller := range f.callers {
		began := time.Now()
		if _, err := caller.Create(t.Context(), ask); status.Code(err) != codes.Unavailable || time.Since(began) > 5*time.Second {
			t.Errorf("%s: got %v after %s", name, err, time.Since(began))
		}
	}
	for _, agent := range f.agents {
		eventually(t, reads(t, agent, http.StatusServiceUnavailable, "[-] issuer: ACME CA"))
	}
	began := time.Now()
	for range 10 {
		if _, err := f.callers["one"].Create(t.Context(), ask); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("ten callers were told after %s", took)
	}
	f.server.Restart(t.Context(), t)
	f.both(t, ask, codes.OK)
	for name, agent := range f.agents {
		if err := agent.Await(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testCredentialRevoked revokes the credential: readiness and log say so, and another credential in the same file mends it.
func (f *field) testCredentialRevoked(t *testing.T, file string) {
	account, pod := f.workload(t, "revoked")
	ask := testbed.Ask{Token: f.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account))}
	f.both(t, ask, codes.OK)
	f.server.CLI(t.Context(), t, "credential", "revoke", "mesh-acme/cluster-1")
	for name, agent := range f.agents {
		eventually(t, func(ctx context.Context) error {
			if _, err := f.callers[name].Create(ctx, ask); err == nil {
				return errors.New("a certificate for a credential that is revoked")
			}
			return reads(t, agent, http.StatusServiceUnavailable, "revoked")(ctx)
		})
		if log := agent.Process().Log(); !strings.Contains(log, "unauthorized") || !strings.Contains(log, "revoked") {
			t.Errorf("%s: the log does not say why:\n%s", name, agent.Process().Tail())
		}
	}
	testbed.WriteJSON(t, file, f.server.CreateCredential(t.Context(), t, "mesh-acme", "cluster-1-again"))
	for _, agent := range f.agents {
		eventually(t, reads(t, agent, http.StatusOK, "[+] issuer"))
	}
	f.both(t, ask, codes.OK)
}

// reads returns a check of what an agent's readiness says.
func reads(t *testing.T, agent *testbed.Agent, code int, want string) func(context.Context) error {
	return func(context.Context) error {
		if got, text := get(t, agent.Health+"/readyz"); got != code || !strings.Contains(text, want) {
			return fmt.Errorf("/readyz: %d %s, want %d with %q", got, text, code, want)
		}
		return nil
	}
}

// TestAgentForeignCA shows how far the agent comes with a CA that is not for meshes: Pebble refuses three of ten good nonces,
// leaves orders in processing, validates names and issues for servers only. The account and DNS orders work; what does not is
// said.
func TestAgentForeignCA(t *testing.T) {
	cluster := testbed.StartCluster(t.Context(), t)
	cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	zone, port := testbed.StartZone(t), testbed.Ports(t, 1)
	solver := responderSolver{testbed.StartResponder(t, port)}
	pebble := testbed.StartPebble(t.Context(), t, zone.Addr(), port, "PEBBLE_AUTHZREUSE=100")
	key := filepath.Join(testbed.Folder(t), "eab.key")
	if err := os.WriteFile(key, []byte(pebble.HMACKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := testbed.LaunchAgent(t.Context(), t, cluster, testbed.AgentOptions{Unready: true, RootFile: pebble.RootFile, Args: []string{
		"--issuer=acme", "--acme-directory=" + pebble.DirectoryURL, "--acme-ca-file=" + pebble.CAFile, "--root-ca-file=" + pebble.RootFile,
		"--acme-eab-key-id=" + pebble.KeyID, "--acme-eab-key-file=" + key, "--acme-email=mesh@example.com", "--istiod-cert-enabled=false",
	}})
	eventually(t, reads(t, agent, http.StatusServiceUnavailable, "[+] issuer"))
	eventually(t, logs(agent, "wants a proof of control of dns:"+testbed.AgentName))

	client := storedAccount(t, cluster, pebble)
	request := acmeclient.OrderRequest{Identifiers: []pki.Identifier{{Type: pki.DNS, Value: testbed.AgentName}}}
	order, err := client.NewOrder(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Authorize(t.Context(), order, solver); err != nil {
		t.Fatal(err)
	}
	eventually(t, logs(agent, "incompatible key usage"))
	t.Logf("Pebble issued for the agent, for servers only:\n%s", agent.Process().Tail())
}

func logs(agent *testbed.Agent, want string) func(context.Context) error {
	return func(context.Context) error {
		if log := agent.Process().Log(); !strings.Contains(log, want) {
			return fmt.Errorf("the log does not say %q:\n%s", want, agent.Process().Tail())
		}
		return nil
	}
}

// storedAccount returns the agent's account, with the key of its Secret.
func storedAccount(t *testing.T, cluster *testbed.Cluster, pebble *testbed.Pebble) *acmeclient.Client {
	t.Helper()
	secret, err := cluster.Kube.CoreV1().Secrets("istio-system").Get(t.Context(), "certloom-agent-acme-account", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(secret.Data["tls.key"])
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		t.Fatalf("key of type %T", parsed)
	}
	trusting, err := testbed.TrustingClient(pebble.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trusting.CloseIdleConnections)
	client, err := acmeclient.New(acmeclient.Config{DirectoryURL: pebble.DirectoryURL, HTTPClient: trusting, Key: key, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.UseAccount(string(secret.Data["account-url"])); err != nil {
		t.Fatal(err)
	}
	return client
}
