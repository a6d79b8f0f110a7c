package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/fault"
)

// Cluster is what Local asks about the cluster. Both methods return fault.NotFound and fault.Unavailable; an object with
// another UID than the wanted one is returned only when that is certain to be the newest.
type Cluster interface {
	ServiceAccount(ctx context.Context, namespace, name, uid string) (kube.ServiceAccount, error)
	Pod(ctx context.Context, namespace, name, uid string) (kube.Pod, error)
}

// Local verifies tokens without asking the API server for each. Safe for concurrent use.
type Local struct {
	keys      *Keys
	cluster   Cluster
	audiences []string
	now       func() time.Time
	// signed remembers tokens whose signature was good, by their hash: a workload shows the same one for hours.
	signed *lru.Cache[[sha256.Size]byte, signedToken]
}

// signedToken is what a token says whose signature was good while the keys were of that generation.
type signedToken struct {
	claims     *claims
	generation uint64
}

// maxSigned bounds what is remembered, at about 1 KB each.
const maxSigned = 20_000

// NewLocal returns a verifier of tokens that have one of the audiences.
func NewLocal(keys *Keys, cluster Cluster, audiences []string, now func() time.Time) (*Local, error) {
	if keys == nil || cluster == nil || now == nil || len(audiences) == 0 {
		return nil, errors.New("verifier of tokens: keys, cluster, audiences or clock is missing")
	}
	signed, err := lru.New[[sha256.Size]byte, signedToken](maxSigned)
	if err != nil {
		return nil, fmt.Errorf("make room for verified tokens: %w", err)
	}
	return &Local{keys: keys, cluster: cluster, audiences: audiences, now: now, signed: signed}, nil
}

// Ready returns nil when tokens can be verified.
func (l *Local) Ready() error { return l.keys.Ready() }

// algorithms returns those that API servers sign with. None of them is symmetric, so a public key cannot be mistaken
// for a shared secret.
func algorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512}
}

// leeway is that of API servers, for clocks that differ and for Pods that are being deleted.
const leeway = jwt.DefaultLeeway

// Verify returns who holds the token. It fails with fault.Unauthenticated for a token that is not accepted and with
// fault.Unavailable when that cannot be known now. Beside an error, the Subject says what the token claims if its
// signature was good, so that its Pod can be told; otherwise it is empty.
func (l *Local) Verify(ctx context.Context, raw string) (Subject, error) {
	if err := checkShape(raw); err != nil {
		return Subject{}, err
	}
	verified, err := l.read(ctx, raw)
	if err != nil {
		return Subject{}, err
	}
	if ok, accepted := l.keys.Accepts(verified.Issuer); !ok {
		return Subject{}, refuse("the token's issuer is %.200q; %q is expected", verified.Issuer, accepted)
	}
	subject := verified.holder()
	if err := l.checkClaims(verified); err != nil {
		return subject, err
	}
	if err := l.checkObjects(ctx, verified); err != nil {
		return subject, err
	}
	return subject, nil
}

// read returns the claims of a token whose signature is good. That does not change while the keys stay the same;
// everything else about a token is checked each time.
func (l *Local) read(ctx context.Context, raw string) (*claims, error) {
	hash, generation := sha256.Sum256([]byte(raw)), l.keys.generation()
	if known, ok := l.signed.Get(hash); ok && known.generation == generation {
		return known.claims, nil
	}
	parsed, err := jwt.ParseSigned(raw, algorithms())
	if err != nil {
		return nil, fault.Wrap(err, fault.Unauthenticated, "the bearer token is not a JSON Web Token signed with RS256, ES256, ES384 or ES512")
	}
	verified, err := l.verifySignature(ctx, parsed)
	if err != nil {
		return nil, err
	}
	// With the generation of before: if the keys have changed meanwhile, the token is verified again next time.
	l.signed.Add(hash, signedToken{verified, generation})
	return verified, nil
}

// verifySignature returns the claims of a token that one of the API server's keys has signed.
func (l *Local) verifySignature(ctx context.Context, parsed *jwt.JSONWebToken) (*claims, error) {
	header := parsed.Headers[0] // a compact token has one
	keys, err := l.keys.Find(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		if !fits(&keys[i], jose.SignatureAlgorithm(header.Algorithm)) {
			continue
		}
		var verified claims
		if err := parsed.Claims(keys[i].Key, &verified); err == nil {
			return &verified, nil
		}
	}
	return nil, refuse("the token's signature was not made by the API server's key %.80q", header.KeyID)
}

// fits reports whether a key is used with an algorithm: that which it says, or that of its kind (RFC 7518 section 3.1).
func fits(key *jose.JSONWebKey, algorithm jose.SignatureAlgorithm) bool {
	if key.Algorithm != "" {
		return key.Algorithm == string(algorithm)
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return algorithm == jose.RS256
	case *ecdsa.PublicKey:
		switch public.Curve.Params().BitSize {
		case 256:
			return algorithm == jose.ES256
		case 384:
			return algorithm == jose.ES384
		case 521:
			return algorithm == jose.ES512
		}
	case ed25519.PublicKey: // API servers do not sign with it
	}
	return false
}

// holder returns what the claims say.
func (c *claims) holder() Subject {
	subject := Subject{Namespace: c.Kubernetes.Namespace, ServiceAccount: c.Kubernetes.ServiceAccount.Name}
	if c.Kubernetes.Pod != nil {
		subject.Pod, subject.PodUID = c.Kubernetes.Pod.Name, c.Kubernetes.Pod.UID
	}
	if c.Kubernetes.Node != nil {
		subject.Node = c.Kubernetes.Node.Name
	}
	return subject
}

// checkClaims checks what the token says of itself.
func (l *Local) checkClaims(c *claims) error {
	if !slices.ContainsFunc(l.audiences, c.Audience.Contains) {
		return refuse("the token's audience is %.200q; %q is expected", []string(c.Audience), l.audiences)
	}
	if c.Expiry == nil {
		return refuse("the token never expires; only tokens that do are accepted")
	}
	now := l.now()
	err := c.ValidateWithLeeway(jwt.Expected{Time: now}, leeway)
	switch {
	case errors.Is(err, jwt.ErrExpired):
		return refuse("the token expired at %s, it is %s now", c.Expiry.Time().UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrNotValidYet), errors.Is(err, jwt.ErrIssuedInTheFuture):
		return refuse("the token is not valid yet at %s", now.UTC().Format(time.RFC3339))
	case err != nil:
		return fault.Wrap(err, fault.Unauthenticated, "the token's claims are not good")
	}
	k := &c.Kubernetes
	if k.Namespace == "" || k.ServiceAccount.Name == "" || k.ServiceAccount.UID == "" ||
		c.Subject != "system:serviceaccount:"+k.Namespace+":"+k.ServiceAccount.Name {
		return refuse("the token's subject %.200q is not the ServiceAccount of its claims, %.200q", c.Subject, k.Namespace+"/"+k.ServiceAccount.Name)
	}
	return nil
}

// checkObjects checks that what the token is bound to still exists.
func (l *Local) checkObjects(ctx context.Context, c *claims) error {
	k := &c.Kubernetes
	account, err := l.cluster.ServiceAccount(ctx, k.Namespace, k.ServiceAccount.Name, k.ServiceAccount.UID)
	switch {
	case err != nil:
		return gone(err)
	case account.UID != k.ServiceAccount.UID:
		return refuse("the token is of ServiceAccount %s/%s with UID %.80q, which has been deleted and created again with UID %s",
			k.Namespace, k.ServiceAccount.Name, k.ServiceAccount.UID, account.UID)
	case l.overdue(account.Deleted):
		return refuse("ServiceAccount %s/%s has been deleted", k.Namespace, k.ServiceAccount.Name)
	case k.Secret != nil:
		// To look at Secrets, the agent would have to be allowed to read those of the whole cluster.
		return refuse("the token is bound to Secret %.200q; only tokens that are bound to a Pod or to nothing are verified here", k.Secret.Name)
	case k.Pod == nil && k.Node != nil:
		// A workload's token is bound to its Pod. One of a node would cost a watch of all nodes, and says of no Pod that it exists.
		return refuse("the token is bound to node %.200q; only tokens that are bound to a Pod or to nothing are verified here", k.Node.Name)
	case k.Pod == nil && len(k.others) > 0:
		// An object that newer API servers bind tokens to: they look whether it still exists.
		return refuse("the token is bound to something else, %.200q; only tokens that are bound to a Pod or to nothing are verified here", k.others)
	case k.Pod == nil:
		return nil
	}
	pod, err := l.cluster.Pod(ctx, k.Namespace, k.Pod.Name, k.Pod.UID)
	switch {
	case err != nil:
		return gone(err)
	case pod.UID != k.Pod.UID:
		return refuse("the token is of Pod %s/%s with UID %.80q, which has been deleted and created again with UID %s",
			k.Namespace, k.Pod.Name, k.Pod.UID, pod.UID)
	case l.overdue(pod.Deleted):
		return refuse("Pod %s/%s has been deleted", k.Namespace, k.Pod.Name)
	}
	return nil
}

// overdue reports whether something should have gone so long ago that its tokens count no more.
func (l *Local) overdue(deleted time.Time) bool {
	return !deleted.IsZero() && deleted.Before(l.now().Add(-leeway))
}

// gone makes a refusal of "does not exist", and hands on that it cannot be known.
func gone(err error) error {
	if fault.Is(err, fault.NotFound) {
		return fault.Wrap(err, fault.Unauthenticated, "what the token is bound to does not exist")
	}
	return err
}
