package console

import (
	"net/http"
	"net/url"
	"time"

	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
)

// signInView is the sign-in page.
type signInView struct {
	Form      *form
	Next      string // where to go afterwards
	User      field
	Password  field
	Problem   string
	Provider  string // what people call it; "" when there is none
	Elsewhere string // where to sign in at the provider
}

func (c *Console) signInForm(v *visit) error {
	if v.signedIn() {
		http.Redirect(v.w, v.r, local(v.query("next")), http.StatusSeeOther)
		return nil
	}
	return v.showSignIn(http.StatusOK, "")
}

func (v *visit) showSignIn(status int, problem string) error {
	f := v.newForm(nil)
	view := signInView{
		Form: f, Next: local(v.r.FormValue("next")), Problem: problem,
		User: f.field("text", "user", "signin.user"), Password: f.field("password", "password", "signin.password"),
	}
	view.User.Complete, view.Password.Complete = "username", "current-password"
	view.User.Required, view.Password.Required = true, true
	if provider := v.console.config.SingleSignOn; provider != nil {
		view.Provider, view.Elsewhere = provider.Title(), singleSignOnPath+"?next="+url.QueryEscape(view.Next)
	}
	return v.renderStatus(status, "signin", view)
}

// signIn starts a session. What the API's package says of a refusal is said here, and no more: a wrong name and a wrong
// password look alike.
func (c *Console) signIn(v *visit) error {
	secret, session, err := c.config.Sessions.SignIn(v.ctx(), v.value("user"), v.value("password"), "", v.by())
	if ticket, needed := auth.Ticket(err); needed {
		return v.showCode(http.StatusOK, ticket, "")
	}
	switch {
	case fault.Is(err, fault.Unauthenticated):
		return v.showSignIn(http.StatusUnauthorized, v.text("signin.wrong"))
	case fault.Is(err, fault.RateLimited), fault.Is(err, fault.Unavailable):
		return v.showSignIn(fault.From(err).Kind.Meaning().Status, fault.From(err).Public)
	case err != nil:
		return err
	}
	v.startSession(secret, session.ExpiresAt)
	http.Redirect(v.w, v.r, local(v.value("next")), http.StatusSeeOther)
	return nil
}

// startSession gives the visitor's browser the session.
func (v *visit) startSession(secret string, ends time.Time) {
	v.setCookie(sessionCookie, secret, max(1, int(ends.Sub(v.now)/time.Second)))
}

func (c *Console) signOut(v *visit) error {
	if err := c.config.Sessions.EndSession(v.ctx(), v.who.SessionID, v.who.User, v.by()); err != nil {
		return err
	}
	v.setCookie(sessionCookie, "", -1)
	v.who = &auth.Principal{Client: v.who.Client}
	return v.done("/sign-in", "signin.out")
}
