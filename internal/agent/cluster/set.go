package cluster

import (
	"context"
	"errors"
	"slices"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
)

// Member is a cluster of a Set.
type Member interface {
	Name() string
	Verify(ctx context.Context, raw string) (token.Subject, error)
	Pod(ctx context.Context, namespace, name, uid string) (kube.Pod, error)
	RunsOn(ctx context.Context, node, namespace, account string) ([]kube.Pod, error)
	Tell(pod kube.Pod, reason, sentence string)
}

// SetConfig is what a Set needs.
type SetConfig struct {
	Own *Cluster
	// IDs are the names by which callers may know Own: its own, and aliases.
	IDs []string
}

// Set finds clusters by the names that callers have for them. Safe for concurrent use.
type Set struct {
	config SetConfig
}

// NewSet checks the configuration.
func NewSet(config SetConfig) (*Set, error) {
	if config.Own == nil || len(config.IDs) == 0 {
		return nil, errors.New("set of clusters: Own or IDs is missing")
	}
	return &Set{config: config}, nil
}

// Find returns the cluster of that name; "" is our own, which is always found. For a name that no cluster has it returns
// fault.Unauthenticated, with a sentence that says which are expected, and fault.Unavailable while that is not known.
func (s *Set) Find(id string) (Member, error) {
	if id == "" || slices.Contains(s.config.IDs, id) {
		return s.config.Own, nil
	}
	return nil, fault.New(fault.Unauthenticated,
		"the caller's cluster ID is %.200q; %q is expected (--cluster-id here, global.multiCluster.clusterName in Istio)", id, s.config.IDs)
}
