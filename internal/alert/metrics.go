package alert

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/pki"
)

type metrics struct {
	fired    *prometheus.CounterVec
	resolved *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		fired: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_alerts_fired_total", Help: "Alerts that this process has begun, by kind of rule.",
		}, []string{"kind"}),
		resolved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "certloom_alerts_resolved_total", Help: "Alerts that this process has ended, by kind of rule.",
		}, []string{"kind"}),
	}
	for _, kind := range pki.AlertKinds() {
		m.fired.WithLabelValues(string(kind)) // so that all exist from the start
		m.resolved.WithLabelValues(string(kind))
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.fired, m.resolved} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of alerts: %w", err)
		}
	}
	return m, nil
}
