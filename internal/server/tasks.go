package server

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// nonceSweep is how often used nonces that have expired are removed from the database.
const nonceSweep = 10 * time.Minute

// cleanNonces removes used nonces that have expired. There are none outside PostgreSQL.
func (p *Parts) cleanNonces(ctx context.Context) error {
	if p.Settings.Database.Driver != config.Postgres {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(nonceSweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := p.Store.DeleteExpiredNonces(ctx, p.Now()); err != nil && ctx.Err() == nil {
			p.Logger.WarnContext(ctx, "used nonces not removed", telemetry.KeyError, err)
		}
	}
}

// indexSweep is how often identities are looked for that an older replica has stored without words to find them by.
const indexSweep = 10 * time.Minute

// indexIdentities makes the words of identities that were stored by a version that made none.
func (p *Parts) indexIdentities(ctx context.Context) error {
	ticker := time.NewTicker(indexSweep)
	defer ticker.Stop()
	for {
		n, err := p.Store.IndexIdentities(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			p.Logger.WarnContext(ctx, "identities not indexed for searches", telemetry.KeyError, err)
		case n > 0:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// canIssue reports whether a CA may sign leaves now.
func canIssue(ca *pki.CA) bool {
	return ca.Kind == pki.IssuingCA && ca.State == pki.Active && ca.Certificate != nil
}

// expiry is the metric of when CAs expire, read from the catalog at each scrape.
type expiry struct {
	snapshot func() *catalog.Snapshot
	desc     *prometheus.Desc
}

func registerExpiry(registry *prometheus.Registry, snapshot func() *catalog.Snapshot) error {
	collector := &expiry{snapshot: snapshot, desc: prometheus.NewDesc(
		"certloom_ca_expiry_timestamp_seconds", "When the certificate of a CA expires, in Unix time.", []string{"ca", "kind"}, nil,
	)}
	if err := registry.Register(collector); err != nil {
		return fmt.Errorf("register metrics of CAs: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (e *expiry) Describe(ch chan<- *prometheus.Desc) { ch <- e.desc }

// Collect implements prometheus.Collector.
func (e *expiry) Collect(ch chan<- prometheus.Metric) {
	for _, ca := range e.snapshot().CAs() {
		certificate, err := x509.ParseCertificate(ca.Certificate)
		if err != nil {
			continue // it has none yet
		}
		ch <- prometheus.MustNewConstMetric(e.desc, prometheus.GaugeValue, float64(certificate.NotAfter.Unix()), ca.Name, string(ca.Kind))
	}
}
