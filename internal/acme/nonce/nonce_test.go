package nonce_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/certloom/certloom/internal/acme/nonce"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/seal"
)

var noon = time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)

// clock is a clock that a test sets.
type clock struct{ atomic.Int64 }

func (c *clock) now() time.Time          { return noon.Add(time.Duration(c.Load())) }
func (c *clock) advance(d time.Duration) { c.Add(int64(d)) }

// redeemer is a database that all replicas of a test share. It forgets what has expired, as the real one may.
type redeemer struct {
	mu   sync.Mutex
	used map[[16]byte]time.Time
	now  func() time.Time
	err  error
}

func (r *redeemer) RedeemNonce(_ context.Context, id [16]byte, expires time.Time) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return false, r.err
	}
	for other, until := range r.used {
		if r.now().After(until) {
			delete(r.used, other)
		}
	}
	if _, ok := r.used[id]; ok {
		return false, nil
	}
	r.used[id] = expires
	return true, nil
}

func newRing(t testing.TB) *seal.Ring {
	t.Helper()
	ring, err := seal.New(map[uint32][]byte{1: bytes.Repeat([]byte{7}, seal.KeyLen)}, 1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func newNonces(t testing.TB, c nonce.Config) *nonce.Nonces {
	t.Helper()
	if c.Ring == nil {
		c.Ring = newRing(t)
	}
	c.Random = rand.Reader
	if c.Registerer == nil {
		c.Registerer = prometheus.NewRegistry()
	}
	n, err := nonce.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// modes are both modes, for what must hold in each.
func modes(t testing.TB) map[string]func(*prometheus.Registry) *nonce.Nonces {
	t.Helper()
	ring := newRing(t)
	c := &clock{}
	shared := &redeemer{used: map[[16]byte]time.Time{}, now: c.now}
	return map[string]func(*prometheus.Registry) *nonce.Nonces{
		"local": func(r *prometheus.Registry) *nonce.Nonces {
			return newNonces(t, nonce.Config{Ring: ring, Registerer: r})
		},
		"shared": func(r *prometheus.Registry) *nonce.Nonces {
			return newNonces(t, nonce.Config{Ring: ring, Registerer: r, Shared: shared, Now: c.now})
		},
	}
}

func TestNonceIsGoodOnce(t *testing.T) {
	t.Parallel()
	for name, mode := range modes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := prometheus.NewRegistry()
			n := mode(registry)
			token := n.Issue()
			if err := n.Redeem(t.Context(), token); err != nil {
				t.Fatalf("first use: %v", err)
			}
			err := n.Redeem(t.Context(), token)
			if !fault.Is(err, fault.BadNonce) || !strings.Contains(fault.From(err).Public, "JWS has an invalid anti-replay nonce") {
				t.Errorf("second use: %v; want badNonce with the words that clients look for", err)
			}
			if err := n.Redeem(t.Context(), "A"+token); !fault.Is(err, fault.BadNonce) {
				t.Errorf("unknown nonce: %v", err)
			}
			want := `# HELP certloom_acme_nonces_total ACME nonces, by what became of them: issued, redeemed, unknown, reused, or failed when the database did not answer.
# TYPE certloom_acme_nonces_total counter
certloom_acme_nonces_total{result="failed"} 0
certloom_acme_nonces_total{result="issued"} 1
certloom_acme_nonces_total{result="redeemed"} 1
certloom_acme_nonces_total{result="reused"} 1
certloom_acme_nonces_total{result="unknown"} 1
`
			if err := testutil.GatherAndCompare(registry, strings.NewReader(want)); err != nil {
				t.Error(err)
			}
		})
	}
}

// RFC 8555 section 6.5.1: base64url without padding, unpredictable.
func TestNonceForm(t *testing.T) {
	t.Parallel()
	for name, mode := range modes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := mode(prometheus.NewRegistry())
			seen := map[string]bool{}
			for range 1000 {
				token := n.Issue()
				raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
				if err != nil || len(raw) < 32 {
					t.Fatalf("nonce %q: %d bytes, %v", token, len(raw), err)
				}
				if seen[token] {
					t.Fatalf("nonce %q came twice", token)
				}
				seen[token] = true
			}
		})
	}
}

// Of many goroutines with one nonce exactly one passes, for every nonce (RFC 8555 section 6.5: MUST).
func TestParallelUseOfOneNonce(t *testing.T) {
	t.Parallel()
	const nonces, users = 64, 16
	for name, mode := range modes(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := mode(prometheus.NewRegistry())
			var passed [nonces]atomic.Int32
			var wait sync.WaitGroup
			start := make(chan struct{})
			tokens := make([]string, nonces)
			for i := range tokens {
				tokens[i] = n.Issue()
			}
			for range users {
				wait.Go(func() {
					<-start
					for i, token := range tokens {
						n.Issue() // nonces are made at the same time
						if err := n.Redeem(t.Context(), token); err == nil {
							passed[i].Add(1)
						} else if !fault.Is(err, fault.BadNonce) {
							t.Errorf("nonce %d: %v", i, err)
						}
					}
				})
			}
			close(start)
			wait.Wait()
			for i := range passed {
				if got := passed[i].Load(); got != 1 {
					t.Errorf("nonce %d passed %d times", i, got)
				}
			}
		})
	}
}

func TestRefusesUnknown(t *testing.T) {
	t.Parallel()
	ring := newRing(t)
	foreign, err := seal.New(map[uint32][]byte{1: bytes.Repeat([]byte{8}, seal.KeyLen)}, 1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	n := newNonces(t, nonce.Config{Ring: ring})
	token := n.Issue()
	altered := []byte(token)
	altered[len(altered)-2] ^= 1
	tests := map[string]string{
		"refuses/empty":             "",
		"refuses/no-base64":         "!!!!",
		"refuses/altered":           string(altered),
		"refuses/cut":               token[:len(token)-1],
		"refuses/longer":            token + "A",
		"refuses/padded":            token + "=",
		"refuses/line-end":          token + "\n",
		"refuses/earlier-epoch":     newNonces(t, nonce.Config{Ring: ring}).Issue(),
		"refuses/foreign":           newNonces(t, nonce.Config{Ring: foreign}).Issue(),
		"refuses/other-kind":        ring.Seal("order", nil, make([]byte, 16)),
		"refuses/other-length":      ring.Seal("nonce-local", nil, make([]byte, 15)),
		"refuses/of-a-shared-mode":  newNonces(t, nonce.Config{Ring: ring, Shared: &redeemer{}, Now: (&clock{}).now}).Issue(),
		"refuses/very-long":         strings.Repeat("A", 1<<20),
		"refuses/not-yet-issued":    "", // set below
		"refuses/nonce-of-nonsense": strings.Repeat("A", len(token)),
	}
	// A number that was not given out yet, of the right epoch: only somebody with the key could make it.
	plain, err := ring.Open("nonce-local", nil, token)
	if err != nil {
		t.Fatal(err)
	}
	plain[len(plain)-1] = 200
	tests["refuses/not-yet-issued"] = ring.Seal("nonce-local", nil, plain)
	for name, bad := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := n.Redeem(t.Context(), bad); !fault.Is(err, fault.BadNonce) {
				t.Errorf("Redeem: %v; want badNonce", err)
			}
		})
	}
	if err := n.Redeem(t.Context(), token); err != nil {
		t.Errorf("the good nonce after all that: %v", err)
	}
}

// Memory is bounded: the newest nonces are good, those before them are not, and the bit that they share does
// not let one be used twice.
func TestLocalWindow(t *testing.T) {
	t.Parallel()
	const window = 128
	n := newNonces(t, nonce.Config{Window: window})
	var tokens []string
	for range 3 * window {
		tokens = append(tokens, n.Issue())
	}
	for i, token := range tokens {
		err := n.Redeem(t.Context(), token)
		if good := i >= 2*window; good != (err == nil) {
			t.Errorf("nonce %d of %d: %v", i, len(tokens), err)
		}
	}
	for i, token := range tokens {
		if err := n.Redeem(t.Context(), token); !fault.Is(err, fault.BadNonce) {
			t.Errorf("nonce %d again: %v", i, err)
		}
	}
	for range window {
		token := n.Issue()
		if err := n.Redeem(t.Context(), token); err != nil {
			t.Errorf("nonce with a bit that was used before: %v", err)
		}
	}
}

func TestSharedAcrossReplicas(t *testing.T) {
	t.Parallel()
	ring, c := newRing(t), &clock{}
	database := &redeemer{used: map[[16]byte]time.Time{}, now: c.now}
	ahead := func() time.Time { return c.now().Add(5 * time.Minute) }
	one := newNonces(t, nonce.Config{Ring: ring, Shared: database, Now: c.now})
	two := newNonces(t, nonce.Config{Ring: ring, Shared: database, Now: ahead})

	old := one.Issue()
	c.advance(23 * time.Hour)
	token := one.Issue()
	for _, value := range []string{old, token} {
		if err := two.Redeem(t.Context(), value); err != nil {
			t.Errorf("other replica: %v", err)
		}
		if err := one.Redeem(t.Context(), value); !fault.Is(err, fault.BadNonce) {
			t.Errorf("used on another replica: %v; want badNonce", err)
		}
	}
	// The database forgets uses by the clock of a replica that is ahead; the one that is behind must not take them again.
	database.now = ahead
	c.advance(time.Hour - time.Minute)
	if err := one.Redeem(t.Context(), old); !fault.Is(err, fault.BadNonce) {
		t.Errorf("used, at the end of its life: %v; want badNonce", err)
	}
	unused := one.Issue()
	c.advance(25 * time.Hour)
	if err := one.Redeem(t.Context(), unused); !fault.Is(err, fault.BadNonce) {
		t.Errorf("expired: %v; want badNonce", err)
	}
}

func TestSharedDatabaseDown(t *testing.T) {
	t.Parallel()
	down := fault.New(fault.Unavailable, "database does not answer")
	n := newNonces(t, nonce.Config{Shared: &redeemer{err: down}, Now: (&clock{}).now})
	// A 4xx would be final for clients, a 503 is not.
	if err := n.Redeem(t.Context(), n.Issue()); !errors.Is(err, down) || !fault.Is(err, fault.Unavailable) {
		t.Errorf("Redeem: %v; want the database's error", err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	ring, registry := newRing(t), prometheus.NewRegistry()
	tests := map[string]nonce.Config{
		"refuses/no-ring":       {Random: rand.Reader, Registerer: registry},
		"refuses/no-random":     {Ring: ring, Registerer: registry},
		"refuses/no-registerer": {Ring: ring, Random: rand.Reader},
		"refuses/no-clock":      {Ring: ring, Random: rand.Reader, Registerer: registry, Shared: &redeemer{}},
		"refuses/window":        {Ring: ring, Random: rand.Reader, Registerer: registry, Window: 100},
		"refuses/negative":      {Ring: ring, Random: rand.Reader, Registerer: registry, Window: -64},
		"refuses/randomness":    {Ring: ring, Random: strings.NewReader("short"), Registerer: registry},
	}
	for name, config := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := nonce.New(config); err == nil {
				t.Error("New took it")
			}
		})
	}
}

func BenchmarkIssueAndRedeem(b *testing.B) {
	for name, mode := range modes(b) {
		if name == "shared" {
			continue // the fake database would be measured
		}
		n := mode(prometheus.NewRegistry())
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if err := n.Redeem(context.Background(), n.Issue()); err != nil {
					b.Error(err)
				}
			}
		})
	}
}
