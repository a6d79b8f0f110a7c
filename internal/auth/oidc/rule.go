package oidc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/certloom/certloom/internal/pki"
)

// roleNamespaceViewer is the role of who sees some identities only.
const roleNamespaceViewer = pki.Role("namespace-viewer")

// Rule gives the people in a group a role.
type Rule struct {
	Group string
	Role  pki.Role
	Sees  []string // of a namespace viewer: patterns of the identities that it sees (pki.IdentityFilter)
}

func (r Rule) check() error {
	switch {
	case r.Group == "" || r.Role == "":
		return errors.New("a group and a role are required")
	case r.Role == roleNamespaceViewer && len(r.Sees) == 0:
		return fmt.Errorf("role %s needs the identities that it sees", r.Role)
	case r.Role != roleNamespaceViewer && len(r.Sees) > 0:
		return fmt.Errorf("role %s sees every identity", r.Role)
	default:
		return nil
	}
}

func checkRules(rules []Rule) error {
	for i, rule := range rules {
		if err := rule.check(); err != nil {
			return fmt.Errorf("oidc: rule %d: %w", i, err)
		}
	}
	return nil
}

// match finds the role of who is in the groups: that of the first rule, in the order of the settings, whose group is among
// them. So whoever writes the settings decides what counts more, and no order of roles is hidden in the code. A namespace
// viewer in several such groups sees the identities of all of them, since the rules say the same of the role.
func match(rules []Rule, groups []string) (role pki.Role, sees []string, ok bool) {
	for _, rule := range rules {
		if !slices.Contains(groups, rule.Group) {
			continue
		}
		if !ok {
			role, ok = rule.Role, true
		}
		if role != roleNamespaceViewer {
			return role, nil, true
		}
		for _, pattern := range rule.Sees {
			if !slices.Contains(sees, pattern) {
				sees = append(sees, pattern)
			}
		}
	}
	return role, sees, ok
}
