package agent

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/cluster"
)

// makeClusters prepares what is known of the cluster that the agent runs in, and of remote ones.
func (a *Agent) makeClusters() error {
	c, s := &a.config, &a.config.Settings
	rules := cluster.Rules{Audiences: s.TokenAudiences, Issuers: s.TokenIssuers}
	var err error
	a.own, err = cluster.New(cluster.Config{
		Client: c.Kube, Rules: rules, TokenReview: s.TokenReview, Now: c.Now, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	a.clusters, err = cluster.NewSet(cluster.SetConfig{
		Own: a.own, IDs: s.ClusterIDs,
		Client: c.Kube, Namespace: s.RemoteClustersNamespace, Connect: c.Connect, Rules: rules, TokenReview: s.TokenReview,
		Now: c.Now, Logger: c.Logger, Registerer: a.registry,
	})
	return err
}

// checkClusters checks which clusters the agent serves.
func (s *Settings) checkClusters() []error {
	var problems []error
	if len(s.ClusterIDs) == 0 || !cluster.GoodID(s.ClusterIDs[0]) {
		problems = append(problems, fmt.Errorf("--cluster-id: %q does not begin with a name of 1 to 63 letters, digits, dots, hyphens and underscores",
			s.ClusterIDs))
	}
	if name := s.RemoteClustersNamespace; name != "" {
		if faults := validation.IsDNS1123Label(name); len(faults) > 0 {
			problems = append(problems, fmt.Errorf("--remote-clusters-namespace: %q is not a name in Kubernetes: %s", name, strings.Join(faults, "; ")))
		}
	}
	return problems
}

// findCluster finds the cluster of a caller.
func (a *Agent) findCluster(id string) (caservice.Cluster, error) { return a.clusters.Find(id) }
