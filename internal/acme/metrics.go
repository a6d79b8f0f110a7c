package acme

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
)

// metrics are the server's own numbers. Labels come from closed sets: the resources of the route table, "ok" and the
// problem types of fault, the kinds of order below.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	orders   *prometheus.CounterVec
}

// Kinds of order: sealed ones have no row; stored ones are pre-authorized too, but too large for a URL.
const (
	orderSealed    = "sealed"
	orderStored    = "stored"
	orderChallenge = "challenge"
)

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_acme_requests_total",
			Help: "ACME requests by resource and outcome: ok, or the type of the problem document.",
		}, []string{"resource", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "certloom_acme_request_seconds",
			Help:    "Time from the first byte of an ACME request's header to the end of its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"resource"}),
		orders: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_acme_orders_total",
			Help: "ACME orders made, by kind: sealed and stored ones are pre-authorized, those of kind challenge are not.",
		}, []string{"kind"}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.orders} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, kind := range []string{orderSealed, orderStored, orderChallenge} {
		m.orders.WithLabelValues(kind)
	}
	return m, nil
}

// meter counts the requests of one resource. What every request needs is looked up once.
type meter struct {
	all     *metrics
	name    string
	ok      prometheus.Counter
	seconds prometheus.Observer
}

func (m *metrics) meter(resource string) meter {
	return meter{all: m, name: resource, ok: m.requests.WithLabelValues(resource, "ok"), seconds: m.seconds.WithLabelValues(resource)}
}

// note counts one request that ended with problem, nil for none.
func (m *meter) note(problem *fault.Error, took time.Duration) {
	m.seconds.Observe(took.Seconds())
	if problem == nil {
		m.ok.Inc()
		return
	}
	m.all.requests.WithLabelValues(m.name, problem.Kind.Meaning().ACME).Inc()
}
