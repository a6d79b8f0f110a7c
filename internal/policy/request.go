package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Accepted is what a certificate may say of its subject: all of it was judged.
type Accepted struct {
	Names      pki.Names    // sorted, each once
	CommonName string       // "" for an empty subject
	Identity   string       // what the certificate is for: the SPIFFE ID, or the first DNS name or address
	SPIFFE     pki.SPIFFEID // zero when there is none
	Agent      bool         // it is for an agent itself
}

// Requested returns the identifiers that a CSR asks for: its DNS names, its common name and its addresses. It
// stands in for an order where the enrollment method has none.
func Requested(r *csr.Request) ([]pki.Identifier, error) {
	dns, err := dnsNames(r)
	if err != nil {
		return nil, err
	}
	ids := make([]pki.Identifier, 0, len(dns)+len(r.Names.IPs))
	for _, name := range dns {
		ids = append(ids, pki.Identifier{Type: pki.DNS, Value: name})
	}
	for _, addr := range r.Names.IPs {
		ids = append(ids, pki.Identifier{Type: pki.IP, Value: addr})
	}
	return ids, nil
}

// CheckRequest decides whether a CSR may become a certificate under the profile for an order with the given
// identifiers, which are judged anew: the profile or the credential may have changed since. What each refusal means is
// in the package's documentation.
//
//   - The CSR's DNS names and common name must be exactly the order's DNS identifiers, its addresses exactly the IP
//     identifiers (RFC 8555 section 7.4). A common name counts as a DNS name, also when it is not among the alternative
//     names; as an address it must be among them.
//   - One SPIFFE ID may be added, if the profile issues them.
//   - An order without identifiers takes a CSR with exactly one SPIFFE ID and no other name.
//   - A mesh intermediate has a common name, for its subject, and no other name.
func CheckRequest(p *pki.Profile, c *pki.Credential, order []pki.Identifier, r *csr.Request) (*Accepted, error) {
	return judge(p, c, order, r, nil)
}

// judge asks all questions, in order. What it returns besides an error is worth something only if the trail has no
// refusal.
func judge(p *pki.Profile, c *pki.Credential, order []pki.Identifier, r *csr.Request, t *trail) (*Accepted, error) {
	if err := t.note(RuleCredential, "", checkCredential(p, c), func() string { return credentialSays(p, c) }); err != nil {
		return nil, err
	}
	if err := t.note(RuleKey, string(r.KeyAlgorithm), checkKey(p, r), func() string {
		return fmt.Sprintf("key algorithm %q is one of profile %q", r.KeyAlgorithm, p.Name)
	}); err != nil {
		return nil, err
	}
	if p.Template == pki.MeshIntermediate {
		accepted, err := acceptIntermediate(p, order, r)
		if err := t.last(RuleCA, r.CommonName, err); err != nil {
			return nil, err
		}
		return accepted, t.note(RuleCA, r.CommonName, nil, func() string {
			return fmt.Sprintf("profile %q issues CAs, and %q is a common name that one can have", p.Name, r.CommonName)
		})
	}
	if err := t.note(RuleCA, "", checkLeaf(p, r), func() string { return "no CA is asked for" }); err != nil {
		return nil, err
	}
	if err := checkIdentifiers(p, c, order, t); err != nil {
		return nil, err
	}
	accepted, err := acceptNames(p, order, r, t)
	if err != nil {
		return nil, err
	}
	if err := acceptSPIFFE(p, c, order, r, accepted, t); err != nil {
		return nil, err
	}
	accepted.Identity = identity(accepted)
	return accepted, nil
}

func checkKey(p *pki.Profile, r *csr.Request) error {
	if slices.Contains(p.Rules.Keys, r.KeyAlgorithm) {
		return nil
	}
	return fault.New(fault.BadPublicKey, "CSR's key algorithm %q is not one that profile %q takes: %s", r.KeyAlgorithm, p.Name, list(p.Rules.Keys))
}

func checkLeaf(p *pki.Profile, r *csr.Request) error {
	if !r.CA {
		return nil
	}
	return fault.New(fault.BadCSR, "CSR asks for a CA certificate (basicConstraints), which profile %q does not issue", p.Name)
}

// acceptNames compares names with the order and applies the profile's subject rule.
func acceptNames(p *pki.Profile, order []pki.Identifier, r *csr.Request, t *trail) (*Accepted, error) {
	dns, err := dnsNames(r)
	if err := t.last(RuleSubject, r.CommonName, err); err != nil {
		return nil, err
	}
	count := len(dns) + len(r.Names.IPs) + len(r.Names.URIs)
	if err := t.note(RuleNames, "", sameAsOrdered(p, order, dns, r, count), func() string {
		return fmt.Sprintf("%d of at most %d names that profile %q allows", count, p.Rules.MaxNames, p.Name)
	}); err != nil {
		return nil, err
	}
	accepted := &Accepted{Names: pki.Names{DNS: dns, IPs: r.Names.IPs, URIs: r.Names.URIs}}
	if p.Rules.Subject == pki.SubjectCommonName && len(r.CommonName) <= maxCommonName {
		accepted.CommonName = strings.ToLower(r.CommonName)
	}
	return accepted, t.note(RuleSubject, r.CommonName, nil, func() string { return subjectSays(p, r.CommonName, accepted.CommonName) })
}

// sameAsOrdered compares names with the order, and their number with the profile's.
func sameAsOrdered(p *pki.Profile, order []pki.Identifier, dns []string, r *csr.Request, count int) error {
	if count > p.Rules.MaxNames {
		return fault.New(fault.BadCSR, "CSR has %d names, more than the %d that profile %q allows", count, p.Rules.MaxNames, p.Name)
	}
	if err := sameNames("DNS names", dns, order, pki.DNS); err != nil {
		return err
	}
	return sameNames("IP addresses", r.Names.IPs, order, pki.IP)
}

// maxCommonName is ub-common-name of RFC 5280 appendix A.
const maxCommonName = 64

// dnsNames returns the CSR's DNS names and its common name, sorted, each once. A common name that is an address must
// be among the addresses; one that is neither is refused.
func dnsNames(r *csr.Request) ([]string, error) {
	if r.CommonName == "" {
		return r.Names.DNS, nil
	}
	if addr, err := pki.ParseIP(strings.ToLower(r.CommonName)); err == nil {
		if !slices.Contains(r.Names.IPs, addr.String()) {
			return nil, fault.New(fault.BadCSR, "CSR's common name %q is an IP address that is not among its subject alternative names", r.CommonName)
		}
		return r.Names.DNS, nil
	}
	id, err := pki.NormalizeIdentifier(pki.Identifier{Type: pki.DNS, Value: r.CommonName})
	if err != nil {
		return nil, fault.New(fault.BadCSR, "CSR's common name %.120q is neither a DNS name nor an IP address: %v", r.CommonName, err)
	}
	at, found := slices.BinarySearch(r.Names.DNS, id.Value)
	if found {
		return r.Names.DNS, nil
	}
	return slices.Insert(slices.Clone(r.Names.DNS), at, id.Value), nil
}

// sameNames compares sorted names with the order's identifiers of a type, as sets.
func sameNames(what string, names []string, order []pki.Identifier, kind pki.IdentifierType) error {
	ordered := make([]string, 0, len(order))
	for _, id := range order {
		if id.Type == kind {
			ordered = append(ordered, id.Value)
		}
	}
	slices.Sort(ordered)
	ordered = slices.Compact(ordered)
	if slices.Equal(names, ordered) {
		return nil
	}
	var parts []string
	if missing := without(ordered, names); len(missing) > 0 {
		parts = append(parts, "missing "+list(missing))
	}
	if additional := without(names, ordered); len(additional) > 0 {
		parts = append(parts, "additional "+list(additional))
	}
	return fault.New(fault.BadCSR, "CSR's %s are not exactly the order's identifiers (RFC 8555 section 7.4): %s",
		what, strings.Join(parts, ", "))
}

// without returns the elements of sorted names that are not in the other sorted names.
func without(names, others []string) []string {
	var rest []string
	for _, name := range names {
		if _, found := slices.BinarySearch(others, name); !found {
			rest = append(rest, name)
		}
	}
	return rest
}

// acceptSPIFFE judges the CSR's URIs and sets the SPIFFE ID.
func acceptSPIFFE(p *pki.Profile, c *pki.Credential, order []pki.Identifier, r *csr.Request, accepted *Accepted, t *trail) error {
	uri, err := onlyURI(p, order, r)
	if err != nil || len(r.Names.URIs) == 0 { // one that is empty is one
		return t.last(RuleSPIFFE, uri, err)
	}
	id, err := pki.ParseSPIFFEID(uri)
	if err != nil {
		return t.last(RuleSPIFFE, uri, fault.New(fault.BadCSR, "CSR's %v", err))
	}
	judge := func(rules *pki.NameRules) string { return judgeSPIFFE(&rules.SPIFFE, id) }
	if reason := refusal(p, c, judge); reason != "" {
		return t.last(RuleSPIFFE, uri, fault.New(fault.RejectedIdentifier, "SPIFFE ID %q %s", uri, reason))
	}
	accepted.SPIFFE = id
	return t.note(RuleSPIFFE, uri, nil, func() string {
		return fmt.Sprintf("SPIFFE ID %q ", uri) + allowedBy(p, c, func(rules *pki.NameRules) string {
			return patternOf(rules.SPIFFE.Allow, func(pattern string) bool { return matchSPIFFE(pattern, id) }) +
				fmt.Sprintf(" in trust domain %q", id.TrustDomain)
		})
	})
}

// onlyURI returns the CSR's only URI; no error and "" as well when there is none and none is needed.
func onlyURI(p *pki.Profile, order []pki.Identifier, r *csr.Request) (string, error) {
	switch uris := r.Names.URIs; {
	case len(uris) == 0 && len(order) == 0:
		return "", fault.New(fault.BadCSR, "CSR has no SPIFFE ID; an order without identifiers needs exactly one as URI subject alternative name")
	case len(uris) == 0:
		return "", nil
	case !issuesSPIFFE(p):
		return uris[0], fault.New(fault.BadCSR, "CSR has URI %.200q, but profile %q issues no SPIFFE IDs", uris[0], p.Name)
	case len(uris) > 1:
		return uris[0], fault.New(fault.BadCSR, "CSR has %d URIs as subject alternative names, more than one SPIFFE ID: %s", len(uris), list(uris))
	default:
		return uris[0], nil
	}
}

// acceptIntermediate accepts the CSR of a mesh's own CA. Its names are no workload's: it has a subject, since a CA
// must (RFC 5280 section 4.1.2.6), and nothing else.
func acceptIntermediate(p *pki.Profile, order []pki.Identifier, r *csr.Request) (*Accepted, error) {
	if names := len(order) + len(r.Names.DNS) + len(r.Names.IPs) + len(r.Names.URIs); names > 0 {
		return nil, fault.New(fault.BadCSR, "CSR for a CA under profile %q has subject alternative names; it may have a common name only", p.Name)
	}
	switch {
	case r.CommonName == "":
		return nil, fault.New(fault.BadCSR, "CSR for a CA under profile %q has no common name", p.Name)
	case len(r.CommonName) > maxCommonName:
		return nil, fault.New(fault.BadCSR, "CSR's common name %.64q... has %d characters, more than %d", r.CommonName, len(r.CommonName), maxCommonName)
	}
	return &Accepted{CommonName: r.CommonName, Identity: r.CommonName}, nil
}

func identity(a *Accepted) string {
	switch {
	case a.SPIFFE != pki.SPIFFEID{}:
		return a.SPIFFE.String()
	case len(a.Names.DNS) > 0:
		return a.Names.DNS[0]
	case len(a.Names.IPs) > 0:
		return a.Names.IPs[0]
	default:
		return "" // was refused: an order without identifiers has a SPIFFE ID
	}
}
