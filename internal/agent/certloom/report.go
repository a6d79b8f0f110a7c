package certloom

import (
	"context"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	// reportEvery is how often what runs is compared with what was told.
	reportEvery = 10 * time.Second
	// completeEvery is how often all of it is told again.
	completeEvery = time.Hour
)

// Report tells the server which ServiceAccounts have Pods, until ctx ends: all of them at first, then what has changed. What
// runs may answer with an error while it is not known.
func (i *Issuer) Report(ctx context.Context, running func() ([]string, error)) error {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	r := reporter{issuer: i}
	for {
		if accounts, err := running(); err == nil {
			if err := r.tell(ctx, accounts); status.Code(err) == codes.Unimplemented {
				i.config.Logger.InfoContext(ctx, "the server takes no reports of what runs")
				<-ctx.Done()
				return nil
			} else if err != nil && ctx.Err() == nil {
				i.config.Logger.DebugContext(ctx, "report of what runs not delivered", telemetry.KeyError, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// reporter remembers what the server knows.
type reporter struct {
	issuer *Issuer
	known  []string // sorted; nil: nothing that can be relied on
	whole  time.Time
}

func (r *reporter) tell(ctx context.Context, accounts []string) error {
	now := r.issuer.config.Now()
	request := &agentapi.ReportRequest{TrustDomain: r.issuer.config.TrustDomain, Running: accounts, Complete: true}
	if r.known != nil && now.Sub(r.whole) < completeEvery {
		request.Complete = false
		request.Running, request.Stopped = without(accounts, r.known), without(r.known, accounts)
		if len(request.GetRunning())+len(request.GetStopped()) == 0 {
			return nil
		}
	}
	link := r.issuer.link.Load()
	if link == nil {
		return errors.New("not enrolled yet")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := link.client.Report(ctx, request); err != nil {
		r.known = nil // nobody knows what of it has counted
		return err
	}
	if request.GetComplete() {
		r.whole = now
	}
	r.known = append([]string{}, accounts...)
	return nil
}

// without returns what is in the first of two sorted lists only.
func without(all, some []string) []string {
	var left []string
	for _, one := range all {
		if _, found := slices.BinarySearch(some, one); !found {
			left = append(left, one)
		}
	}
	return left
}
