package console

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"

	"github.com/boombuler/barcode/qr"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
)

const factorPath = "/settings/account/second-factor"

func (c *Console) factorRoutes() []route {
	return []route{
		{"POST /sign-in/code", "", c.signInCode},
		{"GET " + factorPath, auth.Self, c.beginFactorForm},
		{"POST " + factorPath, auth.Self, c.beginFactor},
		{"POST " + factorPath + "/confirm", auth.Self, c.confirmFactor},
		{"GET " + factorPath + "/codes", auth.Self, c.recoveryCodesForm},
		{"POST " + factorPath + "/codes", auth.Self, c.makeRecoveryCodes},
		{"GET " + factorPath + "/off", auth.Self, c.dropFactorForm},
		{"POST " + factorPath + "/off", auth.Self, c.dropFactor},
		{"GET /settings/users/{user}/reset-second-factor", auth.Administer, c.resetFactorForm},
		{"POST /settings/users/{user}/reset-second-factor", auth.Administer, c.resetFactor},
	}
}

// codeView is the second page of signing in. The ticket stands for the password, which is not sent again.
type codeView struct {
	Form    *form
	Next    string
	Ticket  string
	Code    field
	Problem string
}

func (v *visit) showCode(status int, ticket, problem string) error {
	f := v.newForm(nil)
	view := codeView{Form: f, Next: local(v.value("next")), Ticket: ticket, Problem: problem, Code: codeField(f)}
	return v.renderStatus(status, "signincode", view)
}

func codeField(f *form) field {
	code := f.field("text", "/code", "factor.code")
	code.Complete, code.Mono, code.Required, code.Value = "one-time-code", true, true, ""
	return code
}

// signInCode finishes signing in with a code.
func (c *Console) signInCode(v *visit) error {
	ticket := v.value("ticket")
	secret, session, err := c.config.Sessions.SignInWithTicket(v.ctx(), ticket, v.value("/code"), v.by())
	switch {
	case fault.Is(err, fault.Unauthenticated) && fault.From(err).Field == "/code":
		return v.showCode(http.StatusUnauthorized, ticket, v.text("factor.wrong"))
	case fault.Is(err, fault.Unauthenticated):
		return v.showSignIn(http.StatusUnauthorized, v.text("factor.late"))
	case fault.Is(err, fault.RateLimited), fault.Is(err, fault.Unavailable):
		return v.showCode(fault.From(err).Kind.Meaning().Status, ticket, fault.From(err).Public)
	case err != nil:
		return err
	}
	v.startSession(secret, session.ExpiresAt)
	http.Redirect(v.w, v.r, local(v.value("next")), http.StatusSeeOther)
	return nil
}

// factorView is a step of setting up a second factor, or of changing it.
type factorView struct {
	Form    *form
	Title   string
	Text    string
	Must    bool // nothing else is allowed before
	Action  string
	Button  string
	Fields  []field
	Ticket  string
	Secret  string        // travels with the ticket
	URI     string        // as well
	Grouped string        // the secret, to be typed
	QR      template.HTML // to be scanned
	Codes   []string      // recovery codes, shown once
	Lines   string        // the same, one in each line
}

func passwordField(f *form) field {
	password := f.field("password", "/password", "setting.oldPassword")
	password.Complete, password.Required = "current-password", true
	return password
}

func (c *Console) beginFactorForm(v *visit) error { return v.showBegin(v.newForm(nil)) }

func (v *visit) showBegin(f *form) error {
	return f.render("secondfactor", factorView{
		Form: f, Title: v.text("factor.set"), Text: v.text("factor.set.text"), Must: v.who.Enrol, Action: factorPath, Button: v.text("factor.next"),
		Fields: []field{passwordField(f)},
	})
}

func (c *Console) beginFactor(v *visit) error {
	f := v.newForm(nil)
	made, err := v.api.BeginSecondFactor(v.ctx(), apiv1.SecondFactorBegin{Password: f.values.Get("/password")})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showBegin(f)
	}
	return v.showConfirm(v.newForm(url.Values{}), made.Ticket, made.Secret, made.URI)
}

// showConfirm shows the secret. It travels in the form, so that a wrong code does not make another one.
func (v *visit) showConfirm(f *form, ticket, secret, uri string) error {
	code, ok := qrCode(uri)
	if !ok { // the form is not the one that was shown
		http.Redirect(v.w, v.r, factorPath, http.StatusSeeOther)
		return nil
	}
	return f.render("secondfactor", factorView{
		Form: f, Title: v.text("factor.set"), Text: v.text("factor.scan"), Must: v.who.Enrol, Action: factorPath + "/confirm", Button: v.text("factor.confirm"),
		Fields: []field{codeField(f)}, Ticket: ticket, Secret: secret, Grouped: grouped(secret), URI: uri, QR: code,
	})
}

// grouped makes a secret legible.
func grouped(secret string) string {
	var groups []string
	for len(secret) > 4 {
		groups, secret = append(groups, secret[:4]), secret[4:]
	}
	return strings.Join(append(groups, secret), " ")
}

// qrCode draws the address of a second factor as a QR code, dark on light in every theme, since cameras read no other.
func qrCode(uri string) (template.HTML, bool) {
	const most = 1024 // bytes
	if len(uri) > most || !strings.HasPrefix(uri, "otpauth://totp/") {
		return "", false
	}
	code, err := qr.Encode(uri, qr.M, qr.Auto)
	if err != nil {
		return "", false
	}
	const margin = 4 // modules, ISO/IEC 18004 section 5.3.8
	var path strings.Builder
	size := code.Bounds().Dx()
	for y := range size {
		for x := range size {
			if r, _, _, _ := code.At(x, y).RGBA(); r == 0 {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x+margin, y+margin)
			}
		}
	}
	whole := size + 2*margin
	return template.HTML(fmt.Sprintf( //nolint:gosec // numbers only
		`<svg class="qr" viewBox="0 0 %[1]d %[1]d" width="220" height="220" aria-hidden="true" shape-rendering="crispEdges"><rect width="%[1]d" height="%[1]d" fill="#fff"/><path d="%[2]s" fill="#000"/></svg>`,
		whole, path.String())), true
}

func (c *Console) confirmFactor(v *visit) error {
	f := v.newForm(nil)
	codes, err := v.api.ConfirmSecondFactor(v.ctx(), apiv1.SecondFactorConfirm{Ticket: v.value("ticket"), Code: f.value("/code")})
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.showConfirm(f, v.value("ticket"), v.value("secret"), v.value("uri"))
	}
	return v.showCodes(codes)
}

func (v *visit) showCodes(made *apiv1.RecoveryCodes) error {
	return v.render("secondfactor", factorView{
		Form: v.newForm(nil), Title: v.text("factor.codes"), Text: v.text("factor.codes.text"), Codes: made.Codes, Lines: strings.Join(made.Codes, "\n"),
	})
}

// proof are the fields of who changes the second factor.
func (v *visit) proof(f *form, title, action string) error {
	return f.render("secondfactor", factorView{
		Form: f, Title: v.text("factor." + title), Text: v.text("factor." + title + ".means"), Action: factorPath + action, Button: v.text("factor." + title),
		Fields: []field{passwordField(f), codeField(f)},
	})
}

func (v *visit) proven(f *form) apiv1.SecondFactorProof {
	return apiv1.SecondFactorProof{Password: f.values.Get("/password"), Code: f.value("/code")}
}

func (c *Console) recoveryCodesForm(v *visit) error {
	return v.proof(v.newForm(nil), "new", "/codes")
}

func (c *Console) makeRecoveryCodes(v *visit) error {
	f := v.newForm(nil)
	codes, err := v.api.MakeRecoveryCodes(v.ctx(), v.proven(f))
	if err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.proof(f, "new", "/codes")
	}
	return v.showCodes(codes)
}

func (c *Console) dropFactorForm(v *visit) error { return v.proof(v.newForm(nil), "off", "/off") }

func (c *Console) dropFactor(v *visit) error {
	f := v.newForm(nil)
	if err := v.api.DisableSecondFactor(v.ctx(), v.proven(f)); err != nil {
		if err := f.refuse(err); err != nil {
			return err
		}
		return v.proof(f, "off", "/off")
	}
	return v.done("/settings/account", "factor.dropped")
}

func (c *Console) resetFactorForm(v *visit) error {
	name := v.r.PathValue("user")
	back := "/settings/users/" + url.PathEscape(name)
	return v.render("confirm", confirmView{
		Form: v.newForm(nil), Question: v.text("factor.reset.question", name), Means: v.text("factor.reset.means"), Button: v.text("factor.reset"),
		Action: back + "/reset-second-factor", Back: back,
	})
}

func (c *Console) resetFactor(v *visit) error {
	user, err := v.api.ResetSecondFactor(v.ctx(), v.r.PathValue("user"))
	if err != nil {
		return err
	}
	return v.done("/settings/users", "factor.reset.done", user.Name)
}
