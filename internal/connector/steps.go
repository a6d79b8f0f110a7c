package connector

import (
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/pki"
)

// Step is one step of the way from a package to a mesh with certificates.
type Step struct {
	ID       string   // its name, for texts in other languages
	Title    string   // in English
	Commands []string // in the package's folder
	Checks   []string // which fail, or wait, until the step has done what it is for
	Note     string
}

// Steps lists them in the order in which they must be done: Istio's programs look for certificates only when they start.
func Steps(c *pki.Connector) []Step {
	steps := issuerSteps(c)
	return append(steps, istioStep(c), Step{
		ID: "workloads", Title: "Start workloads",
		Checks: []string{"kubectl get configmap istio-ca-root-cert -n " + c.Settings.IstioNamespace},
		Note:   workloadNote(c),
	})
}

func workloadNote(c *pki.Connector) string {
	label := "istio-injection=enabled"
	if c.Settings.Dataplane == pki.Ambient {
		label = "istio.io/dataplane-mode=ambient"
	}
	return fmt.Sprintf("Namespaces with label `%s` are in the mesh; restart what ran there before. `certloom connector status %s` shows the first certificates.", label, c.Name)
}

// issuerSteps bring up what signs in the cluster.
func issuerSteps(c *pki.Connector) []Step {
	ns := c.Settings.IstioNamespace
	if c.Mode == pki.ModeAgent {
		return []Step{
			{
				ID: "apply", Title: "Namespace and credential",
				Commands: []string{"kubectl apply -f 00-namespaces.yaml -f 10-agent-secret.yaml"},
				Checks:   []string{"kubectl get secret certloom-agent -n " + ns},
			},
			{
				ID: "agent", Title: "certloom-agent",
				Commands: []string{fmt.Sprintf("helm upgrade --install %s ./%s -n %s -f certloom-agent-values.yaml", agentName, chartName, ns)},
				Checks: []string{
					fmt.Sprintf("kubectl rollout status deployment/%s -n %s --timeout=5m", agentName, ns),
					"kubectl wait --for=create secret/istiod-tls -n " + ns + " --timeout=2m",
				},
				Note: "Its Pods are ready when a certificate could be issued now; `kubectl logs -n " + ns + " deployment/" + agentName + "` has the reason when they are not.",
			},
		}
	}
	return []Step{
		{
			ID: "cert-manager", Title: "cert-manager, if it is not there yet",
			Commands: []string{"kubectl get deployment cert-manager -n cert-manager || kubectl apply -f " + certManagerRelease},
			Checks:   []string{"kubectl wait --for=condition=Available deployment --all -n cert-manager --timeout=5m"},
		},
		{
			ID: "apply", Title: "Namespace, credential, root and issuer",
			Commands: []string{"kubectl apply -f 00-namespaces.yaml -f 10-eab-secret.yaml -f 20-root-secret.yaml -f 30-issuer.yaml"},
			Checks:   []string{fmt.Sprintf("kubectl wait --for=condition=Ready issuer/%s -n %s --timeout=2m", c.Settings.IssuerName, ns)},
			Note: fmt.Sprintf("Reason `ACMEAccountRegistered` is what it should say; `kubectl describe issuer %s -n %s` has the server's sentence when it says something else.",
				c.Settings.IssuerName, ns),
		},
		{
			ID: "istio-csr", Title: "istio-csr, before Istio",
			Commands: []string{
				"helm repo add jetstack https://charts.jetstack.io --force-update",
				"helm upgrade --install " + istioCSRName + " jetstack/" + istioCSRName + " -n cert-manager -f istio-csr-values.yaml",
			},
			Checks: []string{
				"kubectl rollout status deployment/" + istioCSRName + " -n cert-manager --timeout=5m",
				"kubectl wait --for=condition=Ready certificate --all -n " + ns + " --timeout=2m",
			},
		},
	}
}

func istioStep(c *pki.Connector) Step {
	ns := c.Settings.IstioNamespace
	step := Step{
		ID: "istio", Title: "Istio",
		Commands: []string{
			"helm repo add istio https://istio-release.storage.googleapis.com/charts --force-update",
			"helm upgrade --install istio-base istio/base -n " + ns + " --set defaultRevision=default",
			"helm upgrade --install istiod istio/istiod -n " + ns + " -f istiod-values.yaml",
		},
		Checks: []string{"kubectl rollout status deployment/istiod -n " + ns + " --timeout=5m"},
		Note:   "With istioctl instead of Helm: `istioctl install -y -f istio-operator.yaml`.",
	}
	if c.Settings.Dataplane == pki.Ambient {
		step.Commands = append(step.Commands,
			"helm upgrade --install istio-cni istio/cni -n "+ns+" -f cni-values.yaml",
			"helm upgrade --install ztunnel istio/ztunnel -n "+ns+" -f ztunnel-values.yaml")
		step.Checks = append(step.Checks, "kubectl rollout status daemonset/ztunnel -n "+ns+" --timeout=5m")
	}
	return step
}

// ApplySteps are the steps where the package is applied from its one-time address: what Helm needs is then in the cluster,
// in a ConfigMap. Private says that curl must be told what to trust.
func ApplySteps(c *pki.Connector, files []File, address string, private bool) []Step {
	steps := Steps(c)
	for i := range steps {
		if steps[i].ID == "apply" {
			fetch := fetchStep(c, files, address, private)
			fetch.Checks, fetch.Note = steps[i].Checks, steps[i].Note
			steps[i] = fetch
		}
	}
	return steps
}

func fetchStep(c *pki.Connector, files []File, address string, private bool) Step {
	ns, trust := c.Settings.IstioNamespace, ""
	if private {
		trust = "--cacert root.pem "
	}
	var values []string
	for _, f := range files {
		if inConfigMap(f.Name) {
			values = append(values, f.Name)
		}
	}
	step := Step{
		ID: "fetch", Title: "Everything that kubectl applies, and the values for Helm",
		Commands: []string{
			fmt.Sprintf("curl %s-sSf %s | kubectl apply -f -", trust, address),
			fmt.Sprintf("for f in %s; do kubectl get configmap %s -n %s -o go-template='{{index .data \"'$f'\"}}' > $f; done", strings.Join(values, " "), valuesName, ns),
		},
	}
	if c.Mode == pki.ModeAgent {
		step.Commands = append(step.Commands,
			fmt.Sprintf("kubectl get configmap %s -n %s -o go-template='{{index .binaryData %q}}' | base64 -d > %s", valuesName, ns, chartName, chartName))
	}
	return step
}
