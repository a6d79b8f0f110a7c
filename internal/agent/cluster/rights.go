package cluster

import (
	"context"
	"fmt"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// rights are what a kubeconfig lets us do. Those of Istio's own remote Secrets suffice to ask the API server about tokens
// and to watch Pods (istio-reader-clusterrole), and not to verify tokens here or to write Events.
type rights struct {
	verify bool // list and watch ServiceAccounts and Pods
	events bool
}

// rightsTimeout bounds the questions about rights together.
const rightsTimeout = 10 * time.Second

// ask asks an API server what we may do. Every user may ask that (ClusterRole system:basic-user); where it is forbidden,
// there are no rights.
func ask(ctx context.Context, client kubernetes.Interface) (rights, error) {
	ctx, cancel := context.WithTimeout(ctx, rightsTimeout)
	defer cancel()
	all := func(verbs []string, resources ...string) (bool, error) {
		for _, resource := range resources {
			for _, verb := range verbs {
				if ok, err := may(ctx, client, verb, resource); !ok {
					return false, err
				}
			}
		}
		return true, nil
	}
	var may rights
	var err error
	if may.verify, err = all([]string{"get", "list", "watch"}, "serviceaccounts", "pods"); err != nil {
		return rights{}, err
	}
	may.events, err = all([]string{"create", "patch"}, "events")
	return may, err
}

func may(ctx context.Context, client kubernetes.Interface, verb, resource string) (bool, error) {
	review, err := client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Resource: resource},
		},
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
