package config

import (
	"fmt"
	"net/url"
	"strings"
	"unicode"

	"github.com/certloom/certloom/internal/pki"
)

// roleNamespaceViewer is the role that sees some identities only.
const roleNamespaceViewer = "namespace-viewer"

// maxPattern bounds a pattern of identities: the longest SPIFFE ID (SPIFFE-ID section 2.3) has as many bytes.
const maxPattern = 2048

// Enabled reports whether there is a provider.
func (o *OIDC) Enabled() bool { return o.Issuer != "" }

// Title is what the provider is called on the sign-in page. The settings must have passed Check.
func (o *OIDC) Title() string {
	if o.DisplayName != "" {
		return o.DisplayName
	}
	u, err := url.Parse(o.Issuer)
	if err != nil {
		return o.Issuer
	}
	return u.Hostname()
}

func (f *findings) oidc(o OIDC) {
	const at = "signIn.oidc."
	if !o.Enabled() {
		// Whoever names a client or groups wants people to get in by it.
		if o.ClientID != "" || o.ClientSecretFile != "" || o.CAFile != "" || o.DisplayName != "" || len(o.Roles) > 0 {
			f.add(at+"issuer", "is missing, but other settings of signIn.oidc are given")
		}
		return
	}
	f.issuer(at+"issuer", o.Issuer)
	if o.ClientID == "" {
		f.add(at+"clientId", "is missing; give the name under which the provider knows this server")
	}
	if o.ClientSecretFile == "" {
		f.add(at+"clientSecretFile", "is missing; give a file with the secret that the provider gave for the client")
	}
	for i, scope := range o.Scopes {
		if !isToken(scope) {
			f.add(fmt.Sprintf("%sscopes[%d]", at, i), "%q is not a scope: it is empty, or has spaces, quotes or characters beyond ASCII", scope)
		}
	}
	if o.GroupsClaim == "" {
		f.add(at+"groupsClaim", "is empty; give the name of a claim")
	}
	if o.NameClaim == "" {
		f.add(at+"nameClaim", "is empty; give the name of a claim")
	}
	if len(o.DisplayName) > 60 || strings.ContainsFunc(o.DisplayName, unicode.IsControl) {
		f.add(at+"displayName", "%.80q is longer than 60 bytes, or has control characters", o.DisplayName)
	}
	f.groupRoles(at+"roles", o.Roles)
}

// issuer checks an issuer identifier (OpenID Connect Core 1.0 section 2): https, a host, perhaps a port and a path.
func (f *findings) issuer(setting, s string) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		f.add(setting, "%q is not a URL", s)
	case u.Scheme != "https":
		f.add(setting, "%q does not begin with https://", s)
	case u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		f.add(setting, "%q has more or less than a host, perhaps a port and a path", s)
	}
}

// isToken reports whether a scope is one (RFC 6749 section 3.3).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || r == '"' || r == '\\'
	})
}

func (f *findings) groupRoles(setting string, roles []GroupRole) {
	if len(roles) == 0 {
		f.add(setting, "is empty, so that nobody could sign in; give a group and its role")
	}
	seen := make(map[string]int)
	for i, entry := range roles {
		at := fmt.Sprintf("%s[%d].", setting, i)
		if entry.Group == "" {
			f.add(at+"group", "is missing")
		}
		// A namespace viewer's group may come twice, with further identities; of other roles only the first would count.
		if first, twice := seen[entry.Group]; twice && (entry.Role != roleNamespaceViewer || roles[first].Role != roleNamespaceViewer) {
			f.add(at+"group", "%q is that of roles[%d] already, which comes first and decides", entry.Group, first)
		} else if !twice {
			seen[entry.Group] = i
		}
		f.oneOf(at+"role", entry.Role, string(pki.RoleAdmin), "operator", "auditor", roleNamespaceViewer)
		switch {
		case entry.Role == roleNamespaceViewer && len(entry.Sees) == 0:
			f.add(at+"sees", "is empty; say which identities role namespace-viewer sees, such as spiffe://cluster.local/ns/shop/*")
		case entry.Role != roleNamespaceViewer && len(entry.Sees) > 0:
			f.add(at+"sees", "is given, but only role namespace-viewer sees some identities only")
		}
		for j, pattern := range entry.Sees {
			f.pattern(fmt.Sprintf("%ssees[%d]", at, j), pattern)
		}
	}
}

// pattern checks what a namespace viewer sees: a name, or the beginning of one.
func (f *findings) pattern(setting, pattern string) {
	beginning, _ := strings.CutSuffix(pattern, "*")
	switch {
	case beginning == "":
		f.add(setting, "%q names no identity; give a name, or the beginning of one; whoever may see everything is an auditor", pattern)
	case strings.Contains(beginning, "*"):
		f.add(setting, "%q has * elsewhere than at its end", pattern)
	case len(pattern) > maxPattern || strings.ContainsFunc(pattern, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		f.add(setting, "%.100q is longer than %d bytes, or has spaces or control characters", pattern, maxPattern)
	}
}
