package server

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/pki"
)

// sessions lets people into the console: a session is the token that a sign-in makes.
type sessions struct{ auth *auth.Authenticator }

// SignIn is part of console.Sessions.
func (s sessions) SignIn(ctx context.Context, name, password, _ string, by audit.By) (string, time.Time, error) {
	secret, token, err := s.auth.Login(ctx, name, password, by)
	if err != nil {
		return "", time.Time{}, err
	}
	return secret, token.ExpiresAt, nil
}

// Session is part of console.Sessions.
func (s sessions) Session(ctx context.Context, secret string) (*auth.Principal, error) {
	return s.auth.Token(ctx, secret)
}

// EndSession is part of console.Sessions.
func (s sessions) EndSession(ctx context.Context, who *auth.Principal) error {
	return s.auth.RevokeToken(ctx, &pki.APIToken{ID: who.TokenID, Name: who.Name, State: pki.Active}, who.By())
}
