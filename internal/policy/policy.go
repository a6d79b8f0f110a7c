// Package policy owns the decisions: may this client have these names, this key and this lifetime under this
// profile? Its functions are pure: they read no clock, no storage and no network, and the same question always has the
// same answer.
//
// It must never grant by omission: an empty list allows nothing, a missing credential allows nothing, a deny pattern
// wins over every allow pattern, and a credential's limit has to be met in addition to the profile's rules. It trusts
// that profiles and limits passed CheckProfile and CheckNames when they were written, and trusts nothing of a request:
// names are judged at the order and once more at finalize, in canonical form only.
//
// # Which problem a refusal becomes
//
// Both are final for ACME clients, so the choice is for people:
//
//   - badCSR (400): the CSR is not what this order or profile can take: names that differ from the order's
//     identifiers, a SPIFFE ID that is malformed, more than one URI, a URI or a CA flag where the profile has none.
//     Change the client.
//   - rejectedIdentifier (403): the names are well-formed and policy says no, as with a SPIFFE ID of another trust
//     domain. Change the profile or the credential, or do not ask.
//   - badPublicKey (400): the key's algorithm is not one of the profile's.
//   - malformed (400): dates or numbers of names that cannot be granted to anybody.
//   - unauthorized (403): no credential, or one of another profile.
//
// The sentences are what a platform engineer reads in "kubectl describe": they name the value, the profile or
// credential that refuses it, and the rule.
package policy

import (
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// issuesSPIFFE reports whether certificates of the profile may carry a SPIFFE ID. Challenges prove control of DNS
// names and addresses only, so profiles of third-party ACME clients have none.
func issuesSPIFFE(p *pki.Profile) bool {
	switch p.Method {
	case pki.MTLSOverACME, pki.Agent, pki.RESTAPI:
		return p.Template == pki.PrivateMTLS && len(p.Rules.Names.SPIFFE.Allow) > 0 && p.Rules.Challenges == nil
	default:
		return false
	}
}

// needsCredential reports whether a request under the profile must come with an EAB credential: nothing else says
// who asks.
func needsCredential(p *pki.Profile) bool {
	return p.Rules.Challenges == nil && (p.Method == pki.MTLSOverACME || p.Method == pki.ACMEClient || p.Method == pki.Agent)
}

// checkCredential refuses a request without the credential that it needs, or with one of another profile.
func checkCredential(p *pki.Profile, c *pki.Credential) error {
	switch {
	case c == nil && needsCredential(p):
		return fault.New(fault.Unauthorized, "profile %q issues only to clients with an EAB credential", p.Name)
	case c != nil && c.ProfileID != p.ID:
		return fault.New(fault.Unauthorized, "EAB credential %q does not belong to profile %q", c.Name, p.Name)
	}
	return nil
}

// refusal asks for the profile's and then for the credential's judgement of a name. It returns the end of a sentence
// that begins with the name, or "" if both allow it.
func refusal(p *pki.Profile, c *pki.Credential, judge func(*pki.NameRules) string) string {
	if reason := judge(&p.Rules.Names); reason != "" {
		return fmt.Sprintf("is not allowed by profile %q: %s", p.Name, reason)
	}
	if c == nil || c.Limit == nil {
		return ""
	}
	if reason := judge(c.Limit); reason != "" {
		return fmt.Sprintf("is not allowed by credential %q of profile %q: %s", c.Name, p.Name, reason)
	}
	return ""
}

// listMax bounds how many values a sentence enumerates.
const listMax = 5

// list enumerates quoted values for a sentence.
func list[T any](values []T) string {
	var b strings.Builder
	for i, value := range values {
		if i == listMax && len(values) > listMax+1 { // "and 1 more" would be no shorter than that one
			fmt.Fprintf(&b, " and %d more", len(values)-listMax)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.120q", fmt.Sprint(value))
	}
	return b.String()
}
