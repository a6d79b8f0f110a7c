package connector

import (
	"errors"
	"net/mail"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// Defaults of what a package is made of.
const (
	DefaultIstioNamespace = "istio-system"
	DefaultIssuer         = "certloom"
	DefaultAgentImage     = "certloom-agent" // in whatever registry the nodes pull from by default
)

// certManagerNamespace is where cert-manager's own manifests, and the guides of istio-csr, install.
const certManagerNamespace = "cert-manager"

// Subject is what a package gives access to.
type Subject struct {
	Profile    *pki.Profile
	IssuingCA  *pki.CA
	Credential *pki.Credential // nil when it is still to be made
	AgentURL   string          // where agents enrol, "" when the server serves none
}

// Complete fills in what was left out: from the profile where it says something, else what Istio's own defaults are.
func Complete(c *pki.Connector, s *Subject) {
	set := &c.Settings
	if c.Kind == "" {
		c.Kind = pki.ConnectorIstio
	}
	if c.Mode == "" {
		c.Mode = pki.ModeCertManager
		if s.Profile.Method == pki.Agent {
			c.Mode = pki.ModeAgent
		}
	}
	if domains := s.Profile.Rules.Names.SPIFFE.TrustDomains; set.TrustDomain == "" && len(domains) > 0 {
		set.TrustDomain = domains[0]
	}
	if set.IstioNamespace == "" {
		set.IstioNamespace = DefaultIstioNamespace
	}
	if set.Dataplane == "" {
		set.Dataplane = pki.Sidecar
	}
	if c.Mode == pki.ModeAgent && set.AgentImage == "" {
		set.AgentImage = DefaultAgentImage
	}
	if c.Mode == pki.ModeCertManager && set.IssuerName == "" {
		set.IssuerName = DefaultIssuer
	}
}

const (
	// shortestCertManager is what cert-manager accepts as the duration of a Certificate, which istiod's is
	// (pkg/apis/certmanager/v1/const.go).
	shortestCertManager = time.Hour
	// shortestAgent leaves half an hour to renew in: proxyless gRPC programs read their files each quarter of an hour.
	shortestAgent = time.Hour
)

// Check refuses what could not work, everything at once; fields are those of apiv1.CreateConnector.
func Check(c *pki.Connector, s *Subject, now time.Time) error {
	f := &findings{}
	f.form(c)
	f.standing(c, s, now)
	f.method(c, s)
	f.names(c, s)
	f.lifetime(c, s)
	f.keys(c, s)
	return errors.Join(*f...)
}

type findings []error

func (f *findings) add(field, format string, args ...any) finding {
	err := fault.New(fault.Malformed, format, args...).WithField(field)
	*f = append(*f, err)
	return finding{err}
}

// finding is one thing that is wrong.
type finding struct{ err *fault.Error }

// hint says what to do about it.
func (f finding) hint(format string, args ...any) { _ = f.err.WithHint(format, args...) } // it returns what it changes

var (
	// clusterName is what Kubernetes takes as the value of a label: Istio puts the cluster's name into one.
	clusterName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	// objectName is a label of RFC 1123, as names of namespaces are.
	objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	// image is REGISTRY/PATH:TAG@DIGEST with all but the path optional, as the distribution specification has it.
	image = regexp.MustCompile(`^[a-z0-9]([A-Za-z0-9._:/-]{0,253}[A-Za-z0-9])?(@sha256:[0-9a-f]{64})?$`)
)

// form looks at the settings by themselves.
func (f *findings) form(c *pki.Connector) {
	set := &c.Settings
	if c.Kind != pki.ConnectorIstio {
		f.add("/kind", "connector kind %.40q is not one of istio", c.Kind)
	}
	if !clusterName.MatchString(c.Name) {
		f.add("/name", "cluster name %.80q is not 1 to 63 letters, digits, hyphens, underscores and dots that begin and end with a letter or digit, "+
			"which Istio makes a label of", c.Name)
	}
	if !objectName.MatchString(set.IstioNamespace) {
		f.add("/istioNamespace", "namespace %.80q is not 1 to 63 lower-case letters, digits and hyphens, as names in Kubernetes are", set.IstioNamespace)
	}
	if set.Dataplane != pki.Sidecar && set.Dataplane != pki.Ambient {
		f.add("/dataplane", "data plane %.40q is not one of sidecar, ambient", set.Dataplane)
	}
	switch c.Mode {
	case pki.ModeCertManager:
		f.certManagerForm(set)
	case pki.ModeAgent:
		f.agentForm(set)
	default:
		f.add("/mode", "mode %.40q is not one of cert-manager, agent", c.Mode)
	}
}

func (f *findings) certManagerForm(set *pki.ConnectorSettings) {
	if !objectName.MatchString(set.IssuerName) {
		f.add("/issuerName", "issuer name %.80q is not 1 to 63 lower-case letters, digits and hyphens, as names in Kubernetes are", set.IssuerName)
	}
	if parsed, err := mail.ParseAddress(set.Email); set.Email != "" && (err != nil || parsed.Address != set.Email) {
		f.add("/email", "e-mail address %.80q is not one address, such as mesh-owner@example.com", set.Email)
	}
	if set.AgentImage != "" {
		f.add("/agentImage", "agent image %.80q is for mode agent; mode cert-manager runs no agent", set.AgentImage)
	}
}

func (f *findings) agentForm(set *pki.ConnectorSettings) {
	if !image.MatchString(set.AgentImage) {
		f.add("/agentImage", "agent image %.80q is not REGISTRY/PATH:TAG or REGISTRY/PATH@sha256:DIGEST", set.AgentImage)
	}
	if set.IssuerName != "" {
		f.add("/issuerName", "issuer name %.80q is for mode cert-manager; mode agent has no Issuer", set.IssuerName)
	}
	if set.Email != "" {
		f.add("/email", "e-mail address %.80q is for mode cert-manager; agents have no ACME account", set.Email)
	}
}

// standing looks whether anything is issued now.
func (f *findings) standing(c *pki.Connector, s *Subject, now time.Time) {
	p := s.Profile
	if p.State != pki.Active {
		f.add("/profile", "profile %q is %s, so it issues nothing", p.Name, p.State).hint("certloom profile activate %s", p.Name)
	}
	if ca := s.IssuingCA; ca == nil || ca.State != pki.Active {
		name := string(p.IssuingCA)
		state := "gone"
		if ca != nil {
			name, state = ca.Name, string(ca.State)
		}
		f.add("/profile", "issuing CA %q of profile %q is %s, so the profile issues nothing", name, p.Name, state).hint("certloom ca activate %s", name)
	}
	if s.Credential != nil && !s.Credential.Usable(now) {
		f.add("/credential", "credential %q of profile %q is revoked or has expired", s.Credential.Name, p.Name).
			hint("take another name: certloom connector istio --credential NAME makes the credential")
	}
	if c.Mode == pki.ModeAgent && s.AgentURL == "" {
		f.add("/mode", "mode agent needs the listener for agents, which this server has switched off").hint("set listen.agent in the server's settings")
	}
}

// method looks whether the profile is for what the mode does.
func (f *findings) method(c *pki.Connector, s *Subject) {
	p := s.Profile
	want, ok := map[pki.ConnectorMode]pki.EnrollmentMethod{
		pki.ModeCertManager: pki.MTLSOverACME, pki.ModeAgent: pki.Agent,
	}[c.Mode]
	switch {
	case !ok: // said already
	case p.Template != pki.PrivateMTLS:
		f.add("/profile", "profile %q is of template %s; a mesh needs one of template %s", p.Name, p.Template, pki.PrivateMTLS)
	case p.Method != want:
		f.add("/mode", "mode %s needs a profile with enrollment method %s; profile %q has %s", c.Mode, want, p.Name, p.Method).
			hint("choose the other mode, or another profile: certloom profile list")
	}
	for _, use := range []string{"serverAuth", "clientAuth"} {
		if !slices.Contains(p.Rules.ExtKeyUsage, use) {
			f.add("/profile", "profile %q issues certificates without extended key usage %s, which both ends of a mesh's connections need", p.Name, use)
		}
	}
}

// names asks the policy for the names that the mesh itself needs; those of workloads are the profile's own business.
func (f *findings) names(c *pki.Connector, s *Subject) {
	p, set := s.Profile, &c.Settings
	if !objectName.MatchString(set.IstioNamespace) {
		return // said already
	}
	credential := s.Credential
	if credential == nil {
		credential = &pki.Credential{ProfileID: p.ID}
	}
	if !slices.Contains(p.Rules.Names.SPIFFE.TrustDomains, set.TrustDomain) {
		f.add("/trustDomain", "trust domain %.120q is not one that profile %q allows: %s",
			set.TrustDomain, p.Name, strings.Join(p.Rules.Names.SPIFFE.TrustDomains, ", "))
		return
	}
	istiod := IstiodID(c)
	if reason := policy.CheckSPIFFEID(p, credential, istiod); reason != "" {
		f.add("/profile", "istiod's SPIFFE ID %s %s", istiod, reason).hint("certloom profile update %s --allow-namespace %s", p.Name, set.IstioNamespace)
	}
	if p.Method != pki.MTLSOverACME && p.Method != pki.Agent {
		return
	}
	for _, name := range servedNames(c) {
		err := policy.CheckIdentifiers(p, credential, []pki.Identifier{{Type: pki.DNS, Value: name}})
		if err != nil {
			f.add("/profile", "%s, which the mesh serves TLS under: %s", name, fault.From(err).Public).
				hint("certloom profile update %s --allow-dns '**.svc' --allow-dns '**.svc.cluster.local'", p.Name)
		}
	}
}

// istiodAccount is the ServiceAccount of Istio's charts.
const istiodAccount = "istiod-service-account"

// IstiodID is the identity of a mesh's own control plane.
func IstiodID(c *pki.Connector) pki.SPIFFEID {
	return pki.SPIFFEID{TrustDomain: c.Settings.TrustDomain, Namespace: c.Settings.IstioNamespace, ServiceAccount: istiodAccount}
}

// servedNames are the DNS names that istiod and Istio's certificate service have in the cluster.
func servedNames(c *pki.Connector) []string {
	names := []string{"istiod." + c.Settings.IstioNamespace + ".svc"}
	if c.Mode == pki.ModeAgent {
		return append(names, agentName+"."+c.Settings.IstioNamespace+".svc", agentName+"."+c.Settings.IstioNamespace+".svc.cluster.local")
	}
	return append(names, istioCSRName+"."+certManagerNamespace+".svc")
}

func (f *findings) lifetime(c *pki.Connector, s *Subject) {
	longest := time.Duration(s.Profile.Rules.Validity.Max)
	switch {
	case c.Mode == pki.ModeCertManager && longest < shortestCertManager:
		f.add("/profile", "profile %q grants at most %s; cert-manager keeps no Certificate, and so not istiod's, that lives less than %s",
			s.Profile.Name, s.Profile.Rules.Validity.Max, pki.Duration(shortestCertManager))
	case c.Mode == pki.ModeAgent && longest < shortestAgent:
		f.add("/profile", "profile %q grants at most %s; a mesh needs %s: proxies renew after half of it, and proxyless programs read theirs each quarter of an hour",
			s.Profile.Name, s.Profile.Rules.Validity.Max, pki.Duration(shortestAgent))
	}
}

func (f *findings) keys(c *pki.Connector, s *Subject) {
	allowed := s.Profile.Rules.Keys
	if c.Settings.Dataplane == pki.Ambient && !slices.Contains(allowed, pki.ECDSAP256) {
		f.add("/dataplane", "data plane ambient needs %s keys, the only ones that ztunnel makes, and profile %q does not take them", pki.ECDSAP256, s.Profile.Name)
		return
	}
	if !slices.Contains(allowed, pki.ECDSAP256) && !slices.Contains(allowed, pki.RSA2048) {
		f.add("/profile", "profile %q takes neither %s nor %s keys, and Istio makes no others", s.Profile.Name, pki.ECDSAP256, pki.RSA2048)
	}
}
