package job

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	runs    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	success *prometheus.GaugeVec
}

// Outcomes of a run.
const (
	done   = "done"
	failed = "failed"
)

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_job_runs_total", Help: "Runs of periodic jobs in this process, by job and outcome.",
		}, []string{"job", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "certloom_job_seconds", Help: "How long a run of a periodic job took.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"job"}),
		success: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "certloom_job_last_success_timestamp_seconds",
			Help: "When a periodic job has last succeeded in this process, in Unix time; 0: not yet.",
		}, []string{"job"}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.runs, m.seconds, m.success} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of jobs: %w", err)
		}
	}
	return m, nil
}

// prepare makes a job's metrics exist from the start.
func (m *metrics) prepare(job string) {
	m.runs.WithLabelValues(job, done)
	m.runs.WithLabelValues(job, failed)
	m.success.WithLabelValues(job)
}

func (m *metrics) observe(job string, err error, began, ended time.Time) {
	m.seconds.WithLabelValues(job).Observe(ended.Sub(began).Seconds())
	if err != nil {
		m.runs.WithLabelValues(job, failed).Inc()
		return
	}
	m.runs.WithLabelValues(job, done).Inc()
	m.success.WithLabelValues(job).Set(float64(ended.Unix()))
}
