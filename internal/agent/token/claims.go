package token

import (
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"
)

// claims are those of a ServiceAccount token (k8s.io/kubernetes/pkg/serviceaccount/claims.go).
type claims struct {
	jwt.Claims
	Kubernetes kubernetesClaims `json:"kubernetes.io"`
}

// kubernetesClaims say whose the token is, and which object it is bound to: at most one.
type kubernetesClaims struct {
	Namespace      string  `json:"namespace"`
	ServiceAccount object  `json:"serviceaccount"`
	Pod            *object `json:"pod"`
	Node           *object `json:"node"` // that of the Pod, or what the token is bound to when there is none
	Secret         *object `json:"secret"`
	// others are the names of what we do not know, such as webhook configurations, to which Kubernetes 1.37 binds tokens.
	others []string
}

// object is a reference in the claims.
type object struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// UnmarshalJSON reads the claims and notes what else there is.
func (k *kubernetesClaims) UnmarshalJSON(raw []byte) error {
	type plain kubernetesClaims // without this method
	var read plain
	if err := json.Unmarshal(raw, &read); err != nil {
		return fmt.Errorf("read the claims of Kubernetes: %w", err)
	}
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		return fmt.Errorf("read the claims of Kubernetes: %w", err)
	}
	*k = kubernetesClaims(read)
	for name := range all {
		// warnafter is for the API server's statistics.
		if !slices.Contains([]string{"namespace", "serviceaccount", "pod", "node", "secret", "warnafter"}, name) {
			k.others = append(k.others, name)
		}
	}
	slices.Sort(k.others)
	return nil
}
