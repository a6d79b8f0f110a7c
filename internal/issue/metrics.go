package issue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
)

// outcome is what became of a request; the label of a metric.
type outcome string

const (
	issued   outcome = "issued"
	repeated outcome = "repeated" // the order's certificate again
	refused  outcome = "refused"
	failed   outcome = "failed" // nobody's fault but ours
	// abandoned requests ended because their client had gone. They are apart, so that clients cannot ring an alarm.
	abandoned outcome = "abandoned"
)

// outcomeOf returns the outcome when there was no error, and tells refusals from failures when there was.
func outcomeOf(fine outcome, err error) outcome {
	const serverErrors = 500
	switch {
	case err == nil:
		return fine
	case errors.Is(err, context.Canceled) || fault.From(err).Kind.Meaning().Status >= serverErrors:
		return failure(err)
	default:
		return refused
	}
}

// failure returns the outcome of an error of storage.
func failure(err error) outcome {
	if errors.Is(err, context.Canceled) {
		return abandoned
	}
	return failed
}

// stage is a part of the sequence; the label of a metric.
type stage string

const (
	stageFacts  stage = "facts"
	stagePolicy stage = "policy"
	stageBuild  stage = "build" // with the check of the signature that was made
	stageLint   stage = "lint"
	stageSign   stage = "sign"
	stageCommit stage = "commit"
)

type metrics struct {
	total  *prometheus.CounterVec
	stages map[stage]prometheus.Observer
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "certloom_issuance_stage_seconds",
		Help:    "Time of each stage of an issuance: facts, policy, build, lint, sign, commit.",
		Buckets: prometheus.ExponentialBuckets(10e-6, 4, 10), // 10 µs to 2.6 s
	}, []string{"stage"})
	m := &metrics{
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_issuance_total",
			Help: "Requests for certificates by profile and outcome: issued, repeated, refused, failed, abandoned.",
		}, []string{"profile", "outcome"}),
		stages: make(map[stage]prometheus.Observer),
	}
	for _, s := range []stage{stageFacts, stagePolicy, stageBuild, stageLint, stageSign, stageCommit} {
		m.stages[s] = seconds.WithLabelValues(string(s))
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{seconds, m.total} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("issue: register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) count(profile string, o outcome) { m.total.WithLabelValues(profile, string(o)).Inc() }

func (m *metrics) observe(s stage, begin, end time.Time) { m.took(s, end.Sub(begin)) }

func (m *metrics) took(s stage, d time.Duration) { m.stages[s].Observe(d.Seconds()) }
