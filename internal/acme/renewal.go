package acme

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// renewalView is the RenewalInfo object (RFC 9773 section 4.2).
type renewalView struct {
	SuggestedWindow windowView `json:"suggestedWindow"`
}

type windowView struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// renewalInfo says when a certificate should be renewed. It is computed from the certificate and its revocation; nothing
// is stored and the query is ignored.
func (s *Server) renewalInfo(ctx context.Context, r *request) (*reply, error) {
	id := r.http.PathValue("id")
	_, serial, err := pki.ParseARICertID(id)
	if err != nil {
		return nil, fault.New(fault.Malformed, "%v", err)
	}
	// From the store, not from a copy: it may have been revoked.
	certificate, err := s.Store.Certificate(ctx, serial)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && ariID(certificate) != id:
		return nil, fault.New(fault.NotFound, "there is no certificate %.120q", id)
	case err != nil:
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	start, end := window(certificate)
	again := pollAfter(certificate)
	return &reply{
		status: http.StatusOK, retryAfter: again, cache: "public, max-age=" + seconds(again),
		body: renewalView{SuggestedWindow: windowView{Start: stamp(start), End: stamp(end)}},
	}, nil
}

// Shares of a certificate's life, in percent: its renewal window begins at a random moment of the sixth tenth, when the
// inventory says that it is due, and takes as long again.
const (
	windowStart  = 50
	windowJitter = 10
	windowLength = 10
)

// window returns when a certificate should be renewed. The random part is the certificate's own, and always the same: a
// fleet that was issued at once does not renew at once, and who asks twice gets one answer. A revoked certificate's
// window has passed; one that is held may be released, and is not to be replaced for that.
func window(c *pki.Certificate) (start, end time.Time) {
	if !c.RevokedAt.IsZero() && !c.Held() {
		return c.RevokedAt.Add(-time.Hour), c.RevokedAt
	}
	life := c.NotAfter.Sub(c.NotBefore)
	seed := sha256.Sum256([]byte("renewal " + string(c.Serial)))
	fraction := float64(binary.BigEndian.Uint32(seed[:4])) / (1 << 32)
	start = c.NotBefore.Add(life*windowStart/100 + time.Duration(fraction*float64(life*windowJitter/100))).Truncate(time.Second)
	// The window must not be empty (RFC 9773 section 4.2), however short the life.
	return start, start.Add(max(life*windowLength/100, time.Second)).Truncate(time.Second)
}

// Bounds on how often clients are told to ask.
const (
	maxPoll = 6 * time.Hour
	minPoll = time.Minute // clients do not go below
)

// pollAfter returns when a client should ask again: often enough to hear of a revocation in time.
func pollAfter(c *pki.Certificate) time.Duration {
	return min(maxPoll, max(minPoll, c.NotAfter.Sub(c.NotBefore)/6))
}
