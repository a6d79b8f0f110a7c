package publish_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/certloom/certloom/internal/agent/publish"
)

func ownPod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: "agent-0", UID: "own"}}
}

// istiodPod is a Pod of istiod that started that long ago.
func istiodPod(name, ip string, age time.Duration) *corev1.Pod {
	started := metav1.NewTime(time.Now().Add(-age))
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "istio-system", Name: name, UID: types.UID(name), Labels: map[string]string{"app": "istiod", "istio.io/rev": "default"},
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, StartTime: &started},
	}
}

func deployment(name, revision string) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "istio-system", Name: name, Labels: map[string]string{"app": "istiod"}},
		Spec: appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{
			MatchLabels: map[string]string{"app": "istiod", "istio.io/rev": revision},
		}},
	}
}

// network says how connections go, and counts them.
type network struct {
	mu    sync.Mutex
	tries map[string]int
	fails map[string]error
}

func (n *network) dial(_ context.Context, address string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tries[address]++
	return n.fails[address]
}

func newNetwork() *network {
	return &network{tries: map[string]int{}, fails: map[string]error{
		"10.0.0.1:15012": fmt.Errorf("connect: %w", syscall.ECONNREFUSED), "10.0.0.3:15012": errors.New("no route to host"),
	}}
}

// touch changes the Secret so that it is looked at now.
func touch(t *testing.T, client *fake.Clientset) {
	t.Helper()
	secrets := client.CoreV1().Secrets("istio-system")
	found, err := secrets.Get(t.Context(), "istiod-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	found.Annotations = map[string]string{"touched": time.Now().String()}
	if found.CreationTimestamp.IsZero() { // an API server's doing
		found.CreationTimestamp = metav1.Now()
	}
	if _, err := secrets.Update(t.Context(), found, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// An istiod that came too early is named on its Pod, and is restarted once where that is wanted.
func TestEarlyIstiod(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"said": false, "restarted": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, n := newSource(t), newNetwork()
			client := fake.NewClientset(space("istio-system", "", nil), ownPod(),
				istiodPod("shut", "10.0.0.1", time.Hour), istiodPod("open", "10.0.0.2", time.Hour), istiodPod("hidden", "10.0.0.3", time.Hour),
				istiodPod("booting", "10.0.0.1", time.Second), istiodPod("no-address", "", time.Hour),
				deployment("istiod", "default"), deployment("istiod-canary", "canary"))
			var told told
			run(t, s, client, istiod, told.use, func(c *publish.Config) { c.Istiod.Restart, c.Dial = restart, n.dial })
			var found *corev1.Secret
			eventually(t, secret(t, client, s, &found))
			touch(t, client)
			eventually(t, told.has("shut StartedBeforeCertificate", "kubectl rollout restart deployment --namespace istio-system"))
			restarted := func(name string) bool {
				got, err := client.AppsV1().Deployments("istio-system").Get(t.Context(), name, metav1.GetOptions{})
				if err != nil {
					t.Fatal(err)
				}
				return got.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] != ""
			}
			eventually(t, func() error {
				if restarted("istiod") != restart {
					return fmt.Errorf("restarted: %v", !restart)
				}
				return nil
			})
			// One that serves is left in peace, and nobody is told twice.
			tries := func() int {
				n.mu.Lock()
				defer n.mu.Unlock()
				return n.tries["10.0.0.1:15012"]
			}
			before := tries()
			touch(t, client)
			eventually(t, func() error {
				if tries() == before {
					return errors.New("not tried again")
				}
				return nil
			})
			if restarted("istiod-canary") {
				t.Error("a Deployment without such Pods was restarted")
			}
			if err := told.has("")(); err != nil {
				t.Error(err)
			}
			patches := 0
			for _, action := range client.Actions() {
				if action.GetVerb() == "patch" && action.GetResource().Resource == "deployments" {
					patches++
				}
			}
			if want := map[bool]int{true: 1}[restart]; patches != want {
				t.Errorf("%d restarts, want %d", patches, want)
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			if n.tries["10.0.0.2:15012"] != 1 {
				t.Errorf("%d connections to an istiod that serves", n.tries["10.0.0.2:15012"])
			}
		})
	}
}
