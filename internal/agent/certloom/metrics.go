package certloom

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the issuer's own numbers. Labels come from closed sets.
type metrics struct {
	requests *prometheus.CounterVec
	batch    prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, i *Issuer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agent_upstream_requests_total",
			Help: "Certificates asked for from the Certloom server, by outcome: issued, refused, failed (the call as a whole), queue_full.",
		}, []string{"outcome"}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "certloom_agent_upstream_batch_size",
			Help:    "How many requests went to the Certloom server in one call.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
		}),
	}
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_upstream_queue_length",
		Help: "Requests that wait to be sent to the Certloom server.",
	}, func() float64 { return float64(len(i.queue)) })
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_client_expiry_timestamp_seconds",
		Help: "When the certificate expires by which the agent is known to the Certloom server, in Unix time; 0 before it is enrolled.",
	}, func() float64 {
		if l := i.link.Load(); l != nil {
			return float64(l.certificate.NotAfter.Unix())
		}
		return 0
	})
	crls := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_crl_expiry_timestamp_seconds",
		Help: "When the first of the revocation lists that the Certloom server has sent expires, in Unix time; 0 when there are none.",
	}, func() float64 {
		if l := i.lists.Load(); l != nil && l.crls != nil {
			return float64(l.crls.NextUpdate.Unix())
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.requests, m.batch, queue, expiry, crls} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, outcome := range []string{"issued", "refused", "failed", "queue_full"} {
		m.requests.WithLabelValues(outcome)
	}
	return m, nil
}

func (m *metrics) count(outcome string, n int) { m.requests.WithLabelValues(outcome).Add(float64(n)) }
