package server

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
)

// sessions lets people into the console.
type sessions struct{ auth *auth.Authenticator }

// SignIn is part of console.Sessions.
func (s sessions) SignIn(ctx context.Context, name, password, _ string, by audit.By) (string, time.Time, error) {
	secret, session, err := s.auth.SignIn(ctx, name, password, by)
	if err != nil {
		return "", time.Time{}, err
	}
	return secret, session.ExpiresAt, nil
}

// Session is part of console.Sessions.
func (s sessions) Session(ctx context.Context, secret string) (*auth.Principal, error) {
	return s.auth.Session(ctx, secret)
}

// EndSession is part of console.Sessions.
func (s sessions) EndSession(ctx context.Context, who *auth.Principal) error {
	return s.auth.EndSession(ctx, who.SessionID, who.User, who.By())
}

// RefuseForeign is part of console.Sessions.
func (s sessions) RefuseForeign(ctx context.Context, by audit.By, refused *fault.Error) error {
	return s.auth.RefuseForeign(ctx, by, refused)
}
