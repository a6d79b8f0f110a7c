package certmanager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/certloom/certloom/internal/telemetry"
)

// target is the issuer that requests name, and whether it can be used.
type target struct {
	start Ref // while the ConfigMap names none
	// changed has room for one word: look at the issuer now.
	changed chan struct{}

	mu      sync.Mutex // guards the rest; held for assignments only
	current Ref
	known   bool  // the ConfigMap has been read, or there is none
	err     error // why it cannot be used
}

func newTarget(start Ref, known bool) *target {
	return &target{start: start, changed: make(chan struct{}, 1), current: start, known: known, err: errNotLooked()}
}

func errNotLooked() error { return errors.New("the issuer has not been looked at yet") }

func (t *target) get() Ref {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current
}

func (t *target) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		return errors.New("the ConfigMap that names the issuer has not been read yet")
	}
	return t.err
}

// set makes another issuer the current one. It reports whether it is another.
func (t *target) set(to Ref) bool {
	t.mu.Lock()
	t.known = true
	same := t.current == to
	if !same {
		t.current, t.err = to, errNotLooked()
	}
	t.mu.Unlock()
	if !same {
		t.look()
	}
	return !same
}

// keep goes on with the issuer that is current.
func (t *target) keep() { t.set(t.get()) }

// look has the issuer looked at now.
func (t *target) look() {
	select {
	case t.changed <- struct{}{}:
	default: // it will be
	}
}

// judge notes whether an issuer can be used, if it is still the current one.
func (t *target) judge(which Ref, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == which {
		t.err = err
	}
}

// followIssuer looks at the issuer again and again until ctx ends; it also notices that the API server is gone, and back.
func (i *Issuer) followIssuer(ctx context.Context) error {
	ticker := time.NewTicker(i.config.Poll)
	defer ticker.Stop()
	var said string // in the log last
	for {
		which := i.target.get()
		err := i.lookAt(ctx, which)
		if ctx.Err() != nil {
			return nil
		}
		i.target.judge(which, err)
		switch now := fmt.Sprint(which, err); {
		case now == said:
		case err != nil:
			i.config.Logger.WarnContext(ctx, "issuer cannot be used", telemetry.KeyError, err)
			said = now
		default:
			i.config.Logger.InfoContext(ctx, "issuer in use", "issuer", which.String())
			said = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-i.target.changed:
		case <-ticker.C:
		}
	}
}

// lookAt returns why an issuer cannot be used. Issuers of other groups than cert-manager's are not looked at: what
// resource they are, and whether they have conditions, is not known.
func (i *Issuer) lookAt(ctx context.Context, which Ref) error {
	if which == (Ref{}) {
		return fmt.Errorf("no issuer is configured: --issuer-enabled=false, and ConfigMap %s/%s names none", i.config.RuntimeNamespace, i.config.RuntimeMap)
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	client, foreign := i.issuerClient(which)
	if foreign {
		// Any answer will do: that the API server is there is what must be known of it.
		_, err := i.requests.List(ctx, metav1.ListOptions{Limit: 1, LabelSelector: labelInstance + "=" + i.instance})
		if err != nil {
			return fmt.Errorf("ask the API server: %w", err)
		}
		return nil
	}
	object, err := client.Get(ctx, which.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("issuer %s is not there", which)
	case err != nil:
		return fmt.Errorf("ask the API server for issuer %s: %w", which, err)
	}
	ready, found := condition(object, "Ready")
	if found && ready.status == conditionTrue {
		return nil
	}
	return fmt.Errorf("issuer %s is not ready: %s: %.500s", which, ready.reason, ready.message)
}

// issuerClient returns where an issuer of cert-manager's own kinds is; foreign reports that it is of another.
func (i *Issuer) issuerClient(which Ref) (client dynamic.ResourceInterface, foreign bool) {
	if which.Group != cmGroup {
		return nil, true
	}
	resource := schema.GroupVersionResource{Group: cmGroup, Version: "v1", Resource: "issuers"}
	switch which.Kind {
	case "Issuer":
		return i.config.Client.Resource(resource).Namespace(i.config.Namespace), false
	case "ClusterIssuer":
		resource.Resource = "clusterissuers"
		return i.config.Client.Resource(resource), false
	default:
		return nil, true
	}
}

// keys of the ConfigMap, as istio-csr has them.
const (
	keyName  = "issuer-name"
	keyKind  = "issuer-kind"
	keyGroup = "issuer-group"
)

// followMap takes the issuer from the ConfigMap whenever it changes, until ctx ends. One that does not name an issuer is passed
// over; without a ConfigMap the issuer is that of the start, or none.
func (i *Issuer) followMap(ctx context.Context) error {
	maps := i.config.Client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(i.config.RuntimeNamespace)
	return i.follow(ctx, follower{
		client: maps, what: "ConfigMap " + i.config.RuntimeNamespace + "/" + i.config.RuntimeMap,
		options: metav1.ListOptions{FieldSelector: "metadata.name=" + i.config.RuntimeMap},
		listed: func(objects []unstructured.Unstructured) {
			if len(objects) == 0 {
				i.useIssuer(ctx, i.target.start)
			}
			for at := range objects {
				i.readMap(ctx, &objects[at])
			}
		},
		changed: func(object *unstructured.Unstructured) { i.readMap(ctx, object) },
		deleted: func(*unstructured.Unstructured) { i.useIssuer(ctx, i.target.start) },
		state:   func(error) {}, // the issuer that is known goes on to be used
	})
}

func (i *Issuer) readMap(ctx context.Context, object *unstructured.Unstructured) {
	data, _, _ := unstructured.NestedStringMap(object.Object, "data") // one that is not of strings names no issuer
	named := Ref{Name: data[keyName], Kind: data[keyKind], Group: data[keyGroup]}
	if named.Name == "" || named.Kind == "" || named.Group == "" {
		i.config.Logger.ErrorContext(ctx, "configmap passed over: it needs issuer-name, issuer-kind and issuer-group", "configmap", object.GetName(),
			"issuer", i.target.get().String())
		i.target.keep()
		return
	}
	i.useIssuer(ctx, named)
}

func (i *Issuer) useIssuer(ctx context.Context, named Ref) {
	if i.target.set(named) {
		i.discard(i.gate.forget())
		i.config.Logger.InfoContext(ctx, "issuer changed", "issuer", named.String())
	}
}
