package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/auth/oidc"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/console"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/seal"
)

// singleSignOn brings together who somebody is at the identity provider, and the users and sessions here.
type singleSignOn struct {
	provider *oidc.Provider
	auth     *auth.Authenticator
	title    string
	host     string // of the provider
}

// singleSignOn is nil when the settings name no provider. The provider is not asked: it may be down.
func (p *Parts) singleSignOn(ring *seal.Ring) (console.SingleSignOn, error) {
	settings := &p.Settings.SignIn.OIDC
	if !settings.Enabled() {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	secret, err := os.ReadFile(settings.ClientSecretFile)
	if err != nil {
		return nil, fmt.Errorf("signIn.oidc.clientSecretFile: %w", err)
	}
	var roots *x509.CertPool
	if settings.CAFile != "" {
		chain, err := os.ReadFile(settings.CAFile)
		if err != nil {
			return nil, fmt.Errorf("signIn.oidc.caFile: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(chain) {
			return nil, fmt.Errorf("signIn.oidc.caFile: %s has no certificate in PEM", settings.CAFile)
		}
	}
	provider, err := oidc.New(oidc.Config{
		Issuer: settings.Issuer, ClientID: settings.ClientID, ClientSecret: strings.TrimSpace(string(secret)),
		RedirectURL: p.baseURL() + console.SingleSignOnReturn, Scopes: settings.Scopes,
		GroupsClaim: settings.GroupsClaim, NameClaim: settings.NameClaim, Rules: rules(settings.Roles),
		HTTP: oidc.NewClient(roots), Seal: ring, Now: p.Now, Random: p.Random,
	})
	if err != nil {
		return nil, fmt.Errorf("signIn.oidc: %w", err)
	}
	made := &singleSignOn{provider: provider, auth: p.Auth, title: settings.Title(), host: settings.Issuer}
	if u, err := url.Parse(settings.Issuer); err == nil {
		made.host = u.Hostname()
	}
	return made, nil
}

func rules(settings []config.GroupRole) []oidc.Rule {
	made := make([]oidc.Rule, 0, len(settings))
	for _, entry := range settings {
		made = append(made, oidc.Rule{Group: entry.Group, Role: pki.Role(entry.Role), Sees: entry.Sees})
	}
	return made
}

// Title is part of console.SingleSignOn.
func (s *singleSignOn) Title() string { return s.title }

// Begin is part of console.SingleSignOn.
func (s *singleSignOn) Begin(ctx context.Context, next string) (address, cookie string, keep time.Duration, err error) {
	start, err := s.provider.Begin(ctx, next)
	if err != nil {
		return "", "", 0, err
	}
	return start.URL, start.Cookie, start.Keep, nil
}

// SignIn is part of console.SingleSignOn.
func (s *singleSignOn) SignIn(
	ctx context.Context, cookie string, answer url.Values, by audit.By,
) (secret string, ends time.Time, next string, err error) {
	person, next, err := s.provider.Finish(ctx, cookie, answer)
	if err != nil {
		return "", time.Time{}, "", s.refuse(ctx, person, err, by)
	}
	by.Actor = audit.Actor{Kind: audit.User, ID: person.Name, Name: person.Name}
	user, err := s.user(ctx, person, by)
	if err != nil {
		return "", time.Time{}, "", s.refuse(ctx, person, err, by)
	}
	secret, session, err := s.auth.StartSession(ctx, user, by)
	if err != nil {
		return "", time.Time{}, "", err // recorded already
	}
	return secret, session.ExpiresAt, next, nil
}

// user finds or makes the person's user. Names are unique here, and not at a provider, whose "admin" is somebody else than
// ours: whoever comes second to a name has the provider's behind it.
func (s *singleSignOn) user(ctx context.Context, person *oidc.Person, by audit.By) (*pki.User, error) {
	external := auth.ExternalUser{
		Issuer: person.Issuer, Subject: person.Subject, Name: person.Name, Email: person.Email, Role: person.Role, Sees: person.Sees,
	}
	user, err := s.auth.UpsertExternalUser(ctx, external, by)
	if !fault.Is(err, fault.Conflict) {
		return user, err
	}
	external.Name += "@" + s.host
	by.Actor = audit.Actor{Kind: audit.User, ID: external.Name, Name: external.Name}
	return s.auth.UpsertExternalUser(ctx, external, by)
}

// refuse records what is a refusal; a provider that does not answer is none.
func (s *singleSignOn) refuse(ctx context.Context, person *oidc.Person, err error, by audit.By) error {
	found := fault.From(err)
	switch found.Kind {
	case fault.Unauthenticated, fault.Unauthorized, fault.Conflict, fault.Malformed:
	default:
		return err
	}
	who := ""
	if person != nil {
		who = person.Name
	}
	_ = s.auth.RefuseExternal(ctx, who, found, by) // err has the cause, too, for the log
	return err
}
