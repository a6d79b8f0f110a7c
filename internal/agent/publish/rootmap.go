package publish

import (
	"context"
	"fmt"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/telemetry"
)

// What Istio expects of the ConfigMap (istio.io/istio/security/pkg/k8s).
const (
	rootKey     = "root-cert.pem"
	configLabel = "istio.io/config"
)

// bundlePoll is how often it is looked whether the roots have changed.
const bundlePoll = time.Second

// rootMaps keeps a ConfigMap with the roots in each selected namespace.
type rootMaps struct {
	*Publisher

	namespaces cache.SharedIndexInformer
	maps       cache.SharedIndexInformer
	queue      workqueue.TypedRateLimitingInterface[string] // of names of namespaces
}

// keepRootMaps works until ctx ends.
func (p *Publisher) keepRootMaps(ctx context.Context) error {
	spaces := informers.NewSharedInformerFactoryWithOptions(p.config.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = p.config.Selector }))
	named := informers.NewSharedInformerFactoryWithOptions(p.config.Client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, p.config.RootMap).String()
		}))
	k := &rootMaps{
		Publisher:  p,
		namespaces: spaces.Core().V1().Namespaces().Informer(), maps: named.Core().V1().ConfigMaps().Informer(),
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[string](200*time.Millisecond, 30*time.Second)),
	}
	if _, err := k.namespaces.AddEventHandler(k.handler(func(o metav1.Object) string { return o.GetName() })); err != nil {
		return fmt.Errorf("watch namespaces: %w", err)
	}
	if _, err := k.maps.AddEventHandler(k.handler(metav1.Object.GetNamespace)); err != nil {
		return fmt.Errorf("watch ConfigMaps: %w", err)
	}
	for _, factory := range []informers.SharedInformerFactory{spaces, named} {
		factory.Start(ctx.Done())
		defer factory.Shutdown()
	}
	if !cache.WaitForCacheSync(ctx.Done(), k.namespaces.HasSynced, k.maps.HasSynced) {
		return nil // ctx ended
	}
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return k.watchBundle(ctx) })
	for range p.config.Workers {
		running.Go(func() error { return k.work(ctx) })
	}
	return running.Wait()
}

// handler queues the namespace of whatever has changed.
func (k *rootMaps) handler(namespace func(metav1.Object) string) cache.ResourceEventHandlerFuncs {
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

// watchBundle queues all namespaces when the roots change, and closes the queue at the end.
func (k *rootMaps) watchBundle(ctx context.Context) error {
	defer k.queue.ShutDown()
	ticker := time.NewTicker(bundlePoll)
	defer ticker.Stop()
	known := ""
	for {
		if bundle := k.config.Source.Bundle(); bundle != nil && bundle.Version != known {
			known = bundle.Version
			for _, name := range k.namespaces.GetStore().ListKeys() {
				k.queue.Add(name)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

func (k *rootMaps) work(ctx context.Context) error {
	for {
		namespace, end := k.queue.Get()
		if end {
			return nil
		}
		if err := k.reconcile(ctx, namespace); err != nil && ctx.Err() == nil {
			k.metrics.written.WithLabelValues("failed").Inc()
			k.config.Logger.WarnContext(ctx, "roots not written", telemetry.KeyNamespace, namespace, telemetry.KeyError, err)
			k.queue.AddRateLimited(namespace)
		} else {
			k.queue.Forget(namespace)
		}
		k.queue.Done(namespace)
	}
}

// reconcile makes the ConfigMap of one namespace what it should be.
func (k *rootMaps) reconcile(ctx context.Context, namespace string) error {
	bundle := k.config.Source.Bundle()
	object, selected, err := k.namespaces.GetStore().GetByKey(namespace)
	if err != nil {
		return fmt.Errorf("look up the namespace: %w", err)
	}
	space, ok := object.(*corev1.Namespace)
	if bundle == nil || !selected || !ok || space.DeletionTimestamp != nil || space.Status.Phase == corev1.NamespaceTerminating {
		return nil
	}
	object, exists, err := k.maps.GetStore().GetByKey(namespace + "/" + k.config.RootMap)
	if err != nil {
		return fmt.Errorf("look up the ConfigMap: %w", err)
	}
	if existing, ok := object.(*corev1.ConfigMap); exists && ok {
		return k.repair(ctx, existing, bundle)
	}
	_, err = k.config.Client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: k.config.RootMap, Labels: map[string]string{configLabel: "true"}},
		Data:       map[string]string{rootKey: bundle.PEM},
	}, metav1.CreateOptions{})
	switch {
	case err == nil:
		k.metrics.written.WithLabelValues("created").Inc()
	case apierrors.IsAlreadyExists(err): // the informer will say what it is
	case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause), apierrors.IsNotFound(err): // the namespace goes
	default:
		return fmt.Errorf("create ConfigMap %s: %w", k.config.RootMap, err)
	}
	return nil
}

// repair gives an existing ConfigMap the label and exactly the roots; what else is in its data goes, as with istiod.
func (k *rootMaps) repair(ctx context.Context, existing *corev1.ConfigMap, bundle *issuer.Bundle) error {
	data := map[string]string{rootKey: bundle.PEM}
	if maps.Equal(existing.Data, data) && len(existing.BinaryData) == 0 && existing.Labels[configLabel] == "true" {
		return nil
	}
	repaired := existing.DeepCopy()
	repaired.Data, repaired.BinaryData = data, nil
	if repaired.Labels == nil {
		repaired.Labels = map[string]string{}
	}
	repaired.Labels[configLabel] = "true"
	_, err := k.config.Client.CoreV1().ConfigMaps(existing.Namespace).Update(ctx, repaired, metav1.UpdateOptions{})
	switch {
	case err == nil:
		k.metrics.written.WithLabelValues("repaired").Inc()
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // the informer will say what has become of it
	default:
		return fmt.Errorf("update ConfigMap %s: %w", k.config.RootMap, err)
	}
	return nil
}
