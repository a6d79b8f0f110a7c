package console

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// visit is one request for a page, with everything that its handler needs.
type visit struct {
	console *Console
	w       http.ResponseWriter
	r       *http.Request
	who     *auth.Principal // without a role when nobody has signed in
	api     *apiv1.Client   // calls the API as who
	lang    string          // of the texts: en or ja
	theme   string          // light, dark or auto
	now     time.Time
}

// Names of cookies. The prefix __Host- keeps other hosts of the domain, and plain HTTP, from setting them.
const (
	sessionCookie = "__Host-certloom-session"
	flashCookie   = "__Host-certloom-flash"
	langCookie    = "__Host-certloom-lang"
	themeCookie   = "__Host-certloom-theme"
)

// maxForm bounds forms: the largest holds a CA's chain, or a CSR.
const maxForm = 512 << 10

// handle finds out who is visiting, and has the route's handler answer.
func (c *Console) handle(route route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		v, err := c.visit(w, r)
		if err == nil {
			err = v.enter(route.access)
		}
		switch {
		case err != nil && v.who.Enrol:
			http.Redirect(w, r, factorPath, http.StatusSeeOther)
			return
		case err == nil:
			err = route.handle(v)
		case fault.Is(err, fault.Unauthenticated):
			v.toSignIn()
			return
		}
		if err != nil {
			v.fail(err)
		}
	})
}

// visit never returns nil: also a refusal has a page, in the visitor's language.
func (c *Console) visit(w http.ResponseWriter, r *http.Request) (*visit, error) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	v := &visit{
		console: c, w: w, r: r, who: &auth.Principal{}, lang: c.language(r), theme: themeOf(r), now: c.config.Now().UTC(),
	}
	v.who.Client = c.client(r)
	if r.Method == http.MethodPost {
		if err := readForm(r); err != nil {
			return v, fault.Wrap(err, fault.Malformed, "the form cannot be read, or is larger than %d bytes", maxForm)
		}
	}
	cookie, err := r.Cookie(sessionCookie)
	if err == nil {
		who, err := c.config.Sessions.Session(auth.WithPrincipal(r.Context(), v.who), cookie.Value)
		switch {
		case fault.Is(err, fault.Unauthenticated):
			v.setCookie(sessionCookie, "", -1) // the browser need not send it again
		case err != nil:
			return v, err
		default:
			who.Client = v.who.Client
			v.who = who
		}
	}
	v.r = r.WithContext(auth.WithPrincipal(r.Context(), v.who))
	v.api, err = apiv1.NewClient(apiv1.ClientConfig{
		Server: c.config.BaseURL, HTTP: &http.Client{Transport: &loop{api: c.config.API, visitor: r, key: v.value(formKey)}},
	})
	return v, err
}

// client says where a request came from.
func (c *Console) client(r *http.Request) pki.Client {
	if c.config.Client != nil {
		return c.config.Client(r)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	return pki.Client{Address: host, UserAgent: r.UserAgent()}
}

// enter refuses a visitor who has not signed in, or whose role makes the page of no use.
func (v *visit) enter(access auth.Access) error {
	switch {
	case access == "":
		return nil
	case v.who.Role == "":
		return fault.New(fault.Unauthenticated, "sign in first")
	default:
		return v.who.Check(access)
	}
}

// signedIn reports whether somebody has.
func (v *visit) signedIn() bool { return v.who.Role != "" }

// may reports whether the visitor's role has a kind of access: what is not allowed is not offered.
func (v *visit) may(access auth.Access) bool { return auth.Allows(v.who.Role, access) }

// ctx is the context of everything that is done for this visit.
func (v *visit) ctx() context.Context { return v.r.Context() }

// by is the visitor in audit events.
func (v *visit) by() audit.By { return v.who.By() }

// value returns a field of the form that was sent, "" when there is none.
func (v *visit) value(name string) string { return v.r.PostForm.Get(name) } //nolint:forbidigo // fields of the form, not the function

// query returns a parameter of the address.
func (v *visit) query(name string) string { return v.r.URL.Query().Get(name) }

// htmx reports whether a script asks for a part of the page (https://htmx.org/reference/#request_headers).
func (v *visit) htmx() bool { return v.r.Header.Get("HX-Request") == "true" }

// toSignIn sends the visitor to the sign-in page, and back afterwards.
func (v *visit) toSignIn() {
	target := "/sign-in"
	if v.r.Method == http.MethodGet && v.r.URL.Path != "/" {
		target += "?next=" + url.QueryEscape(v.r.URL.RequestURI())
	}
	if v.htmx() { // a script that refreshes a part must not put the sign-in page into it
		v.w.Header().Set("HX-Redirect", target)
		v.w.WriteHeader(http.StatusUnauthorized)
		return
	}
	http.Redirect(v.w, v.r, target, http.StatusSeeOther)
}

// local returns an address on this server, or the dashboard's: what comes with a request must not lead elsewhere.
func local(target string) string {
	parsed, err := url.Parse(target)
	if err != nil || parsed.IsAbs() || parsed.Host != "" || !strings.HasPrefix(target, "/") ||
		strings.HasPrefix(target, "//") || strings.ContainsAny(target, "\\\r\n\t") {
		return "/"
	}
	return target
}

// done redirects after something was done, and has the next page say so. The text's arguments are shown as they are.
func (v *visit) done(target, key string, args ...any) error {
	v.setCookie(flashCookie, base64.RawURLEncoding.EncodeToString([]byte(v.text(key, args...))), 60)
	http.Redirect(v.w, v.r, local(target), http.StatusSeeOther)
	return nil
}

// flash takes what the page before wanted said.
func (v *visit) flash() string {
	cookie, err := v.r.Cookie(flashCookie)
	if err != nil || v.htmx() {
		return ""
	}
	v.setCookie(flashCookie, "", -1)
	text, err := base64.RawURLEncoding.DecodeString(cookie.Value)
	if err != nil {
		return ""
	}
	return string(text)
}

// setCookie sets a cookie that scripts do not see. maxAge is in seconds: 0 is until the browser ends, negative removes it.
func (v *visit) setCookie(name, value string, maxAge int) {
	http.SetCookie(v.w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// newKey is the value of a form's formKey.
func (v *visit) newKey() string {
	raw := make([]byte, 16)
	if _, err := io.ReadFull(v.console.config.Random, raw); err != nil {
		return "" // a form without a key is one that can be sent twice
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// pass streams an answer of the API to the visitor, for downloads. Path is below /api/v1.
func (v *visit) pass(path, fileName string) error {
	call, err := http.NewRequestWithContext(v.ctx(), http.MethodGet, v.console.config.BaseURL+apiv1.Prefix+path, http.NoBody)
	if err != nil {
		return fault.Wrap(err, fault.Malformed, "the address cannot be read")
	}
	call.RemoteAddr = v.r.RemoteAddr
	call.RequestURI = call.URL.RequestURI()
	call.Header.Set("User-Agent", v.r.UserAgent())
	if fileName != "" {
		v.w.Header().Set("Content-Disposition", `attachment; filename="`+strings.Map(fileNameRune, fileName)+`"`)
	}
	v.console.config.API.ServeHTTP(v.w, call)
	return nil
}

// fileNameRune keeps the names of downloads to what every system can store.
func fileNameRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '-', r == '_':
		return r
	default:
		return '-'
	}
}

// fail answers with the page of an error.
func (v *visit) fail(err error) {
	view := errorView{Status: http.StatusInternalServerError, Title: v.text("error.internal"), Detail: v.text("error.internal.detail")}
	if problem, ok := errors.AsType[*apiv1.Problem](err); ok {
		view.Status, view.Title, view.Detail, view.Hint = problem.Status, problem.Title, problem.Detail, problem.Hint
		view.Request = problem.Request
	} else if found, ok := errors.AsType[*fault.Error](err); ok {
		view.Status = found.Kind.Meaning().Status
		view.Title, view.Detail, view.Hint = http.StatusText(view.Status), found.Public, found.Hint
	}
	if key := "error." + strconv.Itoa(view.Status); v.has(key) {
		view.Title = v.text(key)
		if key += ".means"; v.lang != "en" && v.has(key) { // the API speaks English
			view.Means = v.text(key)
		}
	}
	view.Detail, view.Hint = sentence(view.Detail), sentence(view.Hint)
	level := slog.LevelInfo
	if view.Status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	v.console.config.Logger.Log(v.ctx(), level, "page refused", telemetry.KeyResource, v.r.URL.Path,
		telemetry.KeyStatus, view.Status, telemetry.KeyError, err, telemetry.KeyAddress, v.who.Client.Address)
	if rendered := v.renderStatus(view.Status, "error", view); rendered != nil {
		http.Error(v.w, view.Detail, view.Status)
	}
}

// errorView is the page of an error.
type errorView struct {
	Status  int
	Title   string
	Means   string // what the title means, in a language that Detail is not of
	Detail  string
	Hint    string
	Request string // identifier, to find the log's lines
}

// sentence writes what errors say, which begin with a small letter and end without a stop, as pages do.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return ""
	}
	text = string(unicode.ToUpper(first)) + text[size:]
	if last, _ := utf8.DecodeLastRuneInString(text); unicode.IsLetter(last) || unicode.IsDigit(last) || strings.ContainsRune(`"')`, last) {
		text += "."
	}
	return text
}

// denyForeign answers a form that another site has sent in the visitor's name.
func (c *Console) denyForeign(w http.ResponseWriter, r *http.Request) {
	v, err := c.visit(w, r)
	if err == nil {
		err = c.config.Sessions.RefuseForeign(v.ctx(), v.by(), fault.New(fault.Unauthorized, "this form was sent from another site, or by a browser that does not say from where; open the page here and send it again"))
	}
	v.fail(err)
}

// write sends a page that is complete.
func (v *visit) write(status int, page *bytes.Buffer) {
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Add("Vary", "Cookie, Accept-Language, HX-Request")
	v.w.WriteHeader(status)
	v.w.Write(page.Bytes())
}
