package command

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certloom/certloom/internal/agent"
	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/pki"
)

// options are the values of the flags, as they were written.
type options struct {
	groups []flagGroup

	issuer         string
	rootCAFile     string
	credentialFile string // of more than one issuer
	certloom       agent.CertloomSettings
	acme           agent.ACMESettings
	certManager    agent.CertManagerSettings

	servingAddress       string
	servingNames         []string
	servingLifetime      time.Duration
	servingAlgorithm     string
	servingKeySize       int
	tlsMinVersion        string
	tlsCiphers           []string
	tlsCurves            []string
	trustDomain          string
	clusterID            string
	clusterAliases       []string
	remoteClusters       string
	maxLifetime          time.Duration
	clientCertificates   bool
	nodeAccounts         []string
	tokenReview          bool
	audiences, issuers   []string
	healthPort           int
	healthPath           string
	metricsPort          int
	pprof                bool
	shutdownDelay        time.Duration
	logLevel, logFormat  string
	kubeconfig           string
	kubeQPS              float64
	kubeBurst            int
	unlimited            bool
	namespace, pod, node string
	account              string

	publishOptions
}

// newOptions declares the flags; env gives the defaults that a Pod knows of itself.
func newOptions(env func(string) string) *options {
	o := &options{}
	o.issuerFlags()
	o.certloomFlags()
	o.acmeFlags()
	o.certManagerFlags()
	o.serviceFlags()
	o.callerFlags(env)
	o.publishFlags()
	o.clusterFlags(env)
	o.operationFlags()
	return o
}

func (o *options) serviceFlags() {
	f := o.group("Certificate service")
	f.StringVarP(&o.servingAddress, "serving-address", "a", "0.0.0.0:6443", "where Istio's workloads connect")
	f.StringSliceVar(&o.servingNames, "serving-certificate-dns-names", []string{"certloom-agent.istio-system.svc"},
		"DNS names of the service's own certificate: the hosts of caAddress")
	f.DurationVarP(&o.servingLifetime, "serving-certificate-duration", "t", time.Hour, "lifetime of that certificate")
	f.StringVar(&o.servingAlgorithm, "serving-signature-algorithm", "ECDSA", "its key: ECDSA or RSA")
	f.IntVar(&o.servingKeySize, "serving-certificate-key-size", 0, "256 or 384 for ECDSA, 2048, 3072 or 4096 for RSA (default: the smallest)")
	f.StringVar(&o.tlsMinVersion, "serving-tls-min-version", "VersionTLS12", "VersionTLS12 or VersionTLS13")
	f.StringSliceVar(&o.tlsCiphers, "serving-tls-cipher-suites", nil, "cipher suites of TLS 1.2, by their IANA names (default: Go's)")
	f.StringSliceVar(&o.tlsCurves, "serving-tls-curve-preferences", nil, "key exchanges, by Go's names such as X25519 or CurveP256 (default: Go's)")
	f.DurationVarP(&o.maxLifetime, "max-client-certificate-duration", "m", time.Hour,
		"longest lifetime of workloads' certificates; each is up to a tenth shorter, so that they are not all renewed at once")
}

func (o *options) callerFlags(env func(string) string) {
	audiences := []string{"istio-ca"}
	if set := env("TOKEN_AUDIENCES"); set != "" {
		audiences = strings.Split(set, ",")
	}
	f := o.group("Who may call")
	f.StringVar(&o.trustDomain, "trust-domain", "cluster.local", "trust domain of the mesh")
	f.StringVar(&o.clusterID, "cluster-id", "Kubernetes", "name of this cluster, as in Istio's global.multiCluster.clusterName")
	f.StringSliceVar(&o.clusterAliases, "cluster-id-aliases", nil, "other names by which callers may know this cluster")
	f.StringVar(&o.remoteClusters, "remote-clusters-namespace", "",
		"namespace of Secrets with the kubeconfigs of remote clusters whose workloads may call, such as istio-system; "+
			"they are those that \"istioctl create-remote-secret\" makes, with label istio/multiCluster=true (default: none)")
	f.StringSliceVar(&o.audiences, "token-audiences", audiences, "accepted audiences of tokens (TOKEN_AUDIENCES)")
	f.StringSliceVar(&o.issuers, "token-issuers", nil, "accepted issuers of tokens besides the one that the API server names")
	f.BoolVar(&o.tokenReview, "token-review", false, "ask the API server about each token instead of verifying it here")
	o.certificateFlags(f)
	f.StringSliceVar(&o.nodeAccounts, "ca-trusted-node-accounts", nil,
		"NAMESPACE/SERVICEACCOUNT of node proxies that may ask for the Pods on their node, such as istio-system/ztunnel")
}

func (o *options) clusterFlags(env func(string) string) {
	f := o.group("Kubernetes")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the API server (default: the cluster that the agent runs in)")
	f.Float64Var(&o.kubeQPS, "kube-api-qps", 200, "requests a second to the API server")
	f.IntVar(&o.kubeBurst, "kube-api-burst", 400, "requests to the API server at once")
	f.BoolVar(&o.unlimited, "disable-kubernetes-client-rate-limiter", false, "no limit of requests to the API server")
	f.StringVar(&o.namespace, "pod-namespace", env("POD_NAMESPACE"), "namespace of the agent's own Pod, for the inventory (POD_NAMESPACE)")
	f.StringVar(&o.account, "pod-service-account", env("SERVICE_ACCOUNT"), "its ServiceAccount (SERVICE_ACCOUNT)")
	f.StringVar(&o.pod, "pod-name", env("POD_NAME"), "its name (POD_NAME)")
	f.StringVar(&o.node, "node-name", env("NODE_NAME"), "its node (NODE_NAME)")
}

func (o *options) operationFlags() {
	f := o.group("Operation")
	f.IntVar(&o.healthPort, "readiness-probe-port", 6060, "port of the readiness and liveness probes")
	f.StringVar(&o.healthPath, "readiness-probe-path", "/readyz", "path of the readiness probe; the liveness probe's is /livez")
	f.IntVar(&o.metricsPort, "metrics-port", 9402, "port of /metrics")
	f.DurationVar(&o.shutdownDelay, "shutdown-delay", 5*time.Second,
		"how long new callers are still served after SIGTERM, while the Service learns that this replica is not ready")
	f.BoolVar(&o.pprof, "pprof", false, "serve Go profiles under /debug/pprof/ on the port of /metrics")
	f.StringVarP(&o.logLevel, "log-level", "v", "info", "debug, info, warn or error; istio-csr's 1 to 5 are taken as well")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
}

// addTo puts the flags on the command and groups its help.
func (o *options) addTo(c *cobra.Command) {
	c.Flags().SortFlags = false
	for _, group := range o.groups {
		c.Flags().AddFlagSet(group.flags)
	}
	c.SetUsageFunc(func(c *cobra.Command) error {
		out := c.OutOrStderr()
		fmt.Fprintf(out, "Usage:\n  %s\n\nExamples:\n%s\n", c.UseLine(), c.Example)
		for _, group := range o.groups {
			fmt.Fprintf(out, "\n%s:\n%s", group.title, group.flags.FlagUsages())
		}
		return nil
	})
}

// level reads istio-csr's numbers: 1 to 3 say what happens, more is for debugging.
func (o *options) level() string {
	if number, err := strconv.Atoi(o.logLevel); err == nil && number >= 0 {
		if number > 3 {
			return "debug"
		}
		return "info"
	}
	return o.logLevel
}

// settings makes settings of the flags, and returns what cannot be read.
func (o *options) settings() (agent.Settings, []error) {
	var problems []error
	note := func(flag string, err error) {
		if err != nil {
			problems = append(problems, fmt.Errorf("--%s: %w", flag, err))
		}
	}
	s := agent.Settings{
		Issuer: o.issuer, RootCAFile: o.rootCAFile, Certloom: o.certloom, ACME: o.acme, CertManager: o.certManager,
		ServingAddress: o.servingAddress, ServingNames: o.servingNames, ServingLifetime: o.servingLifetime,
		TrustDomain: o.trustDomain, ClusterIDs: append([]string{o.clusterID}, o.clusterAliases...), RemoteClustersNamespace: o.remoteClusters,
		MaxLifetime: o.maxLifetime, ClientCertificates: o.clientCertificates,
		TokenReview: o.tokenReview, TokenAudiences: o.audiences, TokenIssuers: o.issuers,
		HealthAddress: anyHost(o.healthPort), ReadinessPath: o.healthPath, MetricsAddress: anyHost(o.metricsPort), Pprof: o.pprof, ShutdownDelay: o.shutdownDelay,
		Namespace: o.namespace, ServiceAccount: o.account, Pod: o.pod, Node: o.node,
	}
	s.Certloom.CredentialFile, s.ACME.CredentialFile = o.credentialFile, o.credentialFile
	o.defaultCertificates(&s)
	problems = append(problems, o.misplaced()...)
	problems = append(problems, o.published(&s)...)
	var err error
	s.ServingKey, err = keyAlgorithm(o.servingAlgorithm, o.servingKeySize)
	note("serving-signature-algorithm", err)
	s.NodeAccounts, err = nodeAccounts(o.nodeAccounts)
	note("ca-trusted-node-accounts", err)
	s.TLS.MinVersion, err = tlsVersion(o.tlsMinVersion)
	note("serving-tls-min-version", err)
	s.TLS.CipherSuites, err = cipherSuites(o.tlsCiphers)
	note("serving-tls-cipher-suites", err)
	s.TLS.Curves, err = curves(o.tlsCurves)
	note("serving-tls-curve-preferences", err)
	return s, problems
}

func anyHost(port int) string { return net.JoinHostPort("", strconv.Itoa(port)) }

func keyAlgorithm(name string, size int) (pki.KeyAlgorithm, error) {
	type choice struct {
		name string
		size int
	}
	table := map[choice]pki.KeyAlgorithm{
		{"ECDSA", 0}: pki.ECDSAP256, {"ECDSA", 256}: pki.ECDSAP256, {"ECDSA", 384}: pki.ECDSAP384,
		{"RSA", 0}: pki.RSA2048, {"RSA", 2048}: pki.RSA2048, {"RSA", 3072}: pki.RSA3072, {"RSA", 4096}: pki.RSA4096,
	}
	if algorithm, ok := table[choice{strings.ToUpper(name), size}]; ok {
		return algorithm, nil
	}
	return "", fmt.Errorf("%s with %d bits is not ECDSA with 256 or 384, or RSA with 2048, 3072 or 4096", name, size)
}

func nodeAccounts(list []string) ([]caservice.NodeAccount, error) {
	accounts := make([]caservice.NodeAccount, 0, len(list))
	for _, item := range list {
		namespace, name, ok := strings.Cut(item, "/")
		// istio-csr drops a bad entry with a line in its log; a mistake here would show only when ztunnel is refused.
		if !ok || len(validation.IsDNS1123Label(namespace)) > 0 || len(validation.IsDNS1123Subdomain(name)) > 0 {
			return nil, fmt.Errorf("%q is not NAMESPACE/SERVICEACCOUNT", item)
		}
		accounts = append(accounts, caservice.NodeAccount{Namespace: namespace, Name: name})
	}
	return accounts, nil
}

func tlsVersion(name string) (uint16, error) {
	switch name {
	case "", "VersionTLS12":
		return tls.VersionTLS12, nil
	case "VersionTLS13":
		return tls.VersionTLS13, nil
	default:
		return 0, fmt.Errorf("%q is not one of VersionTLS12, VersionTLS13", name)
	}
}

func cipherSuites(names []string) ([]uint16, error) {
	var ids []uint16
	for _, name := range names {
		i := slices.IndexFunc(tls.CipherSuites(), func(suite *tls.CipherSuite) bool { return suite.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%q is not a cipher suite that Go considers safe", name)
		}
		ids = append(ids, tls.CipherSuites()[i].ID)
	}
	return ids, nil
}

func curves(names []string) ([]tls.CurveID, error) {
	known := []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
	var ids []tls.CurveID
	for _, name := range names {
		i := slices.IndexFunc(known, func(id tls.CurveID) bool { return id.String() == name })
		if i < 0 {
			return nil, fmt.Errorf("%q is not one of %v", name, known)
		}
		ids = append(ids, known[i])
	}
	return ids, nil
}
