package token_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
)

const testIssuer = "https://kubernetes.default.svc"

func now() time.Time { return time.Date(2026, time.March, 10, 12, 0, 0, 0, time.UTC) }

// lab is an API server as far as tokens are concerned, and a cluster.
type lab struct {
	mu      sync.Mutex
	keys    []jose.JSONWebKey
	down    bool
	fetched int
	clock   time.Time

	accounts map[string]kube.ServiceAccount
	pods     map[string]kube.Pod
	lookup   error
}

func newLab() *lab {
	return &lab{
		clock:    now(),
		accounts: map[string]kube.ServiceAccount{"demo/web": {Namespace: "demo", Name: "web", UID: "account-1"}},
		pods:     map[string]kube.Pod{"demo/web-0": {Namespace: "demo", Name: "web-0", UID: "pod-1", ServiceAccount: "web", Node: "node-1"}},
	}
}

func (l *lab) fetch(_ context.Context, path string) ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.down:
		return nil, errors.New("connection refused")
	case path == "/.well-known/openid-configuration":
		return fmt.Appendf(nil, `{"issuer":%q}`, testIssuer), nil
	}
	l.fetched++
	return json.Marshal(jose.JSONWebKeySet{Keys: l.keys})
}

func (l *lab) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.clock
}

func (l *lab) pass(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clock = l.clock.Add(d)
}

func (l *lab) publish(keys ...jose.JSONWebKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = keys
}

func (l *lab) ServiceAccount(_ context.Context, namespace, name, _ string) (kube.ServiceAccount, error) {
	found, ok := l.accounts[namespace+"/"+name]
	if l.lookup != nil {
		return found, l.lookup
	}
	if !ok {
		return found, fault.New(fault.NotFound, "no such ServiceAccount")
	}
	return found, nil
}

func (l *lab) Pod(_ context.Context, namespace, name, _ string) (kube.Pod, error) {
	found, ok := l.pods[namespace+"/"+name]
	if !ok {
		return found, fault.New(fault.NotFound, "no such Pod")
	}
	return found, nil
}

func (l *lab) newKeys(t testing.TB) *token.Keys {
	t.Helper()
	keys, err := token.NewKeys(token.KeysConfig{Fetch: l.fetch, Now: l.now, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func (l *lab) verifier(t testing.TB) *token.Local {
	t.Helper()
	local, err := token.NewLocal(l.newKeys(t), l, []string{"istio-ca"}, l.now)
	if err != nil {
		t.Fatal(err)
	}
	return local
}

// signer is a key of the API server.
type signer struct {
	id        string
	algorithm jose.SignatureAlgorithm
	key       crypto.Signer
}

func newSigner(t testing.TB, id string, algorithm jose.SignatureAlgorithm) signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch algorithm {
	case jose.RS256:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.ES384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	return signer{id, algorithm, key}
}

func (s signer) public() jose.JSONWebKey {
	return jose.JSONWebKey{Key: s.key.Public(), KeyID: s.id, Algorithm: string(s.algorithm), Use: "sig"}
}

// claims are those of a good token, with changes; nil removes a claim.
func claims(changes map[string]any) map[string]any {
	all := map[string]any{
		"iss": testIssuer, "sub": "system:serviceaccount:demo:web", "aud": []string{"istio-ca"},
		"exp": now().Add(time.Hour).Unix(), "iat": now().Add(-time.Minute).Unix(), "nbf": now().Add(-time.Minute).Unix(),
		"kubernetes.io": map[string]any{
			"namespace":      "demo",
			"serviceaccount": map[string]any{"name": "web", "uid": "account-1"},
			"pod":            map[string]any{"name": "web-0", "uid": "pod-1"},
			"node":           map[string]any{"name": "node-1", "uid": "node-uid"},
		},
	}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

// sign makes a token with any claims and further header fields.
func (s signer) sign(t testing.TB, body map[string]any, header map[jose.HeaderKey]any) string {
	t.Helper()
	options := &jose.SignerOptions{ExtraHeaders: header}
	var key any = jose.JSONWebKey{Key: s.key, KeyID: s.id}
	if s.id == "" {
		key = s.key
	}
	made, err := jose.NewSigner(jose.SigningKey{Algorithm: s.algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := made.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// replacePart puts another text in place of the n-th part of a token.
func replacePart(raw string, n int, text string) string {
	parts := strings.Split(raw, ".")
	parts[n] = text
	return strings.Join(parts, ".")
}
