package certmanager

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the issuer's own numbers. Labels come from closed sets.
type metrics struct {
	requests  *prometheus.CounterVec
	deletions *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer, i *Issuer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agent_upstream_requests_total",
			Help: "Certificates asked for from the CA, by outcome: issued, refused, failed, queue_full.",
		}, []string{"outcome"}),
		deletions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agent_certificaterequest_deletions_total",
			Help: "CertificateRequests deleted, by outcome: deleted, failed (tried again later), leftover (of an earlier process, or forgotten).",
		}, []string{"outcome"}),
	}
	for _, c := range append(gauges(i), m.requests, m.deletions) {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, outcome := range []string{"issued", "refused", "failed", "queue_full"} {
		m.requests.WithLabelValues(outcome)
	}
	for _, outcome := range []string{"deleted", "failed", "leftover"} {
		m.deletions.WithLabelValues(outcome)
	}
	return m, nil
}

func (m *metrics) count(outcome string) { m.requests.WithLabelValues(outcome).Inc() }

func (m *metrics) deleted(outcome string) { m.deletions.WithLabelValues(outcome).Inc() }

func gauges(i *Issuer) []prometheus.Collector {
	return []prometheus.Collector{
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_upstream_queue_length",
			Help: "Requests that wait for their turn at the CA.",
		}, func() float64 { return float64(i.queue.Waiting()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_certificaterequests_in_flight",
			Help: "CertificateRequests that are waited for.",
		}, func() float64 { return float64(i.queue.InFlight()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_certificaterequests_undeleted",
			Help: "CertificateRequests that wait to be deleted.",
		}, func() float64 { return float64(len(i.rubbish.names)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_certificaterequests_suspended",
			Help: "1 while no CertificateRequests are made: the issuer is not ready, the API server cannot be reached, or requests are not decided.",
		}, func() float64 { return one(i.usable() != nil) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "certloom_agent_runtime_issuer",
			Help: "1 while the issuer is another than the flags name, by the ConfigMap.",
		}, func() float64 { return one(i.target.get() != i.config.Issuer) }),
	}
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
