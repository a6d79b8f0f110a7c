// Package serving keeps the certificate that the agent shows to its own clients: obtained from the issuer, as theirs
// are, so that it leads to the roots that they trust, and renewed in time.
//
// It must never take a good certificate away: when a renewal fails, the old one stays, and it tries again in seconds.
package serving

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what a Certificate needs.
type Config struct {
	Source     issuer.Source
	Order      issuer.Order
	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Certificate is a certificate that is kept fresh while Run runs. Safe for concurrent use.
type Certificate struct {
	config  Config
	current atomic.Pointer[tls.Certificate]
}

// New checks the configuration and starts nothing.
func New(config Config) (*Certificate, error) {
	if config.Source == nil || config.Now == nil || config.Random == nil || config.Logger == nil || config.Registerer == nil {
		return nil, errors.New("serving certificate: Source, Now, Random, Logger or Registerer is missing")
	}
	if len(config.Order.DNS) == 0 {
		return nil, errors.New("serving certificate: no DNS name")
	}
	c := &Certificate{config: config}
	err := config.Registerer.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_serving_expiry_timestamp_seconds",
		Help: "When the certificate expires that the agent shows to workloads, in Unix time; 0 before there is one.",
	}, func() float64 {
		if current := c.current.Load(); current != nil {
			return float64(current.Leaf.NotAfter.Unix())
		}
		return 0
	}))
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return c, nil
}

const (
	obtainTimeout = 10 * time.Second
	firstRetry    = 200 * time.Millisecond
	longestRetry  = 10 * time.Second
)

// Run obtains and renews until ctx ends.
func (c *Certificate) Run(ctx context.Context) error {
	wait := firstRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		renewal, err := c.obtain(ctx)
		if err != nil {
			c.config.Logger.WarnContext(ctx, "serving certificate not obtained", telemetry.KeyError, err)
			timer.Reset(wait)
			wait = min(2*wait, longestRetry)
			continue
		}
		wait = firstRetry
		timer.Reset(renewal)
	}
}

// obtain gets a certificate and returns in how long to get the next: after half of its life, so that what goes wrong has
// as long again to be mended.
func (c *Certificate) obtain(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, obtainTimeout)
	defer cancel()
	asked := c.config.Now()
	got, _, err := issuer.Obtain(ctx, c.config.Source, c.config.Order, c.config.Random, c.config.Now)
	if err != nil {
		return 0, err
	}
	c.current.Store(got)
	renewal := got.Leaf.NotAfter.Sub(asked) / 2
	c.config.Logger.InfoContext(ctx, "serving certificate obtained", "names", c.config.Order.DNS,
		"not_after", got.Leaf.NotAfter, "renewal_in", renewal)
	return renewal, nil
}

// Get is for tls.Config.GetCertificate.
func (c *Certificate) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if current := c.current.Load(); current != nil {
		return current, nil
	}
	return nil, errors.New("the agent has no serving certificate yet")
}

// Ready returns nil while there is a certificate that clients accept.
func (c *Certificate) Ready() error {
	current := c.current.Load()
	switch {
	case current == nil:
		return errors.New("there is no serving certificate yet")
	case c.config.Now().After(current.Leaf.NotAfter):
		return fmt.Errorf("the serving certificate expired at %s", current.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}
