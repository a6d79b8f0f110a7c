package api

import (
	"context"
	"net/http"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
)

func (s *Server) factorRoutes() {
	const tag, path = "access", "/self/second-factor"
	register(s, operation{
		id: "begin-second-factor", method: http.MethodPost, path: path, tag: tag, access: auth.Self, asIs: true,
		summary: "Make a second factor for the caller; it is stored when it is confirmed",
	}, s.beginSecondFactor)
	register(s, operation{
		id: "confirm-second-factor", method: http.MethodPost, path: path + "/confirm", tag: tag, access: auth.Self, asIs: true,
		summary: "Store the caller's second factor, and show recovery codes once",
	}, s.confirmSecondFactor)
	register(s, operation{
		id: "make-recovery-codes", method: http.MethodPost, path: path + "/recovery-codes", tag: tag, access: auth.Self, asIs: true,
		summary: "Replace the caller's recovery codes; they are shown once",
	}, s.makeRecoveryCodes)
	register(s, operation{
		id: "disable-second-factor", method: http.MethodPost, path: path + "/disable", tag: tag, access: auth.Self, asIs: true, status: http.StatusNoContent,
		summary: "Take the caller's second factor away",
	}, s.disableSecondFactor)
	register(s, operation{
		id: "reset-second-factor", method: http.MethodPost, path: "/users/{user}/reset-second-factor", tag: tag, access: auth.Administer, asIs: true,
		summary: "Take a user's second factor away, whose app and recovery codes are gone",
	}, s.resetSecondFactor)
}

// ownUser is the caller, who must be a person.
func ownUser(ctx context.Context) (*auth.Principal, error) {
	caller := auth.PrincipalOf(ctx)
	if caller.User == "" {
		return nil, fault.New(fault.Unauthorized, "a token that an administrator has made has no second factor; sign in as a user")
	}
	return caller, nil
}

func (s *Server) beginSecondFactor(ctx context.Context, in *struct{ body[apiv1.SecondFactorBegin] }) (*output[apiv1.SecondFactorEnrolment], error) {
	caller, err := ownUser(ctx)
	if err != nil {
		return nil, err
	}
	made, err := s.config.Auth.BeginSecondFactor(ctx, caller.User, in.Body.Password, caller.By())
	if err != nil {
		return nil, err
	}
	return answer(apiv1.SecondFactorEnrolment{Secret: made.Secret, URI: made.URI, Ticket: made.Ticket}), nil
}

func (s *Server) confirmSecondFactor(ctx context.Context, in *struct {
	body[apiv1.SecondFactorConfirm]
},
) (*output[apiv1.RecoveryCodes], error) {
	caller, err := ownUser(ctx)
	if err != nil {
		return nil, err
	}
	codes, err := s.config.Auth.ConfirmSecondFactor(ctx, caller.User, in.Body.Ticket, in.Body.Code, caller.By())
	if err != nil {
		return nil, err
	}
	return answer(apiv1.RecoveryCodes{Codes: codes}), nil
}

func (s *Server) makeRecoveryCodes(ctx context.Context, in *struct{ body[apiv1.SecondFactorProof] }) (*output[apiv1.RecoveryCodes], error) {
	caller, err := ownUser(ctx)
	if err != nil {
		return nil, err
	}
	codes, err := s.config.Auth.NewRecoveryCodes(ctx, caller.User, in.Body.Password, in.Body.Code, caller.By())
	if err != nil {
		return nil, err
	}
	return answer(apiv1.RecoveryCodes{Codes: codes}), nil
}

func (s *Server) disableSecondFactor(ctx context.Context, in *struct{ body[apiv1.SecondFactorProof] }) (*struct{}, error) {
	caller, err := ownUser(ctx)
	if err != nil {
		return nil, err
	}
	return nil, s.config.Auth.DropSecondFactor(ctx, caller.User, in.Body.Password, in.Body.Code, caller.By())
}

func (s *Server) resetSecondFactor(ctx context.Context, in *UserPath) (*output[apiv1.User], error) {
	if err := s.config.Auth.ResetSecondFactor(ctx, in.User, auth.PrincipalOf(ctx).By()); err != nil {
		return nil, err
	}
	return s.getUser(ctx, in)
}
