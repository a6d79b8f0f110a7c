package acme

import (
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// quotaAccounts is how many accounts' limiters are remembered. Whoever has not ordered for long starts anew.
const quotaAccounts = 10_000

// quota limits how many orders an account makes, in this process. It is safe for concurrent use.
type quota struct {
	perMinute int // 0: no limit
	now       func() time.Time
	limiters  *lru.Cache[pki.AccountID, *rate.Limiter]
}

func newQuota(perMinute int, now func() time.Time) (*quota, error) {
	limiters, err := lru.New[pki.AccountID, *rate.Limiter](quotaAccounts)
	if err != nil {
		return nil, fmt.Errorf("quota: %w", err)
	}
	return &quota{perMinute: perMinute, now: now, limiters: limiters}, nil
}

// take counts one order, or says when the next one will be accepted: a request at that time passes. What it returns is
// called when the order failed, which then is not counted.
func (q *quota) take(id pki.AccountID) (refund func(), err error) {
	if q.perMinute <= 0 {
		return func() {}, nil
	}
	limiter := q.limiter(id)
	now := q.now()
	reservation := limiter.ReserveN(now, 1)
	if wait := reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
		refused := fault.New(fault.RateLimited, "account has made more than %d orders in a minute", q.perMinute)
		refused.RetryAfter = wait
		return nil, refused
	}
	// As of now, whenever it is called: later there would be nothing to give back.
	return func() { reservation.CancelAt(now) }, nil
}

func (q *quota) limiter(id pki.AccountID) *rate.Limiter {
	if known, ok := q.limiters.Get(id); ok {
		return known
	}
	fresh := rate.NewLimiter(rate.Limit(q.perMinute)/60, q.perMinute)
	if known, ok, _ := q.limiters.PeekOrAdd(id, fresh); ok {
		return known
	}
	return fresh
}
