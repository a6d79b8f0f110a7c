package acme

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certloom/certloom/internal/fault"
)

const (
	// tolerated is how many requests in a row may fail before the CA counts as gone; then nobody waits for it any more.
	tolerated = 3
	// longestPause bounds what a Retry-After can do: the CA may come back earlier than it thought.
	longestPause = 30 * time.Second
)

// gate says whether there is any sense in asking the CA now. It closes when the CA does not answer or refuses the account,
// and opens again when a session has been made: then one failure is enough to close it, until something has worked.
type gate struct {
	now func() time.Time
	// broken has room for one word: that the gate closed.
	broken chan struct{}

	mu      sync.Mutex // guards the rest; held for assignments only
	failure error      // why it is closed, nil when it is open
	strikes int        // failures in a row
	until   time.Time  // the CA asked for quiet until then
}

func newGate(now func() time.Time) *gate {
	return &gate{now: now, broken: make(chan struct{}, 1), failure: errors.New("not asked yet")}
}

// admits returns nil when the CA can be asked now, and else at once what to tell the caller.
func (g *gate) admits() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure != nil {
		return fault.Wrap(g.failure, fault.Unavailable, "the ACME CA cannot be used now")
	}
	if wait := g.until.Sub(g.now()); wait > 0 {
		e := fault.New(fault.RateLimited, "the ACME CA is overloaded and wants to be asked again in %s", wait.Round(time.Second))
		e.RetryAfter = wait
		return e
	}
	return nil
}

func (g *gate) closedBy() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.failure
}

// worked notes that the CA has answered.
func (g *gate) worked() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strikes = 0
}

// strike notes that the CA has not answered, or not with sense. The gate closes when that happens again and again.
func (g *gate) strike(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.strikes++; g.strikes < tolerated || g.failure != nil {
		return
	}
	g.failure = err
	select {
	case g.broken <- struct{}{}:
	default: // said already
	}
}

// pause notes that the CA wants to be left alone.
func (g *gate) pause(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strikes = 0
	g.until = g.now().Add(min(d, longestPause))
}

// close closes the gate for a reason that only a new session can take away.
func (g *gate) close(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.failure = err
}

// open opens the gate.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.broken: // of the session before
	default:
	}
	if g.failure != nil {
		g.failure, g.strikes = nil, tolerated-1
	}
}

// paused reports whether the CA wants to be left alone.
func (g *gate) paused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now().Before(g.until)
}

const (
	// queueFactor is how many callers may wait for each order that can be under way.
	queueFactor = 16
	// longestQueued is how long a caller waits for its turn; what is left of its ten seconds is for the order.
	longestQueued = 5 * time.Second
)

// queue bounds how much is asked of the CA at once, and how many wait.
type queue struct {
	turns   chan struct{}
	waiting atomic.Int64
}

func newQueue(concurrency int) *queue { return &queue{turns: make(chan struct{}, concurrency)} }

// enter waits for a turn; leave must be called at its end. It fails at once when too many wait, and soon when the CA does not
// keep up.
func (q *queue) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-q.turns }
	select {
	case q.turns <- struct{}{}:
		return leave, nil
	default:
	}
	most := int64(queueFactor * cap(q.turns))
	defer q.waiting.Add(-1)
	if q.waiting.Add(1) > most {
		return nil, fault.New(fault.RateLimited, "%d requests wait for the ACME CA already", most)
	}
	timer := time.NewTimer(longestQueued)
	defer timer.Stop()
	select {
	case q.turns <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, fault.New(fault.RateLimited, "the ACME CA does not keep up: no turn within %s", longestQueued)
	case <-ctx.Done():
		return nil, fault.Wrap(context.Cause(ctx), fault.RateLimited, "the ACME CA does not keep up: no turn in time")
	}
}
