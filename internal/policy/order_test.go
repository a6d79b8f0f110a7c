package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// dnsProfile is a private-server profile with these DNS rules.
func dnsProfile(rules pki.DNSRules) *pki.Profile {
	return profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Names.DNS = rules })
}

func TestDNSPatterns(t *testing.T) {
	t.Parallel()
	type set = map[string]bool // name: allowed
	tests := []struct {
		rules pki.DNSRules
		names set
	}{
		{pki.DNSRules{Allow: []string{"a.example"}}, set{
			"a.example": true, "b.example": false, "x.a.example": false, "xa.example": false, "a.example.evil": false, "example": false,
			"a.examplex": false, "a-example": false, "*.a.example": false, "*.example": false,
		}},
		{pki.DNSRules{Allow: []string{"*.example"}}, set{
			"a.example": true, "example": false, "a.b.example": false, "evilexample": false, "a.evilexample": false, "*.example": false,
			"a.example.evil": false,
		}},
		{pki.DNSRules{Allow: []string{"**.example"}}, set{
			"a.example": true, "a.b.example": true, "a.b.c.example": true, "example": false, "evilexample": false, "a.evilexample": false,
			"*.example": false, "a.example.evil": false,
		}},
		{pki.DNSRules{Allow: []string{"**"}}, set{"a.example": true, "localhost": true, "*.example": false}},
		{pki.DNSRules{Allow: []string{"localhost", "*.localhost"}}, set{"localhost": true, "a.localhost": true, "a.b.localhost": false}},
		{pki.DNSRules{Allow: nil, Wildcards: true}, set{"a.example": false, "*.example": false}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"**"}}, set{"a.example": false}},
		{pki.DNSRules{Allow: []string{"**.example"}, Deny: []string{"a.example"}}, set{"a.example": false, "b.example": true, "x.a.example": true}},
		{pki.DNSRules{Allow: []string{"**.example"}, Deny: []string{"*.a.example"}}, set{
			"a.example": true, "x.a.example": false, "y.x.a.example": true, "b.example": true,
		}},
		{pki.DNSRules{Allow: []string{"a.example"}, Deny: []string{"**.example"}}, set{"a.example": false}},

		// A wildcard is allowed where every name that it stands for is allowed, and refused where any of them is denied.
		{pki.DNSRules{Allow: []string{"*.example"}, Wildcards: true}, set{
			"*.example": true, "*.a.example": false, "a.example": true, "*.evilexample": false, "*.b": false,
		}},
		{pki.DNSRules{Allow: []string{"**.example"}, Wildcards: true}, set{"*.example": true, "*.a.example": true, "*.b.a.example": true, "*.evil": false}},
		{pki.DNSRules{Allow: []string{"**"}, Wildcards: true}, set{"*.example": true, "*.com": true}},
		{pki.DNSRules{Allow: []string{"a.example", "b.example"}, Wildcards: true}, set{"*.example": false, "*.a.example": false}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"a.example"}, Wildcards: true}, set{
			"*.example": false, "*.a.example": true, "*.b.example": true, "*.x.a.example": true,
		}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"*.example"}, Wildcards: true}, set{"*.example": false, "*.a.example": true}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"**.example"}, Wildcards: true}, set{"*.example": false, "*.a.example": false, "*.evilexample": true}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"**.a.example"}, Wildcards: true}, set{"*.example": true, "*.a.example": false, "*.b.a.example": false}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"localhost"}, Wildcards: true}, set{"*.localhost": true, "localhost": false}},
		{pki.DNSRules{Allow: []string{"**"}, Deny: []string{"**"}, Wildcards: true}, set{"*.example": false}},
	}
	for _, test := range tests {
		p := dnsProfile(test.rules)
		if len(test.rules.Allow) > 0 {
			if err := policy.CheckProfile(p); err != nil {
				t.Fatal(err)
			}
		}
		for name, allowed := range test.names {
			err := policy.CheckIdentifiers(p, credential(nil), dnsIDs(name))
			if allowed && err != nil {
				t.Errorf("%+v: %v", test.rules, err)
			}
			if !allowed && !fault.Is(err, fault.RejectedIdentifier) {
				t.Errorf("%+v: %q: %v, want RejectedIdentifier", test.rules, name, err)
			}
		}
	}
}

func TestIPRanges(t *testing.T) {
	t.Parallel()
	p := profile(pki.PrivateServer)
	for addr, allowed := range map[string]bool{
		"192.0.2.0": true, "192.0.2.127": true, "192.0.2.128": false, "192.0.2.255": false, "192.0.3.0": false, "10.0.0.1": false,
		"2001:db8::1": true, "2001:db8:ffff::1": true, "2001:db9::": false, "::1": false, "64:ff9b::c000:201": false, "2002:c000:201::": false,
	} {
		err := policy.CheckIdentifiers(p, credential(nil), ipIDs(addr))
		if allowed && err != nil {
			t.Error(err)
		}
		if !allowed && !fault.Is(err, fault.RejectedIdentifier) {
			t.Errorf("%s: %v, want RejectedIdentifier", addr, err)
		}
	}
	// The whole of IPv4 in IPv6 is still not IPv4, nor the other way round.
	p.Rules.Names.IP = pki.IPRules{Allow: prefixes("::/0")}
	wantFault(t, policy.CheckIdentifiers(p, credential(nil), ipIDs("192.0.2.1")), fault.RejectedIdentifier, `"::/0"`)
	p.Rules.Names.IP = pki.IPRules{Allow: prefixes("0.0.0.0/0")}
	wantFault(t, policy.CheckIdentifiers(p, credential(nil), ipIDs("::1")), fault.RejectedIdentifier, `"0.0.0.0/0"`)
}

func TestCheckIdentifiersRefuses(t *testing.T) {
	t.Parallel()
	server := profile(pki.PrivateServer)
	mesh := profile(pki.PrivateMTLS)
	challenged := func(types ...string) *pki.Profile {
		return profile(pki.PrivateServer, func(p *pki.Profile) {
			p.Rules.Challenges = &pki.Challenges{Types: types, Networks: prefixes("10.0.0.0/8")}
			p.Rules.Names.DNS.Wildcards = true
		})
	}
	limited := credential(&pki.NameRules{DNS: pki.DNSRules{Allow: []string{"a.example"}}})
	many := make([]pki.Identifier, 101)
	for i := range many {
		many[i] = dnsIDs(fmt.Sprintf("n%d.example", i))[0]
	}
	foreign := credential(nil)
	foreign.ProfileID = "p2"
	tests := map[string]struct {
		profile    *pki.Profile
		credential *pki.Credential
		ids        []pki.Identifier
		kind       fault.Kind
		says       string
	}{
		"credential/none":        {server, nil, dnsIDs("a.example"), fault.Unauthorized, "EAB credential"},
		"credential/none-mesh":   {mesh, nil, nil, fault.Unauthorized, "EAB credential"},
		"credential/other":       {server, foreign, dnsIDs("a.example"), fault.Unauthorized, "does not belong"},
		"credential/limit":       {server, limited, dnsIDs("b.example"), fault.RejectedIdentifier, `by credential "west" of profile "demo"`},
		"credential/limit-other": {server, limited, ipIDs("192.0.2.1"), fault.RejectedIdentifier, "allows no IP addresses"},
		"credential/limit-empty": {server, credential(&pki.NameRules{}), dnsIDs("a.example"), fault.RejectedIdentifier, "allows no DNS names"},
		"credential/limit-wider": {server, credential(&pki.NameRules{DNS: pki.DNSRules{Allow: []string{"**"}}}), dnsIDs("a.evil"), fault.RejectedIdentifier, `by profile "demo"`},
		"none":                   {server, credential(nil), nil, fault.Malformed, `profile "demo" needs at least one`},
		"none/challenge":         {challenged("http-01"), nil, nil, fault.Malformed, "needs at least one"},
		"none/no-spiffe":         {profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Rules.Names.SPIFFE = pki.SPIFFERules{} }), credential(nil), nil, fault.Malformed, "at least one"},
		"none/acme-client":       {profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Method = pki.ACMEClient }), credential(nil), nil, fault.Malformed, "at least one"},
		"too-many":               {server, credential(nil), many, fault.Malformed, "101 identifiers, more than the 100"},
		"type":                   {server, credential(nil), []pki.Identifier{{Type: "email", Value: "a@example"}}, fault.UnsupportedIdentifier, `"email"`},
		"type/upper-case":        {server, credential(nil), []pki.Identifier{{Type: "DNS", Value: "a.example"}}, fault.UnsupportedIdentifier, `"DNS"`},
		"type/uri":               {mesh, credential(nil), []pki.Identifier{{Type: "uri", Value: "spiffe://cluster.local/ns/a/sa/b"}}, fault.UnsupportedIdentifier, `"uri"`},
		"form/upper-case":        {server, credential(nil), dnsIDs("A.example"), fault.Malformed, "a.example"},
		"form/trailing-dot":      {server, credential(nil), dnsIDs("a.example."), fault.Malformed, "empty label"},
		"form/nul":               {server, credential(nil), dnsIDs("a.example\x00.evil"), fault.Malformed, `\x00`},
		"form/address":           {server, credential(nil), ipIDs("2001:DB8::1"), fault.Malformed, "2001:db8::1"},
		"wildcard":               {server, credential(nil), dnsIDs("*.example"), fault.RejectedIdentifier, "no wildcard names"},
		"wildcard/no-dns-01":     {challenged("http-01", "tls-alpn-01"), nil, dnsIDs("*.example"), fault.RejectedIdentifier, "dns-01, which profile"},
		"address/dns-01-only":    {challenged("dns-01"), nil, ipIDs("192.0.2.1"), fault.RejectedIdentifier, "dns-01 only"},
		"denied":                 {server, credential(nil), dnsIDs("a.secret.example"), fault.RejectedIdentifier, `deny pattern "**.secret.example"`},
		"denied-range":           {server, credential(nil), ipIDs("192.0.2.200"), fault.RejectedIdentifier, `denied range "192.0.2.128/25"`},
		"spiffe-as-dns":          {mesh, credential(nil), dnsIDs("spiffe://cluster.local/ns/a/sa/b"), fault.Malformed, "character"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			wantFault(t, policy.CheckIdentifiers(test.profile, test.credential, test.ids), test.kind, test.says)
		})
	}
}

func TestCheckIdentifiersAccepts(t *testing.T) {
	t.Parallel()
	challenged := profile(pki.PrivateServer, func(p *pki.Profile) {
		p.Rules.Challenges = &pki.Challenges{Types: []string{"dns-01", "http-01"}, Networks: prefixes("10.0.0.0/8")}
		p.Rules.Names.DNS.Wildcards = true
	})
	limit := &pki.NameRules{DNS: pki.DNSRules{Allow: []string{"*.example"}}}
	tests := map[string]struct {
		profile    *pki.Profile
		credential *pki.Credential
		ids        []pki.Identifier
	}{
		"mixed":            {profile(pki.PrivateServer), credential(nil), append(dnsIDs("a.example", "b.c.example"), ipIDs("192.0.2.1", "2001:db8::1")...)},
		"limit":            {profile(pki.PrivateServer), credential(limit), dnsIDs("a.example", "b.example")},
		"no-identifiers":   {profile(pki.PrivateMTLS), credential(nil), nil},
		"istiod":           {profile(pki.PrivateMTLS), credential(nil), dnsIDs("istiod.istio-system.svc")},
		"challenge":        {challenged, nil, append(dnsIDs("a.example", "*.example"), ipIDs("192.0.2.1")...)},
		"agent":            {profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Method = pki.Agent }), credential(nil), nil},
		"rest":             {profile(pki.PrivateServer, func(p *pki.Profile) { p.Method = pki.RESTAPI }), nil, dnsIDs("a.example")},
		"credential-there": {challenged, credential(nil), dnsIDs("a.example")},
	}
	for name, test := range tests {
		if err := policy.CheckIdentifiers(test.profile, test.credential, test.ids); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Of several identifiers only the k-th is bad, for every k and each way of being bad: it is found, and it is the one that
// the subproblem names. (Boulder once checked one of many names many times.)
func TestEachIdentifierIsJudged(t *testing.T) {
	t.Parallel()
	bad := map[fault.Kind]pki.Identifier{
		fault.RejectedIdentifier:    {Type: pki.DNS, Value: "a.evil"},
		fault.Malformed:             {Type: pki.DNS, Value: "a..example"},
		fault.UnsupportedIdentifier: {Type: "email", Value: "a@example"},
	}
	p := profile(pki.PrivateServer)
	for total := 1; total <= 12; total++ {
		for kind, id := range bad {
			for k := range total {
				ids := make([]pki.Identifier, total)
				for i := range ids {
					ids[i] = dnsIDs(fmt.Sprintf("n%d.example", i))[0]
				}
				if err := policy.CheckIdentifiers(p, credential(nil), ids); err != nil {
					t.Fatal(err)
				}
				ids[k] = id
				err := policy.CheckIdentifiers(p, credential(nil), ids)
				wantFault(t, err, kind, "")
				problems := fault.From(err).Subproblems
				if total == 1 && len(problems) == 0 {
					continue // it would only say the same again
				}
				if len(problems) != 1 || total == 1 || problems[0].Identifier != id || problems[0].Kind != kind || problems[0].Public == "" {
					t.Errorf("%d of %d: subproblems %+v", k, total, problems)
				}
			}
		}
	}
}

func TestSubproblems(t *testing.T) {
	t.Parallel()
	ids := append(dnsIDs("a.example", "a.evil", "b.evil"), ipIDs("10.0.0.1")...)
	err := policy.CheckIdentifiers(profile(pki.PrivateServer), credential(nil), ids)
	wantFault(t, err, fault.RejectedIdentifier, `3 of 4 identifiers are refused; the first: DNS name "a.evil"`)
	var refused []pki.Identifier
	for _, problem := range fault.From(err).Subproblems {
		refused = append(refused, problem.Identifier)
		if !strings.Contains(problem.Public, problem.Identifier.Value) {
			t.Errorf("subproblem of %v says %q", problem.Identifier, problem.Public)
		}
	}
	if !slices.Equal(refused, ids[1:]) {
		t.Errorf("refused %v, want %v", refused, ids[1:])
	}
	ids[0] = pki.Identifier{Type: "email", Value: "a@example"}
	wantFault(t, policy.CheckIdentifiers(profile(pki.PrivateServer), credential(nil), ids), fault.Compound, "4 of 4")
}
