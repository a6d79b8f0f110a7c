package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/agent"
	"github.com/certloom/certloom/internal/agent/publish"
)

// publishOptions say what is written into the cluster.
type publishOptions struct {
	leaseNamespace, rootMap, selector string
	workers                           int
	crlMap                            string
	trustBundles, trustBundle         string
	istiodEnabled                     bool
	istiod                            publish.Istiod
	istiodAlgorithm                   string
	istiodKeySize                     int
}

const (
	trustBundlesAuto = "auto"
	trustBundlesOff  = "off"
)

func (o *options) publishFlags() {
	f := o.group("Written into the cluster, by one replica")
	f.StringVar(&o.leaseNamespace, "leader-election-namespace", "istio-system", "namespace of the Lease that says which replica writes")
	f.StringVar(&o.rootMap, "root-configmap-name", "istio-ca-root-cert", "ConfigMap with the roots, in each selected namespace")
	f.StringVar(&o.selector, "configmap-namespace-selector", "", "label selector of these namespaces (default: all)")
	f.IntVar(&o.workers, "max-concurrent-reconciles", 4, "ConfigMaps that are written at once")
	f.StringVar(&o.crlMap, "crl-configmap-name", "istio-ca-crl",
		"ConfigMap with the revocation lists of the mesh's CAs, in each selected namespace, when the issuer has them; empty for none")
	f.StringVar(&o.trustBundles, "cluster-trust-bundle", trustBundlesAuto, "ClusterTrustBundles with the roots: auto (where the API server has them) or off")
	f.StringVar(&o.trustBundle, "cluster-trust-bundle-name", "certloom-roots", "name of the one without a signer, besides Istio's; empty for none")
	f.BoolVar(&o.istiodEnabled, "istiod-cert-enabled", true, "keep istiod's certificate in a Secret")
	f.StringVar(&o.istiod.Namespace, "istiod-cert-namespace", "istio-system", "namespace of istiod and of that Secret")
	f.StringVar(&o.istiod.Secret, "istiod-cert-secret", "istiod-tls", "its name")
	f.DurationVar(&o.istiod.Lifetime, "istiod-cert-duration", 24*time.Hour, "lifetime of the certificate")
	f.DurationVar(&o.istiod.RenewBefore, "istiod-cert-renew-before", 0, "how long before its end it is renewed (default: half of its lifetime)")
	f.StringVar(&o.istiodAlgorithm, "istiod-cert-key-algorithm", "ECDSA", "its key: ECDSA or RSA")
	f.IntVar(&o.istiodKeySize, "istiod-cert-key-size", 0, "256 or 384 for ECDSA, 2048, 3072 or 4096 for RSA (default: the smallest)")
	f.StringSliceVar(&o.istiod.MoreNames, "istiod-cert-additional-dns-names", nil, "further DNS names of istiod, as of ISTIOD_CUSTOM_HOST")
	f.StringSliceVar(&o.istiod.Revisions, "istiod-cert-istio-revisions", []string{"default"}, "revisions of istiod whose names the certificate has")
	f.BoolVar(&o.istiod.Restart, "restart-istiod", false,
		"restart Deployments of istiod that started before the certificate was there and serve nothing therefore; needs permissions of its own")
}

// published puts into the settings what is written into the cluster, and returns what cannot be read.
func (o *options) published(s *agent.Settings) []error {
	var problems []error
	s.LeaseNamespace, s.RootMap, s.NamespaceSelector, s.Workers = o.leaseNamespace, o.rootMap, o.selector, o.workers
	s.CRLMap, s.TrustBundles, s.TrustBundle = o.crlMap, o.trustBundles == trustBundlesAuto, o.trustBundle
	if o.trustBundles != trustBundlesAuto && o.trustBundles != trustBundlesOff {
		problems = append(problems, fmt.Errorf("--cluster-trust-bundle: %q is not one of %s, %s", o.trustBundles, trustBundlesAuto, trustBundlesOff))
	}
	if o.istiodEnabled {
		var err error
		s.Istiod = &o.istiod
		if s.Istiod.Key, err = keyAlgorithm(o.istiodAlgorithm, o.istiodKeySize); err != nil {
			problems = append(problems, fmt.Errorf("--istiod-cert-key-algorithm: %w", err))
		}
	} else if o.istiod.Restart {
		problems = append(problems, errors.New("--restart-istiod: only with --istiod-cert-enabled"))
	}
	return problems
}
