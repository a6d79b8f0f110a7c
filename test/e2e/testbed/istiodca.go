package testbed

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IstiodCA is istiod with its own CA, which is the peer of the agent and its server. Its certificate is for IstiodName.
type IstiodCA struct {
	Address string // of Istio's certificate service
	Roots   *x509.CertPool

	process *Process
}

// StartIstiodCA starts istiod as it is installed without another CA: it makes a root of its own, keeps it in a Secret, and
// asks the API server about each token. Several on one cluster share the root. There must be a namespace istio-system.
func StartIstiodCA(ctx context.Context, t T, c *Cluster, args ...string) *IstiodCA {
	t.Helper()
	built := ensure(ctx, t, "istio")
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	c.Kubectl(ctx, t, "apply", "--server-side", "-f", filepath.Join(built["istio"], "crds"))
	c.Kubectl(ctx, t, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	dir, port := Folder(t), Ports(t, 4)
	if err := writeFiles(dir, map[string][]byte{"mesh.yaml": []byte("trustDomain: cluster.local\n")}); err != nil {
		t.Fatal(err)
	}
	i := &IstiodCA{Address: Addr(port + 1)}
	i.process = Start(t, Program{
		Name: "istiod", Path: filepath.Join(built["istio"], "bin", "pilot-discovery"), Dir: dir,
		Args: append([]string{
			"discovery", "--kubeconfig=" + c.kubeconfig, "--meshConfig=mesh.yaml", "--registries=Kubernetes", "--domain=cluster.local",
			"--clusterID=Kubernetes", "--httpAddr=" + Addr(port), "--secureGRPCAddr=" + i.Address, "--grpcAddr=" + Addr(port+2),
			"--monitoringAddr=" + Addr(port+3), "--httpsAddr=", "--ctrlz_port=0",
		}, args...),
		Env: []string{
			"POD_NAME=istiod-0", "POD_NAMESPACE=istio-system", "REVISION=default", "CLUSTER_ID=Kubernetes", "PILOT_CERT_PROVIDER=istiod",
			"ENABLE_CA_SERVER=true", "ENABLE_LEADER_ELECTION=false", "INJECT_ENABLED=false", "VALIDATION_ENABLED=false",
			"INJECTION_WEBHOOK_CONFIG_NAME=", "VALIDATION_WEBHOOK_CONFIG_NAME=",
		},
	})
	if err := i.process.Await(ctx, answers(http.DefaultClient, "http://"+Addr(port)+"/ready")); err != nil {
		t.Fatal(err)
	}
	err := i.process.Await(ctx, func(ctx context.Context) error {
		found, err := c.Kube.CoreV1().ConfigMaps("istio-system").Get(ctx, "istio-ca-root-cert", metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("look for istiod's root: %w", err)
		}
		i.Roots = x509.NewCertPool()
		if !i.Roots.AppendCertsFromPEM([]byte(found.Data["root-cert.pem"])) {
			return errors.New("ConfigMap istio-ca-root-cert has no root")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// Process is the running istiod.
func (i *IstiodCA) Process() *Process { return i.process }
