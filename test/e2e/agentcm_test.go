package e2e_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// signed is a mesh whose certificates cert-manager signs.
type signed struct {
	*field
	whole      *testing.T // whose end ends cert-manager
	agent      *testbed.Agent
	controller *testbed.Process
	other      string // file with the root of CA issuer "other"
}

// TestAgentCertManager has agents get their certificates from real cert-manager, with its CA issuer and with its ACME issuer
// in front of Certloom.
func TestAgentCertManager(t *testing.T) {
	f := &field{cluster: testbed.StartCluster(t.Context(), t), agents: map[string]*testbed.Agent{}, callers: map[string]*testbed.Caller{}}
	s := &signed{field: f, whole: t, controller: f.cluster.StartController(t)}
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "demo")
	f.cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	f.server = &testbed.Certloom{Connection: testbed.Connection{RootFile: s.caIssuer(t, "istio-ca")}}
	s.other = s.caIssuer(t, "other")
	s.agent = testbed.LaunchAgent(t.Context(), t, f.cluster, testbed.AgentOptions{RootFile: f.server.RootFile, Args: []string{
		"--issuer=cert-manager", "--pod-name=agent-0", "--runtime-issuance-config-map-name=certloom-agent-issuer",
		"--certificate-request-additional-annotations=e2e.example.com/team=mesh",
	}})
	f.agents["ca"], f.callers["ca"] = s.agent, s.agent.Connect(t)
	t.Run("certificate", s.testCertificate)
	t.Run("root-configmap", f.testRootMap)
	t.Run("istiod-secret", f.testIstiodSecret)
	t.Run("two-hundred-at-once", s.testBurst)
	t.Run("runtime-issuer", s.testRuntimeIssuer)
	t.Run("controller-stopped", s.testControllerStopped)
	t.Run("leftovers", s.testLeftovers)
	t.Run("acme-issuer", s.testACMEIssuer)
	if log := s.agent.Process().Log(); strings.Contains(log, "forbidden") {
		t.Errorf("deploy/agent/rbac.yaml does not allow what the agent does:\n%s", log)
	}
}

// caIssuer makes a CA issuer in istio-system and returns the file with its root.
func (s *signed) caIssuer(t *testing.T, name string) string {
	t.Helper()
	certificate, key := testbed.NewCA(t, name)
	dir := testbed.Folder(t)
	for file, text := range map[string][]byte{"tls.crt": certificate, "tls.key": key} {
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.cluster.Kubectl(t.Context(), t, "create", "secret", "tls", name, "--namespace=istio-system",
		"--cert="+filepath.Join(dir, "tls.crt"), "--key="+filepath.Join(dir, "tls.key"))
	s.cluster.KubectlInput(t.Context(), t, fmt.Sprintf(`
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: %[1]s, namespace: istio-system}
spec: {ca: {secretName: %[1]s}}
`, name), "apply", "-f", "-")
	return filepath.Join(dir, "tls.crt")
}

func (s *signed) ask(t *testing.T, name string) testbed.Ask {
	t.Helper()
	account, pod := s.workload(t, name)
	return testbed.Ask{Token: s.cluster.Token(t.Context(), t, account, pod, "istio-ca"), CSR: spiffeRequest(t, identityOf(account)), Seconds: 86400}
}

func (s *signed) requests(ctx context.Context) ([]cmapi.CertificateRequest, error) {
	list, err := s.cluster.CertManager.CertmanagerV1().CertificateRequests("istio-system").List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

// none checks that no request is left.
func (s *signed) none(ctx context.Context) error {
	left, err := s.requests(ctx)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("%d CertificateRequests are left", len(left))
	}
	return err
}

func (s *signed) testCertificate(t *testing.T) {
	watch, err := s.cluster.CertManager.CertmanagerV1().CertificateRequests("istio-system").Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	ask := s.ask(t, "web")
	began := time.Now()
	chain := s.create(t, s.callers["ca"], ask, codes.OK)
	t.Logf("a certificate in %s", time.Since(began))
	s.checkLayout(t, chain, "spiffe://cluster.local/ns/demo/sa/web")
	eventually(t, s.none)
	for event := range watch.ResultChan() {
		request, ok := event.Object.(*cmapi.CertificateRequest)
		if !ok || request.Annotations["istio.cert-manager.io/identities"] != "spiffe://cluster.local/ns/demo/sa/web" {
			continue
		}
		if !strings.HasPrefix(request.Name, "istio-csr-") || request.GenerateName != "istio-csr-" || request.Spec.IsCA ||
			request.Annotations["e2e.example.com/team"] != "mesh" || len(request.Spec.Usages) != 2 || request.Spec.Duration.Duration > time.Hour {
			t.Errorf("%+v", request)
		}
		return
	}
	t.Error("no CertificateRequest was seen")
}

// testBurst has two hundred workloads ask at once.
func (s *signed) testBurst(t *testing.T) {
	const many = 200
	ask := s.ask(t, "burst")
	var all errgroup.Group
	began := time.Now()
	for range many {
		all.Go(func() error { // as Istio's agents come again
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			return testbed.Poll(ctx, 500*time.Millisecond, func(ctx context.Context) error {
				_, err := s.callers["ca"].Create(ctx, ask)
				if code := status.Code(err); err != nil && code != codes.Unavailable && code != codes.ResourceExhausted {
					return testbed.Final(err)
				}
				return err
			})
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d certificates in %s: %.1f/s", many, time.Since(began), many/time.Since(began).Seconds())
	eventually(t, s.none)
}

// leadsTo returns a check that certificates are of the CA whose root a file has.
func (s *signed) leadsTo(ask testbed.Ask, root string) func(context.Context) error {
	return func(ctx context.Context) error {
		chain, err := s.callers["ca"].Create(ctx, ask)
		if err != nil {
			return err
		}
		_, err = testbed.VerifyChain([]byte(strings.Join(chain[:len(chain)-1], "")), root, x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth)
		return err
	}
}

// testRuntimeIssuer switches the issuer by the ConfigMap, spoils it, and takes it away.
func (s *signed) testRuntimeIssuer(t *testing.T) {
	ask := s.ask(t, "switched")
	apply := func(name, kind string) {
		s.cluster.KubectlInput(t.Context(), t, fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: certloom-agent-issuer, namespace: istio-system}
data: {issuer-name: %q, issuer-kind: %q, issuer-group: cert-manager.io}
`, name, kind), "apply", "-f", "-")
	}
	apply("other", "Issuer")
	eventually(t, s.leadsTo(ask, s.other))
	apply("istio-ca", "")
	eventually(t, logs(s.agent, "configmap passed over"))
	eventually(t, s.leadsTo(ask, s.other))
	apply("nobody", "Issuer")
	eventually(t, reads(t, s.agent, http.StatusServiceUnavailable, "nobody"))
	s.create(t, s.callers["ca"], ask, codes.Unavailable)
	s.cluster.Kubectl(t.Context(), t, "delete", "configmap", "certloom-agent-issuer", "--namespace=istio-system")
	eventually(t, s.leadsTo(ask, s.server.RootFile))
	eventually(t, reads(t, s.agent, http.StatusOK, "[+] issuer"))
}

// testControllerStopped stops cert-manager: callers are told within seconds, then at once; a request that somebody denies is
// refused; and all is well when cert-manager is back.
func (s *signed) testControllerStopped(t *testing.T) {
	ask := s.ask(t, "stopped")
	if err := s.controller.Stop(time.Minute); err != nil {
		t.Error(err)
	}
	s.denied(t, ask)
	began := time.Now()
	s.create(t, s.callers["ca"], ask, codes.Unavailable)
	t.Logf("told after %s", time.Since(began))
	eventually(t, reads(t, s.agent, http.StatusServiceUnavailable, "cert-manager has not touched"))
	began = time.Now()
	for range 10 {
		s.create(t, s.callers["ca"], ask, codes.Unavailable)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("ten callers were told after %s", took)
	}
	s.controller = s.cluster.StartController(s.whole)
	eventually(t, reads(t, s.agent, http.StatusOK, "[+] issuer"))
	s.create(t, s.callers["ca"], ask, codes.OK)
	eventually(t, s.none)
}

// denied denies a request as a policy would.
func (s *signed) denied(t *testing.T, ask testbed.Ask) {
	t.Helper()
	var all errgroup.Group
	all.Go(func() error {
		if _, err := s.callers["ca"].Create(t.Context(), ask); status.Code(err) != codes.PermissionDenied {
			return fmt.Errorf("denied: got %w", err)
		}
		return nil
	})
	eventually(t, func(ctx context.Context) error {
		pending, err := s.requests(ctx)
		if err != nil || len(pending) == 0 {
			return fmt.Errorf("%d requests, %w", len(pending), err)
		}
		pending[0].Status.Conditions = append(pending[0].Status.Conditions, cmapi.CertificateRequestCondition{
			Type: cmapi.CertificateRequestConditionDenied, Status: cmmeta.ConditionTrue, Reason: "e2e", Message: "not this one",
		})
		_, err = s.cluster.CertManager.CertmanagerV1().CertificateRequests("istio-system").UpdateStatus(ctx, &pending[0], metav1.UpdateOptions{})
		return err
	})
	if err := all.Wait(); err != nil {
		t.Error(err)
	}
	eventually(t, logs(s.agent, "not this one"))
}

// testLeftovers kills the agent while a request is under way: its successor deletes the request.
func (s *signed) testLeftovers(t *testing.T) {
	ask := s.ask(t, "left")
	if err := s.controller.Stop(time.Minute); err != nil {
		t.Error(err)
	}
	var call errgroup.Group
	call.Go(func() error {
		_, err := s.callers["ca"].Create(t.Context(), ask)
		return err
	})
	eventually(t, func(ctx context.Context) error {
		if s.none(ctx) == nil {
			return fmt.Errorf("no CertificateRequest")
		}
		return nil
	})
	s.agent.Process().Kill()
	if call.Wait() == nil {
		t.Error("a certificate without cert-manager")
	}
	s.controller = s.cluster.StartController(s.whole)
	s.agent.Restart(t.Context(), t)
	eventually(t, s.none)
	s.callers["ca"] = s.agent.Connect(t)
	s.create(t, s.callers["ca"], ask, codes.OK)
}

// testACMEIssuer has another agent, with cert-manager's ACME issuer: the origin of the roots is a file.
func (s *signed) testACMEIssuer(t *testing.T) {
	m := &mesh{cluster: s.cluster, server: testbed.StartCertloom(t.Context(), t, testbed.Options{}), namespace: "istio-system", issued: map[string]*x509.Certificate{}}
	m.applyIssuer(t, "mesh-acme-issuer", m.server.ACME["istio"])
	m.awaitIssuer(t, "mesh-acme-issuer", cmmeta.ConditionTrue)
	agent := testbed.LaunchAgent(t.Context(), t, s.cluster, testbed.AgentOptions{RootFile: m.server.RootFile, Args: []string{
		"--issuer=cert-manager", "--issuer-name=mesh-acme-issuer", "--root-ca-file=" + m.server.RootFile, "--istiod-cert-enabled=false",
	}})
	caller, ask := agent.Connect(t), s.ask(t, "acme")
	began := time.Now()
	chain := s.create(t, caller, ask, codes.OK)
	t.Logf("a certificate in %s", time.Since(began))
	over := &field{server: m.server}
	over.checkLayout(t, chain, "spiffe://cluster.local/ns/demo/sa/acme")

	m.server.CLI(t.Context(), t, "profile", "suspend", "istio")
	_, err := caller.Create(t.Context(), ask)
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("refused by the CA: got %v\n%s", err, agent.Process().Tail())
	}
}
