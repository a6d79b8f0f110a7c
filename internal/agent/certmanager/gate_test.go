package certmanager_test

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/certloom/certloom/internal/agent/certmanager"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// Where requests are approved and nobody signs, a few callers wait as long as they can and the next are told at once. Half a
// minute later they may try again, whatever has become of the request that was left in place.
func TestNobodySigns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(nil)
		defer stop()
		l.set(func() {
			l.created = func(o *unstructured.Unstructured) {
				l.conditions(o, condition("Approved", "True", "cert-manager.io", ""))
			}
		})
		for range 3 {
			l.refused(i, fault.Unavailable)
		}
		began := time.Now()
		l.refused(i, fault.Unavailable)
		synctest.Wait()
		left := l.names(resource("certificaterequests"))
		if took := time.Since(began); took > 0 || i.Ready() == nil || len(left) != 1 {
			t.Errorf("the next was told after %s, ready: %v, left: %v", took, i.Ready(), left)
		}
		pass(31 * time.Second)
		l.set(func() { l.created = l.sign })
		if _, err := l.ask(i); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if left := l.names(resource("certificaterequests")); len(left) > 0 || i.Ready() != nil {
			t.Errorf("%v is left, ready: %v", left, i.Ready())
		}
	})
}

// Those for whom there is no room are told at once.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(func(c *certmanager.Config) { c.Concurrency = 1 })
		defer stop()
		l.set(func() { l.created = nil })
		var callers sync.WaitGroup
		for range 17 { // one and those who wait
			callers.Go(func() {
				if _, err := l.ask(i); err == nil {
					t.Error("a certificate of nobody")
				}
			})
		}
		synctest.Wait()
		began := time.Now()
		l.refused(i, fault.RateLimited)
		if took := time.Since(began); took > 0 {
			t.Errorf("told after %s", took)
		}
		callers.Wait()
	})
}

// An issuer that has another CA since does not take the old root away at once.
func TestRootsStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(nil)
		defer stop()
		for _, step := range []struct {
			after time.Duration
			roots int
		}{{0, 1}, {time.Hour + time.Second, 2}, {25 * time.Hour, 1}} {
			pass(step.after)
			if _, err := l.ask(i); err != nil {
				t.Fatal(err)
			}
			if got := len(i.Bundle().Roots); got != step.roots {
				t.Errorf("%d roots, want %d", got, step.roots)
			}
			if step.after == 0 {
				l.ca = testca.NewWith(t, testca.Options{Now: time.Now()})
			}
		}
		if !i.Bundle().Roots[0].Equal(l.ca.RootCert) {
			t.Error("the root that stays is the old one")
		}
	})
}

// Requests that are to be kept are, and are not marked as others are.
func TestPreserve(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(func(c *certmanager.Config) { c.Preserve = true })
		defer stop()
		if _, err := l.ask(i); err != nil {
			t.Fatal(err)
		}
		pass(time.Hour + time.Second)
		left := l.names(resource("certificaterequests"))
		if len(left) != 1 {
			t.Fatalf("%v is left", left)
		}
		if mark := l.objects[key{resource("certificaterequests"), namespace, left[0]}].GetLabels()["certloom-agent/temporary"]; mark != "" {
			t.Error("it is marked to be deleted")
		}
	})
}
