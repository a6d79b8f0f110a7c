package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/alert"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/figures"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/notify"
	"github.com/certloom/certloom/internal/retention"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what a server is made of.
type Config struct {
	Settings *config.Config // required; checked
	Version  string
	Logger   *slog.Logger     // required
	Now      func() time.Time // required
	Random   io.Reader        // nil: crypto/rand.Reader
	Registry *prometheus.Registry
}

// Parts are the pieces below the listeners: storage, keys and everything that decides. `certloom init` uses them
// without serving.
type Parts struct {
	Config
	Store     *store.Store
	Vault     *keys.Vault
	Signers   *keys.Signers
	Catalog   *catalog.Catalog
	Issuer    *issue.Issuer
	Authority *issue.Authority
	Revoker   *revoke.Revoker
	Auth      *auth.Authenticator
	Figures   *figures.Keeper
	Keeper    *retention.Keeper
	Alerts    *alert.Evaluator
	Notifier  *notify.Notifier
	Replica   string
}

// dataMode keeps the data folder to the server's own user.
const dataMode = 0o700

// Open opens storage, unlocks the keys and reads the catalog. A database that was never initialized is refused
// unless create is set. Whoever calls it closes the Parts.
func Open(ctx context.Context, c Config, create bool) (*Parts, error) {
	if c.Settings == nil || c.Logger == nil || c.Now == nil {
		return nil, errors.New("server: Settings, Logger and Now are required")
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Registry == nil {
		c.Registry = telemetry.NewRegistry()
	}
	// Read before anything is created: a missing passphrase must not leave an empty database behind.
	secret, err := keys.ReadSecret(c.Settings.Keys.PassphraseFile, c.Settings.Keys.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	p := &Parts{Config: c, Replica: replica()}
	if p.Store, err = openStore(ctx, c, create); err != nil {
		return nil, err
	}
	if err := p.assemble(ctx, secret, create); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Close closes the database. It is called once, after everything that uses the Parts has ended.
func (p *Parts) Close() error {
	if err := p.Store.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// replica names this process in audit events.
func replica() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host
}

func openStore(ctx context.Context, c Config, create bool) (*store.Store, error) {
	s := c.Settings
	if s.Database.Driver == config.Postgres {
		dsn, err := os.ReadFile(s.Database.DSNFile)
		if err != nil {
			return nil, fmt.Errorf("database.dsnFile: %w", err)
		}
		opened, err := store.OpenPostgres(ctx, store.PostgresConfig{
			DSN: strings.TrimSpace(string(dsn)), Logger: c.Logger, Registerer: c.Registry, Now: c.Now, LapsingShare: s.Lifecycle.LapsingShare,
		})
		if err != nil {
			return nil, fmt.Errorf("open PostgreSQL (database.dsnFile %s): %w", s.Database.DSNFile, err)
		}
		return opened, nil
	}
	path := databaseFile(s)
	if !create {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, uninitialized(path)
		}
	}
	if err := os.MkdirAll(s.DataDir, dataMode); err != nil {
		return nil, fmt.Errorf("dataDir: %w", err)
	}
	opened, err := store.OpenSQLite(ctx, store.SQLiteConfig{Path: path, Logger: c.Logger, Registerer: c.Registry, Now: c.Now, LapsingShare: s.Lifecycle.LapsingShare})
	if err != nil {
		return nil, fmt.Errorf("open database %s: %w", path, err)
	}
	return opened, nil
}

// databaseFile is where SQLite keeps everything.
func databaseFile(settings *config.Config) string {
	return filepath.Join(settings.DataDir, "certloom.db")
}

func uninitialized(where string) error {
	return fault.New(fault.NotFound, "database %s was not initialized yet", where).
		WithHint("run: certloom init --config FILE")
}

// assemble makes the pieces, from the bottom up.
func (p *Parts) assemble(ctx context.Context, secret keys.Secret, create bool) error {
	var err error
	if p.Vault, err = p.unlock(ctx, secret, create); err != nil {
		return err
	}
	if p.Signers, err = keys.New(keys.Config{Vault: p.Vault, Load: p.Store.SealedKey}); err != nil {
		return fmt.Errorf("signers: %w", err)
	}
	p.Catalog, err = catalog.New(catalog.Config{
		Store: p.Store, Vault: p.Vault, Now: p.Now, Random: p.Random, Logger: p.Logger, Replica: p.Replica,
	})
	if err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if err := p.Catalog.Load(ctx); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	if p.Auth, err = auth.New(p.authConfig()); err != nil {
		return fmt.Errorf("auth: %w", err)
	}
	if p.Figures, err = figures.New(figures.Config{Store: p.Store, CAs: p.cas, Now: p.Now, Logger: p.Logger, Registerer: p.Registry}); err != nil {
		return fmt.Errorf("figures: %w", err)
	}
	if p.Keeper, err = p.newKeeper(); err != nil {
		return fmt.Errorf("retention: %w", err)
	}
	if err := p.assembleAlerts(); err != nil {
		return err
	}
	return p.assembleAuthority()
}

func (p *Parts) authConfig() auth.Config {
	s := &p.Settings.SignIn
	issuer := "Certloom"
	if u, err := url.Parse(p.Settings.PublicURL); err == nil && u.Hostname() != "" {
		issuer += " " + u.Hostname()
	}
	return auth.Config{
		Store: p.Store, Vault: p.Vault, Now: p.Now, Random: p.Random, Logger: p.Logger, Replica: p.Replica, Issuer: issuer,
		LoginLifetime: time.Duration(s.SessionLifetime), SessionIdle: time.Duration(s.SessionIdle), SecondFactor: s.SecondFactor == config.FactorRequired,
	}
}

// vaultSetting is where the vault's header lies: what is needed to check the secret, not the secret.
const vaultSetting = "vault"

// unlock opens the vault with the secret, or makes a new one.
func (p *Parts) unlock(ctx context.Context, secret keys.Secret, create bool) (*keys.Vault, error) {
	header, err := p.Store.Setting(ctx, vaultSetting)
	switch {
	case fault.Is(err, fault.NotFound) && create:
		if _, header, err = keys.Create(secret, p.Random); err != nil {
			return nil, fmt.Errorf("make vault: %w", err)
		}
		// Another replica may have been first; what is stored counts.
		if header, err = p.Store.PutSettingOnce(ctx, vaultSetting, header); err != nil {
			return nil, fmt.Errorf("store vault: %w", err)
		}
	case fault.Is(err, fault.NotFound):
		return nil, uninitialized(p.Settings.Database.Driver)
	case err != nil:
		return nil, fmt.Errorf("read vault: %w", err)
	}
	vault, err := keys.Open(secret, header)
	if err != nil {
		return nil, fmt.Errorf("unlock keys: %w", err)
	}
	return vault, nil
}

// assembleAuthority makes what signs.
func (p *Parts) assembleAuthority() error {
	var err error
	p.Issuer, err = issue.New(issue.Config{
		Store: p.Store, Signers: p.Signers, CA: p.Catalog.CA, Denied: p.Catalog.Denied,
		Now: p.Now, Random: p.Random, Registerer: p.Registry, Replica: p.Replica,
	})
	if err != nil {
		return fmt.Errorf("issuer: %w", err)
	}
	p.Authority, err = issue.NewAuthority(issue.AuthorityConfig{
		Store: p.Store, Vault: p.Vault, Signers: p.Signers, Now: p.Now, Random: p.Random, BaseURL: p.baseURL(), Replica: p.Replica,
	})
	if err != nil {
		return fmt.Errorf("authority: %w", err)
	}
	p.Revoker, err = revoke.New(revoke.Config{
		Store: p.Store, Signers: p.Signers, CA: p.Catalog.CA, CAs: p.cas,
		Now: p.Now, Random: p.Random, Registerer: p.Registry, Replica: p.Replica,
		CRLLifetime:  time.Duration(p.Settings.Revocation.CRLLifetime),
		OCSPLifetime: time.Duration(p.Settings.Revocation.OCSPLifetime),
		OCSPByCA:     p.Settings.Revocation.OCSPSigner == config.OCSPByCA,
	})
	if err != nil {
		return fmt.Errorf("revoker: %w", err)
	}
	return nil
}
