package testbed_test

import (
	"os"
	"testing"

	"github.com/certloom/certloom/test/e2e/testbed"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

// The bed itself works: cert-manager issues from a CA in the cluster, without certloom.
func TestClusterIssuesFromItsOwnCA(t *testing.T) {
	c := testbed.StartCluster(t.Context(), t)
	c.StartController(t)
	c.KubectlInput(t.Context(), t, `
apiVersion: cert-manager.io/v1
kind: Issuer
metadata: {name: self, namespace: default}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: leaf, namespace: default}
spec:
  secretName: leaf
  dnsNames: [leaf.default.svc]
  issuerRef: {name: self}
`, "apply", "-f", "-")
	c.Kubectl(t.Context(), t, "wait", "--for=condition=Ready", "certificate/leaf", "--timeout=60s")
}
