package policy_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

func agentProfile(change ...func(*pki.Profile)) *pki.Profile {
	return profile(pki.PrivateMTLS, append([]func(*pki.Profile){func(p *pki.Profile) { p.Method = pki.Agent }}, change...)...)
}

func TestCheckAgent(t *testing.T) {
	t.Parallel()
	accepted, err := policy.CheckAgent(agentProfile(), credential(nil), &csr.Request{KeyAlgorithm: pki.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	if want := pki.AgentURI("cluster.local", "c1"); accepted.Identity != want || len(accepted.Names.URIs) != 1 ||
		accepted.Names.URIs[0] != want || !accepted.Agent || accepted.CommonName != "" || accepted.SPIFFE != (pki.SPIFFEID{}) {
		t.Errorf("accepted %+v", accepted)
	}
}

func TestCheckAgentRefuses(t *testing.T) {
	t.Parallel()
	key := csr.Request{KeyAlgorithm: pki.ECDSAP256}
	foreign := credential(nil)
	foreign.ProfileID = "p2"
	tests := map[string]struct {
		profile    *pki.Profile
		credential *pki.Credential
		request    csr.Request
		kind       fault.Kind
		want       string
	}{
		"refuses/no-credential":      {agentProfile(), nil, key, fault.Unauthorized, "credential of its own"},
		"refuses/foreign-credential": {agentProfile(), foreign, key, fault.Unauthorized, "credential of its own"},
		"refuses/method":             {profile(pki.PrivateMTLS), credential(nil), key, fault.Unauthorized, "mtls-over-acme, not agent"},
		"refuses/no-trust-domain": {
			agentProfile(func(p *pki.Profile) { p.Rules.Names.SPIFFE.TrustDomains = nil }), credential(nil), key, fault.Unauthorized, "no SPIFFE IDs",
		},
		"refuses/key":         {agentProfile(func(p *pki.Profile) { p.Rules.Keys = []pki.KeyAlgorithm{pki.RSA2048} }), credential(nil), key, fault.BadPublicKey, "ecdsa-p256"},
		"refuses/dns":         {agentProfile(), credential(nil), csr.Request{KeyAlgorithm: pki.ECDSAP256, Names: pki.Names{DNS: []string{"a.svc"}}}, fault.BadCSR, "names"},
		"refuses/uri":         {agentProfile(), credential(nil), csr.Request{KeyAlgorithm: pki.ECDSAP256, Names: pki.Names{URIs: []string{"spiffe://x/ns/a/sa/b"}}}, fault.BadCSR, "names"},
		"refuses/address":     {agentProfile(), credential(nil), csr.Request{KeyAlgorithm: pki.ECDSAP256, Names: pki.Names{IPs: []string{"192.0.2.1"}}}, fault.BadCSR, "names"},
		"refuses/common-name": {agentProfile(), credential(nil), csr.Request{KeyAlgorithm: pki.ECDSAP256, CommonName: "agent"}, fault.BadCSR, "names"},
		"refuses/ca":          {agentProfile(), credential(nil), csr.Request{KeyAlgorithm: pki.ECDSAP256, CA: true}, fault.BadCSR, "CA"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.CheckAgent(test.profile, test.credential, &test.request)
			if !fault.Is(err, test.kind) || !strings.Contains(fault.From(err).Public, test.want) {
				t.Errorf("got %v, want %v with %q", err, test.kind, test.want)
			}
		})
	}
}

func TestAgentValidity(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ most, want time.Duration }{{7 * day, day}, {time.Hour, time.Hour}} {
		got := policy.AgentValidity(pki.Validity{Default: pki.Duration(time.Minute), Max: pki.Duration(test.most), Backdate: 5})
		if got.Default != pki.Duration(test.want) || got.Max != got.Default || got.Backdate != 5 {
			t.Errorf("for at most %s: %+v", test.most, got)
		}
	}
}
