// Package catalog owns what administrators configure - CAs, certificate profiles, EAB credentials, the deny list - as every request
// sees it: an immutable Snapshot in memory, kept current by polling one number in the database, and the changes of it,
// each of them checked, compared with what it replaces and written together with its audit event.
//
// It must never serve a view whose age it does not know: when the database cannot be asked, Current and Healthy fail, so
// that a credential revoked on another replica cannot go on working here. It trusts the store to bump the version in the
// transaction of each change, and the vault to keep the HMAC keys.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Reader reads what a Snapshot consists of. The version changes with every change of the rest.
type Reader interface {
	CatalogVersion(ctx context.Context) (int64, error)
	CAs(ctx context.Context) ([]pki.CA, error)
	Profiles(ctx context.Context) ([]pki.Profile, error)
	Credentials(ctx context.Context) ([]pki.Credential, error)
	Denials(ctx context.Context) ([]pki.Denial, error)
}

// ProfileWriter changes profiles, each method in one transaction with its event and a bump of the version. Update
// compares and swaps on p.Version and stores it increased by one; Conflict says that the profile has changed, that its
// name is taken, or what still refers to it.
type ProfileWriter interface {
	CreateProfile(ctx context.Context, p *pki.Profile, event audit.Event) error
	UpdateProfile(ctx context.Context, p *pki.Profile, event audit.Event) error
	DeleteProfile(ctx context.Context, id pki.ProfileID, event audit.Event) error
}

// CredentialWriter changes credentials in the same way.
type CredentialWriter interface {
	CreateCredential(ctx context.Context, c *pki.Credential, event audit.Event) error
	RevokeCredential(ctx context.Context, id pki.CredentialID, at time.Time, event audit.Event) error
}

// DenialWriter changes the deny list in the same way. An entry replaces the one for the same identity or Pod.
type DenialWriter interface {
	CreateDenial(ctx context.Context, d *pki.Denial, event audit.Event) error
	DeleteDenial(ctx context.Context, id pki.DenialID, event audit.Event) error
}

// CAWriter changes CAs in the same way; it compares and swaps on UpdatedAt.
type CAWriter interface {
	UpdateCA(ctx context.Context, ca *pki.CA, was time.Time, event audit.Event) error
}

// Store is durable when a method returns, safe for concurrent use, and answers *fault.Error of kind NotFound, Conflict
// or Unavailable where it can.
type Store interface {
	Reader
	ProfileWriter
	CredentialWriter
	DenialWriter
	CAWriter
}

// Vault encrypts HMAC keys at rest; purpose and id are authenticated with them.
type Vault interface {
	Seal(purpose, id string, plain []byte) ([]byte, error)
	Unseal(purpose, id string, sealed []byte) ([]byte, error)
}

// Config is what a Catalog needs.
type Config struct {
	Store   Store            // required
	Vault   Vault            // required
	Now     func() time.Time // required
	Random  io.Reader        // required; crypto/rand.Reader outside tests
	Logger  *slog.Logger     // nil: nothing is logged
	Refresh time.Duration    // how often the version is polled; 0: a second
	// MaxAge is how old the view may be before Current and Healthy refuse it; 0: ten times Refresh. Shorter than
	// Refresh is refused.
	MaxAge  time.Duration
	Replica string // name of this process in audit events; may be empty
}

const (
	defaultRefresh = time.Second
	// defaultAges is MaxAge in refreshes: a database that restarts is not an outage of the CA, and a revoked
	// credential still stops within seconds.
	defaultAges = 10
)

// Catalog is safe for concurrent use.
type Catalog struct {
	config  Config
	current atomic.Pointer[view]
	loading sync.Mutex // held while a snapshot is read and installed, so that an older one never replaces a newer one
}

// view is a snapshot and when it was last known to be current.
type view struct {
	snapshot *Snapshot
	version  int64
	at       time.Time
}

// New checks the configuration. The catalog is empty, and Current fails, until Load or Run has read it.
func New(config Config) (*Catalog, error) {
	if config.Store == nil || config.Vault == nil || config.Now == nil || config.Random == nil {
		return nil, errors.New("catalog: Store, Vault, Now and Random are required")
	}
	if config.Refresh == 0 {
		config.Refresh = defaultRefresh
	}
	if config.MaxAge == 0 {
		config.MaxAge = defaultAges * config.Refresh
	}
	if config.Refresh < 0 || config.MaxAge < config.Refresh {
		return nil, fmt.Errorf("catalog: Refresh %s is not between 0 and MaxAge %s", config.Refresh, config.MaxAge)
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	return &Catalog{config: config}, nil
}

// Run keeps the catalog current until ctx ends, which is its only end: a database that does not answer makes the
// catalog age, which Healthy reports, and is asked again.
func (c *Catalog) Run(ctx context.Context) error {
	ticker := time.NewTicker(c.config.Refresh)
	defer ticker.Stop()
	failing := false
	for {
		err := c.Poll(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			// Once for each outage: readiness and the age metric tell the rest.
			c.config.Logger.ErrorContext(ctx, "catalog cannot be refreshed", telemetry.KeyError, err)
		case err == nil && failing:
			c.config.Logger.InfoContext(ctx, "catalog is refreshed again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// bounded gives up a read in time for another one: a connection to a machine that is gone would hang for many minutes,
// with everybody else who waits to load, and long after the database is back.
func (c *Catalog) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.config.MaxAge/2)
}

// Poll asks for the version and loads the catalog if it has changed.
func (c *Catalog) Poll(ctx context.Context) error {
	c.loading.Lock()
	defer c.loading.Unlock()
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	at := c.config.Now()
	version, err := c.config.Store.CatalogVersion(ctx)
	if err != nil {
		return fmt.Errorf("read catalog version: %w", err)
	}
	if known := c.current.Load(); known != nil && known.version == version {
		c.current.Store(&view{snapshot: known.snapshot, version: version, at: at})
		return nil
	}
	return c.read(ctx, version, at)
}

// Load reads the catalog from the database now.
func (c *Catalog) Load(ctx context.Context) error {
	c.loading.Lock()
	defer c.loading.Unlock()
	ctx, cancel := c.bounded(ctx)
	defer cancel()
	at := c.config.Now()
	version, err := c.config.Store.CatalogVersion(ctx)
	if err != nil {
		return fmt.Errorf("read catalog version: %w", err)
	}
	return c.read(ctx, version, at)
}

// read reads everything and installs it. The version was read before, so that a change between the two reads is
// seen as a newer version at the next poll, never missed. The caller holds loading.
func (c *Catalog) read(ctx context.Context, version int64, at time.Time) error {
	cas, err := c.config.Store.CAs(ctx)
	if err != nil {
		return fmt.Errorf("read CAs: %w", err)
	}
	profiles, err := c.config.Store.Profiles(ctx)
	if err != nil {
		return fmt.Errorf("read profiles: %w", err)
	}
	credentials, err := c.config.Store.Credentials(ctx)
	if err != nil {
		return fmt.Errorf("read credentials: %w", err)
	}
	denied, err := c.config.Store.Denials(ctx)
	if err != nil {
		return fmt.Errorf("read deny list: %w", err)
	}
	c.current.Store(&view{snapshot: newSnapshot(cas, profiles, credentials, denied), version: version, at: at})
	return nil
}

// Snapshot returns the newest view, however old; it is empty before the first load. Use it to show things; decide with
// Current.
func (c *Catalog) Snapshot() *Snapshot {
	if known := c.current.Load(); known != nil {
		return known.snapshot
	}
	return newSnapshot(nil, nil, nil, nil)
}

// Current returns the view to decide with, or Unavailable when it is older than MaxAge.
func (c *Catalog) Current() (*Snapshot, error) {
	known := c.current.Load()
	if known == nil {
		return nil, fault.New(fault.Unavailable, "the configuration has not been read from the database yet")
	}
	if age := c.config.Now().Sub(known.at); age > c.config.MaxAge {
		return nil, fault.New(fault.Unavailable, "the configuration was last read %s ago, longer than %s: the database does not answer",
			age.Truncate(time.Second), c.config.MaxAge)
	}
	return known.snapshot, nil
}

// Healthy returns why the catalog cannot be relied upon now, or nil.
func (c *Catalog) Healthy() error {
	_, err := c.Current()
	return err
}

// Age is how long ago the view was known to be current; false before the first load.
func (c *Catalog) Age() (time.Duration, bool) {
	known := c.current.Load()
	if known == nil {
		return 0, false
	}
	return c.config.Now().Sub(known.at), true
}

// CA returns a CA of the newest view. It has the form that issue and revoke ask for.
func (c *Catalog) CA(id pki.CAID) (*pki.CA, bool) { return c.Snapshot().CA(id) }

// event returns the event of a change that is about to be made.
func (c *Catalog) event(by audit.By, action audit.Action, target string, detail audit.Detail) audit.Event {
	return audit.Event{
		Time:    c.config.Now().UTC(),
		Actor:   by.Actor,
		Action:  action,
		Target:  target,
		Client:  by.Client,
		Request: by.Request,
		Replica: c.config.Replica,
		Outcome: audit.Done,
		Detail:  detail,
	}
}

// fresh reads the catalog anew: a change is checked against what the database holds now, not against what it held
// a second ago.
func (c *Catalog) fresh(ctx context.Context) (*Snapshot, error) {
	if err := c.Load(ctx); err != nil {
		return nil, err
	}
	return c.Snapshot(), nil
}

// reload shows a change that has been made at once. It has been made, whatever happens here: a failure is logged, and
// the next poll tries again.
func (c *Catalog) reload(ctx context.Context) {
	if err := c.Load(ctx); err != nil {
		c.config.Logger.WarnContext(ctx, "catalog not reloaded after a change", telemetry.KeyError, err)
	}
}
