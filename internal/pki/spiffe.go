package pki

import (
	"fmt"
	"strings"
)

// maxSPIFFEID is the length limit of the SPIFFE ID specification, section 2.3.
const maxSPIFFEID = 2048

// SPIFFEID is an Istio workload identity: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT
// (istio.io/istio/pkg/spiffe). The zero value is no identity.
type SPIFFEID struct {
	TrustDomain    string
	Namespace      string
	ServiceAccount string
}

// String returns the URI, or "" for the zero value.
func (id SPIFFEID) String() string {
	if id == (SPIFFEID{}) {
		return ""
	}
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// ParseSPIFFEID accepts exactly the form above, byte for byte: no normalisation takes place, so a URI that
// another verifier might read differently (upper case in the scheme or trust domain, port, user information,
// query, fragment, percent-encoding, dot segments, empty segments, trailing slash, non-ASCII) is refused. The
// error is one sentence naming the value and the rule (SPIFFE ID specification, sections 2.1 to 2.3).
func ParseSPIFFEID(uri string) (SPIFFEID, error) {
	refuse := func(rule string) (SPIFFEID, error) {
		return SPIFFEID{}, fmt.Errorf("SPIFFE ID %.200q %s", uri, rule)
	}
	if len(uri) > maxSPIFFEID {
		return refuse(fmt.Sprintf("has %d bytes, more than %d", len(uri), maxSPIFFEID))
	}
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return refuse(`does not begin with "spiffe://"`)
	}
	domain, path, _ := strings.Cut(rest, "/")
	if rule := trustDomainRule(domain); rule != "" {
		return refuse("has a bad trust domain: it " + rule)
	}
	segments := strings.Split(path, "/")
	for _, segment := range segments {
		if err := checkSegment(segment); err != nil {
			return refuse("has a bad path: " + err.Error())
		}
	}
	if len(segments) != 4 || segments[0] != "ns" || segments[2] != "sa" {
		return refuse(`has a path that is not of the form "/ns/NAMESPACE/sa/SERVICE_ACCOUNT"`)
	}
	return SPIFFEID{TrustDomain: domain, Namespace: segments[1], ServiceAccount: segments[3]}, nil
}

// agentPath is where the identities of agents lie in a trust domain, away from those of workloads.
const agentPath = "/certloom/agent/"

// AgentURI returns the identity of an agent in its own certificate, a SPIFFE ID that ParseSPIFFEID refuses: no workload
// can be given it.
func AgentURI(trustDomain string, id CredentialID) string {
	return "spiffe://" + trustDomain + agentPath + string(id)
}

// ParseAgentURI accepts exactly what AgentURI makes of a well-formed trust domain and an identifier of NewID. The error
// is one sentence.
func ParseAgentURI(uri string) (trustDomain string, id CredentialID, err error) {
	rest, found := strings.CutPrefix(uri, "spiffe://")
	trustDomain, name, isAgent := strings.Cut(rest, agentPath)
	if !found || !isAgent || CheckTrustDomain(trustDomain) != nil || !ValidID(name) {
		return "", "", fmt.Errorf("URI %.200q is not of the form spiffe://TRUST_DOMAIN%sKEY_ID, as agents have it", uri, agentPath)
	}
	return trustDomain, CredentialID(name), nil
}

// CheckTrustDomain checks a trust domain name: lower-case letters, digits, dots, hyphens and underscores, 1 to 255
// octets (SPIFFE ID specification, section 2.1). The error is one sentence naming the value and the rule.
func CheckTrustDomain(domain string) error {
	if rule := trustDomainRule(domain); rule != "" {
		return fmt.Errorf("trust domain %.60q %s", domain, rule)
	}
	return nil
}

// trustDomainRule is the end of a sentence that begins with the trust domain, or "" if nothing is wrong with it.
func trustDomainRule(domain string) string {
	if domain == "" || len(domain) > 255 {
		return fmt.Sprintf("has %d octets, not 1 to 255", len(domain))
	}
	for i := range len(domain) {
		c := domain[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '-' && c != '_' {
			return fmt.Sprintf("has character %q, which is not one of a-z, 0-9, '.', '-', '_'", c)
		}
	}
	return ""
}

// checkSegment checks one path segment (SPIFFE ID specification, section 2.2).
func checkSegment(segment string) error {
	switch segment {
	case "":
		return fmt.Errorf("empty segment")
	case ".", "..":
		return fmt.Errorf("segment %q", segment)
	}
	for i := range len(segment) {
		c := segment[i]
		letter := (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
		digit := c >= '0' && c <= '9'
		if !letter && !digit && c != '.' && c != '-' && c != '_' {
			return fmt.Errorf("character %q is not one of a-z, A-Z, 0-9, '.', '-', '_'", c)
		}
	}
	return nil
}
