package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certloom/certloom/internal/agent/certmanager"
	"github.com/certloom/certloom/internal/agent/issuer"
)

// CertManagerSettings are those of the issuer that makes CertificateRequests.
type CertManagerSettings struct {
	Namespace     string // of the requests
	IssuerEnabled bool   // use the issuer below while the ConfigMap names none
	IssuerName    string
	IssuerKind    string
	IssuerGroup   string

	RuntimeMap       string // ConfigMap that can name another issuer at any time; "" for none
	RuntimeNamespace string // "" is that of the requests
	Annotations      map[string]string
	Preserve         bool // requests are not deleted
	Concurrency      int  // requests under way at once
}

// upstream names the issuer of the start, for the log.
func (s *CertManagerSettings) upstream() string {
	if !s.IssuerEnabled {
		return "ConfigMap " + s.RuntimeNamespace + "/" + s.RuntimeMap
	}
	return s.ref().String()
}

func (s *CertManagerSettings) ref() certmanager.Ref {
	if !s.IssuerEnabled {
		return certmanager.Ref{}
	}
	return certmanager.Ref{Name: s.IssuerName, Kind: s.IssuerKind, Group: s.IssuerGroup}
}

// checkCertManager fills in what follows from other settings and returns everything that is wrong.
func (s *Settings) checkCertManager() []error {
	c := &s.CertManager
	if c.RuntimeNamespace == "" {
		c.RuntimeNamespace = c.Namespace
	}
	problems := c.check()
	if s.RootCAFile != "" {
		if _, err := issuer.ReadRoots(s.RootCAFile); err != nil {
			problems = append(problems, fmt.Errorf("--root-ca-file: %w", err))
		}
	}
	return problems
}

func (s *CertManagerSettings) check() []error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	name := func(flag, value string, faults []string) {
		if len(faults) > 0 {
			bad("--%s: %q is not a name in Kubernetes: %s", flag, value, strings.Join(faults, "; "))
		}
	}
	name("certificate-namespace", s.Namespace, validation.IsDNS1123Label(s.Namespace))
	if s.IssuerEnabled {
		name("issuer-name", s.IssuerName, validation.IsDNS1123Subdomain(s.IssuerName))
		name("issuer-kind", s.IssuerKind, validation.IsDNS1123Label(strings.ToLower(s.IssuerKind)))
		name("issuer-group", s.IssuerGroup, validation.IsDNS1123Subdomain(s.IssuerGroup))
	} else if s.RuntimeMap == "" {
		bad("--runtime-issuance-config-map-name: is needed with --issuer-enabled=false")
	}
	if s.RuntimeMap != "" {
		name("runtime-issuance-config-map-name", s.RuntimeMap, validation.IsDNS1123Subdomain(s.RuntimeMap))
		name("runtime-issuance-config-map-namespace", s.RuntimeNamespace, validation.IsDNS1123Label(s.RuntimeNamespace))
	}
	faults := make([]error, 0, len(s.Annotations))
	for annotation := range s.Annotations {
		faults = append(faults, certmanager.CheckAnnotation(annotation))
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if err := errors.Join(faults...); err != nil {
		bad("--certificate-request-additional-annotations: %w", err)
	}
	if s.Concurrency < 1 || s.Concurrency > 10_000 {
		bad("--max-concurrent-certificate-requests: %d is not between 1 and 10000", s.Concurrency)
	}
	return problems
}

func (a *Agent) newCertManager() (issuer.Issuer, error) {
	c, s := &a.config, &a.config.Settings
	config := certmanager.Config{
		Client: c.Dynamic, Namespace: s.CertManager.Namespace, Issuer: s.CertManager.ref(),
		RuntimeMap: s.CertManager.RuntimeMap, RuntimeNamespace: s.CertManager.RuntimeNamespace,
		Annotations: s.CertManager.Annotations, Preserve: s.CertManager.Preserve, Pod: s.Pod, Concurrency: s.CertManager.Concurrency,
		Now: c.Now, Random: c.Random, Logger: c.Logger, Registerer: a.registry,
	}
	if s.RootCAFile != "" {
		roots, err := issuer.NewRootFile(issuer.RootFileConfig{Path: s.RootCAFile, Now: c.Now, Logger: c.Logger, Registerer: a.registry})
		if err != nil {
			return nil, fmt.Errorf("--root-ca-file: %w", err)
		}
		config.Roots = roots
	}
	return certmanager.New(config)
}
