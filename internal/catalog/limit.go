package catalog

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// narrower refuses a credential's limit that allows what its profile does not. Policy asks both, so a wider limit would
// grant nothing; but whoever wrote it believes that it does. All problems come at once.
//
// Each pattern of the limit must be covered by one pattern of the profile. A limit that only several patterns cover
// together is refused, too: write it as several. Deny patterns of the profile need not be repeated. A limit without any
// allow pattern is refused: its credential could obtain nothing.
func narrower(limit *pki.NameRules, p *pki.Profile) error {
	rules := &p.Rules.Names
	var errs []error
	add := func(field, format string, args ...any) {
		errs = append(errs, fault.New(fault.Malformed, format, args...).WithField("/limit"+field))
	}
	if len(limit.SPIFFE.Allow)+len(limit.DNS.Allow)+len(limit.IP.Allow) == 0 {
		add("", "limit allows no names; leave it out to allow what profile %q allows", p.Name)
	}
	for i, domain := range limit.SPIFFE.TrustDomains {
		if !slices.Contains(rules.SPIFFE.TrustDomains, domain) {
			add(fmt.Sprintf("/spiffe/trustDomains/%d", i), "trust domain %.80q is not one of profile %q", domain, p.Name)
		}
	}
	for i, pattern := range limit.SPIFFE.Allow {
		if !slices.ContainsFunc(rules.SPIFFE.Allow, func(wide string) bool { return coversSPIFFE(wide, pattern) }) {
			add(fmt.Sprintf("/spiffe/allow/%d", i), "SPIFFE pattern %.120q allows more than profile %q", pattern, p.Name)
		}
	}
	for i, pattern := range limit.DNS.Allow {
		if !slices.ContainsFunc(rules.DNS.Allow, func(wide string) bool { return coversDNS(wide, pattern) }) {
			add(fmt.Sprintf("/dns/allow/%d", i), "DNS pattern %.120q allows more than profile %q", pattern, p.Name)
		}
	}
	if limit.DNS.Wildcards && !rules.DNS.Wildcards {
		add("/dns/wildcards", "wildcard names are allowed, but not by profile %q", p.Name)
	}
	for i, prefix := range limit.IP.Allow {
		if !slices.ContainsFunc(rules.IP.Allow, func(wide netip.Prefix) bool { return coversPrefix(wide, prefix) }) {
			add(fmt.Sprintf("/ip/allow/%d", i), "address range %s allows more than profile %q", prefix, p.Name)
		}
	}
	return errors.Join(errs...)
}

// coversSPIFFE reports whether every identity that narrow matches is matched by wide.
func coversSPIFFE(wide, narrow string) bool {
	wideNamespace, wideAccount, ok1 := strings.Cut(wide, "/")
	namespace, account, ok2 := strings.Cut(narrow, "/")
	return ok1 && ok2 && coversGlob(wideNamespace, namespace) && coversGlob(wideAccount, account)
}

// coversGlob reports whether every string that narrow matches is matched by wide, "*" standing for any characters.
// That is so exactly when wide matches narrow itself with each "*" of narrow read as a character that only a "*" of
// wide matches: a string in which those stars became a character that wide does not have needs just that.
func coversGlob(wide, narrow string) bool { return policy.MatchGlob(wide, narrow) }

// coversDNS reports whether every name that narrow matches is matched by wide. Patterns are "name", "*.name" (one
// label more), "**.name" (one or more labels more) or "**".
func coversDNS(wide, narrow string) bool {
	if wide == "**" || wide == narrow {
		return true
	}
	if suffix, ok := strings.CutPrefix(wide, "**"); ok {
		// ".name": whatever ends so and has something before it, and a pattern's stars are something.
		rest := strings.TrimLeft(narrow, "*")
		return narrow != "**" && strings.HasSuffix(rest, suffix) && (rest != narrow || len(narrow) > len(suffix))
	}
	if suffix, ok := strings.CutPrefix(wide, "*"); ok {
		label, ok := strings.CutSuffix(narrow, suffix)
		return ok && label != "" && !strings.ContainsAny(label, ".*")
	}
	return false
}

func coversPrefix(wide, narrow netip.Prefix) bool {
	return wide.IsValid() && narrow.IsValid() && wide.Bits() <= narrow.Bits() && wide.Contains(narrow.Addr())
}
