package acme_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// brokenIssuer does what a test wants before it issues.
type brokenIssuer struct {
	acme.Issuer
	before func(context.Context) error
}

func (b brokenIssuer) Issue(ctx context.Context, r issue.Request) (*pki.Certificate, error) {
	if err := b.before(ctx); err != nil {
		return nil, err
	}
	return b.Issuer.Issue(ctx, r)
}

// Trouble of our own is a 5xx with a problem document that says nothing of our insides, and the order survives it.
func TestTrouble(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		trouble func(context.Context) error
		status  int
		retry   bool
	}{
		"unforeseen error": {func(context.Context) error { return errDisk }, 500, false},
		"panic":            {func(context.Context) error { panic("at the disco: " + errDisk.Error()) }, 500, false},
		"unavailable":      {func(context.Context) error { return fault.New(fault.Unavailable, "database is busy") }, 503, true},
		"out of time":      {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, 503, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var healed atomic.Bool
			var lines lockedBuffer
			s := acmetest.Start(t, acmetest.Options{
				ACME:   acme.Options{RequestTimeout: 500 * time.Millisecond, MaxFinalizes: 1},
				Logger: slog.New(slog.NewTextHandler(&lines, nil)),
				Issuer: func(inner acme.Issuer) acme.Issuer {
					return brokenIssuer{inner, func(ctx context.Context) error {
						if healed.Load() {
							return nil
						}
						return tt.trouble(ctx)
					}}
				},
			})
			c := s.Register(t, "istio")
			o, csr := c.NewOrder(t), acmetest.WorkloadCSR(t, workload)
			answer := c.Finalize(t, o, csr)
			p := answer.Problem(t)
			if answer.Status != tt.status || p.Type != "serverInternal" || (answer.Header.Get("Retry-After") != "") != tt.retry || answer.Header.Get("Replay-Nonce") == "" {
				t.Errorf("finalize: %d %s %v", answer.Status, answer.Body, answer.Header)
			}
			if strings.Contains(string(answer.Body), "secret") {
				t.Errorf("answer tells of our insides: %s", answer.Body)
			}
			if tt.status == http.StatusInternalServerError && !strings.Contains(lines.String(), errDisk.Error()) {
				t.Errorf("log does not tell what happened: %s", lines.String())
			}
			healed.Store(true)
			if answer := c.Finalize(t, o, csr); answer.Status != http.StatusOK {
				t.Errorf("finalize afterwards: %d %s", answer.Status, answer.Body)
			}
		})
	}
}

// A client that goes away is no trouble: it rings no alarm in the log, and is not said to have been slow.
func TestClientGone(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	ctx, leave := context.WithCancel(t.Context())
	s := acmetest.Start(t, acmetest.Options{
		Logger: slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Issuer: func(inner acme.Issuer) acme.Issuer {
			return brokenIssuer{inner, func(ctx context.Context) error { leave(); <-ctx.Done(); return ctx.Err() }}
		},
	})
	c := s.Register(t, "istio")
	o := c.NewOrder(t)
	c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Handler.ServeHTTP(w, r.WithContext(ctx)) })
	if answer := c.Finalize(t, o, acmetest.WorkloadCSR(t, workload)); answer.Status != http.StatusServiceUnavailable {
		t.Errorf("finalize: %d %s", answer.Status, answer.Body)
	}
	if text := lines.String(); strings.Contains(text, "level=WARN") || strings.Contains(text, "too long") || !strings.Contains(text, "client has gone") {
		t.Errorf("log: %s", text)
	}
}

// lockedBuffer is a buffer for the log lines of many goroutines.
type lockedBuffer struct {
	mu  sync.Mutex // guards all
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// brokenStore is storage that can be switched off.
type brokenStore struct {
	acme.Store
	off *atomic.Bool
}

func (b brokenStore) down() error {
	if b.off.Load() {
		return fault.New(fault.Unavailable, "database does not answer")
	}
	return nil
}

func (b brokenStore) Account(ctx context.Context, id pki.AccountID) (*pki.Account, error) {
	if err := b.down(); err != nil {
		return nil, err
	}
	return b.Store.Account(ctx, id)
}

func (b brokenStore) AccountByThumbprint(ctx context.Context, scope pki.ProfileID, thumbprint string) (*pki.Account, error) {
	if err := b.down(); err != nil {
		return nil, err
	}
	return b.Store.AccountByThumbprint(ctx, scope, thumbprint)
}

// While the database does not answer, a client that is known can still find its account and place an order: otherwise
// cert-manager would sign with its key instead of its account, be refused, and give up. Unknown ones are told to come
// again.
func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	var off atomic.Bool
	s := acmetest.Start(t, acmetest.Options{Store: func(inner *store.Store) acme.Store { return brokenStore{inner, &off} }})
	c := s.Register(t, "istio")
	c.NewOrder(t)
	off.Store(true)
	s.Advance(t, time.Minute)
	jwk := *c
	jwk.KID = ""
	if answer := jwk.Post(t, c.Prefix+"/new-account", map[string]bool{"onlyReturnExisting": true}); answer.Status != http.StatusOK ||
		answer.Header.Get("Location") != c.KID {
		t.Errorf("look-up of the account: %d %s", answer.Status, answer.Body)
	}
	c.NewOrder(t)
	unknown := *c
	unknown.KID = c.Prefix + "/account/" + string(newID[pki.AccountID](t))
	if answer := unknown.Post(t, c.Prefix+"/new-order", struct{}{}); answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("order of an account that cannot be looked up: %d %s", answer.Status, answer.Body)
	}
}

// Too many finalizes at once get 503, never a hang and never a 4xx.
func TestOverload(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	entered := make(chan struct{}, 1)
	s := acmetest.Start(t, acmetest.Options{
		ACME: acme.Options{MaxFinalizes: 1, AdmissionWait: time.Millisecond},
		Issuer: func(inner acme.Issuer) acme.Issuer {
			return brokenIssuer{inner, func(context.Context) error {
				entered <- struct{}{}
				<-release
				return nil
			}}
		},
	})
	c := s.Register(t, "istio")
	o, csr := c.NewOrder(t), acmetest.WorkloadCSR(t, workload)
	done := make(chan int)
	go func() { done <- c.Finalize(t, o, csr).Status }()
	<-entered
	answer := c.Finalize(t, o, csr)
	if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" || answer.Problem(t).Type != "serverInternal" {
		t.Errorf("finalize under overload: %d %s", answer.Status, answer.Body)
	}
	close(release)
	if status := <-done; status != http.StatusOK {
		t.Errorf("finalize that was being worked on: %d", status)
	}
}

func TestMeanMode(t *testing.T) {
	t.Parallel()
	c := acmetest.Start(t, acmetest.Options{ACME: acme.Options{NonceRejectPercent: 50}}).NewClient(t)
	refused := 0
	for range 200 {
		answer := c.Post(t, c.Prefix+"/new-account", map[string]bool{"onlyReturnExisting": true})
		p := answer.Problem(t)
		if p.Type == "badNonce" && answer.Status == http.StatusBadRequest && strings.Contains(p.Detail, "JWS has an invalid anti-replay nonce") {
			refused++
		}
	}
	if refused < 50 || refused > 150 {
		t.Errorf("%d of 200 good nonces were refused, want about half", refused)
	}
}
