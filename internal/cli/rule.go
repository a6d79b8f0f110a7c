package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"

	"github.com/certloom/certloom/internal/pki"
)

// nameFlags are the flags that allow names, of a profile or of a credential's limit.
type nameFlags struct {
	trustDomains []string
	namespaces   []string
	spiffe       []string
	denySPIFFE   []string
	dns, denyDNS []string
	ips, denyIPs []string
	wildcards    bool
}

func (f *nameFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&f.trustDomains, "trust-domain", nil, "trust domain of SPIFFE IDs; may be repeated")
	flags.StringArrayVar(&f.namespaces, "allow-namespace", nil, "allow SPIFFE IDs of namespaces by pattern, such as 'team-*' or '*'; may be repeated")
	flags.StringArrayVar(&f.spiffe, "allow-spiffe", nil, "allow SPIFFE IDs by pattern NAMESPACE/SERVICE_ACCOUNT; may be repeated")
	flags.StringArrayVar(&f.dns, "allow-dns", nil, "allow DNS names by pattern, such as '**.example.com'; may be repeated")
	flags.StringArrayVar(&f.ips, "allow-ip", nil, "allow addresses by range, such as 10.0.0.0/8; may be repeated")
	flags.BoolVar(&f.wildcards, "wildcards", false, "allow wildcard names *.x where x's names are allowed")
	flags.StringArrayVar(&f.denySPIFFE, "deny-spiffe", nil, "deny SPIFFE IDs by pattern, whatever allows them; may be repeated")
	flags.StringArrayVar(&f.denyDNS, "deny-dns", nil, "deny DNS names by pattern, whatever allows them; may be repeated")
	flags.StringArrayVar(&f.denyIPs, "deny-ip", nil, "deny addresses by range, whatever allows them; may be repeated")
}

// over puts what the flags say into the names of a body.
func (f *nameFlags) over(cmd *cobra.Command, names map[string]any) {
	changed := cmd.Flags().Changed
	put := func(flag string, values []string, path ...string) {
		if changed(flag) {
			member(names, path[:len(path)-1]...)[path[len(path)-1]] = cleared(values)
		}
	}
	put("trust-domain", f.trustDomains, "spiffe", "trustDomains")
	if changed("allow-namespace") || changed("allow-spiffe") {
		allow := cleared(f.spiffe)
		for _, namespace := range cleared(f.namespaces) {
			allow = append(allow, namespace+"/*")
		}
		member(names, "spiffe")["allow"] = allow
	}
	put("deny-spiffe", f.denySPIFFE, "spiffe", "deny")
	put("allow-dns", f.dns, "dns", "allow")
	put("deny-dns", f.denyDNS, "dns", "deny")
	put("allow-ip", f.ips, "ip", "allow")
	put("deny-ip", f.denyIPs, "ip", "deny")
	if changed("wildcards") {
		member(names, "dns")["wildcards"] = f.wildcards
	}
}

// member returns an object inside another, made if need be.
func member(object map[string]any, path ...string) map[string]any {
	for _, name := range path {
		inner, ok := object[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			object[name] = inner
		}
		object = inner
	}
	return object
}

// cleared makes an empty list of one that has only "".
func cleared(values []string) []string {
	return slices.DeleteFunc(append([]string{}, values...), func(value string) bool { return value == "" })
}

// ruleFlags are the flags of a profile's rules.
type ruleFlags struct {
	names      nameFlags
	validity   string
	maximum    string
	backdate   string
	jitter     int
	retention  string
	keys       []string
	maxNames   int
	subject    string
	usages     []string
	purposes   []string
	root       bool
	challenges []string
	networks   []string
}

func (f *ruleFlags) add(cmd *cobra.Command) {
	f.names.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.validity, "validity", "", "lifetime that is granted when the client asks for none, such as 24h")
	flags.StringVar(&f.maximum, "max-validity", "", "longest lifetime that is granted")
	flags.StringVar(&f.backdate, "backdate", "", "how far notBefore lies in the past, for clocks that are behind")
	flags.StringVar(&f.retention, "retention", "", "keep records of certificates this long after they have expired; 0s: as long as the server's settings say")
	flags.IntVar(&f.jitter, "jitter", 0, "shorten lifetimes at random by up to this many percent, so that a fleet does not renew at once")
	flags.StringArrayVar(&f.keys, "key", nil, "key algorithm that CSRs may have: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519; may be repeated")
	flags.IntVar(&f.maxNames, "max-names", 0, "most names that a certificate may have")
	flags.StringVar(&f.subject, "subject", "", "what becomes of a CSR's common name: empty or common-name")
	flags.StringArrayVar(&f.usages, "key-usage", nil, "key usage, such as digitalSignature; may be repeated")
	flags.StringArrayVar(&f.purposes, "ext-key-usage", nil, "extended key usage: serverAuth, clientAuth; may be repeated")
	flags.BoolVar(&f.root, "include-root", false, "append the root to the chain that clients get")
	flags.StringArrayVar(&f.challenges, "challenge", nil, "validate names by challenge: http-01, dns-01, tls-alpn-01; may be repeated")
	flags.StringArrayVar(&f.networks, "challenge-network", nil, "address range that validation may connect to; may be repeated")
}

// over puts what the flags say into the rules of a body, which has rules afterwards.
func (f *ruleFlags) over(cmd *cobra.Command, body map[string]any) error {
	rules := member(body, "rules")
	changed := cmd.Flags().Changed
	values := map[string]struct {
		value any
		path  []string
	}{
		"validity":          {f.validity, []string{"validity", "default"}},
		"max-validity":      {f.maximum, []string{"validity", "max"}},
		"backdate":          {f.backdate, []string{"validity", "backdate"}},
		"jitter":            {f.jitter, []string{"validity", "jitterPercent"}},
		"retention":         {f.retention, []string{"retention"}},
		"key":               {cleared(f.keys), []string{"keys"}},
		"max-names":         {f.maxNames, []string{"maxNames"}},
		"subject":           {f.subject, []string{"subject"}},
		"key-usage":         {cleared(f.usages), []string{"keyUsage"}},
		"ext-key-usage":     {cleared(f.purposes), []string{"extKeyUsage"}},
		"include-root":      {f.root, []string{"includeRoot"}},
		"challenge":         {cleared(f.challenges), []string{"challenges", "types"}},
		"challenge-network": {cleared(f.networks), []string{"challenges", "networks"}},
	}
	for _, flag := range slices.Sorted(maps.Keys(values)) {
		if !changed(flag) {
			continue
		}
		path := values[flag].path
		member(rules, path[:len(path)-1]...)[path[len(path)-1]] = values[flag].value
	}
	for _, flag := range []string{"validity", "max-validity"} {
		if !changed(flag) {
			continue
		}
		if _, err := pki.ParseDuration(cmd.Flags().Lookup(flag).Value.String()); err != nil {
			return UsageError(fmt.Errorf("--%s: %w", flag, err))
		}
	}
	f.names.over(cmd, member(rules, "names"))
	return nil
}

// longer reports whether a duration is longer than another; false when either is none.
func longer(a, b string) bool {
	first, err1 := pki.ParseDuration(a)
	second, err2 := pki.ParseDuration(b)
	return err1 == nil && err2 == nil && first > second
}

// profileFromFile reads what `profile get` wrote, without what the server sets by itself.
func profileFromFile(name string) (map[string]any, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, UsageError(fmt.Errorf("--from-file: %w", err))
	}
	if trimmed := strings.TrimSpace(string(raw)); !strings.HasPrefix(trimmed, "{") {
		if raw, err = yaml.YAMLToJSON(raw); err != nil {
			return nil, UsageError(fmt.Errorf("--from-file: %s is neither JSON nor YAML: %w", name, err))
		}
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, UsageError(fmt.Errorf("--from-file: %s is no profile: %w", name, err))
	}
	for _, own := range []string{"id", "version", "createdAt", "updatedAt", "directoryUrl", "state"} {
		delete(body, own)
	}
	return body, nil
}
