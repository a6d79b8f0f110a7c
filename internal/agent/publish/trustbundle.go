package publish

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/certloom/certloom/internal/telemetry"
)

// What Istio's charts project into Pods with ENABLE_CLUSTER_TRUST_BUNDLE_API (istio.io/istio/security/pkg/k8s). An object
// of a signer has a name that begins with the signer's, and whoever writes it needs the verb "attest" on the signer.
const (
	istioBundle = "istio.io:istiod-ca:root-cert"
	istioSigner = "istio.io/istiod-ca"
)

const (
	// apiPoll is how often an API server without ClusterTrustBundles is asked again: it may have been updated.
	apiPoll = 5 * time.Minute
	// bundleRetry is how soon a write that failed is tried again.
	bundleRetry = 5 * time.Second
)

// trustBundles keeps the ClusterTrustBundles with the roots.
type trustBundles struct {
	*Publisher

	signers map[string]string // by the name of the object; "" for the one without a signer
	contest *contest
}

// bundleAPI is one version of the API. All versions of the object have the same fields, so the newest is used inside.
type bundleAPI struct {
	version  string
	informer func(informers.SharedInformerFactory) cache.SharedIndexInformer
	read     func(object any) *certificatesv1.ClusterTrustBundle // nil when it is something else
	create   func(ctx context.Context, b *certificatesv1.ClusterTrustBundle) error
	update   func(ctx context.Context, b *certificatesv1.ClusterTrustBundle) error
}

// apis lists the versions, the preferred one first.
func (t *trustBundles) apis() []bundleAPI {
	v1, beta := t.config.Client.CertificatesV1().ClusterTrustBundles(), t.config.Client.CertificatesV1beta1().ClusterTrustBundles()
	toBeta := func(b *certificatesv1.ClusterTrustBundle) *certificatesv1beta1.ClusterTrustBundle {
		return &certificatesv1beta1.ClusterTrustBundle{ObjectMeta: b.ObjectMeta, Spec: certificatesv1beta1.ClusterTrustBundleSpec(b.Spec)}
	}
	return []bundleAPI{{
		version: "v1",
		informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
			return f.Certificates().V1().ClusterTrustBundles().Informer()
		},
		read: func(object any) *certificatesv1.ClusterTrustBundle {
			b, _ := object.(*certificatesv1.ClusterTrustBundle)
			return b
		},
		create: func(ctx context.Context, b *certificatesv1.ClusterTrustBundle) error {
			_, err := v1.Create(ctx, b, metav1.CreateOptions{})
			return err //nolint:wrapcheck // count wraps it
		},
		update: func(ctx context.Context, b *certificatesv1.ClusterTrustBundle) error {
			_, err := v1.Update(ctx, b, metav1.UpdateOptions{})
			return err //nolint:wrapcheck // count wraps it
		},
	}, {
		version: "v1beta1",
		informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
			return f.Certificates().V1beta1().ClusterTrustBundles().Informer()
		},
		read: func(object any) *certificatesv1.ClusterTrustBundle {
			b, ok := object.(*certificatesv1beta1.ClusterTrustBundle)
			if !ok {
				return nil
			}
			return &certificatesv1.ClusterTrustBundle{ObjectMeta: b.ObjectMeta, Spec: certificatesv1.ClusterTrustBundleSpec(b.Spec)}
		},
		create: func(ctx context.Context, b *certificatesv1.ClusterTrustBundle) error {
			_, err := beta.Create(ctx, toBeta(b), metav1.CreateOptions{})
			return err //nolint:wrapcheck // count wraps it
		},
		update: func(ctx context.Context, b *certificatesv1.ClusterTrustBundle) error {
			_, err := beta.Update(ctx, toBeta(b), metav1.UpdateOptions{})
			return err //nolint:wrapcheck // count wraps it
		},
	}}
}

// find returns the version of the API that the API server has, nil when it has none.
func (t *trustBundles) find() (*bundleAPI, error) {
	for _, api := range t.apis() {
		list, err := t.config.Client.Discovery().ServerResourcesForGroupVersion("certificates.k8s.io/" + api.version)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ask the API server for its API: %w", err)
		}
		if slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "clustertrustbundles" }) {
			return &api, nil
		}
	}
	return nil, nil //nolint:nilnil // nothing was wrong, and there is none
}

// keep works until ctx ends.
func (t *trustBundles) keep(ctx context.Context) error {
	said := false
	for {
		wait := apiPoll
		api, err := t.find()
		switch {
		case err != nil:
			wait = bundleRetry
			t.config.Logger.WarnContext(ctx, "not known whether the API server has ClusterTrustBundles", telemetry.KeyError, err)
		case api != nil:
			return t.keepIn(ctx, api)
		case !said:
			said = true
			t.config.Logger.InfoContext(ctx, "the API server has no ClusterTrustBundles: the roots are in ConfigMaps only")
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// keepIn keeps the objects by one version of the API.
func (t *trustBundles) keepIn(ctx context.Context, api *bundleAPI) error {
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // they will be looked at anyhow
		}
	}
	stores := map[string]cache.Store{}
	for name := range t.signers {
		// By name, since that is how far the permission goes.
		factory := informers.NewSharedInformerFactoryWithOptions(t.config.Client, 0, informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
		}))
		informer := api.informer(factory)
		stores[name] = informer.GetStore()
		watching, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { note() }, UpdateFunc: func(any, any) { note() }, DeleteFunc: func(any) { note() },
		})
		if err != nil {
			return fmt.Errorf("watch ClusterTrustBundle %s: %w", name, err)
		}
		factory.Start(ctx.Done())
		defer factory.Shutdown()
		if !cache.WaitForCacheSync(ctx.Done(), watching.HasSynced) {
			return nil // ctx ended
		}
	}
	ticker := time.NewTicker(contentPoll)
	defer ticker.Stop()
	known, next := "", time.Time{} // version of the roots that is written, and when to write what was not
	for {
		if bundle := t.config.Source.Bundle(); bundle != nil && (bundle.Version != known || !next.IsZero() && !t.config.Now().Before(next)) {
			known = bundle.Version
			next = t.reconcile(ctx, api, stores, bundle.PEM)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-changed:
			known = ""
		}
	}
}

// reconcile makes all objects what they should be, and returns when to do so again: zero when all are.
func (t *trustBundles) reconcile(ctx context.Context, api *bundleAPI, stores map[string]cache.Store, roots string) (again time.Time) {
	for name, signer := range t.signers {
		wait, err := t.write(ctx, api, stores[name], name, signer, roots)
		if err != nil && ctx.Err() == nil {
			t.metrics.bundles.WithLabelValues(failed).Inc()
			t.config.Logger.WarnContext(ctx, "roots not written", "clustertrustbundle", name, telemetry.KeyError, err)
			wait = bundleRetry
		}
		if at := t.config.Now().Add(wait); wait > 0 && (again.IsZero() || at.Before(again)) {
			again = at
		}
	}
	return again
}

// write makes one object what it should be, or returns how long to leave it.
func (t *trustBundles) write(ctx context.Context, api *bundleAPI, store cache.Store, name, signer, roots string) (time.Duration, error) {
	object, _, err := store.GetByKey(name)
	if err != nil {
		return 0, fmt.Errorf("look up the object: %w", err)
	}
	existing := api.read(object)
	if existing == nil {
		err := api.create(ctx, &certificatesv1.ClusterTrustBundle{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{managedLabel: managedBy}},
			Spec:       certificatesv1.ClusterTrustBundleSpec{SignerName: signer, TrustBundle: roots},
		})
		return 0, t.count(created, err)
	}
	if existing.Spec.TrustBundle == roots {
		return 0, nil
	}
	if wait := t.contest.changedBack(ctx, &existing.ObjectMeta, roots); wait > 0 {
		return wait, nil
	}
	changed := existing.DeepCopy()
	changed.Labels = maps.Clone(changed.Labels)
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	changed.Labels[managedLabel], changed.Spec.TrustBundle = managedBy, roots
	err = api.update(ctx, changed)
	if err != nil {
		t.contest.notWritten(&existing.ObjectMeta)
	}
	return 0, t.count(repaired, err)
}

// count counts a write. What the informer will tell anyhow is no failure.
func (t *trustBundles) count(outcome string, err error) error {
	switch {
	case err == nil:
		t.metrics.bundles.WithLabelValues(outcome).Inc()
		return nil
	case apierrors.IsAlreadyExists(err), apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil
	default:
		return fmt.Errorf("write ClusterTrustBundle: %w", err)
	}
}
