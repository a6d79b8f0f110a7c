package token_test

import (
	"context"
	"errors"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
)

// reviews answers as it is told.
type reviews struct {
	answer authenticationv1.TokenReviewStatus
	err    error
	asked  []authenticationv1.TokenReviewSpec
}

func (r *reviews) Create(ctx context.Context, review *authenticationv1.TokenReview, _ metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	r.asked = append(r.asked, review.Spec)
	if _, ok := ctx.Deadline(); !ok {
		return nil, errors.New("the call has no deadline")
	}
	return &authenticationv1.TokenReview{Status: r.answer}, r.err
}

func goodReview() authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true, Audiences: []string{"istio-ca"},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:demo:web", Groups: []string{"system:serviceaccounts", "system:authenticated"},
			Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {"web-0"}, "authentication.kubernetes.io/pod-uid": {"pod-1"},
			},
		},
	}
}

func TestReview(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*authenticationv1.TokenReviewStatus)
		want   bool
	}{
		"accepts/good":            {func(*authenticationv1.TokenReviewStatus) {}, true},
		"refuses/error":           {func(s *authenticationv1.TokenReviewStatus) { s.Error = "expired" }, false},
		"refuses/unauthenticated": {func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false }, false},
		"refuses/other-audience":  {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"vault"} }, false},
		"refuses/no-audience":     {func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil }, false},
		"refuses/other-group":     {func(s *authenticationv1.TokenReviewStatus) { s.User.Groups = []string{"system:nodes"} }, false},
		"refuses/user":            {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "admin" }, false},
		"refuses/five-parts":      {func(s *authenticationv1.TokenReviewStatus) { s.User.Username += ":x" }, false},
		"refuses/no-account":      {func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:demo:" }, false},
		"refuses/two-pods": {func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra["authentication.kubernetes.io/pod-name"] = []string{"a", "b"}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := goodReview()
			c.change(&answer)
			verifier, err := token.NewReview(&reviews{answer: answer}, []string{"istio-ca"}, now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := verifier.Verify(t.Context(), "a.b.c")
			if c.want && (err != nil || got != token.Subject{Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "pod-1"}) {
				t.Errorf("got %+v, %v", got, err)
			}
			if !c.want && !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestReviewUnavailable(t *testing.T) {
	t.Parallel()
	verifier, err := token.NewReview(&reviews{err: errors.New("connection refused")}, []string{"istio-ca"}, now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := verifier.Verify(t.Context(), "a.b.c"); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
}

// A good answer counts for seconds, a refusal not at all.
func TestReviewKept(t *testing.T) {
	t.Parallel()
	clock := now()
	api := &reviews{answer: goodReview()}
	verifier, err := token.NewReview(api, []string{"istio-ca"}, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := verifier.Verify(t.Context(), "a.b.c"); err != nil {
			t.Fatal(err)
		}
	}
	if len(api.asked) != 1 || api.asked[0].Token != "a.b.c" || api.asked[0].Audiences[0] != "istio-ca" {
		t.Errorf("asked %+v", api.asked)
	}
	api.answer = authenticationv1.TokenReviewStatus{}
	if _, err := verifier.Verify(t.Context(), "a.b.d"); err == nil {
		t.Error("another token was accepted")
	}
	clock = clock.Add(6 * time.Second)
	for range 2 {
		if _, err := verifier.Verify(t.Context(), "a.b.c"); err == nil {
			t.Error("an old answer was kept")
		}
	}
	if len(api.asked) != 4 {
		t.Errorf("asked %d times", len(api.asked))
	}
}
