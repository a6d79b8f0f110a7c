package agent

import (
	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/cluster"
)

// makeClusters prepares what is known of the cluster that the agent runs in.
func (a *Agent) makeClusters() error {
	c, s := &a.config, &a.config.Settings
	var err error
	a.own, err = cluster.New(cluster.Config{
		Client: c.Kube, Rules: cluster.Rules{Audiences: s.TokenAudiences, Issuers: s.TokenIssuers},
		TokenReview: s.TokenReview, Now: c.Now, Logger: c.Logger,
	})
	if err != nil {
		return err
	}
	a.clusters, err = cluster.NewSet(cluster.SetConfig{Own: a.own, IDs: s.ClusterIDs})
	return err
}

// findCluster finds the cluster of a caller.
func (a *Agent) findCluster(id string) (caservice.Cluster, error) { return a.clusters.Find(id) }
