package auth

import (
	"context"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
)

// RefuseExternal records that somebody who came from an identity provider was not let in, and returns the refusal. Who
// names the person as the provider does; "" when it has not said, or has said nothing that can be trusted. Strangers can
// cause any number of refusals, so not each is recorded.
func (a *Authenticator) RefuseExternal(ctx context.Context, who string, refused *fault.Error, by audit.By) error {
	by.Actor = audit.Actor{Kind: audit.Nobody, Name: who}
	if who == "" {
		who = "unknown user"
	}
	a.recordRefusal(ctx, by, audit.LoginRefuse, who, refused)
	return refused
}
