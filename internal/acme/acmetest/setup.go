package acmetest

import (
	"net/netip"
	"testing"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// setUp makes the CAs, the profiles and a credential for each.
func (s *Server) setUp(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	s.Root = must(s.Authority.CreateRoot(ctx, issue.Options{Name: "root", CommonName: "Test Root"}, By()))(t)
	s.Issuing = must(s.Authority.CreateIssuing(ctx, issue.IssuingOptions{
		Options: issue.Options{Name: "issuing", CommonName: "Test Issuing CA"}, Parent: s.Root.ID,
	}, By()))(t)
	check(t, s.Catalog.Load(ctx))
	s.Profiles = map[string]*pki.Profile{
		"istio": s.AddProfile(t, "istio", pki.PrivateMTLS, pki.MTLSOverACME, func(rules *pki.ProfileRules) {
			rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}}
			rules.Names.DNS.Allow = []string{"**.svc", "**.svc.cluster.local"}
		}),
		"server": s.AddProfile(t, "server", pki.PrivateServer, pki.ACMEClient, func(rules *pki.ProfileRules) {
			rules.Names.DNS.Allow = []string{"**.svc", "**.localhost", "**.example.com"}
		}),
		"challenge": s.AddProfile(t, "challenge", pki.PrivateServer, pki.ACMEClient, func(rules *pki.ProfileRules) {
			rules.Names.DNS = pki.DNSRules{Allow: []string{"**"}, Wildcards: true}
			rules.Names.IP.Allow = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
			rules.Challenges = &pki.Challenges{
				Types:    []string{"http-01", "dns-01", "tls-alpn-01"},
				Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")},
			}
		}),
	}
	for name, profile := range s.Profiles {
		s.Credentials[name] = s.AddCredential(t, catalog.NewCredential{ProfileID: profile.ID, Name: "test"})
	}
}

// AddProfile makes a profile of the issuing CA whose rules are the template's, changed.
func (s *Server) AddProfile(t testing.TB, name string, template pki.Template, method pki.EnrollmentMethod, change func(*pki.ProfileRules)) *pki.Profile {
	t.Helper()
	rules, _ := policy.TemplateRules(template)
	change(&rules)
	return must(s.Catalog.CreateProfile(t.Context(), pki.Profile{
		Name: name, Template: template, IssuingCA: s.Issuing.ID, Method: method, State: pki.Active, Rules: rules,
	}, By()))(t)
}

// AddCredential makes an EAB credential.
func (s *Server) AddCredential(t testing.TB, c catalog.NewCredential) Credential {
	t.Helper()
	made, key, err := s.Catalog.CreateCredential(t.Context(), c, By())
	check(t, err)
	return Credential{ID: made.ID, Key: key}
}
