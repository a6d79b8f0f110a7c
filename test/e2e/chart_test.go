package e2e_test

import (
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// variants are values that people install the chart with.
func variants() map[string][]string {
	with := func(values string, more ...string) []string {
		args := []string{"--set", "image.repository=registry.example.com/certloom-agent"}
		if values != "" {
			args = append(args, "--set", values)
		}
		return append(args, more...)
	}
	const acme = "issuer=acme,acme.directory=https://ca.example.com/acme/directory,acme.eabKeyID=k,acme.eabKeyFile=/etc/certloom/eab.key,app.tls.rootCAFile=/etc/certloom/root.pem"
	const certManager = "issuer=cert-manager,app.certmanager.issuer.kind=ClusterIssuer,app.runtimeConfiguration.create=true,app.runtimeConfiguration.name=certloom-agent-issuer," +
		"app.certmanager.additionalAnnotations[0].name=example.com/team,app.certmanager.additionalAnnotations[0].value=mesh,app.certmanager.preserveCertificateRequests=true"
	return map[string][]string{
		"defaults":  with(""),
		"istio-csr": with("", "--values", "testdata/istio-csr-values.yaml"),
		"acme":      with(acme),
		// Nothing but the issuer is added to what an istio-csr ran with.
		"istio-csr-issuer": with("issuer=cert-manager", "--values", "testdata/istio-csr-values.yaml"),
		"cert-manager":     with(certManager),
		"all":              with(acme + ",app.server.remoteClustersNamespace=istio-system,app.istio.restart=true"),
		"little":           with("app.tls.istiodCertificateEnable=false,app.controller.crlConfigMapName=,app.controller.clusterTrustBundle=off,podDisruptionBudget.enabled=false"),
	}
}

// TestChart shows that the chart renders objects that a real API server takes, flags that the agent takes, and the permissions
// of deploy/agent, with values of its own and with those of istio-csr's chart.
func TestChart(t *testing.T) {
	helm, cluster := testbed.NewHelm(t.Context(), t), testbed.StartCluster(t.Context(), t)
	cluster.Kubectl(t.Context(), t, "create", "namespace", "istio-system")
	for name, args := range variants() {
		t.Run(name, func(t *testing.T) {
			if err := helm.Lint(t.Context(), args...); err != nil {
				t.Error(err)
			}
			text, err := helm.Template(t.Context(), args...)
			if err != nil {
				t.Fatal(err)
			}
			cluster.KubectlInput(t.Context(), t, text, "apply", "--dry-run=server", "--filename", "-")
			checkFlags(t, text)
		})
	}
	t.Run("permissions", func(t *testing.T) {
		var text string
		for _, variant := range []string{"all", "cert-manager"} {
			part, err := helm.Template(t.Context(), variants()[variant]...)
			if err != nil {
				t.Fatal(err)
			}
			text += "\n---\n" + part
		}
		var want string
		for _, file := range []string{"rbac.yaml", "rbac-remote-clusters.yaml"} {
			raw, err := os.ReadFile("../../deploy/agent/" + file)
			if err != nil {
				t.Fatal(err)
			}
			want += "\n---\n" + strings.ReplaceAll(string(raw), "  # - {", "  - {") // what is permitted only for a flag
		}
		rendered, written := permissions(t, text), permissions(t, want)
		for _, item := range slices.Sorted(maps.Keys(written)) {
			if !rendered[item] {
				t.Errorf("the chart does not permit %s", item)
			}
		}
		for _, item := range slices.Sorted(maps.Keys(rendered)) {
			if !written[item] {
				t.Errorf("the chart permits %s", item)
			}
		}
		if len(written) < 30 {
			t.Errorf("only %d permissions were found", len(written))
		}
	})
	for name, refused := range map[string]struct {
		args []string
		want string
	}{
		"refuses/no-image":        {nil, "image.repository is needed"},
		"refuses/istio-csr-image": {[]string{"--set", "image.repository=quay.io/jetstack/cert-manager-istio-csr"}, "is istio-csr's"},
		"refuses/acme-no-roots":   {[]string{"--set", "image.repository=a,issuer=acme"}, "app.tls.rootCAFile is needed"},
		"refuses/issuer":          {[]string{"--set", "image.repository=a,issuer=other"}, "issuer"},
		"refuses/unknown":         {[]string{"--set", "image.repository=a,app.tls.trustdomain=x"}, "trustdomain"},
		"refuses/duration":        {[]string{"--set", "image.repository=a,app.tls.certificateDuration=1d"}, "certificateDuration"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := helm.Template(t.Context(), refused.args...); err == nil || !strings.Contains(err.Error(), refused.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// documents decodes what has that kind.
func documents[T any](t *testing.T, text, kind string) []T {
	t.Helper()
	var found []T
	for document := range strings.SplitSeq(text, "\n---\n") {
		if !strings.Contains("\n"+document, "\nkind: "+kind+"\n") {
			continue
		}
		var object T
		if err := yaml.NewYAMLOrJSONDecoder(strings.NewReader(document), 1024).Decode(&object); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		found = append(found, object)
	}
	return found
}

// checkFlags runs the agent with the rendered flags: only files are missing, and the cluster.
func checkFlags(t *testing.T, text string) {
	t.Helper()
	deployments := documents[appsv1.Deployment](t, text, "Deployment")
	if len(deployments) != 1 {
		t.Fatalf("%d Deployments", len(deployments))
	}
	pod := deployments[0].Spec.Template
	if pod.Labels["istio.io/dataplane-mode"] != "none" || pod.Labels["sidecar.istio.io/inject"] != "false" {
		t.Errorf("the agent would be a part of the mesh: %v", pod.Labels)
	}
	for _, line := range testbed.CheckAgentFlags(t.Context(), t, pod.Spec.Containers[0].Args...) {
		if !strings.Contains(line, "no such file or directory") && !strings.HasPrefix(line, "error: --kubeconfig: needed outside of a cluster") {
			t.Errorf("the agent says: %s", line)
		}
	}
}

// permissions flattens Roles and ClusterRoles, whatever they are called and however rules are grouped.
func permissions(t *testing.T, text string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	add := func(namespace string, rules []rbacv1.PolicyRule) {
		each := func(list []string) []string { return append(list, "")[:max(len(list), 1)] }
		for _, rule := range rules {
			for _, verb := range rule.Verbs {
				for _, url := range rule.NonResourceURLs {
					found[verb+" "+url] = true
				}
				for _, resource := range rule.Resources {
					for _, name := range each(rule.ResourceNames) {
						found[strings.Join([]string{verb, rule.APIGroups[0] + "/" + resource, name, "in", namespace}, " ")] = true
					}
				}
			}
		}
	}
	for _, role := range documents[rbacv1.ClusterRole](t, text, "ClusterRole") {
		add("all", role.Rules)
	}
	for _, role := range documents[rbacv1.Role](t, text, "Role") {
		add(role.Namespace, role.Rules)
	}
	return found
}
