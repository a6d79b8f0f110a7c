package certloom

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agent/issuer"
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
	var served []string // complete reports are about what is overdue: these are for the next one
	request := &agentapi.ReportRequest{TrustDomain: r.issuer.config.TrustDomain, Running: accounts, Complete: true}
	if r.known != nil && now.Sub(r.whole) < completeEvery {
		served = r.issuer.takeServed()
		request.Complete = false
		request.Running, request.Stopped = without(accounts, r.known), without(union(r.known, served), accounts)
		if len(request.GetRunning())+len(request.GetStopped()) == 0 {
			return nil
		}
	}
	link := r.issuer.link.Load()
	if link == nil {
		r.issuer.keepServed(served)
		return errors.New("not enrolled yet")
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := link.client.Report(ctx, request); err != nil {
		r.known = nil // nobody knows what of it has counted
		r.issuer.keepServed(served)
		return err
	}
	if request.GetComplete() {
		r.whole = now
	}
	r.known = append([]string{}, accounts...)
	return nil
}

// serve notes that a ServiceAccount got a certificate: its Pod may come and go between two reports.
func (i *Issuer) serve(caller *issuer.Caller) {
	if caller.Cluster != "" {
		return // of a remote cluster, which is not reported
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.served[caller.Namespace+"/"+caller.ServiceAccount] = true
}

// takeServed returns who got a certificate since it was last asked, sorted.
func (i *Issuer) takeServed() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	served := slices.Sorted(maps.Keys(i.served))
	clear(i.served)
	return served
}

// keepServed gives back what was taken, for the next report.
func (i *Issuer) keepServed(served []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, one := range served {
		i.served[one] = true
	}
}

// union returns what is in either of two lists, sorted.
func union(one, other []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(one, other))))
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
