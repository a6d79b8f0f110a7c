package revoke

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/fault"
)

// Outcomes of a revocation; labels of a metric.
const (
	outcomeRevoked = "revoked"
	outcomeRefused = "refused"
	outcomeFailed  = "failed"
)

func outcomeOf(err error) string {
	const serverErrors = 500
	switch {
	case err == nil:
		return outcomeRevoked
	case fault.From(err).Kind.Meaning().Status >= serverErrors:
		return outcomeFailed
	default:
		return outcomeRefused
	}
}

type metrics struct {
	revocations *prometheus.CounterVec
	answers     *prometheus.CounterVec
	lists       prometheus.Counter
	signers     prometheus.Counter
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		revocations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_revocation_total", Help: "Requests for revocation by outcome: revoked, refused, failed.",
		}, []string{"outcome"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_ocsp_total", Help: "OCSP answers by status: good, revoked, unknown, or the error that was sent.",
		}, []string{"status"}),
		lists: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_crl_signed_total", Help: "CRLs that were signed.",
		}),
		signers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "certloom_ocsp_signers_total", Help: "Delegated signers of OCSP answers that were made.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{m.revocations, m.answers, m.lists, m.signers} {
		if err := registerer.Register(collector); err != nil {
			return nil, fmt.Errorf("revoke: register metrics: %w", err)
		}
	}
	return m, nil
}
