package policy_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

var templates = []pki.Template{pki.PrivateMTLS, pki.PrivateServer, pki.PrivateClient, pki.MeshIntermediate}

// A template's defaults are a good profile once they have names, and without names allow nothing.
func TestTemplates(t *testing.T) {
	t.Parallel()
	for _, template := range templates {
		if err := policy.CheckProfile(profile(template)); err != nil {
			t.Errorf("%s: %v", template, err)
		}
		bare := profile(template, func(p *pki.Profile) { p.Rules.Names = pki.NameRules{} })
		err := policy.CheckProfile(bare)
		if template == pki.MeshIntermediate {
			if err != nil {
				t.Errorf("%s: %v", template, err)
			}
			continue
		}
		wantFinding(t, err, "/rules/names", "allows no names")
		for _, ids := range [][]pki.Identifier{nil, dnsIDs("a.example"), ipIDs("192.0.2.1")} {
			if err := policy.CheckIdentifiers(bare, credential(nil), ids); err == nil {
				t.Errorf("%s without names allows %v", template, ids)
			}
		}
	}
	rules, method := policy.TemplateRules("private-vpn")
	if method != "" || rules.MaxNames != 0 || len(rules.Keys) != 0 {
		t.Errorf("unknown template has %+v, %q", rules, method)
	}
}

// Two profiles of a template share nothing that a change of one could reach.
func TestTemplateRulesAreFresh(t *testing.T) {
	t.Parallel()
	for _, template := range templates {
		first, _ := policy.TemplateRules(template)
		for _, list := range [][]string{first.KeyUsage, first.ExtKeyUsage} {
			for i := range list {
				list[i] = "changed"
			}
		}
		first.Keys[0] = "changed"
		second, _ := policy.TemplateRules(template)
		if slices.Contains(second.KeyUsage, "changed") || slices.Contains(second.ExtKeyUsage, "changed") || slices.Contains(second.Keys, "changed") {
			t.Errorf("%s: a change reached %+v", template, second)
		}
	}
}

// An EKU or key usage that a template has, and no other.
func TestTemplateUsages(t *testing.T) {
	t.Parallel()
	want := map[pki.Template][2][]string{
		pki.PrivateMTLS:      {{"digitalSignature", "keyEncipherment"}, {"serverAuth", "clientAuth"}},
		pki.PrivateServer:    {{"digitalSignature", "keyEncipherment"}, {"serverAuth"}},
		pki.PrivateClient:    {{"digitalSignature", "keyEncipherment"}, {"clientAuth"}},
		pki.MeshIntermediate: {{"keyCertSign", "cRLSign"}, nil},
	}
	for template, usages := range want {
		rules, _ := policy.TemplateRules(template)
		if !slices.Equal(rules.KeyUsage, usages[0]) || !slices.Equal(rules.ExtKeyUsage, usages[1]) {
			t.Errorf("%s has %q, %q", template, rules.KeyUsage, rules.ExtKeyUsage)
		}
	}
}

func TestCheckProfileAccepts(t *testing.T) {
	t.Parallel()
	challenge := &pki.Challenges{Types: []string{"http-01", "dns-01", "tls-alpn-01"}, Networks: prefixes("10.0.0.0/8")}
	tests := map[string]*pki.Profile{
		"suspended":       profile(pki.PrivateServer, func(p *pki.Profile) { p.State = pki.Suspended }),
		"challenges":      profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Challenges = challenge }),
		"dns-only":        profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Challenges = &pki.Challenges{Types: []string{"dns-01"}} }),
		"agent":           profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Method = pki.Agent }),
		"rest":            profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Method = pki.RESTAPI }),
		"any-name":        profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Names.DNS = pki.DNSRules{Allow: []string{"**"}, Wildcards: true} }),
		"address-only":    profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Names.DNS = pki.DNSRules{} }),
		"single-label":    profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Names.DNS.Allow = []string{"localhost", "*.localhost"} }),
		"client-only":     profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Rules.ExtKeyUsage = []string{"clientAuth"} }),
		"shortest":        profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Rules.Validity = validity(10*time.Second, 10*time.Second, 0, 0) }),
		"longest":         profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Validity = validity(825*day, 825*day, time.Hour, 50) }),
		"longest-ca":      profile(pki.MeshIntermediate, func(p *pki.Profile) { p.Rules.Validity = validity(3650*day, 3650*day, 0, 0) }),
		"spiffe-patterns": profile(pki.PrivateMTLS, func(p *pki.Profile) { p.Rules.Names.SPIFFE.Allow = []string{"a*b/*-x", "A.b/c_d", "*.x/*"} }),
		"1000-names":      profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.MaxNames = 1000 }),
		"1000-patterns":   profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Names.DNS.Allow = slices.Repeat([]string{"**.example"}, 1000) }),
	}
	for name, p := range tests {
		if err := policy.CheckProfile(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func validity(def, most, backdate time.Duration, jitter int) pki.Validity {
	return pki.Validity{Default: pki.Duration(def), Max: pki.Duration(most), Backdate: pki.Duration(backdate), JitterPercent: jitter}
}

func TestCheckProfileRefuses(t *testing.T) {
	t.Parallel()
	times := func(def, most, backdate time.Duration, jitter int) func(*pki.Profile) {
		return func(p *pki.Profile) { p.Rules.Validity = validity(def, most, backdate, jitter) }
	}
	allow := func(pattern string) func(*pki.Profile) {
		return func(p *pki.Profile) { p.Rules.Names.DNS.Allow = []string{"a.example", pattern} }
	}
	spiffe := func(pattern string) func(*pki.Profile) {
		return func(p *pki.Profile) { p.Rules.Names.SPIFFE.Allow = []string{pattern} }
	}
	ranges := func(prefix netip.Prefix) func(*pki.Profile) {
		return func(p *pki.Profile) { p.Rules.Names.IP.Allow = []netip.Prefix{prefix} }
	}
	challenges := func(c pki.Challenges) func(*pki.Profile) {
		return func(p *pki.Profile) { p.Rules.Challenges = &c }
	}
	const mtls, server, mesh = pki.PrivateMTLS, pki.PrivateServer, pki.MeshIntermediate
	tests := map[string]struct {
		template pki.Template
		change   func(*pki.Profile)
		field    string
		says     string
	}{
		"name":                  {server, func(p *pki.Profile) { p.Name = "a b" }, "/name", `character ' '`},
		"no-ca":                 {server, func(p *pki.Profile) { p.IssuingCA = "" }, "/issuingCa", "no issuing CA"},
		"state/none":            {server, func(p *pki.Profile) { p.State = "" }, "/state", `""`},
		"state/revoked":         {server, func(p *pki.Profile) { p.State = pki.Revoked }, "/state", `"revoked"`},
		"state/pending":         {server, func(p *pki.Profile) { p.State = pki.Pending }, "/state", `"pending"`},
		"template/none":         {server, func(p *pki.Profile) { p.Template = "" }, "/template", `""`},
		"template/unknown":      {server, func(p *pki.Profile) { p.Template = "private-vpn" }, "/template", `"private-vpn"`},
		"method/none":           {server, func(p *pki.Profile) { p.Method = "" }, "/method", `""`},
		"method/unknown":        {server, func(p *pki.Profile) { p.Method = "scep" }, "/method", `"scep"`},
		"method/of-other":       {server, func(p *pki.Profile) { p.Method = pki.MTLSOverACME }, "/method", "private-server"},
		"method/agent-server":   {server, func(p *pki.Profile) { p.Method = pki.Agent }, "/method", "private-server"},
		"method/ca-over-acme":   {mesh, func(p *pki.Profile) { p.Method = pki.ACMEClient }, "/method", "mesh-intermediate"},
		"validity/none":         {server, times(0, 0, 0, 0), "/rules/validity/default", "shorter than 10s"},
		"validity/short":        {server, times(9*time.Second, day, 0, 0), "/rules/validity/default", "9s"},
		"validity/negative":     {server, times(-day, day, 0, 0), "/rules/validity/default", "shorter"},
		"validity/max-below":    {server, times(2*day, day, 0, 0), "/rules/validity/max", "2d"},
		"validity/long":         {server, times(day, 826*day, 0, 0), "/rules/validity/max", "825d"},
		"validity/long-ca":      {mesh, times(day, 3651*day, 0, 0), "/rules/validity/max", "3650d"},
		"validity/backdate":     {server, times(day, day, time.Hour+1, 0), "/rules/validity/backdate", "1h"},
		"validity/backdate-neg": {server, times(day, day, -1, 0), "/rules/validity/backdate", "0s"},
		"validity/backdate-all": {server, times(time.Minute, day, time.Minute, 0), "/rules/validity/backdate", "default lifetime 1m"},
		"validity/jitter":       {server, times(day, day, 0, 51), "/rules/validity/jitterPercent", "51"},
		"validity/jitter-neg":   {server, times(day, day, 0, -1), "/rules/validity/jitterPercent", "-1"},
		"keys/none":             {server, func(p *pki.Profile) { p.Rules.Keys = nil }, "/rules/keys", "no key algorithm"},
		"keys/unknown":          {server, func(p *pki.Profile) { p.Rules.Keys = []pki.KeyAlgorithm{pki.ECDSAP256, "dsa"} }, "/rules/keys/1", `"dsa"`},
		"keys/twice":            {server, func(p *pki.Profile) { p.Rules.Keys = []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP256} }, "/rules/keys/1", "twice"},
		"ku/none":               {server, func(p *pki.Profile) { p.Rules.KeyUsage = nil }, "/rules/keyUsage", "digitalSignature is missing"},
		"ku/cert-sign":          {server, func(p *pki.Profile) { p.Rules.KeyUsage = []string{"digitalSignature", "keyCertSign"} }, "/rules/keyUsage/1", `"keyCertSign"`},
		"ku/ca-without":         {mesh, func(p *pki.Profile) { p.Rules.KeyUsage = []string{"cRLSign"} }, "/rules/keyUsage", "keyCertSign is missing"},
		"eku/none":              {server, func(p *pki.Profile) { p.Rules.ExtKeyUsage = nil }, "/rules/extKeyUsage", "at least one"},
		"eku/client-of-server":  {server, func(p *pki.Profile) { p.Rules.ExtKeyUsage = []string{"clientAuth"} }, "/rules/extKeyUsage/0", `"clientAuth"`},
		"eku/any":               {mtls, func(p *pki.Profile) { p.Rules.ExtKeyUsage = []string{"serverAuth", "any"} }, "/rules/extKeyUsage/1", `"any"`},
		"eku/ocsp":              {mtls, func(p *pki.Profile) { p.Rules.ExtKeyUsage = []string{"OCSPSigning"} }, "/rules/extKeyUsage/0", `"OCSPSigning"`},
		"eku/of-ca":             {mesh, func(p *pki.Profile) { p.Rules.ExtKeyUsage = []string{"serverAuth"} }, "/rules/extKeyUsage/0", `"serverAuth"`},
		"subject/none":          {server, func(p *pki.Profile) { p.Rules.Subject = "" }, "/rules/subject", `""`},
		"subject/unknown":       {server, func(p *pki.Profile) { p.Rules.Subject = "full" }, "/rules/subject", `"full"`},
		"subject/empty-of-ca":   {mesh, func(p *pki.Profile) { p.Rules.Subject = pki.SubjectEmpty }, "/rules/subject", "common-name"},
		"max-names/0":           {server, func(p *pki.Profile) { p.Rules.MaxNames = 0 }, "/rules/maxNames", "0 is not within"},
		"max-names/1001":        {server, func(p *pki.Profile) { p.Rules.MaxNames = 1001 }, "/rules/maxNames", "1001"},
		"max-names/negative":    {server, func(p *pki.Profile) { p.Rules.MaxNames = -1 }, "/rules/maxNames", "-1"},

		"names/none":             {server, func(p *pki.Profile) { p.Rules.Names = pki.NameRules{} }, "/rules/names", "allows no names"},
		"names/of-ca":            {mesh, func(p *pki.Profile) { p.Rules.Names.DNS.Allow = []string{"a.example"} }, "/rules/names", "issues no names"},
		"names/deny-only":        {server, func(p *pki.Profile) { p.Rules.Names = pki.NameRules{DNS: pki.DNSRules{Deny: []string{"a.example"}}} }, "/rules/names", "allows no names"},
		"spiffe/of-server":       {server, func(p *pki.Profile) { p.Rules.Names.SPIFFE = profile(mtls).Rules.Names.SPIFFE }, "/rules/names/spiffe", "private-mtls"},
		"spiffe/by-acme":         {mtls, func(p *pki.Profile) { p.Method = pki.ACMEClient }, "/rules/names/spiffe", "enrollment method"},
		"spiffe/no-domain":       {mtls, func(p *pki.Profile) { p.Rules.Names.SPIFFE.TrustDomains = nil }, "/rules/names/spiffe/trustDomains", "no trust domain"},
		"spiffe/no-patterns":     {mtls, func(p *pki.Profile) { p.Rules.Names.SPIFFE.Allow = nil }, "/rules/names/spiffe/allow", `"*/*" allows all`},
		"spiffe/domain":          {mtls, func(p *pki.Profile) { p.Rules.Names.SPIFFE.TrustDomains = []string{"a", "B"} }, "/rules/names/spiffe/trustDomains/1", "'B'"},
		"spiffe/domain-star":     {mtls, func(p *pki.Profile) { p.Rules.Names.SPIFFE.TrustDomains = []string{"*"} }, "/rules/names/spiffe/trustDomains/0", "'*'"},
		"spiffe/pattern-bare":    {mtls, spiffe("prod"), "/rules/names/spiffe/allow/0", "NAMESPACE/SERVICE_ACCOUNT"},
		"spiffe/pattern-long":    {mtls, spiffe("a/b/c"), "/rules/names/spiffe/allow/0", "NAMESPACE/SERVICE_ACCOUNT"},
		"spiffe/pattern-full":    {mtls, spiffe("ns/a/sa/b"), "/rules/names/spiffe/allow/0", "NAMESPACE/SERVICE_ACCOUNT"},
		"spiffe/pattern-empty":   {mtls, spiffe(""), "/rules/names/spiffe/allow/0", "NAMESPACE/SERVICE_ACCOUNT"},
		"spiffe/pattern-half":    {mtls, spiffe("a/"), "/rules/names/spiffe/allow/0", `""`},
		"spiffe/pattern-other":   {mtls, spiffe("/b"), "/rules/names/spiffe/allow/0", `""`},
		"spiffe/pattern-double":  {mtls, spiffe("**/b"), "/rules/names/spiffe/allow/0", `"**"`},
		"spiffe/pattern-dots":    {mtls, spiffe("../b"), "/rules/names/spiffe/allow/0", `".."`},
		"spiffe/pattern-percent": {mtls, spiffe("a/%2e"), "/rules/names/spiffe/allow/0", `"%2e"`},
		"spiffe/pattern-regexp":  {mtls, spiffe("a/[bc]"), "/rules/names/spiffe/allow/0", `"[bc]"`},
		"spiffe/deny-pattern":    {mtls, func(p *pki.Profile) { p.Rules.Names.SPIFFE.Deny = []string{"a/b", "x"} }, "/rules/names/spiffe/deny/1", `"x"`},
		"dns/star":               {server, allow("*"), "/rules/names/dns/allow/1", `"*"`},
		"dns/empty":              {server, allow(""), "/rules/names/dns/allow/1", "empty"},
		"dns/dot":                {server, allow("."), "/rules/names/dns/allow/1", "empty label"},
		"dns/star-dot":           {server, allow("*."), "/rules/names/dns/allow/1", "empty"},
		"dns/stars-dot":          {server, allow("**."), "/rules/names/dns/allow/1", "empty"},
		"dns/three-stars":        {server, allow("***"), "/rules/names/dns/allow/1", "'*'"},
		"dns/three-stars-name":   {server, allow("***.example"), "/rules/names/dns/allow/1", "'*'"},
		"dns/star-twice":         {server, allow("*.*.example"), "/rules/names/dns/allow/1", "'*'"},
		"dns/star-in-label":      {server, allow("a*.example"), "/rules/names/dns/allow/1", "'*'"},
		"dns/star-at-end":        {server, allow("a.*"), "/rules/names/dns/allow/1", "'*'"},
		"dns/suffix":             {server, allow(".example"), "/rules/names/dns/allow/1", "empty label"},
		"dns/upper-case":         {server, allow("A.example"), "/rules/names/dns/allow/1", "'A'"},
		"dns/address":            {server, allow("192.0.2.1"), "/rules/names/dns/allow/1", "IP address"},
		"dns/deny":               {server, func(p *pki.Profile) { p.Rules.Names.DNS.Deny = []string{"*x"} }, "/rules/names/dns/deny/0", "'*'"},
		"dns/1001":               {server, func(p *pki.Profile) { p.Rules.Names.DNS.Allow = slices.Repeat([]string{"**"}, 1001) }, "/rules/names/dns/allow", "1001 entries"},
		"ip/none":                {server, ranges(netip.Prefix{}), "/rules/names/ip/allow/0", "empty"},
		"ip/mapped":              {server, ranges(netip.MustParsePrefix("::ffff:192.0.2.0/120")), "/rules/names/ip/allow/0", "mapped"},
		"ip/host-bits":           {server, ranges(netip.MustParsePrefix("192.0.2.1/24")), "/rules/names/ip/allow/0", "192.0.2.0/24"},
		"ip/deny":                {server, func(p *pki.Profile) { p.Rules.Names.IP.Deny = []netip.Prefix{{}} }, "/rules/names/ip/deny/0", "empty"},
		"ip/1001":                {server, func(p *pki.Profile) { p.Rules.Names.IP.Allow = slices.Repeat(prefixes("::/0"), 1001) }, "/rules/names/ip/allow", "1001 entries"},

		"challenges/of-mtls":    {mtls, challenges(pki.Challenges{Types: []string{"dns-01"}}), "/rules/challenges", "mtls-over-acme"},
		"challenges/none":       {server, challenges(pki.Challenges{}), "/rules/challenges/types", "no challenge type"},
		"challenges/unknown":    {server, challenges(pki.Challenges{Types: []string{"dns-01", "tls-sni-01"}}), "/rules/challenges/types/1", `"tls-sni-01"`},
		"challenges/twice":      {server, challenges(pki.Challenges{Types: []string{"dns-01", "dns-01"}}), "/rules/challenges/types/1", "twice"},
		"challenges/no-network": {server, challenges(pki.Challenges{Types: []string{"dns-01", "http-01"}}), "/rules/challenges/networks", "no network"},
		"challenges/network":    {server, challenges(pki.Challenges{Types: []string{"http-01"}, Networks: []netip.Prefix{{}}}), "/rules/challenges/networks/0", "empty"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			wantFinding(t, policy.CheckProfile(profile(test.template, test.change)), test.field, test.says)
		})
	}
}

// wantFinding checks that one of joined errors is of a field and says something.
func wantFinding(t *testing.T, err error, field, says string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("error %v is not joined", err)
	}
	var fields []string
	for _, finding := range joined.Unwrap() {
		refusal, ok := errors.AsType[*fault.Error](finding)
		if !ok || refusal.Kind != fault.Malformed || refusal.Field == "" {
			t.Fatalf("finding %v is not Malformed of a field", finding)
		}
		if refusal.Field == field && strings.Contains(refusal.Public, says) {
			return
		}
		fields = append(fields, fmt.Sprintf("%s: %s", refusal.Field, refusal.Public))
	}
	t.Errorf("no finding of %s says %q; there are %q", field, says, fields)
}

// All problems come together.
func TestCheckProfileFindsAll(t *testing.T) {
	t.Parallel()
	err := policy.CheckProfile(&pki.Profile{Template: pki.PrivateServer})
	for _, field := range []string{
		"/name", "/issuingCa", "/state", "/method", "/rules/validity/default", "/rules/keys", "/rules/keyUsage", "/rules/extKeyUsage",
		"/rules/subject", "/rules/maxNames", "/rules/names",
	} {
		wantFinding(t, err, field, "")
	}
}

func TestCheckNames(t *testing.T) {
	t.Parallel()
	for name, rules := range map[string]pki.NameRules{
		"nothing": {},
		"all":     {DNS: pki.DNSRules{Allow: []string{"**"}}, IP: pki.IPRules{Allow: prefixes("::/0", "0.0.0.0/0")}},
		"spiffe":  {SPIFFE: pki.SPIFFERules{TrustDomains: []string{"td"}, Allow: []string{"*/*"}}},
	} {
		if err := policy.CheckNames(&rules, "/limit"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	bad := pki.NameRules{
		SPIFFE: pki.SPIFFERules{Allow: []string{"x"}}, DNS: pki.DNSRules{Allow: []string{"*"}}, IP: pki.IPRules{Deny: []netip.Prefix{{}}},
	}
	err := policy.CheckNames(&bad, "/limit")
	for _, field := range []string{"/limit/spiffe/trustDomains", "/limit/spiffe/allow/0", "/limit/dns/allow/0", "/limit/ip/deny/0"} {
		wantFinding(t, err, field, "")
	}
}
