package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// refused lists the rules that a request breaks.
func refused(checks []policy.Check) []policy.Rule {
	var rules []policy.Rule
	for _, check := range checks {
		if check.Refused != nil {
			rules = append(rules, check.Rule)
		}
	}
	return rules
}

func TestExplain(t *testing.T) {
	t.Parallel()
	mesh, server := profile(pki.PrivateMTLS), profile(pki.PrivateServer)
	foreign := credential(nil)
	foreign.ProfileID = "p2"
	limited := credential(&pki.NameRules{DNS: pki.DNSRules{Allow: []string{"a.example"}}})
	key := func(names pki.Names) csr.Request { return csr.Request{KeyAlgorithm: pki.ECDSAP256, Names: names} }
	tests := map[string]struct {
		profile    *pki.Profile
		credential *pki.Credential
		request    csr.Request
		refused    []policy.Rule
		says       string // of what passed
	}{
		"spiffe": {mesh, nil, key(pki.Names{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}}), nil, `is allowed by pattern "*/*" in trust domain "cluster.local" of profile "demo"`},
		"dns":    {server, limited, key(pki.Names{DNS: []string{"a.example"}}), nil, `is allowed by pattern "**.example" of profile "demo", and by pattern "a.example" of credential "west"`},
		"ip":     {server, credential(nil), key(pki.Names{IPs: []string{"192.0.2.1"}}), nil, `is allowed by pattern "192.0.2.0/24"`},
		"common-name": {
			server, credential(nil), csr.Request{KeyAlgorithm: pki.ECDSAP256, CommonName: "a.example"}, nil, "the common name stays",
		},
		"intermediate": {profile(pki.MeshIntermediate), nil, csr.Request{KeyAlgorithm: pki.ECDSAP256, CommonName: "mesh", CA: true}, nil, "issues CAs"},
		"refuses/everything": {
			server, foreign,
			csr.Request{KeyAlgorithm: "dsa", CA: true, Names: pki.Names{DNS: []string{"a.example", "b.test", "x.secret.example"}}},
			[]policy.Rule{policy.RuleCredential, policy.RuleKey, policy.RuleCA, policy.RuleDNS, policy.RuleDNS},
			`"a.example" is allowed`,
		},
		"refuses/denied":  {mesh, nil, key(pki.Names{URIs: []string{"spiffe://cluster.local/ns/kube-system/sa/web"}}), []policy.Rule{policy.RuleSPIFFE}, "one without a limit"},
		"refuses/nothing": {mesh, nil, key(pki.Names{}), []policy.Rule{policy.RuleSPIFFE}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ids, err := policy.Requested(&test.request)
			if err != nil {
				t.Fatal(err)
			}
			if test.profile.Template == pki.MeshIntermediate {
				ids = nil
			}
			checks, accepted := policy.Explain(test.profile, test.credential, ids, &test.request)
			if got := refused(checks); !slices.Equal(got, test.refused) || (accepted != nil) != (len(test.refused) == 0) {
				t.Errorf("refused by %v, want %v; accepted %v", got, test.refused, accepted)
			}
			said := false
			for _, check := range checks {
				said = said || strings.Contains(check.Says, test.says)
				if (check.Says == "") == (check.Refused == nil) {
					t.Errorf("check %+v", check)
				}
			}
			if !said {
				t.Errorf("nothing says %q: %+v", test.says, checks)
			}
			// What is explained is what is decided.
			asked := test.credential
			if asked == nil {
				asked = credential(nil)
			}
			_, err = policy.CheckRequest(test.profile, asked, ids, &test.request)
			if (err == nil) != (len(test.refused) == 0) {
				t.Errorf("CheckRequest: %v", err)
			}
			if first := slices.IndexFunc(checks, func(c policy.Check) bool { return c.Refused != nil }); first >= 0 && name != "refuses/everything" &&
				fault.From(err).Public != fault.From(checks[first].Refused).Public {
				t.Errorf("CheckRequest says %v, Explain %v", err, checks[first].Refused)
			}
		})
	}
}

func TestExample(t *testing.T) {
	t.Parallel()
	mesh := func(change func(*pki.SPIFFERules)) *pki.Profile {
		return profile(pki.PrivateMTLS, func(p *pki.Profile) { change(&p.Rules.Names.SPIFFE) })
	}
	for name, test := range map[string]struct {
		profile *pki.Profile
		want    pki.Names
		cn      string
	}{
		"spiffe":         {mesh(func(*pki.SPIFFERules) {}), pki.Names{URIs: []string{"spiffe://cluster.local/ns/shop/sa/web"}}, ""},
		"spiffe/pattern": {mesh(func(s *pki.SPIFFERules) { s.Allow = []string{"team-*/api"} }), pki.Names{URIs: []string{"spiffe://cluster.local/ns/team-shop/sa/api"}}, ""},
		"spiffe/denied":  {mesh(func(s *pki.SPIFFERules) { s.Deny = []string{"shop/*"} }), pki.Names{URIs: []string{"spiffe://cluster.local/ns/default/sa/web"}}, ""},
		"server":         {profile(pki.PrivateServer), pki.Names{DNS: []string{"web.example"}, IPs: []string{"192.0.2.1"}}, "web.example"},
		"none-is-left":   {dnsProfile(pki.DNSRules{Allow: []string{"a.example"}, Deny: []string{"a.example"}}), pki.Names{IPs: []string{"192.0.2.1"}}, ""},
		"any":            {dnsProfile(pki.DNSRules{Allow: []string{"**"}}), pki.Names{DNS: []string{"web.example.com"}, IPs: []string{"192.0.2.1"}}, "web.example.com"},
		"one-label":      {dnsProfile(pki.DNSRules{Allow: []string{"*.svc"}}), pki.Names{DNS: []string{"web.svc"}, IPs: []string{"192.0.2.1"}}, "web.svc"},
		"services":       {dnsProfile(pki.DNSRules{Allow: []string{"**.svc"}}), pki.Names{DNS: []string{"web.shop.svc"}, IPs: []string{"192.0.2.1"}}, "web.shop.svc"},
		"mesh-ca":        {profile(pki.MeshIntermediate), pki.Names{}, "mesh-ca"},
	} {
		got := policy.Example(test.profile)
		if !slices.Equal(got.Names.URIs, test.want.URIs) || !slices.Equal(got.Names.DNS, test.want.DNS) || !slices.Equal(got.Names.IPs, test.want.IPs) || got.CommonName != test.cn {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
