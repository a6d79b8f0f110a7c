package nonce

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// kindLocal and kindShared keep the nonces of the modes apart, so that a change of mode makes old ones unknown.
const (
	kindLocal  = "nonce-local"
	kindShared = "nonce-shared"
)

const (
	epochLen = 8
	localLen = epochLen + 8
	wordBits = 64
)

// local numbers nonces and keeps a bit for each of the newest.
type local struct {
	ring  Ring
	epoch [epochLen]byte // random, tells this process's nonces from those of the ones before

	// mu guards what follows. It is held for the few instructions between: the work is in the sealing, outside of it.
	mu   sync.Mutex
	next uint64   // number of the next nonce
	used []uint64 // a bit for each of the newest nonces: number modulo the count of bits
}

func newLocal(c Config) (*local, error) {
	window := c.Window
	if window == 0 {
		window = defaultWindow
	}
	if window < minWindow || window%wordBits != 0 {
		return nil, fmt.Errorf("nonce: Window %d is not a multiple of %d", window, wordBits)
	}
	l := &local{ring: c.Ring, used: make([]uint64, window/wordBits)}
	if _, err := io.ReadFull(c.Random, l.epoch[:]); err != nil {
		return nil, fmt.Errorf("nonce: read randomness: %w", err)
	}
	return l, nil
}

func (l *local) window() uint64 { return uint64(len(l.used)) * wordBits }

func (l *local) issue() string {
	number := l.take()
	var plain [localLen]byte
	copy(plain[:], l.epoch[:])
	binary.BigEndian.PutUint64(plain[epochLen:], number)
	return l.ring.Seal(kindLocal, nil, plain[:])
}

// take returns the next number and frees its bit, which belonged to the number that leaves the window.
func (l *local) take() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	number := l.next
	l.next++
	word, bit := l.bit(number)
	*word &^= bit
	return number
}

func (l *local) redeem(_ context.Context, nonce string) (outcome, error) {
	plain, err := l.ring.Open(kindLocal, nil, nonce)
	if err != nil || len(plain) != localLen || [epochLen]byte(plain) != l.epoch {
		return unknown, nil //nolint:nilerr // what cannot be opened is no error of ours but an unknown nonce
	}
	return l.use(binary.BigEndian.Uint64(plain[epochLen:])), nil
}

func (l *local) use(number uint64) outcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	if number >= l.next || l.next-number > l.window() {
		return unknown
	}
	word, bit := l.bit(number)
	if *word&bit != 0 {
		return reused
	}
	*word |= bit
	return redeemed
}

func (l *local) bit(number uint64) (word *uint64, bit uint64) {
	slot := number % l.window()
	return &l.used[slot/wordBits], 1 << (slot % wordBits)
}
