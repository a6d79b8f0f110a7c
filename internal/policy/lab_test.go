package policy_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

const day = 24 * time.Hour

// profile returns a profile of a template's defaults, with names that may be changed.
func profile(t pki.Template, change ...func(*pki.Profile)) *pki.Profile {
	rules, method := policy.TemplateRules(t)
	p := &pki.Profile{
		ID: "p1", Name: "demo", Template: t, IssuingCA: "ca1", Method: method, State: pki.Active, Rules: rules,
	}
	switch t {
	case pki.PrivateMTLS:
		p.Rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}, Deny: []string{"kube-system/*"}}
		p.Rules.Names.DNS = pki.DNSRules{Allow: []string{"**.svc"}}
	case pki.MeshIntermediate:
	default:
		p.Rules.Names.DNS = pki.DNSRules{Allow: []string{"**.example"}, Deny: []string{"**.secret.example"}}
		p.Rules.Names.IP = pki.IPRules{Allow: prefixes("192.0.2.0/24", "2001:db8::/32"), Deny: prefixes("192.0.2.128/25")}
	}
	for _, f := range change {
		f(p)
	}
	return p
}

// credential returns a credential of the profile with a limit, nil for none.
func credential(limit *pki.NameRules) *pki.Credential {
	return &pki.Credential{ID: "c1", Name: "west", ProfileID: "p1", State: pki.Active, Limit: limit}
}

func prefixes(texts ...string) []netip.Prefix {
	parsed := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		parsed = append(parsed, netip.MustParsePrefix(text))
	}
	return parsed
}

func dnsIDs(names ...string) []pki.Identifier {
	ids := make([]pki.Identifier, 0, len(names))
	for _, name := range names {
		ids = append(ids, pki.Identifier{Type: pki.DNS, Value: name})
	}
	return ids
}

func ipIDs(addrs ...string) []pki.Identifier {
	ids := make([]pki.Identifier, 0, len(addrs))
	for _, addr := range addrs {
		ids = append(ids, pki.Identifier{Type: pki.IP, Value: addr})
	}
	return ids
}

// wantFault checks an error's kind and sentence.
func wantFault(t *testing.T, err error, kind fault.Kind, says string) {
	t.Helper()
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok || refusal.Kind != kind {
		t.Fatalf("error %v, want kind %v", err, kind)
	}
	if !strings.Contains(refusal.Public, says) {
		t.Errorf("sentence %q does not contain %q", refusal.Public, says)
	}
	if strings.ContainsFunc(refusal.Public, func(c rune) bool { return c < ' ' || c == 0x7f }) || len(refusal.Public) > 1500 {
		t.Errorf("sentence %q is too long or has control characters", refusal.Public)
	}
}
