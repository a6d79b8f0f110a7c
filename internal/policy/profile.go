package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Bounds on every profile.
const (
	minLifetime      = 10 * time.Second
	maxBackdate      = time.Hour
	maxJitterPercent = 50
	maxNamesBound    = 1000 // no CSR may have more
	maxPatterns      = 1000 // of a list: each name is compared with all of them
)

// CheckProfile checks a profile as an administrator wrote it. It returns all problems, joined by errors.Join; each is
// a *fault.Error of kind Malformed with the JSON pointer of the field at fault.
func CheckProfile(p *pki.Profile) error {
	var f findings
	if err := pki.CheckName(p.Name); err != nil {
		f.add("/name", "profile %v", err)
	}
	if p.IssuingCA == "" {
		f.add("/issuingCa", "profile has no issuing CA")
	}
	if p.State != pki.Active && p.State != pki.Suspended {
		f.add("/state", "state %q is not one of active, suspended", p.State)
	}
	limits, known := boundsOf(p.Template)
	if !known {
		f.add("/template", "template %q is not one of private-mtls, private-server, private-client, mesh-intermediate", p.Template)
		return f.err()
	}
	if !slices.Contains(limits.methods, p.Method) {
		f.add("/method", "enrollment method %q is not one of %s, which template %s has", p.Method, list(limits.methods), p.Template)
	}
	f.validity(p.Rules.Validity, limits)
	f.keys(p.Rules.Keys)
	f.usages(&p.Rules, limits)
	f.subject(p)
	f.challenges(p)
	f.profileNames(p, limits)
	return f.err()
}

// CheckNames checks name rules, as of a credential's limit. Field pointers begin with the given prefix, as in
// "/limit". Rules that allow nothing are well-formed.
func CheckNames(rules *pki.NameRules, prefix string) error {
	var f findings
	f.names(rules, prefix)
	return f.err()
}

// findings collects what is wrong.
type findings []error

func (f *findings) add(field, format string, args ...any) {
	*f = append(*f, fault.New(fault.Malformed, format, args...).WithField(field))
}

func (f *findings) err() error { return errors.Join(*f...) }

func (f *findings) validity(v pki.Validity, limits bounds) {
	const at = "/rules/validity"
	shortest, longest := pki.Duration(minLifetime), pki.Duration(limits.maxLifetime)
	if v.Default < shortest {
		f.add(at+"/default", "default lifetime %s is shorter than %s", v.Default, shortest)
	}
	if v.Max < v.Default {
		f.add(at+"/max", "maximum lifetime %s is shorter than the default lifetime %s", v.Max, v.Default)
	}
	if v.Max > longest {
		f.add(at+"/max", "maximum lifetime %s is longer than %s, the most that this template allows", v.Max, longest)
	}
	if v.Backdate < 0 || time.Duration(v.Backdate) > maxBackdate {
		f.add(at+"/backdate", "backdating %s is not within 0s and %s", v.Backdate, pki.Duration(maxBackdate))
	} else if v.Backdate >= v.Default {
		f.add(at+"/backdate", "backdating %s is not shorter than the default lifetime %s", v.Backdate, v.Default)
	}
	if v.JitterPercent < 0 || v.JitterPercent > maxJitterPercent {
		f.add(at+"/jitterPercent", "jitter of %d percent is not within 0 and %d", v.JitterPercent, maxJitterPercent)
	}
}

func (f *findings) keys(keys []pki.KeyAlgorithm) {
	all := []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.RSA3072, pki.RSA4096, pki.Ed25519}
	subset(f, "/rules/keys", "key algorithm", keys, all)
	if len(keys) == 0 {
		f.add("/rules/keys", "profile takes no key algorithm; give at least one of %s", list(all))
	}
}

func (f *findings) usages(rules *pki.ProfileRules, limits bounds) {
	subset(f, "/rules/keyUsage", "key usage", rules.KeyUsage, limits.keyUsage)
	if !slices.Contains(rules.KeyUsage, limits.mustUsage) {
		f.add("/rules/keyUsage", "key usage %s is missing, which this template needs", limits.mustUsage)
	}
	subset(f, "/rules/extKeyUsage", "extended key usage", rules.ExtKeyUsage, limits.extKeyUsage)
	if len(limits.extKeyUsage) > 0 && len(rules.ExtKeyUsage) == 0 {
		// A certificate without the extension is good for every purpose: the contrary of an empty list.
		f.add("/rules/extKeyUsage", "profile has no extended key usage; give at least one of %s", list(limits.extKeyUsage))
	}
}

func (f *findings) subject(p *pki.Profile) {
	switch {
	case p.Rules.Subject != pki.SubjectEmpty && p.Rules.Subject != pki.SubjectCommonName:
		f.add("/rules/subject", "subject rule %q is not one of empty, common-name", p.Rules.Subject)
	case p.Template == pki.MeshIntermediate && p.Rules.Subject != pki.SubjectCommonName:
		f.add("/rules/subject", "subject rule of template %s must be common-name: a CA has a subject (RFC 5280 section 4.1.2.6)", p.Template)
	}
}

func (f *findings) challenges(p *pki.Profile) {
	c := p.Rules.Challenges
	if c == nil {
		return
	}
	const at = "/rules/challenges"
	if p.Method != pki.ACMEClient {
		f.add(at, "enrollment method %q has no challenges; only %q has", p.Method, pki.ACMEClient)
	}
	all := []string{challengeHTTP, challengeDNS, challengeTLS}
	subset(f, at+"/types", "challenge type", c.Types, all)
	if len(c.Types) == 0 {
		f.add(at+"/types", "profile has no challenge type; give at least one of %s", list(all))
	}
	f.prefixes(at+"/networks", c.Networks)
	if len(c.Networks) == 0 && slices.ContainsFunc(c.Types, func(t string) bool { return t != challengeDNS }) {
		f.add(at+"/networks", "profile validates by connecting to clients but lists no network that it may connect to")
	}
}

// Bounds of how long records of expired certificates are kept. CRLs and orders need them for a day.
const (
	minRetention = pki.Duration(24 * time.Hour)
	maxRetention = pki.Duration(10 * 365 * 24 * time.Hour)
)

// profileNames checks a profile's name rules and that they fit its template and method.
func (f *findings) profileNames(p *pki.Profile, limits bounds) {
	const at = "/rules/names"
	rules := &p.Rules.Names
	f.names(rules, at)
	if p.Rules.MaxNames < 1 || p.Rules.MaxNames > maxNamesBound {
		f.add("/rules/maxNames", "number of names %d is not within 1 and %d", p.Rules.MaxNames, maxNamesBound)
	}
	if keep := p.Rules.Retention; keep != 0 && (keep < minRetention || keep > maxRetention) {
		f.add("/rules/retention", "retention %s is not within %s and %s, nor 0s", keep, minRetention, maxRetention)
	}
	some := len(rules.SPIFFE.Allow)+len(rules.DNS.Allow)+len(rules.IP.Allow) > 0
	switch {
	case some && !limits.names:
		f.add(at, "template %s issues no names, so its profiles cannot allow any", p.Template)
	case !some && limits.names:
		f.add(at, "profile allows no names; give a trust domain with namespaces, a DNS pattern or an address range")
	case len(rules.SPIFFE.Allow) > 0 && !issuesSPIFFE(p):
		f.add(at+"/spiffe", "SPIFFE IDs need template %s and enrollment method %s, %s or %s, without challenges",
			pki.PrivateMTLS, pki.MTLSOverACME, pki.Agent, pki.RESTAPI)
	}
}

func (f *findings) names(rules *pki.NameRules, at string) {
	f.spiffe(&rules.SPIFFE, at+"/spiffe")
	f.patterns(at+"/dns/allow", rules.DNS.Allow, checkDNSPattern)
	f.patterns(at+"/dns/deny", rules.DNS.Deny, checkDNSPattern)
	f.prefixes(at+"/ip/allow", rules.IP.Allow)
	f.prefixes(at+"/ip/deny", rules.IP.Deny)
}

func (f *findings) spiffe(rules *pki.SPIFFERules, at string) {
	f.patterns(at+"/trustDomains", rules.TrustDomains, pki.CheckTrustDomain)
	f.patterns(at+"/allow", rules.Allow, checkSPIFFEPattern)
	f.patterns(at+"/deny", rules.Deny, checkSPIFFEPattern)
	switch {
	case len(rules.Allow) > 0 && len(rules.TrustDomains) == 0:
		f.add(at+"/trustDomains", "SPIFFE patterns are allowed but no trust domain")
	case len(rules.Allow) == 0 && len(rules.TrustDomains) > 0:
		f.add(at+"/allow", "trust domain %q is allowed but no namespace in it; the pattern %q allows all", rules.TrustDomains[0], "*/*")
	}
}

func (f *findings) patterns(field string, patterns []string, check func(string) error) {
	if len(patterns) > maxPatterns {
		f.add(field, "list has %d entries, more than %d", len(patterns), maxPatterns)
		return
	}
	for i, pattern := range patterns {
		if err := check(pattern); err != nil {
			f.add(fmt.Sprintf("%s/%d", field, i), "%v", err)
		}
	}
}

func (f *findings) prefixes(field string, prefixes []netip.Prefix) {
	if len(prefixes) > maxPatterns {
		f.add(field, "list has %d entries, more than %d", len(prefixes), maxPatterns)
		return
	}
	for i, prefix := range prefixes {
		at := fmt.Sprintf("%s/%d", field, i)
		switch {
		case !prefix.IsValid():
			f.add(at, "address range is empty")
		case prefix.Addr().Is4In6():
			f.add(at, "address range %s is IPv4 mapped to IPv6; write it as IPv4", prefix)
		case prefix != prefix.Masked():
			f.add(at, "address range %s has bits set after its length; write %s", prefix, prefix.Masked())
		}
	}
}

// subset adds a finding for each value that is not among the known ones or is there twice.
func subset[T ~string](f *findings, field, what string, values, known []T) {
	for i, value := range values {
		at := fmt.Sprintf("%s/%d", field, i)
		if !slices.Contains(known, value) {
			f.add(at, "%s %.60q is not one of %s", what, value, list(known))
		} else if slices.Index(values, value) != i {
			f.add(at, "%s %q is listed twice", what, value)
		}
	}
}

// checkSPIFFEPattern checks "NAMESPACE/SERVICE_ACCOUNT", where "*" stands for any characters but "/".
func checkSPIFFEPattern(pattern string) error {
	namespace, account, ok := strings.Cut(pattern, "/")
	if !ok || strings.Contains(account, "/") {
		return fmt.Errorf("SPIFFE pattern %.120q is not of the form NAMESPACE/SERVICE_ACCOUNT, such as \"prod/*\"", pattern)
	}
	for _, half := range []string{namespace, account} {
		// "**" would read as if it spanned the slash.
		if strings.Contains(half, "**") {
			return fmt.Errorf("SPIFFE pattern %.120q has \"**\"; \"*\" stands for any characters but \"/\"", pattern)
		}
		sample := pki.SPIFFEID{TrustDomain: "example", Namespace: "x", ServiceAccount: strings.ReplaceAll(half, "*", "x")}
		if _, err := pki.ParseSPIFFEID(sample.String()); err != nil {
			return fmt.Errorf("SPIFFE pattern %.120q: %q can be no part of a SPIFFE ID", pattern, half)
		}
	}
	return nil
}

// checkDNSPattern checks "a.example", "*.example", "**.example" or "**".
func checkDNSPattern(pattern string) error {
	if pattern == "**" {
		return nil
	}
	base, double := strings.CutPrefix(pattern, "**.")
	if !double {
		base = strings.TrimPrefix(pattern, "*.")
	}
	if err := pki.CheckDNSName(base); err != nil {
		return fmt.Errorf("DNS pattern %.120q is not a name, \"*.NAME\", \"**.NAME\" or \"**\": %w", pattern, err)
	}
	return nil
}
