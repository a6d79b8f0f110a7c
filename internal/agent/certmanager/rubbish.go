package certmanager

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/certloom/certloom/internal/telemetry"
)

const (
	deleters = 8
	// mostRubbish is how many requests may wait to be deleted. What there is no room for is found when sweeping.
	mostRubbish  = 8192
	deleteTries  = 4
	sweepEvery   = time.Minute
	sweepRetry   = 5 * time.Second
	sweepPage    = 500
	farewellTime = 5 * time.Second
	// forgottenAfter is how old a request of ours is when it must have been forgotten; none lives for longer than a call.
	forgottenAfter = time.Minute
	// leftAfter is the same for those of other processes, with room for clocks that differ.
	leftAfter = 10 * time.Minute
)

// rubbish are the names of requests to be deleted.
type rubbish struct{ names chan string }

func newRubbish() *rubbish { return &rubbish{names: make(chan string, mostRubbish)} }

// discard has a request deleted in the background. "" is none.
func (i *Issuer) discard(name string) {
	if name == "" || i.config.Preserve {
		return
	}
	select {
	case i.rubbish.names <- name:
	default: // swept later
	}
}

// clean deletes requests until ctx ends.
func (i *Issuer) clean(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case name := <-i.rubbish.names:
			i.remove(ctx, name)
		}
	}
}

// remove deletes a request, and tries again when that fails.
func (i *Issuer) remove(ctx context.Context, name string) {
	wait := firstRetry
	for try := 1; ; try++ {
		err := i.delete(ctx, name)
		switch {
		case err == nil:
			i.metrics.deleted("deleted")
			return
		case ctx.Err() != nil:
			i.discard(name) // for cleanUp
			return
		case try == deleteTries:
			i.metrics.deleted("failed")
			i.config.Logger.WarnContext(ctx, "certificate request not deleted, it is tried again later", "certificaterequest", name, telemetry.KeyError, err)
			return
		}
		pause(ctx, wait)
		wait *= 2
	}
}

func (i *Issuer) delete(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	if err := i.requests.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete: %w", err)
	}
	return nil
}

// cleanUp deletes what is left at the end. What does not get deleted in time, the next process in this Pod or another replica
// deletes.
func (i *Issuer) cleanUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellTime)
	defer cancel()
	i.discard(i.gate.forget())
	for {
		select {
		case name := <-i.rubbish.names:
			if i.delete(ctx, name) != nil {
				return
			}
			i.metrics.deleted("deleted")
		default:
			return
		}
	}
}

// sweep deletes requests that nobody waits for any more, at the start and then again and again, until ctx ends.
func (i *Issuer) sweep(ctx context.Context) error {
	for ctx.Err() == nil {
		wait := sweepEvery
		if err := i.sweepOnce(ctx); err != nil && ctx.Err() == nil {
			i.config.Logger.WarnContext(ctx, "no look for CertificateRequests that were left behind", telemetry.KeyError, err)
			wait = sweepRetry
		}
		pause(ctx, wait)
	}
	return nil
}

func (i *Issuer) sweepOnce(ctx context.Context) error {
	options := metav1.ListOptions{LabelSelector: labelTemporary + "=" + isTemporary, Limit: sweepPage}
	for {
		list, err := i.listPage(ctx, options)
		if err != nil {
			return err
		}
		for at := range list.Items {
			object := &list.Items[at]
			if !i.forgotten(object) {
				continue
			}
			if err := i.delete(ctx, object.GetName()); err != nil {
				return err
			}
			i.metrics.deleted("leftover")
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

func (i *Issuer) listPage(ctx context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	list, err := i.requests.List(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return list, nil
}

// forgotten reports whether a request has nobody who will delete it.
func (i *Issuer) forgotten(object *unstructured.Unstructured) bool {
	age := i.config.Now().Sub(object.GetCreationTimestamp().Time)
	labels := object.GetLabels()
	switch {
	case labels[labelInstance] == i.instance:
		name := object.GetName()
		return age > forgottenAfter && !i.waiters.waits(name) && !i.gate.isCanary(name)
	case i.config.Pod != "" && labels[labelPod] == i.config.Pod:
		return true // a Pod has one process, and this is it
	default:
		return age > leftAfter
	}
}
