package token_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
)

func TestLocalAccepts(t *testing.T) {
	t.Parallel()
	want := token.Subject{Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "pod-1", Node: "node-1"}
	unbound := map[string]any{"kubernetes.io": map[string]any{
		"namespace": "demo", "serviceaccount": map[string]any{"name": "web", "uid": "account-1"},
	}}
	// What newer API servers may say beside the Pod that a token is bound to: as they did with its node.
	news := map[string]any{"kubernetes.io": map[string]any{
		"namespace": "demo", "serviceaccount": map[string]any{"name": "web", "uid": "account-1"}, "warnafter": 1,
		"pod": map[string]any{"name": "web-0", "uid": "pod-1"}, "node": map[string]any{"name": "node-1"}, "zone": "a",
	}}
	for name, c := range map[string]struct {
		algorithm jose.SignatureAlgorithm
		claims    map[string]any
		want      token.Subject
	}{
		"rs256":             {jose.RS256, nil, want},
		"es256":             {jose.ES256, nil, want},
		"es384":             {jose.ES384, nil, want},
		"audience-of-many":  {jose.ES256, map[string]any{"aud": []string{"x", "istio-ca"}}, want},
		"audience-a-string": {jose.ES256, map[string]any{"aud": "istio-ca"}, want},
		"within-leeway":     {jose.ES256, map[string]any{"exp": now().Add(-59 * time.Second).Unix()}, want},
		"news-of-the-pod":   {jose.ES256, news, want},
		"bound-to-nothing":  {jose.ES256, unbound, token.Subject{Namespace: "demo", ServiceAccount: "web"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, s := newLab(), newSigner(t, "key-1", c.algorithm)
			l.publish(s.public())
			got, err := l.verifier(t).Verify(t.Context(), s.sign(t, claims(c.claims), nil))
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestLocalRefuses(t *testing.T) {
	t.Parallel()
	s, other := newSigner(t, "key-1", jose.ES256), newSigner(t, "key-1", jose.ES256)
	l := newLab()
	l.publish(s.public())
	verifier := l.verifier(t)
	good := s.sign(t, claims(nil), nil)
	bound := func(kind, name string) map[string]any {
		return map[string]any{"kubernetes.io": map[string]any{
			"namespace": "demo", "serviceaccount": map[string]any{"name": "web", "uid": "account-1"}, kind: map[string]any{"name": name, "uid": "x"},
		}}
	}
	for name, c := range map[string]struct {
		raw    string
		reason string
	}{
		"empty":             {"", "is empty"},
		"two-parts":         {"a.b", "three parts"},
		"five-parts":        {"a.b.c.d.e", "three parts"},
		"too-long":          {strings.Repeat("a", 17<<10), "more than"},
		"no-base64":         {"!.!.!", "not a JSON Web Token"},
		"alg-none":          {replacePart(good, 0, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"key-1"}`))), "not a JSON Web Token"},
		"alg-hs256":         {replacePart(good, 0, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"key-1"}`))), "not a JSON Web Token"},
		"alg-rs256":         {replacePart(good, 0, base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"key-1"}`))), "signature"},
		"other-payload":     {replacePart(good, 1, strings.Split(s.sign(t, claims(map[string]any{"sub": "x"}), nil), ".")[1]), "signature"},
		"other-signature":   {other.sign(t, claims(nil), nil), "signature"},
		"wrong-issuer":      {s.sign(t, claims(map[string]any{"iss": "https://elsewhere"}), nil), "issuer"},
		"wrong-audience":    {s.sign(t, claims(map[string]any{"aud": []string{"vault"}}), nil), "audience"},
		"no-audience":       {s.sign(t, claims(map[string]any{"aud": nil}), nil), "audience"},
		"expired":           {s.sign(t, claims(map[string]any{"exp": now().Add(-time.Minute - time.Second).Unix()}), nil), "expired"},
		"never-expires":     {s.sign(t, claims(map[string]any{"exp": nil}), nil), "never expires"},
		"not-yet-valid":     {s.sign(t, claims(map[string]any{"nbf": now().Add(2 * time.Minute).Unix()}), nil), "not valid yet"},
		"of-the-future":     {s.sign(t, claims(map[string]any{"iat": now().Add(2 * time.Minute).Unix()}), nil), "not valid yet"},
		"other-subject":     {s.sign(t, claims(map[string]any{"sub": "system:serviceaccount:demo:other"}), nil), "subject"},
		"no-kubernetes":     {s.sign(t, claims(map[string]any{"kubernetes.io": nil}), nil), "subject"},
		"unknown-critical":  {s.sign(t, claims(nil), map[jose.HeaderKey]any{"crit": []string{"x"}, "x": true}), "signature"},
		"bound-to-secret":   {s.sign(t, claims(bound("secret", "s")), nil), "Secret"},
		"bound-to-webhook":  {s.sign(t, claims(bound("validatingwebhookconfiguration", "w")), nil), "validatingwebhookconfiguration"},
		"bound-to-node":     {s.sign(t, claims(bound("node", "n")), nil), "node"},
		"pod-with-other-id": {s.sign(t, claims(bound("pod", "web-0")), nil), "created again"},
		"pod-that-is-gone":  {s.sign(t, claims(bound("pod", "web-9")), nil), "does not exist"},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			_, err := verifier.Verify(t.Context(), c.raw)
			if !fault.Is(err, fault.Unauthenticated) || !strings.Contains(err.Error(), c.reason) {
				t.Errorf("got %v, want a refusal that says %q", err, c.reason)
			}
		})
	}
}

// What is bound to something that goes is good until the grace of API servers has passed.
func TestLocalDeleted(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "key-1", jose.ES256)
	raw := s.sign(t, claims(nil), nil)
	for name, c := range map[string]struct {
		change func(*lab)
		want   bool
	}{
		"pod-is-going":     {func(l *lab) { l.pods["demo/web-0"] = kube.Pod{UID: "pod-1", Deleted: now().Add(-30 * time.Second)} }, true},
		"pod-is-overdue":   {func(l *lab) { l.pods["demo/web-0"] = kube.Pod{UID: "pod-1", Deleted: now().Add(-2 * time.Minute)} }, false},
		"account-is-going": {func(l *lab) { l.accounts["demo/web"] = kube.ServiceAccount{UID: "account-1", Deleted: now()} }, true},
		"account-is-overdue": {func(l *lab) {
			l.accounts["demo/web"] = kube.ServiceAccount{UID: "account-1", Deleted: now().Add(-time.Hour)}
		}, false},
		"account-made-again":  {func(l *lab) { l.accounts["demo/web"] = kube.ServiceAccount{UID: "account-2"} }, false},
		"account-that-is-not": {func(l *lab) { delete(l.accounts, "demo/web") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			l.publish(s.public())
			c.change(l)
			subject, err := l.verifier(t).Verify(t.Context(), raw)
			if (err == nil) != c.want {
				t.Errorf("got %v", err)
			}
			if subject.Pod != "web-0" {
				t.Errorf("the Pod to tell is %+v", subject)
			}
		})
	}
}

// A caller is told to come again when it cannot be known whether its token is good.
func TestLocalUnavailable(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "key-1", jose.ES256)
	raw := s.sign(t, claims(nil), nil)
	t.Run("no-keys", func(t *testing.T) {
		t.Parallel()
		l := newLab()
		l.down = true
		verifier := l.verifier(t)
		if verifier.Ready() == nil {
			t.Error("ready without keys")
		}
		if _, err := verifier.Verify(t.Context(), raw); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("no-lookup", func(t *testing.T) {
		t.Parallel()
		l := newLab()
		l.publish(s.public())
		l.lookup = fault.New(fault.Unavailable, "no answer")
		if _, err := l.verifier(t).Verify(t.Context(), raw); !fault.Is(err, fault.Unavailable) {
			t.Errorf("got %v", err)
		}
	})
}

// A new key is found at once, an old one is forgotten, and made-up key IDs do not make us ask again and again.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	l := newLab()
	first, second := newSigner(t, "key-1", jose.RS256), newSigner(t, "key-2", jose.ES256)
	l.publish(first.public())
	verifier := l.verifier(t)
	verify := func(s signer) error {
		_, err := verifier.Verify(t.Context(), s.sign(t, claims(nil), nil))
		return err
	}
	if err := verify(first); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := verify(second); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("unknown key: %v", err)
		}
	}
	if l.fetched != 1 {
		t.Errorf("asked %d times within one instant", l.fetched)
	}
	l.publish(first.public(), second.public())
	l.pass(3 * time.Second)
	if err := verify(second); err != nil {
		t.Errorf("a key that the API server has by now: %v", err)
	}
	l.publish(second.public())
	l.pass(3 * time.Second)
	if err := verify(newSigner(t, "key-3", jose.ES256)); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("unknown key: %v", err)
	}
	if err := verify(first); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a key that the API server has dropped: %v", err)
	}
	withoutID := second
	withoutID.id = ""
	if err := verify(withoutID); err != nil {
		t.Errorf("a token that names no key: %v", err)
	}
}

func TestKeySets(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "key-1", jose.ES256)
	encryption := s.public()
	encryption.Use = "enc"
	private := jose.JSONWebKey{Key: s.key, KeyID: "key-1"}
	for name, c := range map[string]struct {
		keys []jose.JSONWebKey
		want error
	}{
		"for-encryption": {keys: []jose.JSONWebKey{encryption}},
		"private":        {keys: []jose.JSONWebKey{private}},
		"symmetric":      {keys: []jose.JSONWebKey{{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "key-1"}}},
		"none":           {},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab()
			l.publish(c.keys...)
			_, err := l.verifier(t).Verify(t.Context(), s.sign(t, claims(nil), nil))
			if !fault.Is(err, fault.Unavailable) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Nothing but a token that was really signed is accepted, and nothing makes the verifier fall over.
func FuzzLocal(f *testing.F) {
	l, s := newLab(), newSigner(f, "key-1", jose.ES256)
	l.publish(s.public())
	verifier := l.verifier(f)
	good := s.sign(f, claims(nil), nil)
	if _, err := verifier.Verify(f.Context(), good); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(replacePart(good, 2, ""))
	f.Add(replacePart(good, 0, "eyJhbGciOiJub25lIn0"))
	f.Add("eyJhbGciOiJFUzI1NiIsImtpZCI6ImtleS0xIn0.e30.AA")
	f.Add("..")
	head, _, _ := strings.Cut(good, ".")
	f.Fuzz(func(t *testing.T, raw string) {
		for _, candidate := range []string{raw, head + "." + raw} {
			subject, err := verifier.Verify(t.Context(), candidate)
			if err == nil && strings.Join(strings.Split(candidate, ".")[:2], ".") != strings.Join(strings.Split(good, ".")[:2], ".") {
				t.Errorf("accepted %q as %+v", candidate, subject)
			}
			if err != nil && fault.From(err).Kind == fault.Internal {
				t.Errorf("%q: %v", candidate, err)
			}
		}
	})
}

func TestSubjectIsEmptyForForgeries(t *testing.T) {
	t.Parallel()
	l, s := newLab(), newSigner(t, "key-1", jose.ES256)
	l.publish(s.public())
	forged := newSigner(t, "key-1", jose.ES256).sign(t, claims(nil), nil)
	got, err := l.verifier(t).Verify(t.Context(), forged)
	if diff := cmp.Diff(token.Subject{}, got); err == nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}
