package server

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/seal"
)

// What tests of the ring ask for.
const (
	RingAge   = ringAge
	RingCheck = ringCheck
	TokenLife = 30 * 24 * time.Hour // the longest that settings allow for orders
)

// LoadRing is what a server does when it starts.
func (p *Parts) LoadRing(ctx context.Context) (*seal.Ring, error) { return p.loadRing(ctx) }

// RefreshRing is what it does each RingCheck.
func (p *Parts) RefreshRing(ctx context.Context, ring *seal.Ring) error {
	return p.refreshRing(ctx, ring)
}

// Serve is the task of a listener without TLS.
func Serve(listener net.Listener, handler http.Handler, logger *slog.Logger) func(context.Context) error {
	return serve(listener, handler, nil, logger)
}
