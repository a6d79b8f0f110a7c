package nonce

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"time"
)

const (
	nameLen   = 16
	sharedLen = nameLen + 8
)

// shared makes nonces that every replica takes.
type shared struct {
	ring     Ring
	redeemer Redeemer
	now      func() time.Time
	random   io.Reader
}

func (s *shared) issue() string {
	var plain [sharedLen]byte
	if _, err := io.ReadFull(s.random, plain[:nameLen]); err != nil {
		// crypto/rand.Reader never fails, and a server without randomness must not go on.
		panic(fmt.Sprintf("nonce: read randomness: %v", err))
	}
	binary.BigEndian.PutUint64(plain[nameLen:], uint64(s.now().Add(life).Unix()))
	return s.ring.Seal(kindShared, nil, plain[:])
}

func (s *shared) redeem(ctx context.Context, nonce string) (outcome, error) {
	plain, err := s.ring.Open(kindShared, nil, nonce)
	if err != nil || len(plain) != sharedLen {
		return unknown, nil //nolint:nilerr // what cannot be opened is no error of ours but an unknown nonce
	}
	expires := time.Unix(int64(binary.BigEndian.Uint64(plain[nameLen:])), 0).UTC()
	if s.now().After(expires) {
		return unknown, nil
	}
	first, err := s.redeemer.RedeemNonce(ctx, [nameLen]byte(plain), expires.Add(skew))
	switch {
	case err != nil:
		return unknown, err
	case !first:
		return reused, nil
	default:
		return redeemed, nil
	}
}
