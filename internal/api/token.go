package api

import (
	"context"
	"net/http"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func (s *Server) accessRoutes() {
	const tag = "access"
	register(s, operation{
		id: "login", method: http.MethodPost, path: "/login", tag: tag, asIs: true,
		status: http.StatusCreated, summary: "Exchange a password for a token that expires by itself",
	}, s.login)
	register(s, operation{
		id: "whoami", method: http.MethodGet, path: "/whoami", tag: tag, access: auth.Self, asIs: true,
		summary: "Show whose token this is",
	}, s.whoami)
}

func (s *Server) tokenRoutes() {
	const tag = "tokens"
	register(s, operation{
		id: "list-tokens", method: http.MethodGet, path: "/tokens", tag: tag, access: auth.ReadAccess,
		summary: "List API tokens",
	}, s.listTokens)
	register(s, operation{
		id: "create-token", method: http.MethodPost, path: "/tokens", tag: tag, access: auth.Administer,
		status: http.StatusCreated, summary: "Create an API token; its secret is shown once",
	}, s.createToken)
	register(s, operation{
		id: "revoke-token", method: http.MethodPost, path: "/tokens/{token}/revoke", tag: tag, access: auth.Administer,
		summary: "Revoke an API token",
	}, s.revokeToken)
}

func (s *Server) login(ctx context.Context, in *struct{ body[apiv1.Login] }) (*output[apiv1.NewToken], error) {
	secret, token, err := s.config.Auth.Login(ctx, in.Body.User, in.Body.Password, in.Body.Code, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(apiv1.NewToken{Token: s.wireToken(s.config.Catalog.Snapshot(), token), Secret: secret}), nil
}

func (s *Server) whoami(ctx context.Context, _ *struct{}) (*output[apiv1.Caller], error) {
	caller := auth.PrincipalOf(ctx)
	out := apiv1.Caller{
		TokenID: string(caller.TokenID), Name: caller.Name, User: caller.User, Role: string(caller.Role), Sees: caller.Sees, MustSetSecondFactor: caller.Enrol,
	}
	if caller.User != "" {
		user, err := s.config.Auth.User(ctx, caller.User)
		if err != nil {
			return nil, err
		}
		if out.Source = "local"; user.Issuer != "" {
			out.Source = "oidc"
		}
		if out.SecondFactor = user.TOTP != nil; out.SecondFactor {
			if out.RecoveryCodes, err = s.config.Auth.RecoveryCodes(ctx, caller.User); err != nil {
				return nil, err
			}
		}
	}
	if caller.ProfileID != "" {
		out.Profile = profileName(s.config.Catalog.Snapshot(), caller.ProfileID)
	}
	return answer(out), nil
}

func (s *Server) wireToken(view *catalog.Snapshot, t *pki.APIToken) apiv1.Token {
	out := apiv1.Token{
		ID: string(t.ID), Name: t.Name, Role: string(t.Role), Sees: t.Sees, State: stateAt(t.State, t.ExpiresAt, s.config.Now()),
		CreatedAt: utc(t.CreatedAt), ExpiresAt: utc(t.ExpiresAt), LastUsedAt: utc(t.LastUsedAt),
	}
	if t.ProfileID != "" {
		out.Profile = profileName(view, t.ProfileID)
	}
	return out
}

func (s *Server) listTokens(ctx context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.Token]], error) {
	tokens, err := s.config.Auth.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	view := s.config.Catalog.Snapshot()
	place := func(t pki.APIToken) string { return t.Name + "\x00" + placeInTime(t.CreatedAt, string(t.ID)) }
	return answer(pageOf(in, sortedBy(tokens, place), place, func(t pki.APIToken) apiv1.Token { return s.wireToken(view, &t) })), nil
}

func (s *Server) createToken(ctx context.Context, in *struct{ body[apiv1.CreateToken] }) (*output[apiv1.NewToken], error) {
	view := s.config.Catalog.Snapshot()
	request := auth.NewToken{Name: in.Body.Name, Role: pki.Role(in.Body.Role), Sees: in.Body.Sees, ExpiresAt: in.Body.ExpiresAt}
	if in.Body.Profile != "" {
		p, err := namedProfile(view, in.Body.Profile, "/profile")
		if err != nil {
			return nil, err
		}
		if p.Method != pki.RESTAPI {
			return nil, fault.New(fault.Malformed, "profile %q has enrollment method %s; tokens request certificates only under profiles with %s",
				p.Name, p.Method, pki.RESTAPI).WithField("/profile")
		}
		request.ProfileID = p.ID
	}
	secret, token, err := s.config.Auth.CreateToken(ctx, request, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(apiv1.NewToken{Token: s.wireToken(view, token), Secret: secret}), nil
}

func (s *Server) revokeToken(ctx context.Context, in *struct {
	Token string `path:"token" doc:"Identifier of the token." maxLength:"100"`
},
) (*output[apiv1.Token], error) {
	tokens, err := s.config.Auth.Tokens(ctx)
	if err != nil {
		return nil, err
	}
	view := s.config.Catalog.Snapshot()
	for i := range tokens {
		token := &tokens[i]
		if string(token.ID) != in.Token {
			continue
		}
		if token.State != pki.Revoked {
			if err := s.config.Auth.RevokeToken(ctx, token, auth.PrincipalOf(ctx).By()); err != nil {
				return nil, err
			}
			token.State = pki.Revoked
		}
		return answer(s.wireToken(view, token)), nil
	}
	return nil, fault.New(fault.NotFound, "there is no token %.100q", in.Token).WithHint("list them: certloom token list")
}
