package store

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's. They exist also where nobody collects them, so that no code asks.
type metrics struct {
	commit    prometheus.Histogram
	wait      prometheus.Histogram
	batch     prometheus.Histogram
	queueFull prometheus.Counter
	failed    *prometheus.CounterVec
	rerun     prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	fine := prometheus.ExponentialBuckets(0.00025, 2, 14) // 0.25 ms to 2 s
	m := &metrics{
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "certloom_store_commit_seconds", Buckets: fine,
			Help: "Time from the beginning of a write transaction until it was durable.",
		}),
		wait: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "certloom_store_queue_seconds", Buckets: fine,
			Help: "Time that the oldest operation of a write transaction had waited when the transaction began.",
		}),
		batch: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "certloom_store_batch_size", Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
			Help: "Operations that shared a write transaction.",
		}),
		queueFull: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_store_queue_full_total",
			Help: "Operations refused because too many were waiting to be written.",
		}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_store_failed_transactions_total",
			Help: "Write transactions that failed as a whole, by whether the database was unavailable or refused a statement.",
		}, []string{"reason"}),
		rerun: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_store_reruns_total",
			Help: "Shared write transactions that were rolled back and whose operations ran again one by one.",
		}),
	}
	for _, reason := range []string{reasonUnavailable, reasonStatement} {
		m.failed.WithLabelValues(reason) // so that both exist from the start
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.commit, m.wait, m.batch, m.queueFull, m.failed, m.rerun} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register store metrics: %w", err)
		}
	}
	return m, nil
}

// The closed set of values of the label "reason".
const (
	reasonUnavailable = "unavailable"
	reasonStatement   = "statement"
)

func elapsed(from, to time.Time) float64 { return max(0, to.Sub(from).Seconds()) }
