package oidc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Names of claims that are taken where the settings name none.
const (
	DefaultGroupsClaim = "groups"
	DefaultNameClaim   = "preferred_username"
)

const (
	maxName   = 200  // bytes of what people are shown under
	maxGroups = 2000 // that are looked at
)

// Person is somebody whom the provider has signed in.
type Person struct {
	Issuer  string
	Subject string // unique at the issuer, and never given to somebody else
	Name    string // for people to read; not unique
	Email   string // "" unless the provider has verified it
	Groups  []string
	Role    pki.Role
	Sees    []string // of a namespace viewer: patterns of identities
}

// complete adds what the ID token does not have from the userinfo endpoint (OpenID Connect Core 1.0 section 5.3): many
// providers tell groups only there. What the token says counts more.
func (p *Provider) complete(
	ctx context.Context, found *endpoints, token *oidc.IDToken, claims map[string]any, tokens *oauth2.Token,
) (map[string]any, error) {
	_, groups := lookUp(claims, p.config.GroupsClaim)
	_, name := lookUp(claims, p.config.NameClaim)
	if (groups && name) || found.provider.UserInfoEndpoint() == "" {
		return claims, nil
	}
	info, err := found.provider.UserInfo(ctx, oauth2.StaticTokenSource(tokens))
	if err != nil {
		return nil, p.unreachable(fmt.Errorf("ask for userinfo: %w", err))
	}
	// Section 5.3.2: an answer for somebody else must not be used.
	if info.Subject != token.Subject {
		return nil, again(errors.New("userinfo is of another subject"), "what the identity provider says of you cannot be verified")
	}
	more := make(map[string]any)
	if err := info.Claims(&more); err != nil {
		return nil, again(err, "what the identity provider says of you cannot be read")
	}
	maps.Copy(more, claims)
	return more, nil
}

// person makes a Person of claims. Unauthorized, with the Person, if no rule gives a role.
func (p *Provider) person(subject string, claims map[string]any) (*Person, error) {
	person := &Person{Issuer: p.config.Issuer, Subject: subject}
	verified := isTrue(claims["email_verified"])
	if email, _ := claims["email"].(string); verified && strings.Contains(email, "@") && len(email) <= maxName {
		person.Email = text(claims, "email")
	}
	person.Name = text(claims, p.config.NameClaim)
	if p.config.NameClaim == "email" && claims["email_verified"] != nil && !verified {
		return nil, again(nil, "the identity provider has not verified your e-mail address, which is your name here")
	}
	for _, name := range []string{person.Email, text(claims, "name"), subject} {
		if person.Name == "" {
			person.Name = name
		}
	}
	var err error
	if person.Groups, err = p.groups(claims); err != nil {
		return person, err
	}
	role, sees, ok := match(p.config.Rules, person.Groups)
	if !ok {
		return person, fault.New(fault.Unauthorized,
			"the identity provider knows you as %s, but none of your groups gives you a role here", person.Name).
			WithHint("signIn.oidc.roles in the server's settings says which groups do; ask an administrator")
	}
	person.Role, person.Sees = role, sees
	return person, nil
}

// groups reads the groups claim: a list of texts, or one text.
func (p *Provider) groups(claims map[string]any) ([]string, error) {
	value, ok := lookUp(claims, p.config.GroupsClaim)
	if !ok && distributed(claims, p.config.GroupsClaim) {
		// Entra ID does so for people in more than 200 groups.
		return nil, fault.New(fault.Unauthorized, "the identity provider has not said which groups you are in, because there are too many").
			WithHint("have the provider put only the groups that matter into the token: in Entra ID, groups assigned to the application, or app roles")
	}
	var groups []string
	switch v := value.(type) {
	case string:
		groups = []string{v}
	case []any:
		for _, one := range v[:min(len(v), maxGroups)] {
			if group, ok := one.(string); ok {
				groups = append(groups, group)
			}
		}
	}
	return groups, nil
}

// distributed reports whether a claim is said to be elsewhere (OpenID Connect Core 1.0 section 5.6.2).
func distributed(claims map[string]any, name string) bool {
	names, ok := claims["_claim_names"].(map[string]any)
	return ok && names[name] != nil
}

// lookUp finds a claim by its name, or by the names of the objects around it with dots between, such as
// realm_access.roles.
func lookUp(claims map[string]any, name string) (any, bool) {
	if value, ok := claims[name]; ok {
		return value, true
	}
	around, rest, dotted := strings.Cut(name, ".")
	if !dotted {
		return nil, false
	}
	inner, ok := claims[around].(map[string]any)
	if !ok {
		return nil, false
	}
	return lookUp(inner, rest)
}

// text reads a claim that people will see: what cannot be printed is left out, and it ends somewhere.
func text(claims map[string]any, name string) string {
	value, _ := lookUp(claims, name)
	s, ok := value.(string)
	if !ok {
		return ""
	}
	letters := slices.DeleteFunc([]rune(strings.ToValidUTF8(s, "")), func(r rune) bool { return !unicode.IsPrint(r) })
	s = string(letters)
	return strings.TrimSpace(strings.ToValidUTF8(s[:min(len(s), maxName)], "")) // a letter may be cut in two
}

// isTrue reads a claim that is true, which some providers write as a text.
func isTrue(value any) bool { return value == true || value == "true" }
