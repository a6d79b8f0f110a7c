package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/certloom/certloom/internal/agent/token"
)

// rights are what a kubeconfig lets us do. Those of Istio's own remote Secrets suffice to ask the API server about tokens
// and to watch Pods (istio-reader-clusterrole), and for nothing of this.
type rights struct {
	verify  bool // get the keys, list and watch ServiceAccounts and Pods
	events  bool
	publish bool // what SetConfig.Publish needs
}

// rightsTimeout bounds the questions about rights together.
const rightsTimeout = 10 * time.Second

// ask asks an API server what we may do. Every user may ask that (ClusterRole system:basic-user); where it is forbidden,
// there are no rights.
func (r *remote) ask(ctx context.Context) (rights, error) {
	ctx, cancel := context.WithTimeout(ctx, rightsTimeout)
	defer cancel()
	read := []string{"get", "list", "watch"}
	var may rights
	for _, question := range []struct {
		answer *bool
		wanted []authorizationv1.SelfSubjectAccessReviewSpec
	}{
		{&may.verify, append(reviewed(slices.Concat(Verbs(read, "", "serviceaccounts"), Verbs(read, "", "pods"))), keyReviews()...)},
		{&may.events, reviewed(Verbs([]string{"create", "patch"}, "", "events"))},
		{&may.publish, reviewed(r.config.PublishNeeds)},
	} {
		*question.answer = len(question.wanted) > 0
		for i := range question.wanted {
			ok, err := permitted(ctx, r.client, &question.wanted[i])
			if err != nil {
				return rights{}, err
			}
			if !ok {
				*question.answer = false
				break
			}
		}
	}
	return may, nil
}

// Verbs lists what is done with a resource, in all namespaces.
func Verbs(verbs []string, group, resource string) []authorizationv1.ResourceAttributes {
	wanted := make([]authorizationv1.ResourceAttributes, 0, len(verbs))
	for _, verb := range verbs {
		wanted = append(wanted, authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource})
	}
	return wanted
}

// reviewed asks for each.
func reviewed(wanted []authorizationv1.ResourceAttributes) []authorizationv1.SelfSubjectAccessReviewSpec {
	specs := make([]authorizationv1.SelfSubjectAccessReviewSpec, len(wanted))
	for i := range wanted {
		specs[i].ResourceAttributes = &wanted[i]
	}
	return specs
}

// keyReviews ask for the keys that tokens are signed with. ServiceAccounts may get them (ClusterRole
// system:service-account-issuer-discovery); a user with a client certificate may not by default.
func keyReviews() []authorizationv1.SelfSubjectAccessReviewSpec {
	var specs []authorizationv1.SelfSubjectAccessReviewSpec
	for _, path := range token.Paths() {
		specs = append(specs, authorizationv1.SelfSubjectAccessReviewSpec{
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: "get"},
		})
	}
	return specs
}

func permitted(ctx context.Context, client kubernetes.Interface, wanted *authorizationv1.SelfSubjectAccessReviewSpec) (bool, error) {
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: *wanted,
	}, metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("ask the API server what is permitted: %w", err)
	default:
		return review.Status.Allowed, nil
	}
}
