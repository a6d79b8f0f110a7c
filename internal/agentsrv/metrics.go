package agentsrv

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics are the server's own numbers. Labels come from closed sets: the methods of the protocol and gRPC's codes.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	items    *prometheus.CounterVec
	inFlight prometheus.Gauge
	lists    *prometheus.CounterVec
	bytes    prometheus.Gauge
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agentapi_requests_total",
			Help: "Calls of agents by method and gRPC code.",
		}, []string{"method", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "certloom_agentapi_request_seconds",
			Help:    "Time from the receipt of an agent's call to its answer. Bundle waits for something new.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"method"}),
		items: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agentapi_items_total",
			Help: "Certificates that agents asked for, by gRPC code; OK are those that were issued.",
		}, []string{"code"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "certloom_agentapi_items_in_flight",
			Help: "Certificates that are being made for agents now.",
		}),
	}
	m.lists = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certloom_agentapi_crls_total",
		Help: "Sets of CRLs by what became of them when an agent was answered: sent, withheld (agents are told why), failed (asked again).",
	}, []string{"outcome"})
	m.bytes = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "certloom_agentapi_crls_bytes",
		Help: "Size of the set of CRLs that was made last for agents.",
	})
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.items, m.inFlight, m.lists, m.bytes} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of agents: %w", err)
		}
	}
	m.items.WithLabelValues(codes.OK.String())
	for _, outcome := range []string{listsSent, listsWithheld, listsFailed} {
		m.lists.WithLabelValues(outcome)
	}
	return m, nil
}

// note counts one call.
func (m *metrics) note(method string, code codes.Code, took time.Duration) {
	m.requests.WithLabelValues(method, code.String()).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}
