package policy

import (
	"slices"
	"time"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// agentLifetime is how long an agent's own certificate lives at most. Whoever steals its key has it for that long, and
// an agent that was away for longer has its credential to enrol with again.
const agentLifetime = 24 * time.Hour

// CheckAgent decides whether a CSR may become the certificate of the agent itself that has the credential. Only its key
// counts: a CSR with any name is refused (BadCSR), and what the certificate says is the credential's identity. The
// profile must have enrollment method agent and a trust domain (Unauthorized).
func CheckAgent(p *pki.Profile, c *pki.Credential, r *csr.Request) (*Accepted, error) {
	switch domains := p.Rules.Names.SPIFFE.TrustDomains; {
	case c == nil || c.ProfileID != p.ID:
		return nil, fault.New(fault.Unauthorized, "profile %q enrols agents only with a credential of its own", p.Name)
	case p.Method != pki.Agent:
		return nil, fault.New(fault.Unauthorized, "profile %q has enrollment method %s, not %s", p.Name, p.Method, pki.Agent)
	case !issuesSPIFFE(p) || len(domains) == 0:
		return nil, fault.New(fault.Unauthorized, "profile %q issues no SPIFFE IDs, so agents have nothing to ask for", p.Name)
	}
	switch {
	case !slices.Contains(p.Rules.Keys, r.KeyAlgorithm):
		return nil, fault.New(fault.BadPublicKey, "CSR's key algorithm %q is not one that profile %q takes: %s",
			r.KeyAlgorithm, p.Name, list(p.Rules.Keys))
	case r.CA || r.CommonName != "" || len(r.Names.DNS)+len(r.Names.IPs)+len(r.Names.URIs) > 0:
		return nil, fault.New(fault.BadCSR, "CSR of an agent asks for names or for a CA; it may have its key only")
	}
	uri := pki.AgentURI(p.Rules.Names.SPIFFE.TrustDomains[0], c.ID)
	return &Accepted{Names: pki.Names{URIs: []string{uri}}, Identity: uri, Agent: true}, nil
}

// AgentValidity bounds the lifetime of the certificates that CheckAgent accepts.
func AgentValidity(v pki.Validity) pki.Validity {
	v.Max = min(v.Max, pki.Duration(agentLifetime))
	v.Default = v.Max
	return v
}
