package issuer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/certloom/certloom/internal/fault"
)

const (
	// queueFactor is how many callers may wait for each request that can be under way.
	queueFactor = 16
	// longestQueued is how long a caller waits for its turn; what is left of its ten seconds is for the request.
	longestQueued = 5 * time.Second
)

// Queue bounds how much is asked of a CA at once, and how many wait. It is safe for concurrent use.
type Queue struct {
	ca      string // what the CA is called in messages
	turns   chan struct{}
	waiting atomic.Int64
}

// NewQueue returns a queue of which so many are under way at once. The name is for messages: "the ACME CA".
func NewQueue(ca string, concurrency int) *Queue {
	return &Queue{ca: ca, turns: make(chan struct{}, concurrency)}
}

// Enter waits for a turn; leave must be called at its end. It fails with fault.RateLimited at once when too many wait, and
// soon when the CA does not keep up.
func (q *Queue) Enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-q.turns }
	select {
	case q.turns <- struct{}{}:
		return leave, nil
	default:
	}
	most := int64(queueFactor * cap(q.turns))
	defer q.waiting.Add(-1)
	if q.waiting.Add(1) > most {
		return nil, fault.New(fault.RateLimited, "%d requests wait for %s already", most, q.ca)
	}
	timer := time.NewTimer(longestQueued)
	defer timer.Stop()
	select {
	case q.turns <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, fault.New(fault.RateLimited, "%s does not keep up: no turn within %s", q.ca, longestQueued)
	case <-ctx.Done():
		return nil, fault.Wrap(context.Cause(ctx), fault.RateLimited, "%s does not keep up: no turn in time", q.ca)
	}
}

// Waiting returns how many wait for their turn.
func (q *Queue) Waiting() int { return int(q.waiting.Load()) }

// InFlight returns how many have theirs.
func (q *Queue) InFlight() int { return len(q.turns) }
