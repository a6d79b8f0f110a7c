package publish

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/certloom/certloom/internal/telemetry"
)

// configLabel marks what Istio's programs read (istio.io/istio/security/pkg/k8s).
const configLabel = "istio.io/config"

// contentPoll is how often it is looked whether the content has changed.
const contentPoll = time.Second

// content is the text of a kind of ConfigMap.
type content interface {
	// text returns what the ConfigMaps shall hold, "" when that is not known or there is nothing to hold, and a version
	// that differs whenever something has to be looked at again.
	text(ctx context.Context) (text, version string)
	// labels are those that the ConfigMaps must have.
	labels() map[string]string
	// judge decides about a ConfigMap while there is no text for it, or its namespace is not selected: whether what it
	// holds has to go now, or when to look again (0: never).
	judge(ctx context.Context, existing *corev1.ConfigMap) (clear bool, again time.Duration)
}

// mapKeeper keeps a ConfigMap with one key in each selected namespace.
type mapKeeper struct {
	*Publisher

	what, name, key string // what for the log
	content         content
	written         *prometheus.CounterVec
	contest         *contest

	namespaces cache.SharedIndexInformer // the selected ones
	maps       cache.SharedIndexInformer
	queue      workqueue.TypedRateLimitingInterface[string] // of names of namespaces
}

// selected returns an informer of the namespaces that get ConfigMaps, and starts nothing.
func (p *Publisher) selected() informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(p.config.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = p.config.Selector }))
}

// keep works until ctx ends. The informer of the namespaces is run by the caller.
func (k *mapKeeper) keep(ctx context.Context) error {
	named := informers.NewSharedInformerFactoryWithOptions(k.config.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, k.name).String()
		}))
	k.maps = named.Core().V1().ConfigMaps().Informer()
	k.queue = workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, 30*time.Second))
	watching, err := k.namespaces.AddEventHandler(k.handler(func(o metav1.Object) string { return o.GetName() }))
	if err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	if _, err := k.maps.AddEventHandler(k.handler(metav1.Object.GetNamespace)); err != nil {
		return fmt.Errorf("watch ConfigMaps %s: %w", k.name, err)
	}
	named.Start(ctx.Done())
	defer named.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), watching.HasSynced, k.maps.HasSynced) {
		return nil // ctx ended
	}
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return k.watchContent(ctx) })
	for range k.config.Workers {
		running.Go(func() error { return k.work(ctx) })
	}
	return running.Wait()
}

// handler queues the namespace of whatever has changed.
func (k *mapKeeper) handler(namespace func(metav1.Object) string) cache.ResourceEventHandlerFuncs {
	changed := func(object any) {
		if gone, ok := object.(cache.DeletedFinalStateUnknown); ok {
			object = gone.Obj
		}
		if meta, ok := object.(metav1.Object); ok {
			k.queue.Add(namespace(meta))
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: changed, UpdateFunc: func(_, object any) { changed(object) }, DeleteFunc: changed,
	}
}

// watchContent queues all namespaces when the content changes, and closes the queue at the end.
func (k *mapKeeper) watchContent(ctx context.Context) error {
	defer k.queue.ShutDown()
	ticker := time.NewTicker(contentPoll)
	defer ticker.Stop()
	known := ""
	for {
		if _, version := k.content.text(ctx); version != known {
			known = version
			for _, name := range k.namespaces.GetStore().ListKeys() {
				k.queue.Add(name)
			}
			for _, object := range k.maps.GetStore().List() { // also where the namespace is not selected any more
				if existing, ok := object.(*corev1.ConfigMap); ok {
					k.queue.Add(existing.Namespace)
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (k *mapKeeper) work(ctx context.Context) error {
	for {
		namespace, end := k.queue.Get()
		if end {
			return nil
		}
		if err := k.reconcile(ctx, namespace); err != nil && ctx.Err() == nil {
			k.written.WithLabelValues(failed).Inc()
			k.config.Logger.WarnContext(ctx, "configmap not written", "what", k.what, telemetry.KeyNamespace, namespace, telemetry.KeyError, err)
			k.queue.AddRateLimited(namespace)
		} else {
			k.queue.Forget(namespace)
		}
		k.queue.Done(namespace)
	}
}

// reconcile makes the ConfigMap of one namespace what it should be.
func (k *mapKeeper) reconcile(ctx context.Context, namespace string) error {
	object, selected, err := k.namespaces.GetStore().GetByKey(namespace)
	if err != nil {
		return fmt.Errorf("look up the namespace: %w", err)
	}
	if space, ok := object.(*corev1.Namespace); ok && (space.DeletionTimestamp != nil || space.Status.Phase == corev1.NamespaceTerminating) {
		return nil
	}
	if object, _, err = k.maps.GetStore().GetByKey(namespace + "/" + k.name); err != nil {
		return fmt.Errorf("look up the ConfigMap: %w", err)
	}
	existing, exists := object.(*corev1.ConfigMap)
	text, _ := k.content.text(ctx)
	switch {
	case selected && text != "" && exists:
		return k.repair(ctx, existing, map[string]string{k.key: text}, repaired)
	case selected && text != "":
		return k.create(ctx, namespace, text)
	case exists:
		clear, again := k.content.judge(ctx, existing)
		if clear {
			return k.repair(ctx, existing, nil, cleared)
		}
		if again > 0 {
			k.queue.AddAfter(namespace, again)
		}
	}
	return nil
}

func (k *mapKeeper) create(ctx context.Context, namespace, text string) error {
	_, err := k.config.Client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: k.name, Labels: k.content.labels()},
		Data:       map[string]string{k.key: text},
	}, metav1.CreateOptions{})
	switch {
	case err == nil:
		k.written.WithLabelValues(created).Inc()
	case apierrors.IsAlreadyExists(err): // the informer will say what it is
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err): // the namespace goes
	default:
		return fmt.Errorf("create ConfigMap %s: %w", k.name, err)
	}
	return nil
}

// repair gives an existing ConfigMap the labels and exactly the data; what else is in it goes, as with istiod.
func (k *mapKeeper) repair(ctx context.Context, existing *corev1.ConfigMap, data map[string]string, outcome string) error {
	changed := existing.DeepCopy()
	changed.Data, changed.BinaryData = data, nil
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	maps.Copy(changed.Labels, k.content.labels())
	if maps.Equal(existing.Data, data) && len(existing.BinaryData) == 0 && maps.Equal(existing.Labels, changed.Labels) {
		return nil
	}
	if wait := k.contest.changedBack(ctx, &existing.ObjectMeta, data[k.key]); wait > 0 {
		k.queue.AddAfter(existing.Namespace, wait)
		return nil
	}
	_, err := k.config.Client.CoreV1().ConfigMaps(existing.Namespace).Update(ctx, changed, metav1.UpdateOptions{})
	if err != nil {
		k.contest.notWritten(&existing.ObjectMeta)
	}
	switch {
	case err == nil:
		k.written.WithLabelValues(outcome).Inc()
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // the informer will say what has become of it
	default:
		return fmt.Errorf("update ConfigMap %s: %w", k.name, err)
	}
	return nil
}
