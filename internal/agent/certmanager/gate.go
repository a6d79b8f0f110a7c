package certmanager

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// stall is how long cert-manager may leave all requests alone before it counts as gone. It approves one within
	// milliseconds, also when it has many to do.
	stall = 5 * time.Second
	// tolerated is how many requests in a row may be left undecided, with none decided for as long as drought, before whoever
	// signs counts as gone.
	tolerated = 3
	drought   = 10 * time.Second
	// patience is how long a caller must have waited to be a witness of that. Callers choose their deadlines.
	patience = 3 * time.Second
	// again is after how long the next caller may try, should the canary not tell.
	again = 30 * time.Second
)

// gate says whether there is any sense in making a request now. When requests are not decided, further callers are told at
// once. One request is left in place then, the canary: what becomes of it tells that the work goes on, without a caller.
type gate struct {
	now func() time.Time

	mu       sync.Mutex // guards the rest; held for assignments only
	failure  error      // why it was closed last, nil when it is open
	silent   bool       // it was closed because nobody touches requests
	until    time.Time  // when it lets callers try again
	canary   string     // name of the request that was left in place; "" for none
	progress time.Time  // cert-manager touched a request last
	decided  time.Time  // a request was decided last
	strikes  int        // undecided in a row
}

func newGate(now func() time.Time) *gate { return &gate{now: now} }

func (g *gate) closedBy() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failure != nil && g.now().Before(g.until) {
		return g.failure
	}
	return nil
}

// saw notes what was seen of a request: that somebody touched it, that it was decided, or that it is gone. It returns the
// name of a request that need not stay any longer, "" for none.
func (g *gate) saw(name string, touched, decided, gone bool) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if touched || decided {
		g.progress = now
	}
	if decided {
		g.decided, g.strikes = now, 0
	}
	canary := name == g.canary && name != ""
	if decided || gone && canary || touched && g.silent {
		return g.open()
	}
	return ""
}

// open opens the gate; g.mu is held.
func (g *gate) open() (canary string) {
	canary = g.canary
	g.failure, g.silent, g.canary = nil, false, ""
	return canary
}

// forget opens the gate, since another issuer is used now.
func (g *gate) forget() (canary string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.strikes = 0
	return g.open()
}

// untouched closes the gate, with the request as canary, when nobody has touched it or any other for too long. If not, it
// returns after how long that may be so.
func (g *gate) untouched(name string, since time.Time) (closed bool, wait time.Duration, release string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.progress.After(since) {
		since = g.progress
	}
	if wait := stall - g.now().Sub(since); wait > 0 {
		return false, wait, ""
	}
	release = g.close(name, fmt.Errorf("cert-manager has not touched a CertificateRequest for %s", stall))
	g.silent = true
	return true, 0, release
}

// undecided notes that a request was not decided while its caller waited. The gate closes, with the request as canary, when
// that happens again and again.
func (g *gate) undecided(name string, waited time.Duration) (closed bool, release string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if waited < patience || g.now().Sub(g.decided) < drought {
		return false, ""
	}
	if g.strikes++; g.strikes < tolerated && g.failure == nil {
		return false, ""
	}
	return true, g.close(name, errors.New("CertificateRequests are approved and not signed"))
}

// close closes the gate unless it is closed; g.mu is held. It returns the name of the canary before, which is not needed.
func (g *gate) close(name string, err error) (release string) {
	if g.failure != nil && g.now().Before(g.until) {
		return ""
	}
	release = g.canary
	g.failure, g.silent, g.canary, g.until = err, false, name, g.now().Add(again)
	return release
}

// isCanary reports whether a request must stay.
func (g *gate) isCanary(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return name == g.canary
}

// canaryName returns the request that must stay, "" for none.
func (g *gate) canaryName() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.canary
}
