package publish

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Istiod says which certificate istiod gets.
type Istiod struct {
	Namespace, Secret string
	TrustDomain       string
	Revisions         []string // "default" is the one without a suffix
	MoreNames         []string // further DNS names, as of ISTIOD_CUSTOM_HOST
	Key               pki.KeyAlgorithm
	Lifetime          time.Duration
	RenewBefore       time.Duration // 0 is half of the lifetime
	// Restart restarts Deployments of istiod that started before there was a certificate, and serve nothing therefore.
	Restart bool
}

// istiodAccount is the ServiceAccount that Istio's charts give to istiod.
const istiodAccount = "istiod-service-account"

// names returns what istiod itself asks its own CA for (istio.io/istio/pilot/pkg/bootstrap/server.go, initIstiodCerts).
func (w *Istiod) names() []string {
	hosts := []string{"istiod", "istiod-remote", "istio-pilot"}
	for _, revision := range w.Revisions {
		if revision != "default" {
			hosts = append(hosts, "istiod-"+revision)
		}
	}
	names := slices.Clone(w.MoreNames)
	for _, host := range hosts {
		names = append(names, host+"."+w.Namespace+".svc")
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (w *Istiod) uri() string {
	return pki.SPIFFEID{TrustDomain: w.TrustDomain, Namespace: w.Namespace, ServiceAccount: istiodAccount}.String()
}

// istiodSecret keeps the Secret with istiod's certificate.
type istiodSecret struct {
	config *Config
	wants  Istiod
	early  *earlyIstiods
	expiry atomic.Int64 // of the certificate, in Unix time

	// unwritten is the data of a Secret that could not be written: the next try shall not cost another certificate.
	unwritten map[string][]byte
}

const (
	obtainTimeout = 10 * time.Second
	// look is how often the Secret is looked at when nothing has changed it.
	look = 10 * time.Second
	// hurry is the same while there is none: istiod cannot start.
	hurry        = 2 * time.Second
	managedLabel = "app.kubernetes.io/managed-by"
	managedBy    = "certloom-agent"
	// certManager marks a Secret that cert-manager keeps; two writers would each undo what the other did.
	certManager = "cert-manager.io/certificate-name"
	caKey       = "ca.crt"
)

// keep works until ctx ends.
func (s *istiodSecret) keep(ctx context.Context) error {
	factory := informers.NewSharedInformerFactoryWithOptions(s.config.Client, 0, informers.WithNamespace(s.wants.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.wants.Secret).String()
		}))
	secrets := factory.Core().V1().Secrets().Informer()
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // it will be looked at anyhow
		}
	}
	_, err := secrets.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { note() }, UpdateFunc: func(any, any) { note() }, DeleteFunc: func(any) { note() },
	})
	if err != nil {
		return fmt.Errorf("watch Secret %s: %w", s.wants.Secret, err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), secrets.HasSynced) {
		return nil // ctx ended
	}
	timer := time.NewTimer(look)
	defer timer.Stop()
	for {
		object, there, err := secrets.GetStore().GetByKey(s.wants.Namespace + "/" + s.wants.Secret)
		if err == nil {
			existing, _ := object.(*corev1.Secret)
			err = s.reconcile(ctx, existing)
			s.early.look(ctx, existing)
		}
		if err != nil && ctx.Err() == nil {
			s.config.Logger.WarnContext(ctx, "istiod's certificate not written", telemetry.KeyError, err)
		}
		timer.Reset(look)
		if !there {
			timer.Reset(hurry)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-changed:
		}
	}
}

// reconcile makes the Secret what it should be; existing is nil when there is none.
func (s *istiodSecret) reconcile(ctx context.Context, existing *corev1.Secret) error {
	bundle := s.config.Source.Bundle()
	if bundle == nil {
		return nil // not enrolled yet
	}
	if existing != nil && existing.Annotations[certManager] != "" {
		return fmt.Errorf("secret %s/%s belongs to cert-manager's Certificate %q; delete that Certificate and the Secret, or use --istiod-cert-enabled=false",
			existing.Namespace, existing.Name, existing.Annotations[certManager])
	}
	why := s.lacking(existing, bundle)
	if why == "" {
		return s.refreshRoots(ctx, existing, bundle)
	}
	if s.lacking(&corev1.Secret{Type: corev1.SecretTypeTLS, Data: s.unwritten}, bundle) != "" {
		data, err := s.obtain(ctx)
		if err != nil {
			return err
		}
		s.unwritten = data
	}
	s.unwritten[caKey] = []byte(bundle.PEM)
	if err := s.write(ctx, existing, s.unwritten); err != nil {
		return err
	}
	s.unwritten = nil
	s.config.Logger.InfoContext(ctx, "istiod's certificate written", "secret", s.wants.Namespace+"/"+s.wants.Secret,
		"why", why, "names", s.wants.names(), "not_after", time.Unix(s.expiry.Load(), 0).UTC())
	return nil
}

// refreshRoots gives a Secret whose certificate is good the roots of now.
func (s *istiodSecret) refreshRoots(ctx context.Context, existing *corev1.Secret, bundle *issuer.Bundle) error {
	if string(existing.Data[caKey]) == bundle.PEM {
		return nil
	}
	data := maps.Clone(existing.Data)
	data[caKey] = []byte(bundle.PEM)
	return s.write(ctx, existing, data)
}

// lacking returns why the Secret needs another certificate, "" when it does not.
func (s *istiodSecret) lacking(existing *corev1.Secret, bundle *issuer.Bundle) string {
	if existing == nil {
		return "there is no Secret"
	}
	pair, err := tls.X509KeyPair(existing.Data[corev1.TLSCertKey], existing.Data[corev1.TLSPrivateKeyKey])
	if err != nil || existing.Type != corev1.SecretTypeTLS {
		return "the Secret has no certificate with its key"
	}
	want := issuer.Wanted{SPKI: pair.Leaf.RawSubjectPublicKeyInfo, Names: pki.Names{DNS: s.wants.names(), URIs: []string{s.wants.uri()}}}
	now := s.config.Now()
	if _, err := bundle.Check(pair.Certificate, want, now); err != nil {
		return "the certificate is not good: " + err.Error()
	}
	s.expiry.Store(pair.Leaf.NotAfter.Unix())
	before := s.wants.RenewBefore
	if life := pair.Leaf.NotAfter.Sub(pair.Leaf.NotBefore); before <= 0 || before >= life {
		before = life / 2
	}
	if pair.Leaf.NotAfter.Sub(now) <= before {
		return "the certificate is due for renewal"
	}
	return ""
}

// obtain gets a certificate and lays the Secret's data out.
func (s *istiodSecret) obtain(ctx context.Context) (map[string][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, obtainTimeout)
	defer cancel()
	pair, bundle, err := issuer.Obtain(ctx, s.config.Source, issuer.Order{
		DNS: s.wants.names(), URI: s.wants.uri(), Key: s.wants.Key, Lifetime: s.wants.Lifetime,
		Caller: issuer.Caller{Namespace: s.wants.Namespace, ServiceAccount: istiodAccount},
	}, s.config.Random, s.config.Now)
	if err != nil {
		return nil, err
	}
	s.expiry.Store(pair.Leaf.NotAfter.Unix())
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("encode istiod's key: %w", err)
	}
	var chain bytes.Buffer
	for _, der := range pair.Certificate {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return map[string][]byte{
		corev1.TLSCertKey:       chain.Bytes(),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		caKey:                   []byte(bundle.PEM), // Istio takes the roots from here since 1.31, from the ConfigMap before
	}, nil
}

// write creates or updates the Secret. A Secret of another type cannot be changed, so it is replaced.
func (s *istiodSecret) write(ctx context.Context, existing *corev1.Secret, data map[string][]byte) error {
	client := s.config.Client.CoreV1().Secrets(s.wants.Namespace)
	if existing != nil && existing.Type != corev1.SecretTypeTLS {
		if err := client.Delete(ctx, existing.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("remove Secret %s of type %q: %w", existing.Name, existing.Type, err)
		}
		existing = nil
	}
	if existing == nil {
		_, err := client.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: s.wants.Secret, Labels: map[string]string{managedLabel: managedBy}},
			Type:       corev1.SecretTypeTLS, Data: data,
		}, metav1.CreateOptions{})
		if err != nil {
			return fmt.Errorf("create Secret %s: %w", s.wants.Secret, err)
		}
		return nil
	}
	changed := existing.DeepCopy()
	changed.Labels = maps.Clone(changed.Labels)
	if changed.Labels == nil {
		changed.Labels = map[string]string{}
	}
	changed.Labels[managedLabel], changed.Data = managedBy, data
	if _, err := client.Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("update Secret %s: %w", s.wants.Secret, err)
	}
	return nil
}
