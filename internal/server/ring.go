package server

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/seal"
	"github.com/certloom/certloom/internal/telemetry"
)

// The ring of keys that seal nonces and order tokens is shared by all replicas through the database.
const (
	// ringPurpose is what ring keys are sealed for in the vault.
	ringPurpose = "seal-key"
	// ringAge is how long a key seals before a new one takes over: 30 days of 1,000 tokens a second stay below the
	// 2^32 tokens that a key should make (NIST SP 800-38D section 8.3).
	ringAge = 30 * 24 * time.Hour
	// ringSettle is how old a key is before it seals: replicas look for new keys each ringCheck, and must be able to
	// open what another one sealed.
	ringSettle = 5 * time.Minute
	ringCheck  = time.Minute
	// ringKeep is how long a key opens after its successor came: longer than orders and nonces live.
	ringKeep = 31 * 24 * time.Hour
)

// loadRing reads the ring, making its first key if there is none.
func (p *Parts) loadRing(ctx context.Context) (*seal.Ring, error) {
	stored, err := p.Store.SealKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ring keys: %w", err)
	}
	if len(stored) == 0 {
		if stored, err = p.addRingKey(ctx, 1); err != nil {
			return nil, err
		}
	}
	secrets, current, err := p.openRing(stored)
	if err != nil {
		return nil, err
	}
	ring, err := seal.New(secrets, current, p.Random)
	if err != nil {
		return nil, fmt.Errorf("make ring: %w", err)
	}
	return ring, nil
}

// openRing opens the stored keys that are still of use, and says which one seals.
func (p *Parts) openRing(stored []pki.SealKey) (secrets map[uint32][]byte, current uint32, err error) {
	now := p.Now()
	secrets = make(map[uint32][]byte, len(stored))
	for i, key := range stored { // by ID, oldest first
		if i+1 < len(stored) && now.Sub(stored[i+1].CreatedAt) > ringKeep {
			continue
		}
		secret, err := p.Vault.Unseal(ringPurpose, strconv.FormatUint(uint64(key.ID), 10), key.Sealed)
		if err != nil {
			return nil, 0, fmt.Errorf("open ring key %d: %w", key.ID, err)
		}
		secrets[key.ID] = secret
		// The first key of all need not settle: nothing was sealed before it.
		if current == 0 || now.Sub(key.CreatedAt) >= ringSettle {
			current = key.ID
		}
	}
	return secrets, current, nil
}

// addRingKey makes a key. Another replica may make one with the same ID at the same time; the first counts.
func (p *Parts) addRingKey(ctx context.Context, id uint32) ([]pki.SealKey, error) {
	secret := make([]byte, seal.KeyLen)
	if _, err := io.ReadFull(p.Random, secret); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	sealed, err := p.Vault.Seal(ringPurpose, strconv.FormatUint(uint64(id), 10), secret)
	if err != nil {
		return nil, fmt.Errorf("seal ring key: %w", err)
	}
	err = p.Store.AddSealKey(ctx, pki.SealKey{ID: id, Sealed: sealed, CreatedAt: p.Now()})
	if err != nil && !fault.Is(err, fault.Conflict) {
		return nil, fmt.Errorf("store ring key: %w", err)
	}
	stored, err := p.Store.SealKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read ring keys: %w", err)
	}
	return stored, nil
}

// keepRing returns a task that takes over the keys of other replicas and makes a new one when the newest is old.
func (p *Parts) keepRing(ring *seal.Ring) func(context.Context) error {
	return func(ctx context.Context) error {
		ticker := time.NewTicker(ringCheck)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
			if err := p.refreshRing(ctx, ring); err != nil && ctx.Err() == nil {
				p.Logger.ErrorContext(ctx, "ring keys not refreshed", telemetry.KeyError, err)
			}
		}
	}
}

func (p *Parts) refreshRing(ctx context.Context, ring *seal.Ring) error {
	stored, err := p.Store.SealKeys(ctx)
	if err != nil {
		return fmt.Errorf("read ring keys: %w", err)
	}
	if len(stored) == 0 {
		return fmt.Errorf("read ring keys: there are none in the database any more")
	}
	if newest := stored[len(stored)-1]; p.Now().Sub(newest.CreatedAt) > ringAge {
		if stored, err = p.addRingKey(ctx, newest.ID+1); err != nil {
			return err
		}
	}
	secrets, current, err := p.openRing(stored)
	if err != nil {
		return err
	}
	if err := ring.Replace(secrets, current); err != nil {
		return fmt.Errorf("replace ring keys: %w", err)
	}
	return nil
}
