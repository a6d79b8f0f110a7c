package cluster

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"

	"github.com/certloom/certloom/internal/fault"
)

// The Secrets that "istioctl create-remote-secret" makes have this label, and for each cluster an entry: its ID, and the
// kubeconfig (istio pkg/kube/multicluster/secretcontroller.go).
const secretLabel = "istio/multiCluster=true"

// entry is what a Secret says of one cluster.
type entry struct {
	id     string
	secret string // NAMESPACE/NAME
	sum    [sha256.Size]byte
	config *rest.Config // nil when the entry does not count
	// problem is why it does not count, and state how the metrics call that.
	problem string
	state   string
}

// States of entries, for the metrics.
const (
	stateReady       = "ready"       // its callers are served
	stateUnreachable = "unreachable" // its API server does not answer, or has not told everything yet
	stateRefused     = "refused"     // its kubeconfig or its ID is not accepted
	stateDuplicate   = "duplicate"   // its ID is another cluster's
)

// readSecrets returns what the Secrets say. Of several that name the same cluster the oldest counts, on every replica and
// after every restart; an ID of our own belongs to us. An entry that is refused keeps its ID: what a mistake in one Secret
// leaves open, another must not take.
func readSecrets(secrets []*corev1.Secret, own []string) []entry {
	secrets = slices.SortedFunc(slices.Values(secrets), func(a, b *corev1.Secret) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var entries []entry
	owners := map[string]string{}
	for _, secret := range secrets {
		name := secret.Namespace + "/" + secret.Name
		for _, id := range sorted(secret.Data) {
			made := entry{id: id, secret: name, sum: sha256.Sum256(secret.Data[id])}
			owner, taken := owners[id]
			switch {
			case slices.Contains(own, id):
				made.state = stateDuplicate
				made.problem = fmt.Sprintf("%q is the ID of the cluster that the agent runs in, or an alias (--cluster-id, --cluster-id-aliases)", id)
			case taken:
				made.state, made.problem = stateDuplicate, fmt.Sprintf("cluster %q is in Secret %s already, which is older", id, owner)
			default:
				owners[id] = name
				made.read(secret.Data[id])
			}
			entries = append(entries, made)
		}
	}
	return entries
}

// GoodID reports whether a name has 1 to 63 letters, digits, dots, hyphens and underscores: what the server accepts as the
// name of a cluster (agent.proto).
func GoodID(id string) bool {
	other := func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r))
	}
	return len(id) >= 1 && len(id) <= 63 && strings.IndexFunc(id, other) < 0
}

// read fills in what the kubeconfig says.
func (e *entry) read(kubeconfig []byte) {
	if !GoodID(e.id) {
		e.state, e.problem = stateRefused, fmt.Sprintf("%q is not a name of 1 to 63 letters, digits, dots, hyphens and underscores", e.id)
		return
	}
	config, err := ReadKubeconfig(kubeconfig)
	if err != nil {
		e.state, e.problem = stateRefused, fault.From(err).Public
		return
	}
	e.config = config
}

// sorted returns the keys of a map in order.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
