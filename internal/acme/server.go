package acme

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what a server needs. Everything without a stated default must be given.
type Config struct {
	BaseURL    string // https, host and port, without a slash at the end; all URLs are made of it, none of a request
	Replica    string // name of this process in audit events; may be empty
	Catalog    Catalog
	Store      Store
	Issuer     Issuer
	Revoker    Revoker
	Nonces     Nonces
	Ring       Ring // seals orders; shared by all replicas
	Validator  Validator
	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Options    Options
}

// Options are choices of the operator. The zero value of each means its default.
type Options struct {
	TermsOfService     string   // URL of terms that clients must agree to; none
	Website            string   // URL shown in the directory; none
	CAAIdentities      []string // domain names shown in the directory; none
	StrictFinalize     bool     // a repeated finalize is refused with orderNotReady (RFC 8555 section 7.4)
	LenientCSRPadding  bool     // a CSR may be padded base64url
	NonceRejectPercent int      // part of the good nonces that is refused, to test clients; 0 to 90

	OrderLifetime     time.Duration // how long an order may be finalized; 24h
	OrdersPerMinute   int           // of an account, under profiles that validate by challenge; no limit
	MaxFinalizes      int           // that run at once; 128
	AdmissionWait     time.Duration // how long one more waits for a place before it gets 503; 3s
	MaxValidations    int           // that run at once; 256
	ValidationTimeout time.Duration // of one challenge; 20s
	ValidationWait    time.Duration // how long an answer waits for the validation that it started; 1s
	RequestTimeout    time.Duration // of one request; 30s
}

// Server is the ACME server. It is safe for concurrent use.
type Server struct {
	Config

	metrics      *metrics
	accounts     *accounts
	certificates *certificates
	quota        *quota
	admission    *admission
	detached     *detached
	lastTouch    *touches
	refusals     *audit.Limiter // which ones are recorded
	serial       atomic.Uint64  // of requests
	boot         string         // random part of request identifiers
}

// New checks the configuration and returns a server that is ready to serve. Validations that outlive their request
// need Run.
func New(c Config) (*Server, error) {
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	c.Options = c.Options.withDefaults()
	boot := make([]byte, 6)
	if _, err := io.ReadFull(c.Random, boot); err != nil {
		return nil, fmt.Errorf("acme: read randomness: %w", err)
	}
	metrics, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, fmt.Errorf("acme: register metrics: %w", err)
	}
	accounts, err := newAccounts(c.Store, c.Now)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	certificates, err := newCertificates(c.Store)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	refusals, err := audit.NewLimiter()
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	quota, err := newQuota(c.Options.OrdersPerMinute, c.Now)
	if err != nil {
		return nil, fmt.Errorf("acme: %w", err)
	}
	s := &Server{
		Config:       c,
		metrics:      metrics,
		accounts:     accounts,
		certificates: certificates,
		quota:        quota,
		admission:    newAdmission(c.Options.MaxFinalizes, c.Options.AdmissionWait),
		lastTouch:    newTouches(),
		refusals:     refusals,
		boot:         fmt.Sprintf("%x", boot),
	}
	s.detached = newDetached(c.Options.MaxValidations, s.logPanic)
	return s, nil
}

func (c *Config) check() error {
	var errs []error
	for name, missing := range map[string]bool{
		"Catalog": c.Catalog == nil, "Store": c.Store == nil, "Issuer": c.Issuer == nil, "Revoker": c.Revoker == nil,
		"Nonces": c.Nonces == nil, "Ring": c.Ring == nil, "Validator": c.Validator == nil, "Now": c.Now == nil,
		"Random": c.Random == nil, "Logger": c.Logger == nil, "Registerer": c.Registerer == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("%s is missing", name))
		}
	}
	if base, err := url.Parse(c.BaseURL); err != nil || base.Scheme != "https" || base.Host == "" ||
		c.BaseURL != "https://"+base.Host || strings.ToLower(base.Host) != base.Host {
		errs = append(errs, fmt.Errorf("BaseURL %q is not of the form https://host or https://host:port in lower case", c.BaseURL))
	}
	if p := c.Options.NonceRejectPercent; p < 0 || p > 90 {
		errs = append(errs, fmt.Errorf("NonceRejectPercent %d is not within 0 and 90", p))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	orDefault(&o.OrderLifetime, 24*time.Hour)
	orDefault(&o.MaxFinalizes, 128)
	orDefault(&o.AdmissionWait, 3*time.Second)
	orDefault(&o.MaxValidations, 256)
	orDefault(&o.ValidationTimeout, 20*time.Second)
	orDefault(&o.ValidationWait, time.Second)
	orDefault(&o.RequestTimeout, 30*time.Second)
	return o
}

func orDefault[T int | time.Duration](value *T, fallback T) {
	if *value <= 0 {
		*value = fallback
	}
}

// Run owns the work that outlives a request: validations, and the removal of orders that expired without a
// certificate. It blocks until ctx ends and then until what it owns has ended.
func (s *Server) Run(ctx context.Context) error {
	var tasks errgroup.Group
	tasks.Go(func() error { return s.sweep(ctx) })
	<-ctx.Done()
	s.detached.drain()
	return tasks.Wait()
}

// Sweeping: how often, how many orders at a time, and how long an expired order can still be read.
const (
	sweepInterval = time.Minute
	sweepBatch    = 500
	sweepAfter    = 24 * time.Hour
)

// sweep removes expired orders that led to no certificate. A failure is logged and tried again at the next tick.
func (s *Server) sweep(ctx context.Context) error {
	ticker := time.NewTicker(sweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.sweepAll(ctx); err != nil {
			s.Logger.WarnContext(ctx, "expired orders not removed", telemetry.KeyError, err)
		}
	}
}

// sweepAll removes what there is to remove, some of it at a time.
func (s *Server) sweepAll(ctx context.Context) error {
	for {
		n, err := s.Store.DeleteExpiredOrders(ctx, s.Now().Add(-sweepAfter), sweepBatch)
		if err != nil || n == 0 {
			return err
		}
	}
}

// Handler returns the handler of everything under /acme/.
func (s *Server) Handler() http.Handler { return s.routes() }

// newID returns a fresh identifier of a record.
func newID[T ~string](s *Server, now time.Time) (T, error) { return pki.NewID[T](now, s.Random) }
