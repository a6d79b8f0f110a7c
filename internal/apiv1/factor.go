package apiv1

import (
	"context"
	"net/http"
)

// BeginSecondFactor makes a second factor for the caller, to be confirmed.
func (c *Client) BeginSecondFactor(ctx context.Context, in SecondFactorBegin) (*SecondFactorEnrolment, error) {
	return send[SecondFactorEnrolment](ctx, c, http.MethodPost, "/self/second-factor", in)
}

// ConfirmSecondFactor stores it.
func (c *Client) ConfirmSecondFactor(ctx context.Context, in SecondFactorConfirm) (*RecoveryCodes, error) {
	return send[RecoveryCodes](ctx, c, http.MethodPost, "/self/second-factor/confirm", in)
}

// MakeRecoveryCodes replaces the caller's recovery codes.
func (c *Client) MakeRecoveryCodes(ctx context.Context, in SecondFactorProof) (*RecoveryCodes, error) {
	return send[RecoveryCodes](ctx, c, http.MethodPost, "/self/second-factor/recovery-codes", in)
}

// DisableSecondFactor takes the caller's second factor away.
func (c *Client) DisableSecondFactor(ctx context.Context, in SecondFactorProof) error {
	return c.call(ctx, http.MethodPost, "/self/second-factor/disable", nil, in, nil)
}

// ResetSecondFactor takes the second factor of another user away.
func (c *Client) ResetSecondFactor(ctx context.Context, user string) (*User, error) {
	return send[User](ctx, c, http.MethodPost, at("users", user, "reset-second-factor"), nil)
}
