package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/pki"
)

// The judge functions say why a name is not allowed, as the end of a sentence, or "" if it is allowed.

func judgeSPIFFE(rules *pki.SPIFFERules, id pki.SPIFFEID) string {
	if len(rules.Allow) == 0 {
		return "it allows no SPIFFE IDs"
	}
	if !slices.Contains(rules.TrustDomains, id.TrustDomain) {
		return fmt.Sprintf("trust domain %q is not one of %s", id.TrustDomain, list(rules.TrustDomains))
	}
	for _, pattern := range rules.Deny {
		if matchSPIFFE(pattern, id) {
			return fmt.Sprintf("deny pattern %q matches %q", pattern, id.Namespace+"/"+id.ServiceAccount)
		}
	}
	for _, pattern := range rules.Allow {
		if matchSPIFFE(pattern, id) {
			return ""
		}
	}
	return fmt.Sprintf("%q matches none of %s", id.Namespace+"/"+id.ServiceAccount, list(rules.Allow))
}

func judgeDNS(rules *pki.DNSRules, name string) string {
	if len(rules.Allow) == 0 {
		return "it allows no DNS names"
	}
	base, wildcard := strings.CutPrefix(name, "*.")
	if wildcard && !rules.Wildcards {
		return "it allows no wildcard names"
	}
	for _, pattern := range rules.Deny {
		switch {
		case wildcard && touchesWildcard(pattern, base):
			return fmt.Sprintf("it covers names that deny pattern %q matches", pattern)
		case !wildcard && matchDNS(pattern, name):
			return fmt.Sprintf("deny pattern %q matches it", pattern)
		}
	}
	for _, pattern := range rules.Allow {
		if allowsDNS(pattern, name, base, wildcard) {
			return ""
		}
	}
	return "it matches none of " + list(rules.Allow)
}

// allowsDNS reports whether an allow pattern matches a name, or all names that a wildcard stands for.
func allowsDNS(pattern, name, base string, wildcard bool) bool {
	return wildcard && coversWildcard(pattern, base) || !wildcard && matchDNS(pattern, name)
}

func judgeIP(rules *pki.IPRules, addr netip.Addr) string {
	if len(rules.Allow) == 0 {
		return "it allows no IP addresses"
	}
	contains := func(prefix netip.Prefix) bool { return prefix.Contains(addr) }
	if i := slices.IndexFunc(rules.Deny, contains); i >= 0 {
		return fmt.Sprintf("it is in the denied range %q", rules.Deny[i])
	}
	if slices.ContainsFunc(rules.Allow, contains) {
		return ""
	}
	return "it is in none of " + list(rules.Allow)
}

// matchSPIFFE matches both halves of "NAMESPACE/SERVICE_ACCOUNT" on their own, so that nothing in a pattern can span
// the slash, and each of them from end to end, so that "prod" does not match "prod-evil".
func matchSPIFFE(pattern string, id pki.SPIFFEID) bool {
	namespace, account, ok := strings.Cut(pattern, "/")
	return ok && MatchGlob(namespace, id.Namespace) && MatchGlob(account, id.ServiceAccount)
}

// MatchGlob reports whether all of s matches pattern, in which "*" stands for any characters or none. It takes
// time proportional to the product of the lengths at worst: only the last "*" is ever tried again.
func MatchGlob(pattern, s string) bool {
	star, retry := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p, i = p+1, i+1
		case star >= 0:
			retry++
			p, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// matchDNS reports whether a name without wildcard matches a pattern. A suffix is compared with its leading dot,
// so that "*.example" does not match "evilexample".
func matchDNS(pattern, name string) bool {
	if pattern == "**" {
		return true
	}
	if suffix, ok := strings.CutPrefix(pattern, "**"); ok {
		return len(name) > len(suffix) && strings.HasSuffix(name, suffix)
	}
	if suffix, ok := strings.CutPrefix(pattern, "*"); ok {
		label, ok := strings.CutSuffix(name, suffix)
		return ok && label != "" && !strings.Contains(label, ".")
	}
	return pattern == name
}

// coversWildcard reports whether the pattern matches every name that the certificate name "*."+base stands for,
// which is each single label before base (RFC 9525 section 6.3).
func coversWildcard(pattern, base string) bool {
	if pattern == "**" {
		return true
	}
	if suffix, ok := strings.CutPrefix(pattern, "**"); ok {
		return strings.HasSuffix("."+base, suffix)
	}
	return pattern == "*."+base
}

// touchesWildcard reports whether the pattern matches some name that the certificate name "*."+base stands for.
func touchesWildcard(pattern, base string) bool {
	if strings.HasPrefix(pattern, "*") {
		return coversWildcard(pattern, base)
	}
	_, parent, _ := strings.Cut(pattern, ".")
	return parent == base
}

// CheckSPIFFEID returns why a profile, or the limit of its credential, does not allow a SPIFFE ID, as the end of a sentence
// that begins with it; "" when both do.
func CheckSPIFFEID(p *pki.Profile, c *pki.Credential, id pki.SPIFFEID) string {
	return refusal(p, c, func(rules *pki.NameRules) string { return judgeSPIFFE(&rules.SPIFFE, id) })
}
