package audit

import (
	"fmt"
	"net/netip"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// How many refusals are recorded. Whoever is refused again and again must not fill the database, nor keep the refusals
// of others out of it: each source has its own share, and all together a bound that many sources reach only at once.
const (
	sourcePerSecond = 2
	sourceAtOnce    = 100
	allPerSecond    = 50
	allAtOnce       = 1000
	limitSources    = 4096 // remembered; a source that was forgotten begins anew
)

// Limiter says which refusals are recorded. It is safe for concurrent use.
type Limiter struct {
	all *rate.Limiter

	mu      sync.Mutex // guards look-ups together with what they add
	sources *lru.Cache[string, *rate.Limiter]
}

// NewLimiter returns a Limiter that has let nothing pass yet.
func NewLimiter() (*Limiter, error) {
	sources, err := lru.New[string, *rate.Limiter](limitSources)
	if err != nil {
		return nil, fmt.Errorf("audit: make limiter: %w", err)
	}
	return &Limiter{all: rate.NewLimiter(allPerSecond, allAtOnce), sources: sources}, nil
}

// Allow reports whether the event of a refusal should be recorded, and counts it if so.
func (l *Limiter) Allow(ev *Event) bool {
	return l.source(sourceOf(ev)).AllowN(ev.Time, 1) && l.all.AllowN(ev.Time, 1)
}

func (l *Limiter) source(name string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.sources.Get(name); ok {
		return known
	}
	fresh := rate.NewLimiter(sourcePerSecond, sourceAtOnce)
	l.sources.Add(name, fresh)
	return fresh
}

// sourceOf names who shares a limit: a credential with all of its accounts, or an API token; everybody else, who may
// make any number of accounts, by address. Who has proved nothing counts by address whatever he names: the share of a
// credential must not be used up by somebody who only knows its KID.
func sourceOf(ev *Event) string {
	switch {
	case ev.Actor.Kind != Nobody && ev.Detail.Credential != "":
		return "credential " + string(ev.Detail.Credential)
	case ev.Actor.Kind == Token:
		return "token " + ev.Actor.ID
	default:
		return "address " + network(ev.Client.Address)
	}
}

// network is what counts as one address: whoever has an IPv6 address has at least a /64 of them.
func network(address string) string {
	const site = 64
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr.String()
	}
	prefix, err := addr.Prefix(site)
	if err != nil {
		return ""
	}
	return prefix.String()
}
