package cluster

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// register registers the numbers of remote clusters, by state.
func (s *Set) register(registerer prometheus.Registerer) error {
	for _, state := range []string{stateReady, stateUnreachable, stateRefused, stateDuplicate} {
		gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_remote_clusters",
			Help: "Remote clusters that Secrets name, by state: ready, unreachable (their API server does not answer, or has not told everything " +
				"yet), refused (kubeconfig or ID not accepted), duplicate (the ID is another cluster's).",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(s.count(state)) })
		if err := registerer.Register(gauge); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

// count returns how many remote clusters are in a state.
func (s *Set) count(state string) int {
	known, n := s.found.Load(), 0
	if known == nil {
		return 0
	}
	for _, r := range known.remotes {
		if r.state() == state {
			n++
		}
	}
	for _, e := range known.broken {
		if e.state == state {
			n++
		}
	}
	return n
}
