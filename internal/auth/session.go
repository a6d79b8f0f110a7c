package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// defaultSessionIdle is a long meeting: a browser that is left alone must not stay signed in.
const defaultSessionIdle = time.Hour

// SignIn exchanges a password, and a code of a user with a second factor, for the secret of a session. It refuses as Login
// does.
func (a *Authenticator) SignIn(ctx context.Context, name, password, code string, by audit.By) (string, *pki.Session, error) {
	user, by, err := a.signIn(ctx, name, password, code, by)
	if err != nil {
		return "", nil, err
	}
	return a.StartSession(ctx, user, by)
}

// SignInWithTicket is SignIn for somebody whose password was right a moment ago (Ticket).
func (a *Authenticator) SignInWithTicket(ctx context.Context, ticket, code string, by audit.By) (string, *pki.Session, error) {
	user, by, err := a.signInWithTicket(ctx, ticket, code, by)
	if err != nil {
		return "", nil, err
	}
	return a.StartSession(ctx, user, by)
}

// StartSession makes a session for somebody who has proved who they are, and returns its secret.
func (a *Authenticator) StartSession(ctx context.Context, user *pki.User, by audit.By) (string, *pki.Session, error) {
	now := a.config.Now().UTC()
	by.Actor = audit.Actor{Kind: audit.User, ID: user.Name, Name: user.Name}
	if user.State != pki.Active {
		return "", nil, a.refuseSession(ctx, by, fault.New(fault.Unauthorized, "user %q is suspended", user.Name).WithHint("an administrator can activate the user"))
	}
	raw := make([]byte, tokenBytes)
	if _, err := io.ReadFull(a.config.Random, raw); err != nil {
		return "", nil, fmt.Errorf("read randomness: %w", err)
	}
	id, err := pki.NewID[pki.SessionID](now, a.config.Random)
	if err != nil {
		return "", nil, err
	}
	secret := base64.RawURLEncoding.EncodeToString(raw)
	session := &pki.Session{
		ID: id, Hash: sha256.Sum256([]byte(secret)), User: user.Name, CreatedAt: now, ExpiresAt: now.Add(a.config.LoginLifetime), LastUsedAt: now, Client: by.Client,
	}
	if err := a.config.Store.CreateSession(ctx, session, a.event(by, audit.SessionCreate, user.Name, audit.Detail{})); err != nil {
		return "", nil, fmt.Errorf("create session: %w", err)
	}
	return secret, session, nil
}

// Session returns the principal of a session's secret, with the rights that its user has now. Unauthenticated for one
// that is unknown, has ended or was not used for long; that is audited, too.
func (a *Authenticator) Session(ctx context.Context, secret string) (*Principal, error) {
	by := PrincipalOf(ctx).By()
	if raw, err := base64.RawURLEncoding.DecodeString(secret); err != nil || len(raw) != tokenBytes {
		return nil, a.refuseSession(ctx, by, fault.New(fault.Unauthenticated, "the session is not one of this server"))
	}
	hash := sha256.Sum256([]byte(secret))
	session, err := a.config.Store.SessionByHash(ctx, hash)
	now := a.config.Now().UTC()
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, a.refuseSession(ctx, by, fault.New(fault.Unauthenticated, "the session has ended, or is not one of this server"))
	case err != nil:
		return nil, fmt.Errorf("find session: %w", err)
	case subtle.ConstantTimeCompare(session.Hash[:], hash[:]) != 1:
		return nil, a.refuseSession(ctx, by, fault.New(fault.Unauthenticated, "the session is not one of this server"))
	case !now.Before(session.ExpiresAt) || now.Sub(session.LastUsedAt) > a.config.SessionIdle:
		return nil, a.refuseSession(ctx, by, fault.New(fault.Unauthenticated, "the session has expired"))
	}
	user, err := a.config.Store.User(ctx, session.User)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, a.refuseSession(ctx, by, fault.New(fault.Unauthenticated, "the session's user does not exist any more"))
	case err != nil:
		return nil, fmt.Errorf("find user: %w", err)
	case user.State != pki.Active:
		return nil, a.refuseSession(ctx, by, fault.New(fault.Unauthenticated, "user %q is suspended", user.Name))
	}
	if now.Sub(session.LastUsedAt) >= touchEvery {
		// The request goes on if this fails: it is a note, not a decision.
		if err := a.config.Store.TouchSession(ctx, session.ID, now); err != nil {
			a.config.Logger.WarnContext(ctx, "last use of a session not recorded", telemetry.KeyError, err)
		}
	}
	return &Principal{SessionID: session.ID, User: user.Name, Name: user.Name, Role: user.Role, Sees: user.Sees, Enrol: a.mustEnrol(user)}, nil
}

// Sessions returns the sessions that have not ended; of one person, if user is not "".
func (a *Authenticator) Sessions(ctx context.Context, user string) ([]pki.Session, error) {
	all, err := a.config.Store.Sessions(ctx, user)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	now := a.config.Now().UTC()
	live := all[:0]
	for _, s := range all {
		if now.Before(s.ExpiresAt) && now.Sub(s.LastUsedAt) <= a.config.SessionIdle {
			live = append(live, s)
		}
	}
	return live, nil
}

// EndSession ends a session at once.
func (a *Authenticator) EndSession(ctx context.Context, id pki.SessionID, user string, by audit.By) error {
	if err := a.config.Store.EndSession(ctx, id, a.event(by, audit.SessionEnd, user, audit.Detail{})); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// RefuseForeign records that a browser sent a form that is not from the console's own pages.
func (a *Authenticator) RefuseForeign(ctx context.Context, by audit.By, refused *fault.Error) error {
	return a.refuseSession(ctx, by, refused)
}

// refuseSession records a refusal and returns it.
func (a *Authenticator) refuseSession(ctx context.Context, by audit.By, refused *fault.Error) error {
	target := by.Actor.ID
	if target == "" {
		target = "unknown user"
	}
	a.recordRefusal(ctx, by, audit.SessionRefuse, target, refused)
	return refused
}

// recordRefusal writes an event of its own. Strangers can cause any number of them, so not each is recorded.
func (a *Authenticator) recordRefusal(ctx context.Context, by audit.By, action audit.Action, target string, refused *fault.Error) {
	event := a.event(by, action, target, audit.Detail{Reason: refused.Public, Problem: refused.Kind.Meaning().ACME})
	event.Outcome = audit.Refused
	if !a.refusals.Allow(&event) {
		return
	}
	if err := a.config.Store.RecordEvent(ctx, event); err != nil {
		a.config.Logger.ErrorContext(ctx, "refusal not recorded", telemetry.KeyResource, string(action), telemetry.KeyError, err)
	}
}
