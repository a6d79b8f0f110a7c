package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/pki"
)

// Sample is what an example certificate of a profile is asked for with.
type Sample struct {
	Names      pki.Names
	CommonName string
}

// Example returns names that a typical client of the profile would ask for: the first that its rules allow. A profile
// whose deny patterns leave none of those that come to mind has an empty sample.
func Example(p *pki.Profile) Sample {
	if p.Template == pki.MeshIntermediate {
		return Sample{CommonName: "mesh-ca"}
	}
	rules := &p.Rules.Names
	if issuesSPIFFE(p) {
		if uri := exampleSPIFFE(&rules.SPIFFE); uri != "" {
			return Sample{Names: pki.Names{URIs: []string{uri}}}
		}
	}
	var s Sample
	if name := exampleDNS(&rules.DNS); name != "" {
		s.Names.DNS = []string{name}
		if len(name) <= maxCommonName {
			s.CommonName = name
		}
	}
	if addr := exampleIP(&rules.IP); addr != "" {
		s.Names.IPs = []string{addr}
	}
	return s
}

// stand are what a "*" may stand for, the most telling first.
func stand(telling ...string) []string { return append(telling, "example", "a", "b") }

func exampleSPIFFE(rules *pki.SPIFFERules) string {
	for _, domain := range rules.TrustDomains {
		for _, pattern := range rules.Allow {
			namespace, account, _ := strings.Cut(pattern, "/")
			for _, n := range stand("shop", "default") {
				for _, a := range stand("web", "default") {
					id := pki.SPIFFEID{
						TrustDomain: domain, Namespace: strings.ReplaceAll(namespace, "*", n), ServiceAccount: strings.ReplaceAll(account, "*", a),
					}
					if judgeSPIFFE(rules, id) == "" {
						return id.String()
					}
				}
			}
		}
	}
	return ""
}

func exampleDNS(rules *pki.DNSRules) string {
	for _, pattern := range rules.Allow {
		for _, word := range stand("web") {
			name := pattern
			switch base, rest := strings.CutPrefix(pattern, "**"); {
			case pattern == "**":
				name = word + ".example.com"
			case rest && (base == ".svc" || strings.HasPrefix(base, ".svc.")): // SERVICE.NAMESPACE.svc
				name = word + ".shop" + base
			default:
				name = strings.Replace(strings.Replace(name, "**", word, 1), "*", word, 1)
			}
			if judgeDNS(rules, name) == "" {
				return name
			}
		}
	}
	return ""
}

func exampleIP(rules *pki.IPRules) string {
	for _, prefix := range rules.Allow {
		// The first address of a range is the network's own.
		first := prefix.Addr()
		candidates := []netip.Addr{first.Next(), first}
		at := slices.IndexFunc(candidates, func(addr netip.Addr) bool {
			return addr.IsValid() && prefix.Contains(addr) && judgeIP(rules, addr) == ""
		})
		if at >= 0 {
			return candidates[at].String()
		}
	}
	return ""
}
