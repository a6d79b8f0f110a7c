package command

import "github.com/certloom/certloom/internal/agent"

// certManagerFlags are istio-csr's, with its names, letters and defaults.
func (o *options) certManagerFlags() {
	f := o.group("cert-manager (--issuer cert-manager)")
	f.StringVarP(&o.certManager.Namespace, "certificate-namespace", "c", "istio-system", "namespace of the CertificateRequests, and of an issuer that is no ClusterIssuer")
	f.BoolVarP(&o.certManager.IssuerEnabled, "issuer-enabled", "e", true, "use the issuer that the next three flags name, while no ConfigMap names another")
	f.StringVarP(&o.certManager.IssuerName, "issuer-name", "u", "istio-ca", "name of the issuer")
	f.StringVarP(&o.certManager.IssuerKind, "issuer-kind", "k", "Issuer", "its kind: Issuer, ClusterIssuer, or that of an external issuer")
	f.StringVarP(&o.certManager.IssuerGroup, "issuer-group", "g", "cert-manager.io", "its API group")
	f.StringVar(&o.certManager.RuntimeMap, "runtime-issuance-config-map-name", "",
		"ConfigMap that can name another issuer at any time, with issuer-name, issuer-kind and issuer-group (default: none)")
	f.StringVar(&o.certManager.RuntimeNamespace, "runtime-issuance-config-map-namespace", "", "its namespace (default: --certificate-namespace)")
	f.StringToStringVar(&o.certManager.Annotations, "certificate-request-additional-annotations", nil, "annotations of each CertificateRequest, as NAME=VALUE,...")
	f.BoolVarP(&o.certManager.Preserve, "preserve-certificate-requests", "d", false, "do not delete CertificateRequests: they pile up, so delete them yourself")
	f.IntVar(&o.certManager.Concurrency, "max-concurrent-certificate-requests", 256, "CertificateRequests under way at once")
	only(f, agent.IssuerCertManager)
}
