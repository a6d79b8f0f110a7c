package publish

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Outcomes of writes.
const (
	created  = "created"
	repaired = "repaired"
	cleared  = "cleared"
	failed   = "failed"
)

// metrics are the publisher's own numbers.
type metrics struct {
	roots, lists, bundles *prometheus.CounterVec // by outcome
}

func newMetrics(registerer prometheus.Registerer, p *Publisher) (*metrics, error) {
	var problem error
	register := func(c prometheus.Collector) {
		if err := registerer.Register(c); err != nil && problem == nil {
			problem = fmt.Errorf("register metrics: %w", err)
		}
	}
	writes := func(o prometheus.CounterOpts, outcomes ...string) *prometheus.CounterVec {
		vec := prometheus.NewCounterVec(o, []string{"outcome"})
		for _, outcome := range outcomes {
			vec.WithLabelValues(outcome)
		}
		register(vec)
		return vec
	}
	m := &metrics{
		roots: writes(prometheus.CounterOpts{
			Name: "certloom_agent_root_configmaps_total",
			Help: "Writes of ConfigMaps with the roots, by outcome: created, repaired, failed (to be tried again).",
		}, created, repaired, failed),
		lists: writes(prometheus.CounterOpts{
			Name: "certloom_agent_crl_configmaps_total",
			Help: "Writes of ConfigMaps with revocation lists, by outcome: created, repaired, cleared (lists taken away), failed (to be tried again).",
		}, created, repaired, cleared, failed),
		bundles: writes(prometheus.CounterOpts{
			Name: "certloom_agent_trust_bundles_total",
			Help: "Writes of ClusterTrustBundles, by outcome: created, repaired, failed (to be tried again).",
		}, created, repaired, failed),
	}
	for _, gauge := range append(p.stateGauges(), p.troubleGauges()...) {
		register(gauge)
	}
	return m, problem
}

// stateGauges say how things are.
func (p *Publisher) stateGauges() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_leader",
			Help: "1 while this replica writes the roots into the cluster.",
		}, func() float64 {
			if p.leads.Load() {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_root_expiry_timestamp_seconds",
			Help: "When the first root of the trust bundle expires, in Unix time; 0 before it is known.",
		}, func() float64 {
			if bundle := p.config.Source.Bundle(); bundle != nil {
				return float64(bundle.Expiry().Unix())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_istiod_expiry_timestamp_seconds",
			Help: "When istiod's certificate expires, in Unix time; 0 where this replica does not keep it.",
		}, p.whileLeading(func() float64 {
			if p.istiod == nil {
				return 0
			}
			return float64(p.istiod.expiry.Load())
		})),
	}
}

// troubleGauges say what somebody has to look after.
func (p *Publisher) troubleGauges() []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_istiod_shut_pods",
			Help: "Pods of istiod that started before its certificate was there and serve nothing on port 15012.",
		}, p.whileLeading(func() float64 {
			if p.istiod == nil {
				return 0
			}
			return float64(p.istiod.early.shut.Load())
		})),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_crl_bytes",
			Help: "Size of the revocation lists for ConfigMaps, which take 1048576 bytes; 0 when there are none.",
		}, func() float64 { return float64(p.lists.size.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_crl_withheld",
			Help: "1 while there are revocation lists, or ought to be, that are not published: the log has the reason.",
		}, p.whileLeading(p.lists.withheld)),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_contested_objects",
			Help: "Objects that this replica writes and that somebody else changes back again and again.",
		}, p.whileLeading(func() float64 {
			n := 0
			for _, c := range p.contests {
				n += c.open()
			}
			return float64(n)
		})),
	}
}

// whileLeading is 0 on replicas that do not write.
func (p *Publisher) whileLeading(value func() float64) func() float64 {
	return func() float64 {
		if !p.leads.Load() {
			return 0
		}
		return value()
	}
}
