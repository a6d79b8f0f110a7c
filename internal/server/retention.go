package server

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/retention"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	retentionEvery = time.Minute
	// retentionRate is how many records are deleted in a second: several times what a busy server issues, and little beside it.
	retentionRate = 2000
)

// newKeeper makes what deletes records of expired certificates.
func (p *Parts) newKeeper() (*retention.Keeper, error) {
	s := p.Settings
	return retention.New(retention.Config{
		Store: p.Store, Profiles: p.profiles, Now: p.Now,
		Certificates: time.Duration(s.Retention.Certificates), Identities: time.Duration(s.Retention.Identities),
		Floor:     max(time.Duration(s.ACME.OrderLifetime), time.Duration(s.Revocation.CRLLifetime)),
		PerSecond: retentionRate, Registerer: p.Registry, Logger: p.Logger, Replica: p.Replica,
	})
}

// keepRecords deletes what need not be kept any more, every minute.
func (p *Parts) keepRecords(ctx context.Context) error {
	ticker := time.NewTicker(retentionEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := p.Keeper.Run(ctx); err != nil && ctx.Err() == nil {
			p.Logger.WarnContext(ctx, "records of expired certificates not deleted", telemetry.KeyError, err)
		}
	}
}
