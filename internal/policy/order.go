package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// CheckIdentifiers decides whether the identifiers of an order may be ordered under the profile. The credential is the
// one that the account is bound to; nil only for profiles that validate by challenge and for enrollment methods that
// know the client in another way.
//
// An order without identifiers is allowed where the CSR will bring a SPIFFE ID; elsewhere it is Malformed, as are too
// many identifiers. Identifiers that are refused come as one error, with a subproblem for each: RejectedIdentifier,
// Malformed for a value that is not in canonical form, UnsupportedIdentifier for an unknown type, Compound for
// a mixture.
func CheckIdentifiers(p *pki.Profile, c *pki.Credential, ids []pki.Identifier) error {
	if err := checkCredential(p, c); err != nil {
		return err
	}
	return checkIdentifiers(p, c, ids, nil)
}

// checkIdentifiers is CheckIdentifiers for a credential that was judged.
func checkIdentifiers(p *pki.Profile, c *pki.Credential, ids []pki.Identifier, t *trail) error {
	if len(ids) == 0 {
		if issuesSPIFFE(p) {
			return nil
		}
		return t.last(RuleNames, "", fault.New(fault.Malformed, "order has no identifiers; profile %q needs at least one", p.Name))
	}
	if len(ids) > p.Rules.MaxNames {
		return t.last(RuleNames, "", fault.New(fault.Malformed, "order has %d identifiers, more than the %d that profile %q allows",
			len(ids), p.Rules.MaxNames, p.Name))
	}
	var refused []fault.Subproblem
	for _, id := range ids {
		problem := checkIdentifier(p, c, id)
		if t != nil {
			_ = t.note(Rule(id.Type), id.Value, subproblem(problem), func() string { return identifierSays(p, c, id) })
		} else if problem != nil {
			refused = append(refused, *problem)
		}
	}
	return join(refused, len(ids))
}

// identifierSays tells why an identifier is allowed.
func identifierSays(p *pki.Profile, c *pki.Credential, id pki.Identifier) string {
	if id.Type == pki.DNS {
		base, wildcard := strings.CutPrefix(id.Value, "*.")
		return fmt.Sprintf("DNS name %q ", id.Value) + allowedBy(p, c, func(rules *pki.NameRules) string {
			return patternOf(rules.DNS.Allow, func(pattern string) bool { return allowsDNS(pattern, id.Value, base, wildcard) })
		})
	}
	addr := netip.MustParseAddr(id.Value) // canonical, so it parses
	return fmt.Sprintf("IP address %q ", id.Value) + allowedBy(p, c, func(rules *pki.NameRules) string {
		return patternOf(rules.IP.Allow, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
	})
}

func checkIdentifier(p *pki.Profile, c *pki.Credential, id pki.Identifier) *fault.Subproblem {
	refuse := func(kind fault.Kind, sentence string) *fault.Subproblem {
		return &fault.Subproblem{Kind: kind, Public: sentence, Identifier: id}
	}
	canonical, err := pki.NormalizeIdentifier(id)
	switch {
	case err != nil && id.Type != pki.DNS && id.Type != pki.IP:
		return refuse(fault.UnsupportedIdentifier, err.Error())
	case err != nil:
		return refuse(fault.Malformed, err.Error())
	case canonical != id:
		return refuse(fault.Malformed, fmt.Sprintf("identifier %.120q is not in canonical form; write %.120q", id.Value, canonical.Value))
	}
	subject, reason := "", ""
	if id.Type == pki.DNS {
		subject = "DNS name"
		reason = refusal(p, c, func(rules *pki.NameRules) string { return judgeDNS(&rules.DNS, id.Value) })
	} else {
		addr := netip.MustParseAddr(id.Value) // canonical, so it parses
		subject = "IP address"
		reason = refusal(p, c, func(rules *pki.NameRules) string { return judgeIP(&rules.IP, addr) })
	}
	if reason == "" {
		reason = unprovable(p, id)
	}
	if reason == "" {
		return nil
	}
	return refuse(fault.RejectedIdentifier, fmt.Sprintf("%s %q %s", subject, id.Value, reason))
}

// unprovable says why no challenge of the profile can prove control of an identifier: wildcards need dns-01 (CA/B
// Forum BR 3.2.2.4, and what clients expect), which addresses cannot use (RFC 8738 section 7).
func unprovable(p *pki.Profile, id pki.Identifier) string {
	if p.Rules.Challenges == nil {
		return ""
	}
	byDNS := slices.Contains(p.Rules.Challenges.Types, challengeDNS)
	switch {
	case strings.HasPrefix(id.Value, "*.") && !byDNS:
		return fmt.Sprintf("cannot be validated: a wildcard needs challenge dns-01, which profile %q does not offer", p.Name)
	case id.Type == pki.IP && byDNS && len(p.Rules.Challenges.Types) == 1:
		return fmt.Sprintf("cannot be validated: profile %q offers challenge dns-01 only, which is for DNS names", p.Name)
	}
	return ""
}

// join makes one error of what was refused of an order with total identifiers.
func join(refused []fault.Subproblem, total int) error {
	if len(refused) == 0 {
		return nil
	}
	kind := refused[0].Kind
	for _, problem := range refused[1:] {
		if problem.Kind != kind {
			kind = fault.Compound
		}
	}
	var err *fault.Error
	if len(refused) == 1 {
		err = fault.New(kind, "%s", refused[0].Public)
	} else {
		err = fault.New(kind, "%d of %d identifiers are refused; the first: %s", len(refused), total, refused[0].Public)
	}
	if total > 1 { // of a single identifier it would only say the same again, and clients show both
		err.Subproblems = refused
	}
	return err
}
