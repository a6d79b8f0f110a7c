package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Limits of the two small HTTP servers.
const (
	httpTimeout = 10 * time.Second
	// stuckAfter is how far a call may be beyond its own deadline before the process counts as hung.
	stuckAfter = 3 * requestTimeout
)

// check is one thing that has to work; it returns why it does not.
type check struct {
	name string
	ask  func() error
}

// health answers whether the agent can issue, and whether it lives.
type health struct {
	agent    *Agent
	draining atomic.Bool
	checks   []check
}

func newHealth(a *Agent) *health {
	h := &health{agent: a}
	h.checks = []check{
		{"running", h.running},
		{"issuer", a.issuer.Ready},
		{"serving certificate", a.serving.Ready},
		{"cluster", a.own.Synced},
	}
	if !a.config.Settings.TokenReview {
		h.checks = append(h.checks, check{"token keys", a.own.KeysReady})
	}
	return h
}

func (h *health) drain() { h.draining.Store(true) }

func (h *health) running() error {
	if h.draining.Load() {
		return errors.New("the agent is stopping")
	}
	return nil
}

// ready answers 200 when a certificate could be issued now, and otherwise says what is missing.
func (h *health) ready(w http.ResponseWriter, _ *http.Request) {
	var report strings.Builder
	code := http.StatusOK
	for _, c := range h.checks {
		if err := c.ask(); err != nil {
			code = http.StatusServiceUnavailable
			fmt.Fprintf(&report, "[-] %s: %v\n", c.name, err)
			continue
		}
		fmt.Fprintf(&report, "[+] %s\n", c.name)
	}
	answer(w, code, report.String())
}

// live answers 200 unless calls hang beyond their own deadline: what is absent outside, a restart does not bring back.
func (h *health) live(w http.ResponseWriter, _ *http.Request) {
	if age := h.agent.service.Oldest(); age > stuckAfter {
		answer(w, http.StatusServiceUnavailable, fmt.Sprintf("[-] a call has been under way for %s\n", age.Round(time.Second)))
		return
	}
	answer(w, http.StatusOK, "[+] calls end\n")
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	fmt.Fprint(w, text)
}

// serveHealth and serveMetrics have listeners of their own, so that neither a burst of certificate requests nor a slow
// scrape keeps a probe from being answered.
func (h *health) serveHealth(listener net.Listener) func(context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+h.agent.config.Settings.ReadinessPath, h.ready)
	mux.HandleFunc("GET /livez", h.live)
	return serveHTTP(listener, mux)
}

func (h *health) serveMetrics(listener net.Listener) func(context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(h.agent.registry, promhttp.HandlerOpts{}))
	if h.agent.config.Settings.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	}
	return serveHTTP(listener, mux)
}

func serveHTTP(listener net.Listener, handler http.Handler) func(context.Context) error {
	return func(ctx context.Context) error {
		server := &http.Server{
			Handler: handler, ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout,
			IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		}
		stopped := make(chan error, 1)
		go func() { stopped <- server.Serve(listener) }()
		select {
		case err := <-stopped:
			return fmt.Errorf("serve %s: %w", listener.Addr(), err)
		case <-ctx.Done():
		}
		_ = server.Close() // probes and scrapes come again
		if err := <-stopped; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", listener.Addr(), err)
		}
		return nil
	}
}
