package api

import (
	"context"
	"net/http"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

func (s *Server) userRoutes() {
	const tag = "access"
	register(s, operation{
		id: "list-users", method: http.MethodGet, path: "/users", tag: tag, access: auth.ReadAccess, asIs: true,
		summary: "List the people who may sign in",
	}, s.listUsers)
	register(s, operation{
		id: "create-user", method: http.MethodPost, path: "/users", tag: tag, access: auth.Administer, asIs: true,
		status: http.StatusCreated, summary: "Create a user who signs in with a password",
	}, s.createUser)
	register(s, operation{
		id: "get-user", method: http.MethodGet, path: "/users/{user}", tag: tag, access: auth.ReadAccess, asIs: true,
		summary: "Show a user",
	}, s.getUser)
	register(s, operation{
		id: "update-user", method: http.MethodPatch, path: "/users/{user}", tag: tag, access: auth.Administer, asIs: true,
		summary: "Change a user; members that are left out stay",
	}, s.updateUser)
	register(s, operation{
		id: "delete-user", method: http.MethodDelete, path: "/users/{user}", tag: tag, access: auth.Administer, asIs: true,
		summary: "Delete a user with all that the user has signed in for",
	}, s.deleteUser)
	register(s, operation{
		id: "unlock-user", method: http.MethodPost, path: "/users/{user}/unlock", tag: tag, access: auth.Administer, asIs: true,
		summary: "Forget a user's failures to sign in",
	}, s.unlockUser)
	register(s, operation{
		id: "list-sessions", method: http.MethodGet, path: "/sessions", tag: tag, access: auth.Self, asIs: true,
		summary: "List sessions of the console: the caller's own, or everybody's",
	}, s.listSessions)
	register(s, operation{
		id: "end-session", method: http.MethodPost, path: "/sessions/{session}/end", tag: tag, access: auth.Self, asIs: true, status: http.StatusNoContent,
		summary: "End a session: one of the caller's own, or, as an administrator, anybody's",
	}, s.endSession)
	register(s, operation{
		id: "change-own-password", method: http.MethodPost, path: "/self/password", tag: tag, access: auth.Self, asIs: true, status: http.StatusNoContent,
		summary: "Change the caller's own password; what else the caller has signed in for ends",
	}, s.changeOwnPassword)
}

// UserPath is the parameter of operations on one user.
type UserPath struct {
	User string `path:"user" doc:"Name of the user." maxLength:"254"`
}

func (s *Server) wireUser(u *pki.User) apiv1.User {
	out := apiv1.User{
		Name: u.Name, Role: string(u.Role), Sees: u.Sees, State: string(u.State), Source: "local", DisplayName: u.DisplayName, Email: u.Email,
		CreatedAt: utc(u.CreatedAt), LastSignInAt: utc(u.LastSignInAt), Version: u.Version, SecondFactor: u.TOTP != nil,
	}
	if u.Issuer != "" {
		out.Source, out.Issuer = "oidc", u.Issuer
	}
	if s.config.Now().Before(u.LockedUntil) {
		out.LockedUntil = utc(u.LockedUntil)
	}
	return out
}

func (s *Server) listUsers(ctx context.Context, in *PageQuery) (*output[apiv1.Page[apiv1.User]], error) {
	users, err := s.config.Auth.Users(ctx)
	if err != nil {
		return nil, err
	}
	name := func(u pki.User) string { return u.Name }
	return answer(pageOf(in, sortedBy(users, name), name, func(u pki.User) apiv1.User { return s.wireUser(&u) })), nil
}

func (s *Server) getUser(ctx context.Context, in *UserPath) (*output[apiv1.User], error) {
	user, err := s.config.Auth.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	return answer(s.wireUser(user)), nil
}

func (s *Server) createUser(ctx context.Context, in *struct{ body[apiv1.CreateUser] }) (*output[apiv1.User], error) {
	user, err := s.config.Auth.CreateUser(ctx, auth.NewUser{
		Name: in.Body.Name, Password: in.Body.Password, Role: pki.Role(in.Body.Role), Sees: in.Body.Sees,
		DisplayName: in.Body.DisplayName, Email: in.Body.Email,
	}, auth.PrincipalOf(ctx).By())
	if err != nil {
		return nil, err
	}
	return answer(s.wireUser(user)), nil
}

func (s *Server) updateUser(ctx context.Context, in *struct {
	UserPath
	body[apiv1.UpdateUser]
},
) (*output[apiv1.User], error) {
	old, err := s.config.Auth.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	by := auth.PrincipalOf(ctx).By()
	changed := *old
	if in.Body.Version != 0 {
		changed.Version = in.Body.Version
	}
	if in.Body.Role != "" {
		changed.Role = pki.Role(in.Body.Role)
		if changed.Role != pki.RoleNamespaceViewer {
			changed.Sees = nil
		}
	}
	if in.Body.Sees != nil {
		changed.Sees = *in.Body.Sees
		if len(changed.Sees) == 0 {
			changed.Sees = nil
		}
	}
	if in.Body.State != "" {
		changed.State = pki.State(in.Body.State)
	}
	if in.Body.DisplayName != nil {
		changed.DisplayName = *in.Body.DisplayName
	}
	if in.Body.Email != nil {
		changed.Email = *in.Body.Email
	}
	user, err := s.config.Auth.ChangeUser(ctx, old, &changed, in.Body.Password, by)
	if err != nil {
		return nil, err
	}
	return answer(s.wireUser(user)), nil
}

func (s *Server) deleteUser(ctx context.Context, in *UserPath) (*struct{}, error) {
	return nil, s.config.Auth.DeleteUser(ctx, in.User, auth.PrincipalOf(ctx).By())
}

func (s *Server) unlockUser(ctx context.Context, in *UserPath) (*output[apiv1.User], error) {
	user, err := s.config.Auth.User(ctx, in.User)
	if err != nil {
		return nil, err
	}
	if user, err = s.config.Auth.UnlockUser(ctx, user, auth.PrincipalOf(ctx).By()); err != nil {
		return nil, err
	}
	return answer(s.wireUser(user)), nil
}

func (s *Server) listSessions(ctx context.Context, in *struct {
	All bool `query:"all" doc:"Of everybody, which needs role admin or auditor; otherwise the caller's own."`
	PageQuery
},
) (*output[apiv1.Page[apiv1.Session]], error) {
	caller := auth.PrincipalOf(ctx)
	user := caller.User
	if in.All {
		if err := caller.Check(auth.ReadAccess); err != nil {
			return nil, err
		}
		user = ""
	}
	var sessions []pki.Session
	if user != "" || in.All { // a token has none
		var err error
		if sessions, err = s.config.Auth.Sessions(ctx, user); err != nil {
			return nil, err
		}
	}
	place := func(one pki.Session) string { return placeInTime(one.CreatedAt, string(one.ID)) }
	return answer(pageOf(&in.PageQuery, sortedBy(sessions, place), place, func(one pki.Session) apiv1.Session {
		return apiv1.Session{
			ID: string(one.ID), User: one.User, CreatedAt: utc(one.CreatedAt), ExpiresAt: utc(one.ExpiresAt), LastUsedAt: utc(one.LastUsedAt),
			Address: one.Client.Address, UserAgent: one.Client.UserAgent, Current: one.ID == caller.SessionID,
		}
	})), nil
}

func (s *Server) endSession(ctx context.Context, in *struct {
	Session string `path:"session" doc:"Identifier of the session." maxLength:"100"`
},
) (*struct{}, error) {
	caller := auth.PrincipalOf(ctx)
	user := caller.User
	if caller.Check(auth.Administer) == nil {
		user = ""
	}
	notFound := fault.New(fault.NotFound, "there is no session %.100q", in.Session)
	if user == "" && caller.Check(auth.Administer) != nil { // a token has none
		return nil, notFound
	}
	sessions, err := s.config.Auth.Sessions(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, one := range sessions {
		if string(one.ID) == in.Session {
			return nil, s.config.Auth.EndSession(ctx, one.ID, one.User, caller.By())
		}
	}
	return nil, notFound
}

func (s *Server) changeOwnPassword(ctx context.Context, in *struct{ body[apiv1.ChangePassword] }) (*struct{}, error) {
	caller := auth.PrincipalOf(ctx)
	if caller.User == "" {
		return nil, fault.New(fault.Unauthorized, "a token has no password; sign in to the console, or ask an administrator")
	}
	user, err := s.config.Auth.CheckOwnPassword(ctx, caller.User, in.Body.Old, caller.By())
	if err != nil {
		return nil, err
	}
	_, err = s.config.Auth.SetPassword(ctx, user, in.Body.New, pki.UserEffects{KeepSession: caller.SessionID, KeepToken: caller.TokenID}, caller.By())
	if found := fault.From(err); err != nil && found.Field == "/password" {
		found.Field = "/new"
	}
	return nil, err
}
