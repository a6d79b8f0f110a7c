package publish

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/certloom/certloom/internal/telemetry"
)

// earlyIstiods finds Pods of istiod that started before its certificate was there. istiod looks for the files only when it
// starts and serves nothing on port 15012 without them (istio.io/istio/pilot/pkg/bootstrap/server.go, initSecureDiscoveryService),
// while its readiness probe is content. Whether the port is shut is tried, because an istiod that is older than the Secret
// may well serve: the Secret may have been made again.
type earlyIstiods struct {
	config    *Config
	namespace string
	restart   bool

	shut atomic.Int64
	pods map[types.UID]verdict // of the last look; only look uses it
}

// verdict is what is known of a Pod.
type verdict struct {
	open bool      // it has taken a connection, and so it will
	told time.Time // when it was said that it is shut; zero while it is not
}

const (
	istiodLabels = "app=istiod"
	securePort   = "15012"
	dialTimeout  = 2 * time.Second
	// bootTime is what an istiod may need until it listens.
	bootTime = 30 * time.Second
	// mountTime is what a kubelet may need until a Pod sees a Secret that was made after the Pod.
	mountTime = 2 * time.Minute
	// tellAgain is shorter than API servers keep Events by default, an hour.
	tellAgain   = 20 * time.Minute
	restartedAt = "kubectl.kubernetes.io/restartedAt" // as "kubectl rollout restart" writes it
)

// look finds them, tells people, and restarts them when that is wanted. secret is nil while there is none.
func (e *earlyIstiods) look(ctx context.Context, secret *corev1.Secret) {
	if secret == nil {
		return
	}
	pods, err := e.config.Client.CoreV1().Pods(e.namespace).List(ctx, metav1.ListOptions{LabelSelector: istiodLabels})
	if err != nil {
		e.config.Logger.WarnContext(ctx, "istiod's Pods not listed", telemetry.KeyError, err)
		return
	}
	var shut []*corev1.Pod
	verdicts := map[types.UID]verdict{}
	for i := range pods.Items {
		pod := &pods.Items[i]
		v := e.judge(ctx, pod, secret.CreationTimestamp.Time)
		if verdicts[pod.UID] = v; !v.told.IsZero() {
			shut = append(shut, pod)
		}
	}
	e.pods = verdicts
	e.shut.Store(int64(len(shut)))
	if !e.restart || len(shut) == 0 {
		return
	}
	if err := e.restartAll(ctx, shut, secret.CreationTimestamp.Time); err != nil {
		e.config.Logger.WarnContext(ctx, "istiod not restarted", telemetry.KeyError, err)
	}
}

// judge tries a Pod that has run for long enough, since before it could have seen the Secret.
func (e *earlyIstiods) judge(ctx context.Context, pod *corev1.Pod, secret time.Time) verdict {
	before := e.pods[pod.UID]
	if before.open || pod.Status.Phase != corev1.PodRunning || pod.DeletionTimestamp != nil || pod.Status.PodIP == "" {
		return verdict{open: before.open}
	}
	started := startOf(pod)
	if started.IsZero() || started.After(secret.Add(mountTime)) || e.config.Now().Sub(started) < bootTime {
		return verdict{}
	}
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	err := e.config.Dial(dialing, net.JoinHostPort(pod.Status.PodIP, securePort))
	if errors.Is(err, syscall.ECONNREFUSED) { // anything else may come from a network policy or a busy node
		return verdict{told: e.tell(ctx, pod, before.told)}
	}
	return verdict{open: err == nil}
}

// startOf is when the last of the Pod's containers started, zero when it is not known.
func startOf(pod *corev1.Pod) time.Time {
	var started time.Time
	if pod.Status.StartTime != nil {
		started = pod.Status.StartTime.Time
	}
	for i := range pod.Status.ContainerStatuses {
		if running := pod.Status.ContainerStatuses[i].State.Running; running != nil && running.StartedAt.After(started) {
			started = running.StartedAt.Time
		}
	}
	return started
}

// tell says it in the log and by an Event, and returns when it did.
func (e *earlyIstiods) tell(ctx context.Context, pod *corev1.Pod, before time.Time) time.Time {
	if !before.IsZero() && e.config.Now().Sub(before) < tellAgain {
		return before
	}
	command := "kubectl rollout restart deployment --namespace " + e.namespace + " --selector " + istiodLabels
	if before.IsZero() {
		e.config.Logger.WarnContext(ctx, "istiod started before its certificate was there and serves nothing on port "+securePort+": it has to be restarted",
			"pod", pod.Name, "command", command, "automatic", e.restart)
	}
	if e.config.Tell != nil {
		e.config.Tell(&corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
			"StartedBeforeCertificate", "this istiod started before its certificate was there and serves nothing on port "+securePort+": "+command)
	}
	return e.config.Now()
}

// restartAll restarts the Deployments of these Pods, each once for a Secret: if that does not help, more would not either.
func (e *earlyIstiods) restartAll(ctx context.Context, shut []*corev1.Pod, secret time.Time) error {
	client := e.config.Client.AppsV1().Deployments(e.namespace)
	list, err := client.List(ctx, metav1.ListOptions{LabelSelector: istiodLabels})
	if err != nil {
		return fmt.Errorf("list istiod's Deployments: %w", err)
	}
	for i := range list.Items {
		deployment := &list.Items[i]
		if !owns(deployment, shut) {
			continue
		}
		last, err := time.Parse(time.RFC3339, deployment.Spec.Template.Annotations[restartedAt])
		if err == nil && !last.Before(secret.Truncate(time.Second)) {
			continue
		}
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]string{restartedAt: e.config.Now().UTC().Format(time.RFC3339)},
		}}}})
		if err != nil {
			return fmt.Errorf("write the restart of Deployment %s: %w", deployment.Name, err)
		}
		if _, err := client.Patch(ctx, deployment.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return fmt.Errorf("restart Deployment %s: %w", deployment.Name, err)
		}
		e.config.Logger.InfoContext(ctx, "istiod restarted", "deployment", e.namespace+"/"+deployment.Name)
	}
	return nil
}

func owns(deployment *appsv1.Deployment, pods []*corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(deployment.Spec.Selector)
	if err != nil || selector.Empty() {
		return false
	}
	for _, pod := range pods {
		if selector.Matches(labels.Set(pod.Labels)) {
			return true
		}
	}
	return false
}
