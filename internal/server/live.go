package server

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	liveEvery   = time.Minute
	forgetEvery = time.Hour
)

// live keeps the metric of certificates that have not expired, which tells when a CA or a root can go.
type live struct {
	parts *Parts
	gauge *prometheus.GaugeVec
}

func newLive(p *Parts) (*live, error) {
	l := &live{parts: p, gauge: prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "certloom_certificates_live",
		Help: "Certificates that have not expired, by the CA that signed them and the root above it (outside: one that is not ours), counted every minute.",
	}, []string{"ca", "root"})}
	if err := p.Registry.Register(l.gauge); err != nil {
		return nil, fmt.Errorf("register metrics of certificates: %w", err)
	}
	return l, nil
}

// Run counts every minute until ctx ends, and removes what is not counted any more.
func (l *live) Run(ctx context.Context) error {
	ticker := time.NewTicker(liveEvery)
	defer ticker.Stop()
	var forgot time.Time
	for {
		now := l.parts.Now()
		forget := now.Sub(forgot) >= forgetEvery
		if err := l.count(ctx, now, forget); err != nil && ctx.Err() == nil {
			l.parts.Logger.WarnContext(ctx, "live certificates not counted", telemetry.KeyError, err)
		} else if forget {
			forgot = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (l *live) count(ctx context.Context, now time.Time, forget bool) error {
	if forget {
		if err := l.parts.Store.ForgetCounts(ctx, now); err != nil {
			return err
		}
	}
	snapshot := l.parts.Catalog.Snapshot()
	for _, ca := range snapshot.CAs() {
		if ca.Kind != pki.IssuingCA || ca.Certificate == nil {
			continue // it has signed none
		}
		n, err := l.parts.Store.LiveCertificates(ctx, ca.ID, now)
		if err != nil {
			return err
		}
		l.gauge.WithLabelValues(ca.Name, rootOf(snapshot, ca)).Set(float64(n))
		if !forget {
			continue
		}
		if err := l.parts.Store.ForgetExpired(ctx, ca.ID, now); err != nil {
			return err
		}
	}
	return nil
}

// rootOf names the root above an issuing CA.
func rootOf(snapshot *catalog.Snapshot, ca *pki.CA) string {
	if len(ca.Chain) > 0 {
		for _, root := range snapshot.CAs() {
			if bytes.Equal(root.Certificate, ca.Chain[len(ca.Chain)-1]) {
				return root.Name
			}
		}
	}
	return "outside"
}
