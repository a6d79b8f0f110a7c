package console

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/gzhttp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

//go:embed templates static texts
var files embed.FS

// Sessions lets people in. It is safe for concurrent use.
type Sessions interface {
	// SignIn exchanges a password for the secret of a session. auth.Ticket tells of its error that a code is needed as well.
	SignIn(ctx context.Context, name, password, code string, by audit.By) (secret string, session *pki.Session, err error)
	// SignInWithTicket exchanges what a password was exchanged for (auth.Ticket), and a code.
	SignInWithTicket(ctx context.Context, ticket, code string, by audit.By) (secret string, session *pki.Session, err error)
	// Session returns whose session it is, now. Unauthenticated for one that is unknown, ended or expired.
	Session(ctx context.Context, secret string) (*auth.Principal, error)
	// EndSession ends a user's session.
	EndSession(ctx context.Context, id pki.SessionID, user string, by audit.By) error
	// RefuseForeign records that a form came from another site, and returns the refusal.
	RefuseForeign(ctx context.Context, by audit.By, refused *fault.Error) error
}

// Config is what a Console needs.
type Config struct {
	BaseURL      string           // the server's public URL, without a slash at its end; required
	Version      string           // of the product
	API          http.Handler     // the REST API; it takes the principal from the context; required
	Sessions     Sessions         // required
	SingleSignOn SingleSignOn     // nil: there is no identity provider
	CAs          func() []*pki.CA // whose certificates the public start page offers; required
	Now          func() time.Time // required
	Random       io.Reader        // required; of the keys that make forms safe to send twice
	Logger       *slog.Logger     // nil: nothing is logged
	// Client says where a request came from; nil: the connection's peer.
	Client func(*http.Request) pki.Client
}

// Console is safe for concurrent use.
type Console struct {
	config Config
	pages  map[string]map[string]*page // by language and name
	assets *assets
	texts  map[string]catalogue // by language
}

// New checks the configuration, the templates and the texts.
func New(config Config) (*Console, error) {
	switch {
	case config.BaseURL == "" || config.CAs == nil || config.Now == nil || config.Random == nil:
		return nil, errors.New("console: BaseURL, CAs, Now and Random are required")
	case config.API == nil || config.Sessions == nil:
		return nil, errors.New("console: API and Sessions are required")
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Console{config: config}
	var err error
	if c.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if c.texts, err = loadTexts(); err != nil {
		return nil, err
	}
	if c.pages, err = c.loadPages(); err != nil {
		return nil, err
	}
	return c, nil
}

// route is one page, or one thing that is done from a page.
type route struct {
	pattern string
	access  auth.Access // that the page is of no use without; "": everybody, also without a session
	handle  func(*visit) error
}

// routes lists everything that the console serves, in the order of the navigation. Each area of pages lists its own, in
// the file of its first page.
func (c *Console) routes() []route {
	return slices.Concat(
		c.doorRoutes(),
		c.singleSignOnRoutes(),
		c.dashboardRoutes(),
		c.inventoryRoutes(),
		c.viewRoutes(),
		c.policyRoutes(),
		c.authorityRoutes(),
		c.integrationRoutes(),
		c.auditRoutes(),
		c.settingRoutes(),
		c.factorRoutes(),
	)
}

// doorRoutes are the pages for everybody, and the way in and out.
func (c *Console) doorRoutes() []route {
	return []route{
		{"GET /start", "", c.start},
		{"GET /sign-in", "", c.signInForm},
		{"POST /sign-in", "", c.signIn},
		{"POST /sign-out", auth.Self, c.signOut},
		{"POST /preferences", "", c.preferences},
	}
}

// Register adds the console's routes.
func (c *Console) Register(mux *http.ServeMux) error {
	compress, err := gzhttp.NewWrapper(gzhttp.MinSize(1024), gzhttp.RandomJitter(32, 0, false))
	if err != nil {
		return fmt.Errorf("compress pages: %w", err)
	}
	foreign := http.NewCrossOriginProtection()
	foreign.SetDenyHandler(http.HandlerFunc(c.denyForeign))
	for _, r := range c.routes() {
		handler := foreign.Handler(c.handle(r))
		mux.Handle(r.pattern, secure(compress(handler)))
	}
	mux.Handle("GET /static/{file...}", secure(c.assets))
	mux.Handle("/", secure(compress(c.handle(route{handle: func(*visit) error {
		return fault.New(fault.NotFound, "there is no page at this address")
	}}))))
	return nil
}

// secure sets the headers of every page: nothing from elsewhere, nothing inline, no frames. Images in the stylesheet
// are data: addresses.
func secure(next http.Handler) http.Handler {
	policy := strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' data:", "connect-src 'self'",
		"form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'",
	}, "; ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}
