package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/certloom/certloom/internal/fault"
)

// ServiceAccount is what we need to know of a ServiceAccount.
type ServiceAccount struct {
	Namespace, Name string
	UID             string
	// Deleted is when its deletion takes effect, zero while it is not being deleted.
	Deleted time.Time
}

// Pod is what we need to know of a Pod.
type Pod struct {
	Namespace, Name string
	UID             string
	ServiceAccount  string
	Node            string // "" until it is scheduled
	Finished        bool   // it has run to its end and is only kept for its logs
	// Deleted is when its deletion takes effect (its grace period included), zero while it is not being deleted.
	Deleted time.Time
}

// Watch answers from informers, and asks the API server itself when they know nothing or something else: what has been
// created a moment ago may not have reached us. It is safe for concurrent use once Run has been called.
type Watch struct {
	client   kubernetes.Interface
	factory  informers.SharedInformerFactory
	accounts cache.SharedIndexInformer // nil when only Pods are watched
	pods     cache.SharedIndexInformer
}

// runsAs indexes Pods by node, namespace and ServiceAccount.
const runsAs = "runs-as"

// WatchConfig is what a Watch needs.
type WatchConfig struct {
	Client kubernetes.Interface
	// PodsOnly watches no ServiceAccounts: each that is looked up is asked for.
	PodsOnly bool
}

// NewWatch returns a Watch that has not started.
func NewWatch(config WatchConfig) (*Watch, error) {
	factory := informers.NewSharedInformerFactoryWithOptions(config.Client, 0, informers.WithTransform(strip))
	w := &Watch{client: config.Client, factory: factory, pods: factory.Core().V1().Pods().Informer()}
	if !config.PodsOnly {
		w.accounts = factory.Core().V1().ServiceAccounts().Informer()
	}
	err := w.pods.AddIndexers(cache.Indexers{runsAs: func(object any) ([]string, error) {
		pod, ok := object.(*corev1.Pod)
		if !ok || pod.Spec.NodeName == "" {
			return nil, nil
		}
		return []string{runsAsKey(pod.Spec.NodeName, pod.Namespace, pod.Spec.ServiceAccountName)}, nil
	}})
	if err != nil {
		return nil, fmt.Errorf("index Pods: %w", err)
	}
	return w, nil
}

// The parts are names of Kubernetes objects, which have no slash.
func runsAsKey(node, namespace, account string) string { return node + "/" + namespace + "/" + account }

// strip drops what we do not use of the objects before the informers store them.
func strip(object any) (any, error) {
	switch o := object.(type) {
	case *corev1.Pod:
		return &corev1.Pod{
			ObjectMeta: stripMeta(&o.ObjectMeta),
			Spec:       corev1.PodSpec{NodeName: o.Spec.NodeName, ServiceAccountName: o.Spec.ServiceAccountName},
			Status:     corev1.PodStatus{Phase: o.Status.Phase},
		}, nil
	case *corev1.ServiceAccount:
		return &corev1.ServiceAccount{ObjectMeta: stripMeta(&o.ObjectMeta)}, nil
	default:
		return object, nil
	}
}

func stripMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID,
		ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
	}
}

// Run watches until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	w.factory.Start(ctx.Done())
	<-ctx.Done()
	w.factory.Shutdown()
	return nil
}

// Synced returns nil once everything that existed at the start is known.
func (w *Watch) Synced() error {
	switch {
	case w.accounts != nil && !w.accounts.HasSynced():
		return errors.New("the ServiceAccounts of the cluster have not been listed yet")
	case !w.pods.HasSynced():
		return errors.New("the Pods of the cluster have not been listed yet")
	default:
		return nil
	}
}

// Accounts returns the ServiceAccounts that Pods run as which have not ended, as NAMESPACE/NAME, sorted. It is what the informer
// knows: see Synced.
func (w *Watch) Accounts() []string {
	running := map[string]bool{}
	for _, object := range w.pods.GetStore().List() {
		if pod, ok := object.(*corev1.Pod); ok && !podOf(pod).Finished {
			running[pod.Namespace+"/"+pod.Spec.ServiceAccountName] = true
		}
	}
	return slices.Sorted(maps.Keys(running))
}

// ServiceAccount returns the ServiceAccount of that name. When the one that the informer knows does not have the wanted
// UID, the API server's answer counts. Errors: fault.NotFound, and fault.Unavailable when the API server cannot be asked.
func (w *Watch) ServiceAccount(ctx context.Context, namespace, name, uid string) (ServiceAccount, error) {
	if w.accounts != nil {
		object, found, err := w.accounts.GetStore().GetByKey(namespace + "/" + name)
		if known, ok := object.(*corev1.ServiceAccount); err == nil && found && ok && string(known.UID) == uid {
			return serviceAccount(known), nil
		}
	}
	asked, err := w.client.CoreV1().ServiceAccounts(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return ServiceAccount{}, lookupError(err, "ServiceAccount", namespace, name)
	}
	return serviceAccount(asked), nil
}

// Pod returns the Pod of that name. When the one that the informer knows does not have the wanted UID, the API server's
// answer counts. Errors: fault.NotFound, and fault.Unavailable when the API server cannot be asked.
func (w *Watch) Pod(ctx context.Context, namespace, name, uid string) (Pod, error) {
	object, found, err := w.pods.GetStore().GetByKey(namespace + "/" + name)
	// A Pod without a node may have been scheduled since: no process runs in a Pod that has none.
	if known, ok := object.(*corev1.Pod); err == nil && found && ok && string(known.UID) == uid && known.Spec.NodeName != "" {
		return podOf(known), nil
	}
	asked, err := w.client.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return Pod{}, lookupError(err, "Pod", namespace, name)
	}
	return podOf(asked), nil
}

// RunsOn returns the Pods with that ServiceAccount on the node; those that have finished do not count. It returns
// fault.Unavailable when the informer knows none and the API server cannot be asked.
func (w *Watch) RunsOn(ctx context.Context, node, namespace, account string) ([]Pod, error) {
	var running []Pod
	objects, err := w.pods.GetIndexer().ByIndex(runsAs, runsAsKey(node, namespace, account))
	for _, object := range objects {
		if pod, ok := object.(*corev1.Pod); ok && !finished(pod) {
			running = append(running, podOf(pod))
		}
	}
	if err == nil && len(running) > 0 {
		return running, nil
	}
	list, err := w.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.nodeName", node).String(),
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Unavailable, "the Pods of namespace %q on node %q cannot be listed", namespace, node)
	}
	for i := range list.Items {
		pod := &list.Items[i]
		if pod.Spec.NodeName == node && pod.Spec.ServiceAccountName == account && !finished(pod) {
			running = append(running, podOf(pod))
		}
	}
	return running, nil
}

func lookupError(err error, kind, namespace, name string) error {
	if apierrors.IsNotFound(err) {
		return fault.New(fault.NotFound, "%s %s/%s does not exist", kind, namespace, name)
	}
	return fault.Wrap(err, fault.Unavailable, "%s %s/%s cannot be looked up", kind, namespace, name)
}

func serviceAccount(o *corev1.ServiceAccount) ServiceAccount {
	return ServiceAccount{Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), Deleted: deleted(&o.ObjectMeta)}
}

func podOf(o *corev1.Pod) Pod {
	return Pod{
		Namespace: o.Namespace, Name: o.Name, UID: string(o.UID), ServiceAccount: o.Spec.ServiceAccountName,
		Node: o.Spec.NodeName, Finished: finished(o), Deleted: deleted(&o.ObjectMeta),
	}
}

func finished(o *corev1.Pod) bool {
	return o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed
}

func deleted(m *metav1.ObjectMeta) time.Time {
	if m.DeletionTimestamp == nil {
		return time.Time{}
	}
	return m.DeletionTimestamp.Time
}
