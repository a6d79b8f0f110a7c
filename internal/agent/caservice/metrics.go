package caservice

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
)

// metrics are the service's own numbers. Labels come from closed sets: gRPC's codes and the stages below.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  prometheus.Histogram
	stages   *prometheus.HistogramVec
	last     prometheus.Gauge
}

// Stages of a call.
const (
	stageAuthenticate = "authenticate"
	stageIssue        = "issue"
	stageCheck        = "check"
)

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_agent_requests_total",
			Help: "Calls of Istio's CreateCertificate by the gRPC code of the answer.",
		}, []string{"code"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "certloom_agent_request_seconds", Help: "Time that a call of CreateCertificate took.", Buckets: buckets,
		}),
		stages: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "certloom_agent_stage_seconds",
			Help: "Time of successful calls by stage: authenticate (token, CSR, impersonation), issue (by the issuer), check (of what it issued).", Buckets: buckets,
		}, []string{"stage"}),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "certloom_agent_last_issued_timestamp_seconds",
			Help: "When the last certificate was handed out, in Unix time; 0 before the first.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.stages, m.last} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, code := range []codes.Code{codes.OK, codes.Unauthenticated, codes.PermissionDenied, codes.Unavailable, codes.ResourceExhausted, codes.Internal} {
		m.requests.WithLabelValues(code.String())
	}
	return m, nil
}

func (m *metrics) stage(name string, took time.Duration) {
	m.stages.WithLabelValues(name).Observe(took.Seconds())
}

func (m *metrics) finish(code codes.Code, took time.Duration, now time.Time) {
	m.requests.WithLabelValues(code.String()).Inc()
	m.seconds.Observe(took.Seconds())
	if code == codes.OK {
		m.last.Set(float64(now.UnixMilli()) / 1000)
	}
}
