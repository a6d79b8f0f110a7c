package console

import (
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/telemetry"
)

// SingleSignOn lets people in who sign in at an identity provider. It is safe for concurrent use.
type SingleSignOn interface {
	// Title is what people call the provider.
	Title() string
	// Begin returns the provider's address to send the browser to, and what the browser must bring back, which is good for
	// that long. Unavailable when the provider cannot be reached.
	Begin(ctx context.Context, next string) (address, cookie string, keep time.Duration, err error)
	// SignIn takes what the provider sent the browser back with, and returns the secret of a session, the time at which that
	// ends, and where to go. Unauthenticated when the person must begin again, and Unauthorized when that would not help,
	// which are events of the audit log; Unavailable when the provider does not answer.
	SignIn(ctx context.Context, cookie string, answer url.Values, by audit.By) (secret string, ends time.Time, next string, err error)
}

// Addresses of single sign-on. The second is registered at the provider.
const (
	singleSignOnPath   = "/sign-in/oidc"
	SingleSignOnReturn = "/sign-in/oidc/callback"
)

// singleSignOnCookie holds a sign-in that is under way. The provider sends the browser back from another site, so it is
// Lax as the others are.
const singleSignOnCookie = "__Host-certloom-oidc"

// singleSignOnRoutes are there when there is a provider.
func (c *Console) singleSignOnRoutes() []route {
	if c.config.SingleSignOn == nil {
		return nil
	}
	return []route{
		{"GET " + singleSignOnPath, "", c.singleSignOn},
		{"GET " + SingleSignOnReturn, "", c.singleSignOnReturn},
	}
}

// singleSignOn sends the browser to the provider.
func (c *Console) singleSignOn(v *visit) error {
	address, cookie, keep, err := c.config.SingleSignOn.Begin(v.ctx(), local(v.query("next")))
	if err != nil {
		return v.notSignedIn(err)
	}
	v.setCookie(singleSignOnCookie, cookie, int(keep/time.Second))
	http.Redirect(v.w, v.r, address, http.StatusSeeOther)
	return nil
}

// singleSignOnReturn is where the provider sends the browser back to.
func (c *Console) singleSignOnReturn(v *visit) error {
	cookie := ""
	if sent, err := v.r.Cookie(singleSignOnCookie); err == nil {
		cookie = sent.Value
	}
	v.setCookie(singleSignOnCookie, "", -1) // it is good for one answer
	secret, ends, next, err := c.config.SingleSignOn.SignIn(v.ctx(), cookie, v.r.URL.Query(), v.by())
	if err != nil {
		return v.notSignedIn(err)
	}
	v.startSession(secret, ends)
	http.Redirect(v.w, v.r, local(next), http.StatusSeeOther)
	return nil
}

// notSignedIn shows the sign-in page with what the person can do about it. What exactly was wrong is in the log.
func (v *visit) notSignedIn(err error) error {
	key := ""
	switch found := fault.From(err); found.Kind {
	case fault.Unauthenticated:
		key = "signin.sso.again"
	case fault.Unauthorized:
		key = "signin.sso.role"
	case fault.Unavailable:
		key = "signin.sso.silent"
	default:
		return err
	}
	status := fault.From(err).Kind.Meaning().Status
	v.console.config.Logger.Log(v.ctx(), slog.LevelWarn, "single sign-on refused",
		telemetry.KeyStatus, status, telemetry.KeyError, err, telemetry.KeyAddress, v.who.Client.Address)
	return v.showSignIn(status, v.text(key, v.console.config.SingleSignOn.Title()))
}
