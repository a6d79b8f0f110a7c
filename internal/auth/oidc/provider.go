package oidc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"

	"github.com/certloom/certloom/internal/fault"
)

// Sealer makes what a browser keeps unreadable and unchangeable. It is safe for concurrent use.
type Sealer interface {
	Seal(kind string, aad, plain []byte) string
	Open(kind string, aad []byte, token string) ([]byte, error)
}

// Config is what a Provider needs.
type Config struct {
	Issuer       string           // URL, exactly as the provider calls itself; required
	ClientID     string           // required
	ClientSecret string           // required
	RedirectURL  string           // where the provider sends people back to; required
	Scopes       []string         // asked for beside openid
	GroupsClaim  string           // claim with a person's groups; "": groups
	NameClaim    string           // claim with the name that a person is shown under; "": preferred_username
	Rules        []Rule           // which groups have which role; at least one
	HTTP         *http.Client     // to reach the provider, with timeouts and bounds: NewClient; required
	Seal         Sealer           // required
	Now          func() time.Time // required
	Random       io.Reader        // required; crypto/rand.Reader outside tests
}

// Times and bounds of a sign-in.
const (
	// signInTime is how long a person may take at the provider.
	signInTime = 10 * time.Minute
	// providerTime bounds everything that is asked of the provider for one sign-in.
	providerTime = 15 * time.Second
	// rediscover is how long the provider's endpoints are taken for what they were.
	rediscover = time.Hour
	// retryAfter is how long nobody asks again after the provider was silent, so that people do not wait for each other.
	retryAfter = 3 * time.Second
	// maxFinishing is how many sign-ins ask the provider at once: anybody can come with a code that is none.
	maxFinishing = 16
)

// Provider signs people in. It is safe for concurrent use. Nothing is asked of the provider before somebody wants to sign
// in, so a provider that is down stops neither the start nor other ways to sign in.
type Provider struct {
	config    Config
	aad       []byte // binds what is sealed to this provider and client
	finishing chan struct{}
	asking    singleflight.Group

	mu     sync.Mutex // guards what follows; nothing is waited for with it held
	known  *endpoints
	silent error     // of the last attempt to reach the provider
	since  time.Time // of silent
}

// endpoints are what the provider says of itself.
type endpoints struct {
	provider *oidc.Provider
	verifier *oidc.IDTokenVerifier
	oauth    oauth2.Config
	namesIss bool // the provider's answers name it (RFC 9207 section 3)
	at       time.Time
}

// New checks the configuration. It does not ask the provider anything.
func New(config Config) (*Provider, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.GroupsClaim == "" {
		config.GroupsClaim = DefaultGroupsClaim
	}
	if config.NameClaim == "" {
		config.NameClaim = DefaultNameClaim
	}
	return &Provider{
		config: config, aad: []byte(config.Issuer + "\x00" + config.ClientID), finishing: make(chan struct{}, maxFinishing),
	}, nil
}

func (c *Config) check() error {
	switch {
	case c.Issuer == "" || c.ClientID == "" || c.ClientSecret == "" || c.RedirectURL == "":
		return errors.New("oidc: Issuer, ClientID, ClientSecret and RedirectURL are required")
	case c.HTTP == nil || c.Seal == nil || c.Now == nil || c.Random == nil:
		return errors.New("oidc: HTTP, Seal, Now and Random are required")
	case len(c.Rules) == 0:
		return errors.New("oidc: without a rule nobody could sign in")
	}
	for _, address := range []string{c.Issuer, c.RedirectURL} {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			return fmt.Errorf("oidc: %q is not an https URL", address)
		}
	}
	return checkRules(c.Rules)
}

// discover returns the provider's endpoints, asking for them when they are not known or old. Unavailable when they cannot
// be had; old ones are used for as long as new ones cannot.
func (p *Provider) discover(ctx context.Context) (*endpoints, error) {
	now := p.config.Now()
	p.mu.Lock()
	known, silent, since := p.known, p.silent, p.since
	p.mu.Unlock()
	if known != nil && now.Sub(known.at) < rediscover {
		return known, nil
	}
	if silent != nil && now.Sub(since) < retryAfter {
		if known != nil {
			return known, nil
		}
		return nil, p.unreachable(silent)
	}
	asked := p.asking.DoChan("", func() (any, error) {
		// Others wait for the answer as well: it must not end with the first one's request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), providerTime)
		defer cancel()
		found, err := p.ask(ctx, now)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.silent, p.since = err, now; err == nil {
			p.known = found
		}
		return p.known, err
	})
	select {
	case <-ctx.Done():
		return nil, p.unreachable(ctx.Err())
	case answer := <-asked:
		if found, ok := answer.Val.(*endpoints); ok && found != nil {
			return found, nil
		}
		return nil, p.unreachable(answer.Err)
	}
}

// ask reads the provider's metadata (OpenID Connect Discovery 1.0 section 4).
func (p *Provider) ask(ctx context.Context, now time.Time) (*endpoints, error) {
	ctx = oidc.ClientContext(ctx, p.config.HTTP)
	provider, err := oidc.NewProvider(ctx, p.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("read the provider's metadata: %w", err)
	}
	var metadata struct {
		NamesIss bool     `json:"authorization_response_iss_parameter_supported"`
		Methods  []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, fmt.Errorf("read the provider's metadata: %w", err)
	}
	endpoint := provider.Endpoint()
	for _, address := range []string{endpoint.AuthURL, endpoint.TokenURL} {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("the provider's metadata has the endpoint %.100q, which is not an https URL", address)
		}
	}
	// Left to find out, the library would send a code twice. The default is Discovery 1.0 section 3's.
	endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if len(metadata.Methods) > 0 && !slices.Contains(metadata.Methods, "client_secret_basic") {
		endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	scopes := []string{oidc.ScopeOpenID}
	for _, scope := range p.config.Scopes {
		if !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	return &endpoints{
		provider: provider, namesIss: metadata.NamesIss, at: now,
		verifier: provider.Verifier(&oidc.Config{ClientID: p.config.ClientID, Now: p.config.Now}),
		oauth: oauth2.Config{
			ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Endpoint: endpoint,
			RedirectURL: p.config.RedirectURL, Scopes: scopes,
		},
	}, nil
}

func (p *Provider) unreachable(cause error) error {
	err := fault.Wrap(cause, fault.Unavailable, "the identity provider %s cannot be reached, or is not what the settings say; try again in a moment", p.config.Issuer).
		WithHint("the server's log says why; signIn.oidc.issuer and signIn.oidc.caFile in the settings must fit the provider")
	err.RetryAfter = retryAfter
	return err
}
