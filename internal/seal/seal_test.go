package seal_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/certloom/certloom/internal/seal"
)

func key(fill byte) []byte { return bytes.Repeat([]byte{fill}, seal.KeyLen) }

func newRing(t testing.TB, keys map[uint32][]byte, current uint32) *seal.Ring {
	t.Helper()
	ring, err := seal.New(keys, current, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func TestSealOpen(t *testing.T) {
	t.Parallel()
	ring := newRing(t, map[uint32][]byte{7: key(1)}, 7)
	for _, size := range []int{0, 1, 16, 100, 400, 2000, 5000} {
		plain := bytes.Repeat([]byte("x"), size)
		token := ring.Seal("order", []byte("https://ca.example"), plain)
		if strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("token %q is not base64url", token)
		}
		got, err := ring.Open("order", []byte("https://ca.example"), token)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Open of %d bytes = %d bytes, %v", size, len(got), err)
		}
		if again := ring.Seal("order", []byte("https://ca.example"), plain); again == token {
			t.Error("two tokens of one plaintext are equal")
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	ring := newRing(t, map[uint32][]byte{7: key(1)}, 7)
	stranger := newRing(t, map[uint32][]byte{7: key(2)}, 7)
	unknown := newRing(t, map[uint32][]byte{8: key(1)}, 8)
	token := ring.Seal("order", []byte("aad"), []byte("plain"))
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	otherVersion := bytes.Clone(raw)
	otherVersion[0]++
	for name, test := range map[string]struct{ kind, aad, token string }{
		"refuses/other-kind":       {"nonce", "aad", token},
		"refuses/other-data":       {"order", "aae", token},
		"refuses/moved-border":     {"ordera", "ad", token},
		"refuses/other-key":        {"order", "aad", stranger.Seal("order", []byte("aad"), []byte("plain"))},
		"refuses/unknown-key-id":   {"order", "aad", unknown.Seal("order", []byte("aad"), []byte("plain"))},
		"refuses/other-version":    {"order", "aad", base64.RawURLEncoding.EncodeToString(otherVersion)},
		"refuses/empty":            {"order", "aad", ""},
		"refuses/cut":              {"order", "aad", token[:len(token)-4]},
		"refuses/header-only":      {"order", "aad", token[:8]},
		"refuses/longer":           {"order", "aad", token + "AAAA"},
		"refuses/padding":          {"order", "aad", token + "="},
		"refuses/newline-inside":   {"order", "aad", token[:8] + "\n" + token[8:]},
		"refuses/carriage-return":  {"order", "aad", token + "\r"},
		"refuses/not-base64":       {"order", "aad", token[:8] + "+" + token[9:]},
		"refuses/far-too-long":     {"order", "aad", strings.Repeat("A", 100_000)},
		"refuses/stray-last-bits":  {"order", "aad", stray(token)},
		"refuses/binary":           {"order", "aad", "\x00\xff\xfe"},
		"refuses/swapped-contents": {"order", "aad", token[:20] + token[24:28] + token[20:24] + token[28:]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if plain, err := ring.Open(test.kind, []byte(test.aad), test.token); !errors.Is(err, seal.ErrToken) || plain != nil {
				t.Errorf("Open = %q, %v, want ErrToken", plain, err)
			}
		})
	}
	for i := range raw {
		for bit := range 8 {
			flipped := bytes.Clone(raw)
			flipped[i] ^= 1 << bit
			if _, err := ring.Open("order", []byte("aad"), base64.RawURLEncoding.EncodeToString(flipped)); !errors.Is(err, seal.ErrToken) {
				t.Fatalf("token with bit %d of byte %d flipped was opened", bit, i)
			}
		}
	}
}

// stray sets bits of the last character that are not part of any byte: another spelling of the same token.
func stray(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}

func TestReplace(t *testing.T) {
	t.Parallel()
	ring := newRing(t, map[uint32][]byte{1: key(1)}, 1)
	old := ring.Seal("nonce", nil, []byte("old"))
	if err := ring.Replace(map[uint32][]byte{1: key(1), 2: key(2)}, 2); err != nil {
		t.Fatal(err)
	}
	fresh := ring.Seal("nonce", nil, []byte("fresh"))
	for token, want := range map[string]string{old: "old", fresh: "fresh"} {
		if got, err := ring.Open("nonce", nil, token); err != nil || string(got) != want {
			t.Errorf("Open = %q, %v, want %q", got, err, want)
		}
	}
	if err := ring.Replace(map[uint32][]byte{2: key(2)}, 1); err == nil {
		t.Error("a ring without its current key was accepted")
	}
	if err := ring.Replace(map[uint32][]byte{2: key(2)[:16]}, 2); err == nil {
		t.Error("a key of 16 bytes was accepted")
	}
	if ring.Current() != 2 {
		t.Errorf("Current = %d after refused changes, want 2", ring.Current())
	}
	if err := ring.Replace(map[uint32][]byte{2: key(2)}, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Open("nonce", nil, old); !errors.Is(err, seal.ErrToken) {
		t.Errorf("token of a key that left the ring: %v, want ErrToken", err)
	}
}

func TestRingIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	ring := newRing(t, map[uint32][]byte{1: key(1)}, 1)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 200 {
				if _, err := ring.Open("nonce", nil, ring.Seal("nonce", nil, []byte("x"))); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			for range 50 {
				if err := ring.Replace(map[uint32][]byte{1: key(1), 2: key(2)}, 2); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := seal.New(map[uint32][]byte{1: key(1)}, 1, nil); err == nil {
		t.Error("a ring without randomness was made")
	}
	if _, err := seal.New(nil, 0, rand.Reader); err == nil {
		t.Error("a ring without keys was made")
	}
}

func FuzzOpen(f *testing.F) {
	ring := newRing(f, map[uint32][]byte{1: key(1)}, 1)
	f.Add(ring.Seal("order", []byte("aad"), []byte("plain")))
	f.Add("")
	f.Add("AQAAAAE")
	f.Fuzz(func(t *testing.T, token string) {
		plain, err := ring.Open("order", []byte("aad"), token)
		if err != nil && plain != nil {
			t.Errorf("Open returned %q with an error", plain)
		}
		if err == nil && string(plain) != "plain" {
			t.Errorf("forged token %q gave %q", token, plain)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	ring := newRing(b, map[uint32][]byte{1: key(1)}, 1)
	aad, plain := []byte("https://localhost:8443/acme"), make([]byte, 24)
	b.ReportAllocs()
	for b.Loop() {
		ring.Seal("nonce", aad, plain)
	}
}

func BenchmarkOpen(b *testing.B) {
	ring := newRing(b, map[uint32][]byte{1: key(1)}, 1)
	aad := []byte("https://localhost:8443/acme")
	token := ring.Seal("nonce", aad, make([]byte, 24))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Open("nonce", aad, token); err != nil {
			b.Fatal(err)
		}
	}
}
