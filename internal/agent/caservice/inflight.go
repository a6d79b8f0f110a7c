package caservice

import (
	"sync"
	"time"
)

// inflight knows the calls that are under way, for the liveness probe.
type inflight struct {
	mu    sync.Mutex // guards calls; held for a moment only
	calls map[*attempt]time.Time
}

func (i *inflight) begin(a *attempt, now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.calls == nil {
		i.calls = map[*attempt]time.Time{}
	}
	i.calls[a] = now
}

func (i *inflight) end(a *attempt) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.calls, a)
}

// Oldest returns for how long the oldest call has been under way, 0 when there is none.
func (s *Service) Oldest() time.Duration {
	now, oldest := s.config.Now(), time.Duration(0)
	s.inflight.mu.Lock()
	defer s.inflight.mu.Unlock()
	for _, began := range s.inflight.calls {
		oldest = max(oldest, now.Sub(began))
	}
	return oldest
}
