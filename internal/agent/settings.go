package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/publish"
	"github.com/certloom/certloom/internal/pki"
)

// Settings are what an operator decides. The names in the messages of Check are those of the command's flags.
type Settings struct {
	Issuer     string           // where certificates come from: one of Issuers
	RootCAFile string           // roots in PEM, for issuers whose CA does not tell them
	Certloom   CertloomSettings // used with IssuerCertloom
	ACME       ACMESettings     // used with IssuerACME

	CertManager CertManagerSettings // used with IssuerCertManager

	ServingAddress  string
	ServingNames    []string
	ServingKey      pki.KeyAlgorithm
	ServingLifetime time.Duration
	TLS             TLSSettings

	TrustDomain string
	ClusterIDs  []string // the first is our name, the others are accepted too
	// RemoteClustersNamespace has the Secrets with the kubeconfigs of remote clusters; "" where there are none.
	RemoteClustersNamespace string
	MaxLifetime             time.Duration
	ClientCertificates      bool
	NodeAccounts            []caservice.NodeAccount

	TokenReview    bool
	TokenAudiences []string
	TokenIssuers   []string

	HealthAddress  string
	ReadinessPath  string
	MetricsAddress string
	Pprof          bool // serve Go profiles beside the metrics
	// ShutdownDelay is how long new callers are still served after the end has been asked for.
	ShutdownDelay time.Duration

	LeaseNamespace    string
	RootMap           string // name of the ConfigMap with the roots
	NamespaceSelector string // label selector of the namespaces that get one; "" is all
	Workers           int
	CRLMap            string          // name of the ConfigMap with the revocation lists, "" for none
	TrustBundles      bool            // write ClusterTrustBundles where the API server has them
	TrustBundle       string          // name of our own, "" for Istio's only
	Istiod            *publish.Istiod // nil when the agent does not keep istiod's certificate

	// Of the Pod that the agent runs in, for the inventory; "" where it is not known.
	Namespace, ServiceAccount, Pod, Node string
}

// TLSSettings narrow what the listener offers. The zero value is what Go considers safe, from TLS 1.2 on.
type TLSSettings struct {
	MinVersion   uint16
	CipherSuites []uint16 // of TLS 1.2
	Curves       []tls.CurveID
}

func (t TLSSettings) apply(config *tls.Config) *tls.Config {
	config.MinVersion = max(config.MinVersion, t.MinVersion)
	config.CipherSuites, config.CurvePreferences = t.CipherSuites, t.Curves
	return config
}

// own is who the agent itself is.
func (s *Settings) own() issuer.Caller {
	return issuer.Caller{Namespace: s.Namespace, ServiceAccount: s.ServiceAccount, Pod: s.Pod, Node: s.Node}
}

// Check fills in what files say and returns everything that is wrong, together.
func (s *Settings) Check() error {
	problems := s.checkIssuer()
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	s.TrustDomain = strings.ReplaceAll(s.TrustDomain, "@", ".") // as Istio writes a trust domain that is a service account
	if err := pki.CheckTrustDomain(s.TrustDomain); err != nil {
		bad("--trust-domain: %w", err)
	}
	for _, item := range []struct{ flag, address string }{
		{"--serving-address", s.ServingAddress}, {"--readiness-probe-port", s.HealthAddress}, {"--metrics-port", s.MetricsAddress},
	} {
		if _, _, err := net.SplitHostPort(item.address); err != nil {
			bad("%s: %q is not HOST:PORT", item.flag, item.address)
		}
	}
	if !strings.HasPrefix(s.ReadinessPath, "/") || strings.ContainsAny(s.ReadinessPath, " {}") || s.ReadinessPath == "/livez" {
		bad("--readiness-probe-path: %q is not a path such as /readyz", s.ReadinessPath)
	}
	if len(s.ServingNames) == 0 {
		bad("--serving-certificate-dns-names: at least one name is needed")
	}
	for _, name := range s.ServingNames {
		if id, err := pki.NormalizeIdentifier(pki.Identifier{Type: pki.DNS, Value: name}); err != nil || id.Value != name {
			bad("--serving-certificate-dns-names: %q is not a DNS name in lower case", name)
		}
	}
	if len(s.TokenAudiences) == 0 {
		bad("--token-audiences: at least one audience is needed")
	}
	problems = append(problems, s.checkClusters()...)
	problems = append(problems, s.checkLifetimes()...)
	return errors.Join(append(problems, s.checkPublished()...)...)
}

func (s *Settings) checkLifetimes() []error {
	type item struct {
		flag  string
		value time.Duration
	}
	items := []item{{"--max-client-certificate-duration", s.MaxLifetime}, {"--serving-certificate-duration", s.ServingLifetime}}
	if s.Istiod != nil {
		items = append(items, item{"--istiod-cert-duration", s.Istiod.Lifetime})
	}
	const shortest, longest, longestDelay = time.Minute, 10 * 365 * 24 * time.Hour, 10 * time.Minute
	var problems []error
	if s.ShutdownDelay < 0 || s.ShutdownDelay > longestDelay {
		problems = append(problems, fmt.Errorf("--shutdown-delay: %s is not between 0 and %s", s.ShutdownDelay, longestDelay))
	}
	for _, item := range items {
		if item.value < shortest || item.value > longest {
			problems = append(problems, fmt.Errorf("%s: %s is not between %s and %s", item.flag, item.value, shortest, longest))
		}
	}
	return problems
}

// checkPublished checks what the agent writes into the cluster.
func (s *Settings) checkPublished() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	label := func(flag, value string) {
		if faults := validation.IsDNS1123Label(value); len(faults) > 0 {
			bad("--%s: %q is not a name in Kubernetes: %s", flag, value, strings.Join(faults, "; "))
		}
	}
	label("leader-election-namespace", s.LeaseNamespace)
	label("root-configmap-name", s.RootMap)
	if s.CRLMap != "" {
		label("crl-configmap-name", s.CRLMap)
	}
	if s.CRLMap == s.RootMap {
		bad("--crl-configmap-name: %q is that of --root-configmap-name", s.CRLMap)
	}
	if s.TrustBundle != "" {
		label("cluster-trust-bundle-name", s.TrustBundle)
	}
	if _, err := labels.Parse(s.NamespaceSelector); err != nil {
		bad("--configmap-namespace-selector: %w", err)
	}
	if s.Workers < 1 || s.Workers > 100 {
		bad("--max-concurrent-reconciles: %d is not between 1 and 100", s.Workers)
	}
	if s.Istiod == nil {
		return problems
	}
	label("istiod-cert-namespace", s.Istiod.Namespace)
	label("istiod-cert-secret", s.Istiod.Secret)
	for _, revision := range s.Istiod.Revisions {
		label("istiod-cert-istio-revisions", revision)
	}
	for _, name := range s.Istiod.MoreNames {
		if id, err := pki.NormalizeIdentifier(pki.Identifier{Type: pki.DNS, Value: name}); err != nil || id.Value != name {
			bad("--istiod-cert-additional-dns-names: %q is not a DNS name in lower case", name)
		}
	}
	if s.Istiod.RenewBefore < 0 || s.Istiod.RenewBefore >= s.Istiod.Lifetime {
		bad("--istiod-cert-renew-before: %s is not between 0 and --istiod-cert-duration, %s", s.Istiod.RenewBefore, s.Istiod.Lifetime)
	}
	return problems
}
