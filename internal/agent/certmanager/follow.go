package certmanager

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/cache"
	watchtools "k8s.io/client-go/tools/watch"

	"github.com/certloom/certloom/internal/telemetry"
)

const (
	// apiTimeout bounds a request to the API server: whoever waits for a certificate has ten seconds.
	apiTimeout = 3 * time.Second
	// relist is how often everything is listed again, should an event have been lost.
	relist     = 5 * time.Minute
	firstRetry = 200 * time.Millisecond
	lastRetry  = 2 * time.Second
)

// follower is who wants to know of some objects. Its functions are called one at a time.
type follower struct {
	client  dynamic.ResourceInterface
	what    string // for the log
	options metav1.ListOptions
	listed  func(objects []unstructured.Unstructured) // all there are
	changed func(object *unstructured.Unstructured)
	deleted func(object *unstructured.Unstructured)
	state   func(err error) // nil once they are followed, else why they are not
}

// follow lists and watches until ctx ends. An informer would do that too, but it waits for up to half a minute after the API
// server was gone, and keeps every object in memory.
func (i *Issuer) follow(ctx context.Context, f follower) error {
	wait := firstRetry
	for ctx.Err() == nil {
		err := i.followOnce(ctx, f)
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			wait = firstRetry
			continue
		}
		f.state(err)
		i.config.Logger.WarnContext(ctx, "not watched", telemetry.KeyResource, f.what, telemetry.KeyError, err)
		pause(ctx, wait)
		wait = min(2*wait, lastRetry)
	}
	return nil
}

// followOnce lists, and watches from there on until there is a reason to list again.
func (i *Issuer) followOnce(ctx context.Context, f follower) error {
	version, err := f.list(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, relist)
	defer cancel()
	watcher, err := watchtools.NewRetryWatcherWithContext(ctx, version, &cache.ListWatch{
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			o.LabelSelector, o.FieldSelector = f.options.LabelSelector, f.options.FieldSelector
			return f.client.Watch(ctx, o)
		},
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer watcher.Stop()
	f.state(nil)
	for event := range watcher.ResultChan() {
		object, ok := event.Object.(*unstructured.Unstructured)
		switch {
		case event.Type == watch.Error:
			if err := apierrors.FromObject(event.Object); !apierrors.IsGone(err) && !apierrors.IsResourceExpired(err) {
				return fmt.Errorf("watch: %w", err)
			}
			return nil // too old: listed again
		case !ok:
			return fmt.Errorf("watch: an object of type %T", event.Object)
		case event.Type == watch.Deleted:
			f.deleted(object)
		default:
			f.changed(object)
		}
	}
	return nil
}

func (f *follower) list(ctx context.Context) (version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	list, err := f.client.List(ctx, f.options)
	if err != nil {
		return "", fmt.Errorf("list: %w", err)
	}
	f.listed(list.Items)
	return list.GetResourceVersion(), nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
