package server

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/telemetry"
)

// onceSweep is how often requests with keys are forgotten that have expired.
const onceSweep = 10 * time.Minute

// cleanOnce removes the answers that are not repeated any more.
func (p *Parts) cleanOnce(ctx context.Context) error {
	ticker := time.NewTicker(onceSweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if _, err := p.Store.DeleteExpiredOnce(ctx, p.Now()); err != nil && ctx.Err() == nil {
			p.Logger.WarnContext(ctx, "answers of requests with keys not removed", telemetry.KeyError, err)
		}
	}
}
