package acme

import (
	"errors"
	"sync"
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

// open opens the gate, and reports whether it was closed.
func (g *gate) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.broken: // of the session before
	default:
	}
	if g.failure == nil {
		return false
	}
	g.failure, g.strikes = nil, tolerated-1
	return true
}

// paused reports whether the CA wants to be left alone.
func (g *gate) paused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now().Before(g.until)
}
