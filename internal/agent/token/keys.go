package token

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/sync/singleflight"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/telemetry"
)

// KeysConfig is what Keys need.
type KeysConfig struct {
	// Fetch gets a document of the API server by its path.
	Fetch func(ctx context.Context, path string) ([]byte, error)
	// Issuers are accepted besides the one that the API server says it is. Usually empty.
	Issuers []string
	Now     func() time.Time
	Logger  *slog.Logger
}

// Where an API server publishes who it is and with which keys it signs (OpenID Connect Discovery 1.0).
const (
	discoveryPath = "/.well-known/openid-configuration"
	keysPath      = "/openid/v1/jwks"
)

// Paths are what Keys fetch: whoever runs them must be permitted to get these.
func Paths() []string { return []string{discoveryPath, keysPath} }

const (
	fetchTimeout = 5 * time.Second
	// refreshEvery bounds how long a key that the API server has dropped is still accepted.
	refreshEvery = 15 * time.Second
	// refreshPause is how soon an unknown key ID may cause another fetch: anybody can make up key IDs.
	refreshPause = 2 * time.Second
	firstRetry   = 500 * time.Millisecond
	longestRetry = 10 * time.Second
)

// Keys are the public keys of the API server that signs tokens, and its names. Safe for concurrent use.
type Keys struct {
	config  KeysConfig
	flights singleflight.Group

	mu      sync.RWMutex // guards what follows; held for assignments only
	keys    []jose.JSONWebKey
	issuers []string
	raw     string    // the key set as it was published
	changes uint64    // how often that has changed
	asked   time.Time // when the last successful fetch began
	failure error     // of the last fetch
}

// NewKeys checks the configuration and fetches nothing.
func NewKeys(config KeysConfig) (*Keys, error) {
	if config.Fetch == nil || config.Now == nil || config.Logger == nil {
		return nil, fmt.Errorf("keys of the API server: Fetch, Now or Logger is missing")
	}
	return &Keys{config: config, failure: fmt.Errorf("the API server's keys have not been fetched yet")}, nil
}

// Run fetches the keys, again and again, until ctx ends.
func (k *Keys) Run(ctx context.Context) error {
	pause := firstRetry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := k.refresh(ctx); err != nil {
			k.config.Logger.WarnContext(ctx, "keys of the API server not fetched", telemetry.KeyError, err)
			timer.Reset(pause)
			pause = min(2*pause, longestRetry)
			continue
		}
		pause = firstRetry
		timer.Reset(refreshEvery)
	}
}

// Ready returns nil once there are keys.
func (k *Keys) Ready() error {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if len(k.keys) > 0 {
		return nil
	}
	return k.failure
}

// generation changes when the keys do.
func (k *Keys) generation() uint64 {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.changes
}

// Accepts reports whether the API server calls itself by that name, and otherwise returns the names that are accepted.
func (k *Keys) Accepts(issuer string) (ok bool, accepted []string) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.Contains(k.issuers, issuer), k.issuers
}

// Find returns the keys with that ID; all of them for a token that names none, as API servers do. It returns
// fault.Unavailable when that cannot be known now, and fault.Unauthenticated when there is no such key.
func (k *Keys) Find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	found, asked := k.known(id)
	if len(found) > 0 {
		return found, nil
	}
	if asked.IsZero() || k.config.Now().Sub(asked) >= refreshPause {
		if err := k.wait(ctx); err != nil {
			return nil, fault.Wrap(err, fault.Unavailable, "the API server's keys cannot be fetched to look for key ID %.80q", id)
		}
		found, _ = k.known(id)
	}
	if len(found) == 0 {
		return nil, refuse("the token is signed by key ID %.80q, which is none of the API server's", id)
	}
	return found, nil
}

func (k *Keys) known(id string) ([]jose.JSONWebKey, time.Time) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if id == "" {
		return k.keys, k.asked
	}
	var found []jose.JSONWebKey
	for i := range k.keys {
		if k.keys[i].KeyID == id {
			found = append(found, k.keys[i])
		}
	}
	return found, k.asked
}

// wait joins the fetch that is under way, or begins one, which does not end with the caller: others wait for it too.
func (k *Keys) wait(ctx context.Context) error {
	done := k.flights.DoChan("", func() (any, error) { return nil, k.refresh(context.WithoutCancel(ctx)) })
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for the keys: %w", context.Cause(ctx))
	case result := <-done:
		return result.Err
	}
}

// refresh fetches who the API server is and its keys.
func (k *Keys) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	asked := k.config.Now()
	fetched, err := k.fetch(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failure = err
	if err != nil {
		return err
	}
	if fetched.raw != k.raw {
		k.keys, k.raw = fetched.keys, fetched.raw
		k.changes++
	}
	k.asked = asked
	k.issuers = append([]string{fetched.issuer}, k.config.Issuers...)
	return nil
}

// fetched is what the API server publishes.
type fetched struct {
	issuer string
	raw    string
	keys   []jose.JSONWebKey
}

func (k *Keys) fetch(ctx context.Context) (*fetched, error) {
	raw, err := k.config.Fetch(ctx, discoveryPath)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", discoveryPath, err)
	}
	var discovery struct {
		Issuer string `json:"issuer"`
	}
	if err := json.Unmarshal(raw, &discovery); err != nil || discovery.Issuer == "" {
		return nil, fmt.Errorf("%s of the API server names no issuer", discoveryPath)
	}
	if raw, err = k.config.Fetch(ctx, keysPath); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", keysPath, err)
	}
	keys, err := parseKeys(raw)
	return &fetched{issuer: discovery.Issuer, raw: string(raw), keys: keys}, err
}

// parseKeys reads a key set and keeps the public keys for signatures in it.
func parseKeys(raw []byte) ([]jose.JSONWebKey, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, fmt.Errorf("read the key set of the API server: %w", err)
	}
	keys := slices.DeleteFunc(set.Keys, func(key jose.JSONWebKey) bool {
		return !key.Valid() || !key.IsPublic() || key.Use != "" && key.Use != "sig"
	})
	if len(keys) == 0 {
		return nil, fmt.Errorf("the key set of the API server has no public key for signatures")
	}
	return keys, nil
}
