// Package acmeclient is a small ACME client (RFC 8555, RFC 9773): what workloads that we simulate, the load generator
// and our own agents get certificates with.
//
// It owns the client's half of the protocol and nothing else: keys and CSRs come from the caller, and files, renewal
// timing and the choice of challenge solvers are the caller's. It must never put a private or an HMAC key into a request, an
// error or a log. It trusts the CA that it was pointed to for certificates, not for memory: answers are bounded.
package acmeclient

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what New needs.
type Config struct {
	DirectoryURL string // must be https, as RFC 8555 section 6.1 demands
	// HTTPClient sends the requests; it holds the roots that are trusted and the timeout of a request. For many requests
	// at once its transport should keep as many idle connections.
	HTTPClient *http.Client
	// Key is the account key: ECDSA P-256 or P-384, RSA, or Ed25519.
	Key       crypto.Signer
	Random    io.Reader     // for signatures; safe for concurrent use, as crypto/rand.Reader is
	UserAgent string        // optional
	Poll      time.Duration // between looks at something that is not done yet, when the CA does not say; default 500 ms
	// Retries is how often a request is sent again after a bad nonce (at least 8 times, whatever is said here), a server
	// that is busy or restarts, or a broken connection; default 8. Waits between them grow to 5 s, or are what the CA says, up to MaxWait.
	Retries int
	MaxWait time.Duration // longest Retry-After that is waited for; default 1 minute
}

// Client speaks to one ACME CA for one account. It is safe for concurrent use, but for ChangeKey at the same time as
// other requests: those may be refused.
type Client struct {
	config  Config
	account atomic.Pointer[identity]
	nonces  pool

	mu        sync.Mutex // guards directory; held while it is fetched, so that it is fetched once
	directory *Directory
}

// Directory is the CA's directory (RFC 8555 section 7.1.1).
type Directory struct {
	NewNonce    string `json:"newNonce"`
	NewAccount  string `json:"newAccount"`
	NewOrder    string `json:"newOrder"`
	RevokeCert  string `json:"revokeCert"`
	KeyChange   string `json:"keyChange"`
	RenewalInfo string `json:"renewalInfo"` // "" when the CA has none
	Meta        struct {
		TermsOfService          string            `json:"termsOfService"`
		Website                 string            `json:"website"`
		CAAIdentities           []string          `json:"caaIdentities"`
		ExternalAccountRequired bool              `json:"externalAccountRequired"`
		Profiles                map[string]string `json:"profiles"`
	} `json:"meta"`
}

// New checks the configuration and starts nothing; the directory is fetched with the first request.
func New(c Config) (*Client, error) {
	if c.HTTPClient == nil || c.Key == nil || c.Random == nil {
		return nil, errors.New("acmeclient: HTTPClient, Key and Random must be set")
	}
	u, err := url.Parse(c.DirectoryURL)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("acmeclient: directory URL %q is not an https URL", c.DirectoryURL)
	}
	if c.Poll <= 0 {
		c.Poll = 500 * time.Millisecond
	}
	if c.Retries <= 0 {
		c.Retries = 8
	}
	if c.MaxWait <= 0 {
		c.MaxWait = time.Minute
	}
	client := &Client{config: c}
	id, err := newIdentity(c.Key, "")
	if err != nil {
		return nil, err
	}
	client.account.Store(id)
	return client, nil
}

// AccountURL returns the URL of the account, "" before Register.
func (c *Client) AccountURL() string { return c.account.Load().kid }

// Thumbprint returns the RFC 7638 thumbprint of the account key.
func (c *Client) Thumbprint() string { return c.account.Load().thumbprint }

// UseAccount makes the client use an account that was registered before, without asking the CA for it.
func (c *Client) UseAccount(accountURL string) error {
	id, err := newIdentity(c.account.Load().signer, accountURL)
	if err != nil {
		return err
	}
	c.account.Store(id)
	return nil
}

// Directory returns the CA's directory, which is fetched once.
func (c *Client) Directory(ctx context.Context) (*Directory, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.directory != nil {
		return c.directory, nil
	}
	answer, err := c.get(ctx, c.config.DirectoryURL)
	if err != nil {
		return nil, fmt.Errorf("fetch the ACME directory: %w", err)
	}
	var directory Directory
	if err := json.Unmarshal(answer.body, &directory); err != nil {
		return nil, fmt.Errorf("read the ACME directory: %w", err)
	}
	if directory.NewNonce == "" || directory.NewAccount == "" || directory.NewOrder == "" {
		return nil, fmt.Errorf("ACME directory %s lacks newNonce, newAccount or newOrder", c.config.DirectoryURL)
	}
	c.directory = &directory
	return c.directory, nil
}
