package server_test

import (
	"crypto/rand"
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/config"
	"github.com/certloom/certloom/internal/seal"
	"github.com/certloom/certloom/internal/server"
)

// openParts opens the Parts of an empty database.
func openParts(t *testing.T, now func() time.Time) *server.Parts {
	t.Helper()
	settings := config.Default()
	settings.PublicURL = "https://ca.example"
	settings.DataDir = t.TempDir()
	settings.Keys.KeyFile = filepath.Join(settings.DataDir, "key")
	raw := make([]byte, 32)
	_, _ = rand.Read(raw)
	if err := os.WriteFile(settings.Keys.KeyFile, []byte(base64.StdEncoding.EncodeToString(raw)), 0o600); err != nil {
		t.Fatal(err)
	}
	parts, err := server.Open(t.Context(), server.Config{Settings: &settings, Logger: slog.New(slog.DiscardHandler), Now: now}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := parts.Close(); err != nil {
			t.Error(err)
		}
	})
	return parts
}

// Replicas that start at once on an empty database all start, with the same key.
func TestReplicasStartWithOneRing(t *testing.T) {
	t.Parallel()
	parts := openParts(t, time.Now)
	rings := make([]*seal.Ring, 16)
	var group sync.WaitGroup
	for i := range rings {
		group.Go(func() {
			ring, err := parts.LoadRing(t.Context())
			if err != nil {
				t.Error(err)
			}
			rings[i] = ring
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	token := rings[0].Seal("test", nil, []byte("plain"))
	for _, ring := range rings {
		if _, err := ring.Open("test", nil, token); err != nil {
			t.Error("a replica cannot open what another one sealed")
		}
	}
}

// A change of keys is noticed by nobody: at every moment, what a replica seals is opened by the others, also by one
// that has not looked for new keys for a minute, and for as long as it lives.
func TestRingRotation(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	parts := openParts(t, func() time.Time { return now })
	var rings [2]*seal.Ring
	for i := range rings {
		ring, err := parts.LoadRing(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		rings[i] = ring
	}
	type sealed struct {
		token   string
		expires time.Time
	}
	var tokens []sealed
	keys := map[uint32]bool{}
	turn := 0
	step := func(d time.Duration) {
		now = now.Add(d)
		turn++
		if err := parts.RefreshRing(t.Context(), rings[turn%2]); err != nil { // the other one's turn comes later
			t.Fatal(err)
		}
		for i, ring := range rings {
			keys[ring.Current()] = true
			token := ring.Seal("test", nil, []byte("plain"))
			if _, err := rings[1-i].Open("test", nil, token); err != nil {
				t.Fatalf("%s: replica %d cannot open what %d sealed", now, 1-i, i)
			}
			tokens = append(tokens, sealed{token, now.Add(server.TokenLife)})
		}
	}
	const rotations = 3
	for range rotations {
		for range 4 {
			step(server.RingAge / 4)
		}
		for range 20 { // a replica's turn is every second one
			step(server.RingCheck / 2)
		}
		alive := tokens[:0]
		for _, s := range tokens {
			if now.After(s.expires) {
				continue
			}
			alive = append(alive, s)
			for _, ring := range rings {
				if _, err := ring.Open("test", nil, s.token); err != nil {
					t.Fatalf("%s: a token that lives until %s cannot be opened", now, s.expires)
				}
			}
		}
		tokens = alive
	}
	if len(keys) < rotations {
		t.Errorf("%d keys have sealed in %d lives of a key", len(keys), rotations)
	}
}
