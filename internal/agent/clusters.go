package agent

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/cluster"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/publish"
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
		Publish: a.publishRemotely, PublishNeeds: s.remoteNeeds(), Now: c.Now, Logger: c.Logger, Registerer: a.registry,
	})
	return err
}

// publishRemotely keeps the roots and the revocation lists in a remote cluster until ctx ends. istiod writes none where it has
// no CA of its own, and its certificate is a matter of the cluster that it runs in. Numbers of this are not counted among
// those of our own cluster.
func (a *Agent) publishRemotely(ctx context.Context, client kubernetes.Interface, logger *slog.Logger) error {
	c, s := &a.config, &a.config.Settings
	holder, err := a.holder()
	if err != nil {
		return err
	}
	crls, _ := a.issuer.(issuer.CRLSource) // nil for issuers whose CA gives none
	publisher, err := publish.New(publish.Config{
		Client: client, Source: a.issuer, LeaseNamespace: s.LeaseNamespace, LeaseName: publish.RemoteLeaseName, Identity: holder,
		RootMap: s.RootMap, Selector: s.NamespaceSelector, Workers: s.Workers, CRLMap: s.CRLMap, CRLs: crls,
		Now: c.Now, Random: c.Random, Logger: logger, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	return publisher.Run(ctx)
}

// remoteNeeds are what publishRemotely needs: deploy/agent/rbac-in-remote-cluster.yaml gives it.
func (s *Settings) remoteNeeds() []authorizationv1.ResourceAttributes {
	named := func(verbs []string, group, resource, namespace, name string) []authorizationv1.ResourceAttributes {
		wanted := cluster.Verbs(verbs, group, resource)
		for i := range wanted {
			wanted[i].Namespace, wanted[i].Name = namespace, name
		}
		return wanted
	}
	needs := slices.Concat(
		cluster.Verbs([]string{"list", "watch"}, "", "namespaces"),
		cluster.Verbs([]string{"create"}, "", "configmaps"),
		named([]string{"get", "list", "watch", "update"}, "", "configmaps", "", s.RootMap),
		named([]string{"create"}, "coordination.k8s.io", "leases", s.LeaseNamespace, ""),
		named([]string{"get", "update"}, "coordination.k8s.io", "leases", s.LeaseNamespace, publish.RemoteLeaseName),
	)
	if s.CRLMap != "" {
		needs = append(needs, named([]string{"get", "list", "watch", "update"}, "", "configmaps", "", s.CRLMap)...)
	}
	return needs
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
