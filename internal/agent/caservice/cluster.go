package caservice

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
)

// Cluster is a Kubernetes cluster whose workloads call. Implementations are safe for concurrent use.
type Cluster interface {
	// Name is what the inventory calls the cluster, "" for the one that the agent runs in.
	Name() string
	// Verify returns who holds a token of the cluster: fault.Unauthenticated for one that is not accepted,
	// fault.Unavailable when that cannot be known. Beside an error the Subject may say whose the token is, for the Event.
	Verify(ctx context.Context, raw string) (token.Subject, error)
	// Pod and RunsOn: see kube.Watch.
	Pod(ctx context.Context, namespace, name, uid string) (kube.Pod, error)
	RunsOn(ctx context.Context, node, namespace, account string) ([]kube.Pod, error)
	// Tell writes an Event on a Pod. It does not block.
	Tell(pod kube.Pod, reason, sentence string)
}

// Clusters finds the cluster by the name that a caller has for it; "" is the one that the agent runs in, which is always
// found. For a name that no cluster has it returns fault.Unauthenticated, with a sentence that says which are expected,
// and fault.Unavailable as long as that cannot be known.
type Clusters func(id string) (Cluster, error)

// claimedCluster returns the cluster that a caller says it is of. As in istiod, a name that is sent more than once is none
// (istio security/pkg/server/ca/authenticate/kubeauth).
func claimedCluster(header metadata.MD) string {
	if ids := header.Get("clusterid"); len(ids) == 1 {
		return ids[0]
	}
	return ""
}

// verify finds out who holds a token, with the keys and objects of the cluster that the caller says it is of: a token of
// another cluster is signed by another key.
func (a *attempt) verify(ctx context.Context, raw string) error {
	find := a.service.config.Clusters
	home, unknown := find(a.caller.cluster)
	if fault.Is(unknown, fault.Unavailable) {
		return unknown
	}
	if unknown != nil {
		// A name that does not match is the commonest mistake of set-ups: the Pod is told, if it is one of ours.
		own, err := find("")
		if err != nil {
			return err
		}
		home = own
	}
	subject, err := home.Verify(ctx, raw)
	a.caller.home, a.caller.subject = home, subject
	if unknown != nil {
		return unknown
	}
	return err
}
