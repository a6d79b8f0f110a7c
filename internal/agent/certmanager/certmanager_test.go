package certmanager_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/certloom/certloom/internal/agent/certmanager"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// What istio-csr's users have policies for is there, and nothing is left of it when the certificate is.
func TestIssue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		var seen *unstructured.Unstructured
		l.created = func(object *unstructured.Unstructured) {
			l.set(func() { seen = object.DeepCopy() })
			l.sign(object)
		}
		i, stop := l.start(func(c *certmanager.Config) { c.Annotations = map[string]string{"team": "mesh"} })
		defer stop()
		chain, err := l.ask(i)
		if err != nil || len(chain) != 2 || string(chain[1]) != string(l.ca.IssuingCert.Raw) {
			t.Fatalf("got %d certificates, %v; want the leaf and the issuing CA", len(chain), err)
		}
		if b := i.Bundle(); b == nil || len(b.Roots) != 1 || !b.Roots[0].Equal(l.ca.RootCert) || i.Ready() != nil {
			t.Errorf("the bundle is %v, ready: %v; want the root of status.ca", b, i.Ready())
		}
		spec, _, _ := unstructured.NestedMap(seen.Object, "spec")
		ref, _, _ := unstructured.NestedStringMap(seen.Object, "spec", "issuerRef")
		usages, _, _ := unstructured.NestedStringSlice(seen.Object, "spec", "usages")
		if !strings.HasPrefix(seen.GetName(), "istio-csr-") || seen.GetNamespace() != namespace || spec["isCA"] != false || spec["duration"] != "50m0s" ||
			ref["name"] != "istio-ca" || ref["kind"] != "Issuer" || ref["group"] != "cert-manager.io" || strings.Join(usages, ",") != "client auth,server auth" {
			t.Errorf("the request is %v", seen.Object)
		}
		if a := seen.GetAnnotations(); a["istio.cert-manager.io/identities"] != web || a["team"] != "mesh" {
			t.Errorf("the annotations are %v", a)
		}
		synctest.Wait()
		if left := l.names(resource("certificaterequests")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
}

// A request without a SPIFFE ID is the agent's own.
func TestOwnRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(func(c *certmanager.Config) { c.Preserve = true })
		defer stop()
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		csr := testca.CSR(t, testca.Request{DNS: []string{"agent.istio-system.svc"}})
		if _, err := i.Issue(ctx, issuer.Request{CSR: csr, Lifetime: time.Hour}); err != nil {
			t.Fatal(err)
		}
		left := l.names(resource("certificaterequests"))
		if len(left) != 1 {
			t.Fatalf("%v is left, want one that is preserved", left)
		}
		object := l.objects[key{resource("certificaterequests"), namespace, left[0]}]
		if got := object.GetAnnotations()["istio.cert-manager.io/identities"]; got != "istio-csr-serving" {
			t.Errorf("the annotation is %q", got)
		}
	})
}

// What becomes of a request decides what the caller is told: Istio comes again where that can help.
func TestDecisions(t *testing.T) {
	t.Parallel()
	stranger := testca.New(t)
	acme := func(kind string) string {
		return "Failed to wait for order resource: 403 urn:ietf:params:acme:error:" + kind + ": no"
	}
	failed := func(message string) func(*lab, *unstructured.Unstructured) {
		return func(l *lab, o *unstructured.Unstructured) {
			l.conditions(o, condition("Ready", "False", "Failed", message))
		}
	}
	for name, test := range map[string]struct {
		decide func(*lab, *unstructured.Unstructured)
		kind   fault.Kind
	}{
		"refuses/denied": {func(l *lab, o *unstructured.Unstructured) {
			l.conditions(o, condition("Denied", "True", "policy", "not this one"))
		}, fault.Unauthorized},
		"refuses/denied-not-ready": {func(l *lab, o *unstructured.Unstructured) {
			l.conditions(o, condition("Ready", "False", "Denied", "not this one"))
		}, fault.Unauthorized},
		"refuses/invalid": {func(l *lab, o *unstructured.Unstructured) {
			l.conditions(o, condition("InvalidRequest", "True", "usages", "no"))
		}, fault.BadCSR},
		"refuses/by-the-ca":    {failed(acme("rejectedIdentifier")), fault.Unauthorized},
		"trouble/overloaded":   {failed(acme("rateLimited")), fault.RateLimited},
		"trouble/ca-fails":     {failed(acme("serverInternal")), fault.Unavailable},
		"trouble/account":      {failed(acme("accountDoesNotExist")), fault.Unavailable},
		"trouble/does-not-say": {failed("something"), fault.Internal},
		"trouble/gone": {func(l *lab, o *unstructured.Unstructured) {
			l.remove(key{resource("certificaterequests"), namespace, o.GetName()})
		}, fault.Unavailable},
		"trouble/not-pem":        {func(l *lab, o *unstructured.Unstructured) { l.status(o, map[string]any{"certificate": "eA=="}) }, fault.Internal},
		"trouble/nobody-decides": {func(l *lab, o *unstructured.Unstructured) { l.conditions(o, condition("Approved", "True", "x", "")) }, fault.Unavailable},
		"trouble/no-root": {func(l *lab, o *unstructured.Unstructured) {
			l.status(o, map[string]any{"certificate": certificates(l.leaf(o), l.ca.IssuingCert.Raw)})
		}, fault.Internal},
		"trouble/other-root": {func(l *lab, o *unstructured.Unstructured) {
			l.status(o, map[string]any{"certificate": certificates(l.leaf(o), l.ca.IssuingCert.Raw), "ca": certificates(stranger.RootCert.Raw)})
		}, fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.created = func(o *unstructured.Unstructured) { test.decide(l, o) }
				i, stop := l.start(nil)
				defer stop()
				l.refused(i, test.kind)
				if i.Bundle() != nil {
					t.Error("a bundle has come of it")
				}
				synctest.Wait()
				if left := l.names(resource("certificaterequests")); len(left) > 0 {
					t.Errorf("%v is left", left)
				}
			})
		})
	}
}

// What the API server answers.
func TestAPIServer(t *testing.T) {
	t.Parallel()
	of := resource("certificaterequests").GroupResource()
	for name, test := range map[string]struct {
		err  error
		kind fault.Kind
	}{
		"refuses/admission":  {apierrors.NewForbidden(of, "x", errors.New("policy")), fault.Unauthorized},
		"trouble/overloaded": {apierrors.NewTooManyRequests("later", 3), fault.RateLimited},
		"trouble/no-crd":     {apierrors.NewNotFound(of, "x"), fault.Unavailable},
		"trouble/gone":       {errors.New("connection refused"), fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				i, stop := l.start(nil)
				defer stop()
				l.set(func() {
					l.fail = func(verb string, _ schema.GroupVersionResource) error {
						if verb == "create" {
							return test.err
						}
						return nil
					}
				})
				l.refused(i, test.kind)
				l.set(func() { l.fail = nil })
				if _, err := l.ask(i); err != nil {
					t.Errorf("after that: %v", err)
				}
			})
		})
	}
}

// While the API server is gone callers are told at once, and afterwards everything goes on by itself.
func TestAPIServerGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(nil)
		defer stop()
		if _, err := l.ask(i); err != nil {
			t.Fatal(err)
		}
		l.set(func() {
			l.fail = func(string, schema.GroupVersionResource) error { return errors.New("connection refused") }
		})
		l.hangUp()
		pass(5 * time.Second)
		before := time.Now()
		l.refused(i, fault.Unavailable)
		if took := time.Since(before); took > 0 || i.Ready() == nil {
			t.Errorf("told after %s, ready: %v", took, i.Ready())
		}
		l.set(func() { l.fail = nil })
		pass(5 * time.Second)
		if _, err := l.ask(i); err != nil || i.Ready() != nil {
			t.Errorf("afterwards: %v, ready: %v", err, i.Ready())
		}
	})
}

// An issuer that is not there or not ready is not asked.
func TestIssuerNotReady(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.issuer("istio-ca", "False", "no account")
		i, stop := l.start(nil)
		defer stop()
		l.refused(i, fault.Unavailable)
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "no account") {
			t.Errorf("ready: %v", err)
		}
		l.remove(key{resource("issuers"), namespace, "istio-ca"})
		pass(5 * time.Second)
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "is not there") {
			t.Errorf("ready: %v", err)
		}
		if l.count("create certificaterequests") > 0 {
			t.Error("a request was made for an issuer that cannot sign it")
		}
		l.issuer("istio-ca", "True", "")
		pass(5 * time.Second)
		if _, err := l.ask(i); err != nil {
			t.Error(err)
		}
	})
}

// The ConfigMap names the issuer while it is there and good.
func TestRuntimeIssuer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.issuer("other", "True", "")
		var asked string
		l.created = func(object *unstructured.Unstructured) {
			ref, _, _ := unstructured.NestedStringMap(object.Object, "spec", "issuerRef")
			l.set(func() { asked = ref["name"] })
			l.sign(object)
		}
		runtime := key{configMaps(), "config", "issuer"}
		names := func(data map[string]any) {
			l.put(runtime, &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "issuer"}, "data": data}})
			synctest.Wait()
		}
		i, stop := l.start(func(c *certmanager.Config) { c.RuntimeMap, c.RuntimeNamespace = "issuer", "config" })
		defer stop()
		expect := func(want string) {
			t.Helper()
			if _, err := l.ask(i); err != nil || asked != want {
				t.Errorf("%q was asked, %v; want %q", asked, err, want)
			}
		}
		expect("istio-ca")
		names(map[string]any{"issuer-name": "other", "issuer-kind": "Issuer", "issuer-group": "cert-manager.io"})
		expect("other")
		names(map[string]any{"issuer-name": "third"}) // not whole: passed over
		expect("other")
		l.remove(runtime)
		synctest.Wait()
		expect("istio-ca")
	})
}

func TestNoIssuer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(func(c *certmanager.Config) {
			c.Issuer, c.RuntimeMap, c.RuntimeNamespace = certmanager.Ref{}, "issuer", "config"
		})
		defer stop()
		l.refused(i, fault.Unavailable)
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "config/issuer") {
			t.Errorf("ready: %v", err)
		}
	})
}

// A CA that takes its time is waited for, as long as callers wait.
func TestSlowCA(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.created = func(object *unstructured.Unstructured) {
			l.conditions(object, condition("Approved", "True", "cert-manager.io", ""), condition("Ready", "False", "Pending", "order"))
			pass(8 * time.Second)
			l.sign(object)
		}
		i, stop := l.start(nil)
		defer stop()
		if _, err := l.ask(i); err != nil {
			t.Error(err)
		}
	})
}

// Where cert-manager does not run, the first callers wait for five seconds, the next are told at once, and one request stays to
// tell when it runs again.
func TestNobodyDecides(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(nil)
		defer stop()
		l.set(func() { l.created = nil })
		var callers sync.WaitGroup
		began := time.Now()
		for range 50 {
			callers.Go(func() { l.refused(i, fault.Unavailable) })
		}
		callers.Wait()
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("told after %s", took)
		}
		synctest.Wait()
		began = time.Now()
		l.refused(i, fault.Unavailable)
		left := l.names(resource("certificaterequests"))
		if took := time.Since(began); took > 0 || len(left) != 1 || i.Ready() == nil {
			t.Fatalf("the next was told after %s, ready: %v, left: %v", took, i.Ready(), left)
		}
		l.set(func() { l.created = l.sign })
		canary := l.objects[key{resource("certificaterequests"), namespace, left[0]}].DeepCopy()
		l.sign(canary)
		synctest.Wait()
		if _, err := l.ask(i); err != nil {
			t.Errorf("afterwards: %v", err)
		}
		synctest.Wait()
		if left := l.names(resource("certificaterequests")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
}

// Requests that an earlier process left are deleted: those of this Pod at once, others when nobody can wait for them any more;
// somebody else's never.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		leave := func(name, pod, temporary string) {
			object := &unstructured.Unstructured{Object: map[string]any{}}
			object.SetName(name)
			object.SetNamespace(namespace)
			object.SetLabels(map[string]string{"certloom-agent/instance": "before", "certloom-agent/pod": pod, "certloom-agent/temporary": temporary})
			if _, err := l.Resource(resource("certificaterequests")).Namespace(namespace).Create(t.Context(), object, metaCreate()); err != nil {
				t.Fatal(err)
			}
		}
		l.set(func() { l.created = nil })
		leave("own", "agent-0", "true")
		leave("replica", "agent-1", "true")
		leave("preserved", "agent-0", "")
		_, stop := l.start(func(c *certmanager.Config) { c.Pod = "agent-0" })
		defer stop()
		if left := l.names(resource("certificaterequests")); len(left) != 2 {
			t.Errorf("at the start %v is left", left)
		}
		pass(12 * time.Minute)
		if left := l.names(resource("certificaterequests")); len(left) != 1 || left[0] != "preserved" {
			t.Errorf("after a while %v is left", left)
		}
	})
}

// Deleting is tried again, and the last ones are deleted at the end.
func TestDeletions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(nil)
		l.set(func() {
			l.fail = func(verb string, _ schema.GroupVersionResource) error {
				if verb == "delete" {
					return errors.New("conflict")
				}
				return nil
			}
		})
		for range 20 {
			if _, err := l.ask(i); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if left := l.names(resource("certificaterequests")); len(left) != 20 {
			t.Fatalf("%d are left", len(left))
		}
		l.set(func() { l.fail = nil })
		stop()
		if left := l.names(resource("certificaterequests")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
}

// The roots are those of the file, if there is one: ACME issuers tell none.
func TestRootFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.pem")
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.created = func(o *unstructured.Unstructured) {
			l.status(o, map[string]any{"certificate": certificates(l.leaf(o), l.ca.IssuingCert.Raw)})
		}
		if err := os.WriteFile(path, pemOf(l.ca.RootCert.Raw), 0o600); err != nil {
			t.Fatal(err)
		}
		roots, err := issuer.NewRootFile(issuer.RootFileConfig{Path: path, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		i, stop := l.start(func(c *certmanager.Config) { c.Roots = roots })
		defer stop()
		if err := i.Ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		if _, err := l.ask(i); err != nil || !i.Bundle().Roots[0].Equal(l.ca.RootCert) {
			t.Error(err)
		}
	})
}

// A caller who leaves does not leave a request behind.
func TestCallerLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		i, stop := l.start(nil)
		defer stop()
		l.set(func() { l.created = nil })
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := i.Issue(ctx, issuer.Request{CSR: testca.SPIFFECSR(t), Lifetime: time.Hour})
			done <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		if left := l.names(resource("certificaterequests")); len(left) > 0 {
			t.Errorf("%v is left", left)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := certmanager.New(certmanager.Config{RuntimeMap: "x"})
	for _, field := range []string{"Client", "Namespace", "RuntimeNamespace", "Now", "Random", "Logger", "Registerer"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("nothing is said of %s: %v", field, err)
		}
	}
	for _, name := range []string{"a b", "istio.cert-manager.io/identities", ""} {
		if certmanager.CheckAnnotation(name) == nil {
			t.Errorf("annotation %q is accepted", name)
		}
	}
}
