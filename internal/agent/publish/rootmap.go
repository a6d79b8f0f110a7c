package publish

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// rootKey is where Istio's programs look (istio.io/istio/pkg/config/constants).
const rootKey = "root-cert.pem"

// rootContent is what the ConfigMaps with the roots hold. Roots that were good are never taken away.
type rootContent struct{ *Publisher }

func (r rootContent) text(context.Context) (text, version string) {
	if bundle := r.config.Source.Bundle(); bundle != nil {
		return bundle.PEM, bundle.Version
	}
	return "", ""
}

func (rootContent) labels() map[string]string { return map[string]string{configLabel: "true"} }

func (rootContent) judge(context.Context, *corev1.ConfigMap) (clear bool, again time.Duration) {
	return false, 0
}
