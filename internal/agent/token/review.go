package token

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/fault"
)

// Reviews is the part of the API server's client that Review needs; client-go's TokenReviews has it.
type Reviews interface {
	Create(ctx context.Context, review *authenticationv1.TokenReview, options metav1.CreateOptions) (*authenticationv1.TokenReview, error)
}

const (
	reviewTimeout = 5 * time.Second
	// A token that was good a moment ago is good: a proxy that retries does not cost another review.
	reviewKept = 5 * time.Second
	reviewMost = 10_000
)

// What a review says of a token's Pod and node (k8s.io/apiserver/pkg/authentication/serviceaccount).
const (
	extraPod    = "authentication.kubernetes.io/pod-name"
	extraPodUID = "authentication.kubernetes.io/pod-uid"
	extraNode   = "authentication.kubernetes.io/node-name"
	accounts    = "system:serviceaccounts"
)

// Review asks the API server about each token, and remembers good ones for seconds. Safe for concurrent use.
type Review struct {
	reviews   Reviews
	audiences []string
	now       func() time.Time
	good      *lru.Cache[[sha256.Size]byte, reviewed]
}

// reviewed is a good answer and how long it counts.
type reviewed struct {
	subject Subject
	until   time.Time
}

// NewReview returns a verifier of tokens that have one of the audiences.
func NewReview(reviews Reviews, audiences []string, now func() time.Time) (*Review, error) {
	if reviews == nil || len(audiences) == 0 || now == nil {
		return nil, errors.New("verifier of tokens: client, audiences or clock are missing")
	}
	good, err := lru.New[[sha256.Size]byte, reviewed](reviewMost)
	if err != nil {
		return nil, fmt.Errorf("make room for verified tokens: %w", err)
	}
	return &Review{reviews: reviews, audiences: audiences, now: now, good: good}, nil
}

// Ready returns nil: whether the API server answers is asked with each token.
func (r *Review) Ready() error { return nil }

// Verify returns who holds the token. It fails with fault.Unauthenticated for a token that is not accepted, with an
// empty Subject, and with fault.Unavailable when the API server cannot be asked.
func (r *Review) Verify(ctx context.Context, raw string) (Subject, error) {
	if err := checkShape(raw); err != nil {
		return Subject{}, err
	}
	hash := sha256.Sum256([]byte(raw))
	asked := r.now()
	if known, ok := r.good.Get(hash); ok && asked.Before(known.until) {
		return known.subject, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	answer, err := r.reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: raw, Audiences: r.audiences},
	}, metav1.CreateOptions{})
	if err != nil {
		return Subject{}, fault.Wrap(err, fault.Unavailable, "the API server cannot be asked about the token")
	}
	subject, err := r.read(&answer.Status)
	if err != nil {
		return Subject{}, err
	}
	r.good.Add(hash, reviewed{subject: subject, until: asked.Add(reviewKept)})
	return subject, nil
}

// read takes the API server's answer apart.
func (r *Review) read(status *authenticationv1.TokenReviewStatus) (Subject, error) {
	switch {
	case status.Error != "":
		return Subject{}, fault.Wrap(errors.New(status.Error), fault.Unauthenticated, "the API server does not accept the token")
	case !status.Authenticated:
		return Subject{}, refuse("the API server does not accept the token")
	case !slices.ContainsFunc(status.Audiences, func(got string) bool { return slices.Contains(r.audiences, got) }):
		return Subject{}, refuse("the token's audience is %.200q; %q is expected", status.Audiences, r.audiences)
	case !slices.Contains(status.User.Groups, accounts):
		return Subject{}, refuse("the token's user %.200q is not in group %s", status.User.Username, accounts)
	}
	parts := strings.Split(status.User.Username, ":")
	if len(parts) != 4 || parts[0] != "system" || parts[1] != "serviceaccount" || parts[2] == "" || parts[3] == "" {
		return Subject{}, refuse("the token's user %.200q is not a ServiceAccount", status.User.Username)
	}
	subject := Subject{Namespace: parts[2], ServiceAccount: parts[3]}
	for name, to := range map[string]*string{extraPod: &subject.Pod, extraPodUID: &subject.PodUID, extraNode: &subject.Node} {
		values := status.User.Extra[name]
		if len(values) > 1 {
			return Subject{}, refuse("the API server's answer has %d values of %s", len(values), name)
		}
		if len(values) == 1 {
			*to = values[0]
		}
	}
	return subject, nil
}
