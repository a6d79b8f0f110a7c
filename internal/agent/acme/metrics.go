package acme

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the issuer's own numbers. Labels come from closed sets.
type metrics struct {
	requests      *prometheus.CounterVec
	registrations prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer, i *Issuer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agent_upstream_requests_total",
			Help: "Certificates asked for from the CA, by outcome: issued, refused, failed, queue_full.",
		}, []string{"outcome"}),
		registrations: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_agent_acme_registrations_total",
			Help: "ACME accounts that this replica has made.",
		}),
	}
	queue := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_upstream_queue_length",
		Help: "Requests that wait for their turn at the CA.",
	}, func() float64 { return float64(i.queue.Waiting()) })
	flight := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_acme_orders_in_flight",
		Help: "ACME orders under way.",
	}, func() float64 { return float64(i.queue.InFlight()) })
	suspended := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_acme_suspended",
		Help: "1 while the ACME CA is not asked, because it does not answer, refuses the account or wants quiet.",
	}, func() float64 {
		if i.gate.admits() != nil {
			return 1
		}
		return 0
	})
	for _, c := range []prometheus.Collector{m.requests, m.registrations, queue, flight, suspended} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, outcome := range []string{"issued", "refused", "failed", "queue_full"} {
		m.requests.WithLabelValues(outcome)
	}
	return m, nil
}

func (m *metrics) count(outcome string) { m.requests.WithLabelValues(outcome).Inc() }
