package lint

import (
	"crypto/x509"
	"net"
	"net/netip"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// constraint is the name constraints of one CA (RFC 5280 section 4.2.1.10), for the kinds of names that we issue.
type constraint struct {
	ca string // its subject, for sentences

	permittedDNS, excludedDNS []string
	permittedURI, excludedURI []string
	permittedIP, excludedIP   []netip.Prefix

	limitsDNS, limitsURI, limitsIP bool // there are permitted subtrees of that kind
}

func newConstraint(ca *x509.Certificate) (constraint, bool) {
	c := constraint{
		ca:           ca.Subject.String(),
		permittedDNS: ca.PermittedDNSDomains, excludedDNS: ca.ExcludedDNSDomains,
		permittedURI: ca.PermittedURIDomains, excludedURI: ca.ExcludedURIDomains,
		permittedIP: prefixes(ca.PermittedIPRanges), excludedIP: prefixes(ca.ExcludedIPRanges),
		limitsDNS: len(ca.PermittedDNSDomains) > 0,
		limitsURI: len(ca.PermittedURIDomains) > 0,
		limitsIP:  len(ca.PermittedIPRanges) > 0,
	}
	limits := c.limitsDNS || c.limitsURI || c.limitsIP
	return c, limits || len(c.excludedDNS)+len(c.excludedURI)+len(c.excludedIP) > 0
}

func prefixes(ranges []*net.IPNet) []netip.Prefix {
	var out []netip.Prefix
	for _, r := range ranges {
		addr, ok := netip.AddrFromSlice(r.IP)
		ones, bits := r.Mask.Size()
		if ok && bits == addr.BitLen() {
			out = append(out, netip.PrefixFrom(addr, ones))
		}
	}
	return out
}

// Permits returns nil if the name constraints of the CA and of those above it allow all names, else a *fault.Error of
// kind RejectedIdentifier: verifiers would not accept the certificate.
//
// Where verifiers differ, the narrower reading decides: a permitted URI domain without a leading dot is that host
// alone (RFC 5280), an excluded one is the host and everything below it (as many verifiers have it).
func (i *Issuer) Permits(names *pki.Names) error {
	for n := range i.constraints {
		c := &i.constraints[n]
		for _, name := range names.DNS {
			if !c.permitsDNS(name) {
				return c.refuse("DNS name", name)
			}
		}
		for _, name := range names.IPs {
			if !c.permitsIP(name) {
				return c.refuse("IP address", name)
			}
		}
		for _, name := range names.URIs {
			if !c.permitsURI(name) {
				return c.refuse("URI", name)
			}
		}
	}
	return nil
}

func (c *constraint) refuse(kind, name string) error {
	return fault.New(fault.RejectedIdentifier, "%s %.200q is outside the name constraints of CA %q, so nobody would accept the certificate",
		kind, name, c.ca)
}

func (c *constraint) permitsDNS(name string) bool {
	base, wildcard := strings.CutPrefix(name, "*.")
	for _, domain := range c.excludedDNS {
		domain = strings.ToLower(domain)
		// A wildcard also stands for names that only the excluded domain has.
		if below(base, domain, true) || (wildcard && below(strings.TrimPrefix(domain, "."), base, true)) {
			return false
		}
	}
	if !c.limitsDNS {
		return true
	}
	for _, domain := range c.permittedDNS {
		// "*.x" has a label in the wildcard's place, so it is below x.
		if below(name, strings.ToLower(domain), true) {
			return true
		}
	}
	return false
}

func (c *constraint) permitsURI(uri string) bool {
	_, rest, _ := strings.Cut(uri, "://")
	host, _, _ := strings.Cut(rest, "/")
	for _, domain := range c.excludedURI {
		if below(host, strings.ToLower(domain), true) {
			return false
		}
	}
	if !c.limitsURI {
		return true
	}
	for _, domain := range c.permittedURI {
		if below(host, strings.ToLower(domain), false) {
			return true
		}
	}
	return false
}

// below reports whether a name is in a domain. ".x" is what lies below x; "x" is x itself and, when wide, what lies
// below it; "" is everything.
func below(name, domain string, wide bool) bool {
	switch {
	case domain == "":
		return true
	case strings.HasPrefix(domain, "."):
		return len(name) > len(domain) && strings.HasSuffix(name, domain)
	case name == domain:
		return true
	default:
		return wide && strings.HasSuffix(name, "."+domain)
	}
}

func (c *constraint) permitsIP(name string) bool {
	addr, err := netip.ParseAddr(name)
	if err != nil {
		return false
	}
	for _, prefix := range c.excludedIP {
		if prefix.Contains(addr) {
			return false
		}
	}
	if !c.limitsIP {
		return true
	}
	for _, prefix := range c.permittedIP {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}
