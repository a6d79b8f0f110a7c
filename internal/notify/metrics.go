package notify

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/pki"
)

type metrics struct {
	attempts *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certloom_alert_delivery_attempts_total", Help: "Attempts to deliver a message, by kind of channel and what the delivery is afterwards.",
	}, []string{"channel", "state"})}
	for _, kind := range pki.ChannelKinds() {
		for _, state := range []pki.DeliveryState{pki.DeliveryDelivered, pki.DeliveryRetrying, pki.DeliveryFailed} {
			m.attempts.WithLabelValues(string(kind), string(state)) // so that all exist from the start
		}
	}
	if registerer == nil {
		return m, nil
	}
	if err := registerer.Register(m.attempts); err != nil {
		return nil, fmt.Errorf("register metrics of deliveries: %w", err)
	}
	return m, nil
}
