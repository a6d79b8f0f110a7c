package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// tokenPrefix begins every token, so that people and scanners of leaked secrets recognise one.
const tokenPrefix = "clt_"

// tokenBytes is the length of a token's random part: it cannot be guessed, so it needs no slow hash.
const tokenBytes = 32

// touchEvery is how exact LastUsedAt is: each use of a token would be a durable write otherwise.
const touchEvery = time.Minute

// Token returns the principal of a bearer token. Unauthenticated says whether the token is malformed, unknown, expired
// or revoked; who knows a token's 256 bits may know that. That is audited, unless it is too often. A token that somebody has
// signed in for has the rights that the user has now.
func (a *Authenticator) Token(ctx context.Context, bearer string, by audit.By) (*Principal, error) {
	who, target, err := a.token(ctx, bearer)
	if refused := fault.From(err); err != nil && refused.Kind == fault.Unauthenticated {
		a.recordRefusal(ctx, by, audit.TokenRefuse, target, refused)
	}
	return who, err
}

// token is Token without the event; target is what that would name.
func (a *Authenticator) token(ctx context.Context, bearer string) (who *Principal, target string, err error) {
	target = "unknown token"
	if !wellFormed(bearer) {
		return nil, target, unauthenticated("bearer token is not of the form %s and 43 characters", tokenPrefix)
	}
	hash := sha256.Sum256([]byte(bearer))
	token, err := a.config.Store.TokenByHash(ctx, hash)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, target, unauthenticated("bearer token is not known here")
	case err != nil:
		return nil, target, fmt.Errorf("find token: %w", err)
	case subtle.ConstantTimeCompare(token.Hash[:], hash[:]) != 1:
		return nil, target, unauthenticated("bearer token is not known here")
	case token.State == pki.Suspended:
		return nil, string(token.ID), unauthenticated("user %q, who has signed in for token %q, is suspended", token.User, token.Name)
	case token.State != pki.Active:
		return nil, string(token.ID), unauthenticated("token %q was revoked", token.Name)
	}
	target = string(token.ID)
	now := a.config.Now().UTC()
	if !token.ExpiresAt.IsZero() && !now.Before(token.ExpiresAt) {
		return nil, target, unauthenticated("token %q expired at %s", token.Name, token.ExpiresAt.Format(time.RFC3339))
	}
	if now.Sub(token.LastUsedAt) >= touchEvery {
		// The request goes on if this fails: it is a note, not a decision.
		if err := a.config.Store.TouchToken(ctx, token.ID, now); err != nil {
			a.config.Logger.WarnContext(ctx, "last use of a token not recorded", telemetry.KeyError, err)
		}
	}
	who = &Principal{TokenID: token.ID, User: token.User, Name: token.Name, Role: token.Role, ProfileID: token.ProfileID, Sees: token.Sees}
	if token.User != "" && a.config.SecondFactor {
		user, err := a.config.Store.User(ctx, token.User)
		if err != nil {
			return nil, target, fmt.Errorf("find user: %w", err)
		}
		who.Enrol = a.mustEnrol(user)
	}
	return who, target, nil
}

func unauthenticated(format string, args ...any) error {
	return fault.New(fault.Unauthenticated, format, args...).
		WithHint("sign in again (certloom login), or name another token (--token-file, CERTLOOM_TOKEN_FILE)")
}

// wellFormed keeps what cannot be a token from the database.
func wellFormed(bearer string) bool {
	random, ok := strings.CutPrefix(bearer, tokenPrefix)
	if !ok || len(random) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return false
	}
	_, err := base64.RawURLEncoding.DecodeString(random)
	return err == nil
}

// NewToken is what an administrator says of a token to be.
type NewToken struct {
	Name      string
	Role      pki.Role
	ProfileID pki.ProfileID // of a requester, required; of others, none. The caller has checked that it exists.
	Sees      []string      // of a namespace viewer, required; of others, none
	ExpiresAt time.Time     // zero: never
	user      string        // who has signed in for it
}

// CreateToken makes an API token and returns its secret, which nobody can ask for again. All problems of the request
// come at once.
func (a *Authenticator) CreateToken(ctx context.Context, request NewToken, by audit.By) (string, *pki.APIToken, error) {
	if err := a.checkToken(request); err != nil {
		return "", nil, err
	}
	return a.makeToken(ctx, request, by)
}

func (a *Authenticator) checkToken(request NewToken) error {
	var errs []error
	add := func(field, format string, args ...any) {
		errs = append(errs, fault.New(fault.Malformed, format, args...).WithField(field))
	}
	if err := pki.CheckName(request.Name); err != nil {
		add("/name", "token %v", err)
	}
	switch request.Role {
	case pki.RoleAdmin, pki.RoleOperator, pki.RoleAuditor, pki.RoleNamespaceViewer:
		if request.ProfileID != "" {
			add("/profile", "a token of role %s is not bound to a profile; only role requester is", request.Role)
		}
	case pki.RoleRequester:
		if request.ProfileID == "" {
			add("/profile", "a token of role requester needs the profile that it may request certificates under")
		}
	default:
		add("/role", "role %.40q is not one of %s", request.Role, roleNames(Roles()))
	}
	errs = append(errs, checkSees(request.Role, request.Sees))
	if now := a.config.Now().UTC(); !request.ExpiresAt.IsZero() && !request.ExpiresAt.After(now) {
		add("/expiresAt", "expiry %s is not in the future; it is %s now",
			request.ExpiresAt.UTC().Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return errors.Join(errs...)
}

func (a *Authenticator) makeToken(ctx context.Context, request NewToken, by audit.By) (string, *pki.APIToken, error) {
	now := a.config.Now().UTC()
	raw := make([]byte, tokenBytes)
	if _, err := io.ReadFull(a.config.Random, raw); err != nil {
		return "", nil, fmt.Errorf("read randomness: %w", err)
	}
	id, err := pki.NewID[pki.TokenID](now, a.config.Random)
	if err != nil {
		return "", nil, err
	}
	secret := tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
	token := &pki.APIToken{
		ID: id, Name: request.Name, Hash: sha256.Sum256([]byte(secret)), State: pki.Active,
		Role: request.Role, ProfileID: request.ProfileID, Sees: request.Sees, CreatedAt: now, ExpiresAt: request.ExpiresAt.UTC(),
		User: request.user,
	}
	changes := []audit.Change{{Field: "/role", New: string(token.Role)}}
	if !token.ExpiresAt.IsZero() {
		changes = append(changes, audit.Change{Field: "/expiresAt", New: token.ExpiresAt.Format(time.RFC3339)})
	}
	event := a.event(by, audit.TokenCreate, token.Name, audit.Detail{Profile: token.ProfileID, Changes: changes})
	if err := a.config.Store.CreateToken(ctx, token, event); err != nil {
		return "", nil, fmt.Errorf("create token: %w", err)
	}
	return secret, token, nil
}

// Tokens returns all tokens, without secrets: there are none to return.
func (a *Authenticator) Tokens(ctx context.Context) ([]pki.APIToken, error) {
	tokens, err := a.config.Store.Tokens(ctx)
	if err != nil {
		return nil, fmt.Errorf("list tokens: %w", err)
	}
	return tokens, nil
}

// RevokeToken ends a token at once, for good. Name is for the audit event.
func (a *Authenticator) RevokeToken(ctx context.Context, token *pki.APIToken, by audit.By) error {
	changes := []audit.Change{{Field: "/state", Old: string(token.State), New: string(pki.Revoked)}}
	event := a.event(by, audit.TokenRevoke, token.Name, audit.Detail{Profile: token.ProfileID, Changes: changes})
	if err := a.config.Store.RevokeToken(ctx, token.ID, event); err != nil {
		return fmt.Errorf("revoke token: %w", err)
	}
	return nil
}
