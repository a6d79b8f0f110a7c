package acme

import (
	"context"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// touchInterval is how exactly a credential's last use is known.
const touchInterval = time.Minute

// touches remembers when each credential was last said to be in use, so that not every certificate writes it.
type touches struct {
	mu   sync.Mutex // guards last
	last map[pki.CredentialID]time.Time
}

func newTouches() *touches { return &touches{last: make(map[pki.CredentialID]time.Time)} }

// due reports whether the use of a credential should be stored now, and remembers that it is.
func (t *touches) due(id pki.CredentialID, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if last, ok := t.last[id]; ok && now.Sub(last) < touchInterval {
		return false
	}
	t.last[id] = now
	return true
}

// touch notes that a credential was used. It costs the request nothing; a use that could not be stored is stored with
// the next one.
func (s *Server) touch(ctx context.Context, id pki.CredentialID, now time.Time) {
	if id == "" || !s.lastTouch.due(id, now) {
		return
	}
	store := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, auditTimeout)
		defer cancel()
		if err := s.Store.TouchCredential(ctx, id, now); err != nil {
			s.Logger.WarnContext(ctx, "use of a credential not stored", telemetry.KeyError, err)
		}
	}
	if _, err := s.detached.start(ctx, "touch "+string(id), store); err != nil {
		s.Logger.DebugContext(ctx, "use of a credential not stored", telemetry.KeyError, err)
	}
}
