package policy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

const workload = "spiffe://cluster.local/ns/demo/sa/web"

// request makes what csr.Parse would hand out: sorted names.
func request(commonName string, names pki.Names, change ...func(*csr.Request)) *csr.Request {
	r := &csr.Request{KeyAlgorithm: pki.ECDSAP256, CommonName: commonName, Names: names}
	for _, f := range change {
		f(r)
	}
	return r
}

func dns(names ...string) pki.Names  { return pki.Names{DNS: names} }
func uris(names ...string) pki.Names { return pki.Names{URIs: names} }

func TestCheckRequestAccepts(t *testing.T) {
	t.Parallel()
	server, mesh := profile(pki.PrivateServer), profile(pki.PrivateMTLS)
	long := strings.Repeat("a", 60) + ".example" // 68 characters
	both := pki.Names{DNS: []string{"istiod.istio-system.svc"}, URIs: []string{"spiffe://cluster.local/ns/istio-system/sa/istiod"}}
	istiod := pki.SPIFFEID{TrustDomain: "cluster.local", Namespace: "istio-system", ServiceAccount: "istiod"}
	tests := map[string]struct {
		profile *pki.Profile
		order   []pki.Identifier
		request *csr.Request
		want    policy.Accepted
	}{
		"workload": {mesh, nil, request("", uris(workload)), policy.Accepted{
			Names: uris(workload), Identity: workload, SPIFFE: pki.SPIFFEID{TrustDomain: "cluster.local", Namespace: "demo", ServiceAccount: "web"},
		}},
		"istiod": {mesh, dnsIDs("istiod.istio-system.svc"), request("istiod.istio-system.svc", both), policy.Accepted{
			Names: both, Identity: both.URIs[0], SPIFFE: istiod,
		}},
		"mesh-dns-only": {mesh, dnsIDs("a.svc"), request("", dns("a.svc")), policy.Accepted{Names: dns("a.svc"), Identity: "a.svc"}},
		"server": {server, dnsIDs("b.example", "a.example"), request("b.example", dns("a.example", "b.example")), policy.Accepted{
			Names: dns("a.example", "b.example"), CommonName: "b.example", Identity: "a.example",
		}},
		"server/repeated-order": {server, dnsIDs("a.example", "a.example"), request("", dns("a.example")), policy.Accepted{Names: dns("a.example"), Identity: "a.example"}},
		"cn-alone":              {server, dnsIDs("a.example"), request("a.example", pki.Names{}), policy.Accepted{Names: dns("a.example"), CommonName: "a.example", Identity: "a.example"}},
		"cn-adds-a-name": {server, dnsIDs("a.example", "b.example"), request("a.example", dns("b.example")), policy.Accepted{
			Names: dns("a.example", "b.example"), CommonName: "a.example", Identity: "a.example",
		}},
		"cn-case":    {server, dnsIDs("a.example"), request("A.Example", dns("a.example")), policy.Accepted{Names: dns("a.example"), CommonName: "a.example", Identity: "a.example"}},
		"cn-long":    {server, dnsIDs(long), request(long, dns(long)), policy.Accepted{Names: dns(long), Identity: long}},
		"cn-dropped": {mesh, dnsIDs("a.svc"), request("a.svc", dns("a.svc")), policy.Accepted{Names: dns("a.svc"), Identity: "a.svc"}},
		"address": {server, ipIDs("192.0.2.1"), request("192.0.2.1", pki.Names{IPs: []string{"192.0.2.1"}}), policy.Accepted{
			Names: pki.Names{IPs: []string{"192.0.2.1"}}, CommonName: "192.0.2.1", Identity: "192.0.2.1",
		}},
		"address-6": {server, ipIDs("2001:db8::1"), request("2001:DB8::1", pki.Names{IPs: []string{"2001:db8::1"}}), policy.Accepted{
			Names: pki.Names{IPs: []string{"2001:db8::1"}}, CommonName: "2001:db8::1", Identity: "2001:db8::1",
		}},
		"intermediate": {profile(pki.MeshIntermediate), nil, request("istio-ca west", pki.Names{}, func(r *csr.Request) { r.CA = true }), policy.Accepted{
			CommonName: "istio-ca west", Identity: "istio-ca west",
		}},
		"intermediate/flag-absent": {profile(pki.MeshIntermediate), nil, request("istio-ca", pki.Names{}), policy.Accepted{CommonName: "istio-ca", Identity: "istio-ca"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := fmt.Sprint(test.request.Names)
			got, err := policy.CheckRequest(test.profile, credential(nil), test.order, test.request)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("accepted (-want +got):\n%s", diff)
			}
			if after := fmt.Sprint(test.request.Names); after != before {
				t.Errorf("request's names changed from %s to %s", before, after)
			}
		})
	}
}

func TestCheckRequestRefuses(t *testing.T) {
	t.Parallel()
	server, mesh, ca := profile(pki.PrivateServer), profile(pki.PrivateMTLS), profile(pki.MeshIntermediate)
	key := func(algorithm pki.KeyAlgorithm) func(*csr.Request) {
		return func(r *csr.Request) { r.KeyAlgorithm = algorithm }
	}
	isCA := func(r *csr.Request) { r.CA = true }
	few := profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.MaxNames = 1 })
	foreign := credential(nil)
	foreign.ProfileID = "p2"
	spiffeLimit := credential(&pki.NameRules{SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"prod/*"}}})
	tests := map[string]struct {
		profile    *pki.Profile
		credential *pki.Credential
		order      []pki.Identifier
		request    *csr.Request
		kind       fault.Kind
		says       string
	}{
		"credential/none":      {mesh, nil, nil, request("", uris(workload)), fault.Unauthorized, "EAB credential"},
		"credential/other":     {mesh, foreign, nil, request("", uris(workload)), fault.Unauthorized, "does not belong"},
		"credential/limit":     {mesh, spiffeLimit, nil, request("", uris(workload)), fault.RejectedIdentifier, `credential "west" of profile "demo": "demo/web" matches none of "prod/*"`},
		"credential/dns-limit": {mesh, credential(&pki.NameRules{}), dnsIDs("a.svc"), request("", dns("a.svc")), fault.RejectedIdentifier, "credential"},
		"credential/nothing":   {mesh, credential(&pki.NameRules{}), nil, request("", uris(workload)), fault.RejectedIdentifier, "allows no SPIFFE IDs"},
		"key":                  {ca, nil, nil, request("x", pki.Names{}, key(pki.RSA2048)), fault.BadPublicKey, `"rsa-2048"`},
		"key/none":             {server, credential(nil), dnsIDs("a.example"), request("", dns("a.example"), key("")), fault.BadPublicKey, `""`},
		"ca-flag":              {server, credential(nil), dnsIDs("a.example"), request("", dns("a.example"), isCA), fault.BadCSR, "basicConstraints"},
		"ca-flag/mesh":         {mesh, credential(nil), nil, request("", uris(workload), isCA), fault.BadCSR, "basicConstraints"},
		"names/missing":        {server, credential(nil), dnsIDs("a.example", "b.example"), request("", dns("a.example")), fault.BadCSR, `missing "b.example"`},
		"names/additional":     {server, credential(nil), dnsIDs("a.example"), request("", dns("a.example", "b.example")), fault.BadCSR, `additional "b.example"`},
		"names/other":          {server, credential(nil), dnsIDs("a.example"), request("", dns("b.example")), fault.BadCSR, `missing "a.example", additional "b.example"`},
		"names/none":           {server, credential(nil), dnsIDs("a.example"), request("", pki.Names{}), fault.BadCSR, `missing "a.example"`},
		"names/cn-additional":  {server, credential(nil), dnsIDs("a.example"), request("b.example", dns("a.example")), fault.BadCSR, `additional "b.example"`},
		"names/cn-nonsense":    {server, credential(nil), dnsIDs("a.example"), request("Example Web", dns("a.example")), fault.BadCSR, `"Example Web" is neither`},
		"names/cn-wildcard":    {server, credential(nil), dnsIDs("a.example"), request("*.example", dns("a.example")), fault.BadCSR, `additional "*.example"`},
		"names/cn-address":     {server, credential(nil), dnsIDs("a.example"), request("192.0.2.1", dns("a.example")), fault.BadCSR, "not among its subject alternative names"},
		"names/cn-mapped":      {server, credential(nil), dnsIDs("a.example"), request("::ffff:192.0.2.1", dns("a.example")), fault.BadCSR, "neither a DNS name nor"},
		"names/cn-spiffe":      {mesh, credential(nil), nil, request(workload, uris(workload)), fault.BadCSR, "neither"},
		"names/too-many":       {few, credential(nil), dnsIDs("a.example"), request("", dns("a.example", "b.example")), fault.BadCSR, "2 names, more than the 1"},
		"ip/missing":           {server, credential(nil), ipIDs("192.0.2.1"), request("", pki.Names{}), fault.BadCSR, `missing "192.0.2.1"`},
		"ip/additional":        {server, credential(nil), dnsIDs("a.example"), request("", pki.Names{DNS: []string{"a.example"}, IPs: []string{"192.0.2.1"}}), fault.BadCSR, "IP addresses"},
		"ip/as-dns":            {server, credential(nil), ipIDs("192.0.2.1"), request("", dns("192.0.2.1")), fault.BadCSR, "DNS names"},
		"order/changed-policy": {server, credential(nil), dnsIDs("a.evil"), request("", dns("a.evil")), fault.RejectedIdentifier, "a.evil"},
		"order/empty":          {server, credential(nil), nil, request("", dns("a.example")), fault.Malformed, "at least one"},

		// The rows PRE-5, PRE-8 and PRE-9 of the conformance table.
		"spiffe/none":            {mesh, credential(nil), nil, request("", pki.Names{}), fault.BadCSR, "needs exactly one"},
		"spiffe/two":             {mesh, credential(nil), nil, request("", uris(workload, workload+"2")), fault.BadCSR, "2 URIs"},
		"spiffe/and-dns":         {mesh, credential(nil), nil, request("", pki.Names{DNS: []string{"a.svc"}, URIs: []string{workload}}), fault.BadCSR, `additional "a.svc"`},
		"spiffe/and-cn":          {mesh, credential(nil), nil, request("a.svc", uris(workload)), fault.BadCSR, `additional "a.svc"`},
		"spiffe/and-ip":          {mesh, credential(nil), nil, request("", pki.Names{IPs: []string{"192.0.2.1"}, URIs: []string{workload}}), fault.BadCSR, `additional "192.0.2.1"`},
		"spiffe/of-server":       {server, credential(nil), dnsIDs("a.example"), request("", pki.Names{DNS: []string{"a.example"}, URIs: []string{workload}}), fault.BadCSR, "issues no SPIFFE IDs"},
		"spiffe/with-dns-denied": {mesh, credential(nil), dnsIDs("a.svc"), request("", pki.Names{DNS: []string{"a.svc"}, URIs: []string{"spiffe://cluster.local/ns/kube-system/sa/x"}}), fault.RejectedIdentifier, "kube-system/*"},
		"spiffe/other-domain":    {mesh, credential(nil), nil, request("", uris("spiffe://evil/ns/demo/sa/web")), fault.RejectedIdentifier, `trust domain "evil" is not one of "cluster.local"`},
		"spiffe/sub-domain":      {mesh, credential(nil), nil, request("", uris("spiffe://a.cluster.local/ns/demo/sa/web")), fault.RejectedIdentifier, "a.cluster.local"},
		"spiffe/denied":          {mesh, credential(nil), nil, request("", uris("spiffe://cluster.local/ns/kube-system/sa/x")), fault.RejectedIdentifier, "kube-system/*"},
		"spiffe/dot-dot":         {mesh, credential(nil), nil, request("", uris("spiffe://cluster.local/ns/a/sa/b/../../")), fault.BadCSR, `".."`},
		"spiffe/port":            {mesh, credential(nil), nil, request("", uris("spiffe://cluster.local:80/ns/a/sa/b")), fault.BadCSR, "':'"},
		"spiffe/upper-case":      {mesh, credential(nil), nil, request("", uris("spiffe://Cluster.local/ns/a/sa/b")), fault.BadCSR, "'C'"},
		"spiffe/query":           {mesh, credential(nil), nil, request("", uris(workload+"?x")), fault.BadCSR, "'?'"},
		"spiffe/percent":         {mesh, credential(nil), nil, request("", uris("spiffe://cluster.local/ns/%61/sa/b")), fault.BadCSR, "'%'"},
		"spiffe/https":           {mesh, credential(nil), nil, request("", uris("https://cluster.local/ns/a/sa/b")), fault.BadCSR, "spiffe://"},
		"spiffe/trailing-slash":  {mesh, credential(nil), nil, request("", uris(workload+"/")), fault.BadCSR, "empty segment"},

		"spiffe/empty":         {mesh, credential(nil), nil, request("", uris("")), fault.BadCSR, `SPIFFE ID "" does not begin`},
		"intermediate/no-cn":   {ca, nil, nil, request("", pki.Names{}), fault.BadCSR, "no common name"},
		"intermediate/long-cn": {ca, nil, nil, request(strings.Repeat("a", 65), pki.Names{}), fault.BadCSR, "65 characters"},
		"intermediate/dns":     {ca, nil, nil, request("x", dns("a.example")), fault.BadCSR, "common name only"},
		"intermediate/uri":     {ca, nil, nil, request("x", uris(workload)), fault.BadCSR, "common name only"},
		"intermediate/ip":      {ca, nil, nil, request("x", pki.Names{IPs: []string{"192.0.2.1"}}), fault.BadCSR, "common name only"},
		"intermediate/order":   {ca, nil, dnsIDs("a.example"), request("x", pki.Names{}), fault.BadCSR, "common name only"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			got, err := policy.CheckRequest(test.profile, test.credential, test.order, test.request)
			wantFault(t, err, test.kind, test.says)
			if got != nil {
				t.Errorf("returned %+v with an error", got)
			}
		})
	}
}

// PRE-7: a pattern is anchored at both ends of both segments, and nothing in it spans the slash.
func TestSPIFFEPatterns(t *testing.T) {
	t.Parallel()
	type set = map[string]bool // "namespace/account": allowed
	tests := []struct {
		allow, deny []string
		names       set
	}{
		{[]string{"*/*"}, nil, set{"a/b": true, "prod/web": true}},
		{[]string{"prod/*"}, nil, set{"prod/web": true, "prod-evil/web": false, "xprod/web": false, "PROD/web": false, "prod.x/web": false}},
		{[]string{"prod/web"}, nil, set{"prod/web": true, "prod/web2": false, "prod/xweb": false, "prod/We": false}},
		{[]string{"*/web"}, nil, set{"a/web": true, "a/web-evil": false, "web/a": false}},
		{[]string{"team-*/*"}, nil, set{"team-a/x": true, "team-/x": true, "team/x": false, "xteam-a/x": false}},
		{[]string{"*-prod/*"}, nil, set{"a-prod/x": true, "a-prod-b/x": false, "-prod/x": true}},
		{[]string{"a*c*e/*"}, nil, set{"ace/x": true, "abcde/x": true, "abcd/x": false, "acecex/x": false, "aceace/x": true}},
		{[]string{"p.d/*"}, nil, set{"p.d/x": true, "pxd/x": false}},
		{[]string{"*/*"}, []string{"kube-*/*", "prod/admin"}, set{"kube-system/x": false, "kube/x": true, "prod/admin": false, "prod/admin2": true}},
		{[]string{"prod/*"}, []string{"*/*"}, set{"prod/web": false}},
		{nil, nil, set{"prod/web": false}},
	}
	for _, test := range tests {
		p := profile(pki.PrivateMTLS, func(p *pki.Profile) {
			p.Rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"td"}, Allow: test.allow, Deny: test.deny}
		})
		for name, allowed := range test.names {
			namespace, account, _ := strings.Cut(name, "/")
			uri := pki.SPIFFEID{TrustDomain: "td", Namespace: namespace, ServiceAccount: account}.String()
			order := dnsIDs("a.svc") // so that a profile without SPIFFE IDs gets as far
			names := pki.Names{DNS: []string{"a.svc"}, URIs: []string{uri}}
			_, err := policy.CheckRequest(p, credential(nil), order, request("", names))
			if allowed && err != nil {
				t.Errorf("%q, deny %q: %v", test.allow, test.deny, err)
			}
			if !allowed && !fault.Is(err, fault.RejectedIdentifier) && (test.allow != nil || !fault.Is(err, fault.BadCSR)) {
				t.Errorf("%q, deny %q: %s: %v, want a refusal", test.allow, test.deny, name, err)
			}
		}
	}
}

// Of several names in the CSR only the k-th differs from the order, for every k.
func TestEachNameIsCompared(t *testing.T) {
	t.Parallel()
	p := profile(pki.PrivateServer)
	for total := 1; total <= 10; total++ {
		names := make([]string, total)
		for i := range names {
			names[i] = fmt.Sprintf("n%d.example", i)
		}
		for k := range total {
			changed := slices.Clone(names)
			changed[k] = fmt.Sprintf("m%d.example", k)
			sorted := slices.Sorted(slices.Values(changed))
			_, err := policy.CheckRequest(p, credential(nil), dnsIDs(names...), request("", dns(sorted...)))
			wantFault(t, err, fault.BadCSR, fmt.Sprintf("missing %q, additional %q", names[k], changed[k]))
			// The other way round: the order has what the profile does not allow.
			changed[k] = fmt.Sprintf("n%d.evil", k)
			sorted = slices.Sorted(slices.Values(changed))
			_, err = policy.CheckRequest(p, credential(nil), dnsIDs(changed...), request("", dns(sorted...)))
			wantFault(t, err, fault.RejectedIdentifier, changed[k])
		}
	}
}

// Every key algorithm is judged by the profile's list.
func TestKeyAlgorithms(t *testing.T) {
	t.Parallel()
	all := []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.RSA3072, pki.RSA4096, pki.Ed25519}
	for _, allowed := range all {
		p := profile(pki.PrivateServer, func(p *pki.Profile) { p.Rules.Keys = []pki.KeyAlgorithm{allowed} })
		for _, used := range all {
			_, err := policy.CheckRequest(p, credential(nil), dnsIDs("a.example"), request("", dns("a.example"), func(r *csr.Request) { r.KeyAlgorithm = used }))
			if used == allowed && err != nil {
				t.Error(err)
			}
			if used != allowed {
				wantFault(t, err, fault.BadPublicKey, string(used))
			}
		}
	}
}

func TestRequested(t *testing.T) {
	t.Parallel()
	ids, err := policy.Requested(request("b.example", pki.Names{DNS: []string{"a.example", "c.example"}, IPs: []string{"192.0.2.1"}, URIs: []string{workload}}))
	if err != nil {
		t.Fatal(err)
	}
	want := append(dnsIDs("a.example", "b.example", "c.example"), ipIDs("192.0.2.1")...)
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Errorf("identifiers (-want +got):\n%s", diff)
	}
	if ids, err := policy.Requested(request("", uris(workload))); err != nil || len(ids) != 0 {
		t.Errorf("of a SPIFFE ID alone: %v, %v", ids, err)
	}
	_, err = policy.Requested(request("Example Web", pki.Names{}))
	wantFault(t, err, fault.BadCSR, "neither")
}

// FuzzSPIFFEPattern compares the matching of patterns with a regular expression of the same meaning.
func FuzzSPIFFEPattern(f *testing.F) {
	f.Add("prod/*", "prod-evil", "web")
	f.Add("a*c*e/*x*", "abcde", "x")
	f.Add("*aab/*", "aaaaaab", "b")
	f.Add("*/*", "..", ".")
	f.Fuzz(func(t *testing.T, pattern, namespace, account string) {
		p := profile(pki.PrivateMTLS, func(p *pki.Profile) {
			p.Rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"td"}, Allow: []string{pattern}}
		})
		if policy.CheckProfile(p) != nil {
			return
		}
		uri := pki.SPIFFEID{TrustDomain: "td", Namespace: namespace, ServiceAccount: account}.String()
		id, err := pki.ParseSPIFFEID(uri)
		if err != nil {
			return
		}
		_, err = policy.CheckRequest(p, credential(nil), nil, request("", uris(uri)))
		expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, "[^/]*") + "$"
		if want := regexp.MustCompile(expression).MatchString(id.Namespace + "/" + id.ServiceAccount); want != (err == nil) {
			t.Errorf("pattern %q, %s: %v, want %t", pattern, uri, err, want)
		}
	})
}
