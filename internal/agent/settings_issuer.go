package agent

import (
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/agent/issuer"
)

// Where certificates come from.
const (
	IssuerCertloom    = "certloom"     // a Certloom server, by its protocol for agents
	IssuerACME        = "acme"         // any ACME CA that has authorized the names beforehand
	IssuerCertManager = "cert-manager" // CertificateRequests, which cert-manager has signed
)

// Issuers lists them all, the default first.
func Issuers() []string { return []string{IssuerCertloom, IssuerACME, IssuerCertManager} }

// checkIssuer checks the settings of the issuer that is chosen; those of the others have no meaning then.
func (s *Settings) checkIssuer() []error {
	switch s.Issuer {
	case IssuerCertloom:
		return s.Certloom.check()
	case IssuerACME:
		return s.checkACME()
	case IssuerCertManager:
		return s.checkCertManager()
	default:
		return []error{fmt.Errorf("--issuer: %q is not one of %s", s.Issuer, strings.Join(Issuers(), ", "))}
	}
}

// newIssuer makes the issuer that is chosen; upstream names what it asks, for the log.
func (a *Agent) newIssuer() (made issuer.Issuer, upstream string, err error) {
	switch s := &a.config.Settings; s.Issuer {
	case IssuerCertloom:
		made, err = a.newCertloom()
		return made, s.Certloom.Server, err
	case IssuerACME:
		made, err = a.newACME()
		return made, s.ACME.DirectoryURL, err
	case IssuerCertManager:
		made, err = a.newCertManager()
		return made, s.CertManager.upstream(), err
	default:
		return nil, "", fmt.Errorf("no issuer %q", s.Issuer) // Check has refused it
	}
}
