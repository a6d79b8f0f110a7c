package acme_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	acmeserver "github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agent/acme"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
)

const web = "spiffe://cluster.local/ns/demo/sa/web"

// kindOf returns the kind of an error of Issue, which must be a fault.
func kindOf(t *testing.T, err error) fault.Kind {
	t.Helper()
	found, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("got %v, want a fault", err)
	}
	return found.Kind
}

// The CA refuses good nonces at random, as the best of them do.
func TestIssue(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{ACME: acmeserver.Options{NonceRejectPercent: 20}})
	i := l.start()
	l.ready(i)
	for name, names := range map[string]struct {
		uri string
		dns []string
	}{
		"workload": {web, nil},
		"agent":    {"", []string{"agent.istio-system.svc", "agent.istio-system.svc.cluster.local"}},
		"istiod":   {"spiffe://cluster.local/ns/istio-system/sa/istiod-service-account", []string{"istiod.istio-system.svc"}},
	} {
		leaf, err := l.ask(i, 20*time.Minute, names.uri, names.dns...)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if left := time.Until(leaf.NotAfter); left > 20*time.Minute || left < 19*time.Minute {
			t.Errorf("%s: the certificate lives for %s, asked for 20m", name, left)
		}
	}
	want := `# HELP certloom_agent_upstream_requests_total Certificates asked for from the CA, by outcome: issued, refused, failed, queue_full.
# TYPE certloom_agent_upstream_requests_total counter
certloom_agent_upstream_requests_total{outcome="failed"} 0
certloom_agent_upstream_requests_total{outcome="issued"} 3
certloom_agent_upstream_requests_total{outcome="queue_full"} 0
certloom_agent_upstream_requests_total{outcome="refused"} 0
`
	if err := testutil.GatherAndCompare(i.registry, strings.NewReader(want), "certloom_agent_upstream_requests_total"); err != nil {
		t.Error(err)
	}
}

func TestMany(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	l.ready(i)
	var wait sync.WaitGroup
	for n := range 200 {
		wait.Go(func() {
			for t.Context().Err() == nil {
				_, err := l.ask(i, time.Hour, fmt.Sprintf("spiffe://cluster.local/ns/demo/sa/a%d", n))
				if err == nil {
					return
				}
				if !fault.Is(err, fault.RateLimited) { // a slow machine: Istio's agents come again as well
					t.Errorf("%d: %v", n, err)
					return
				}
			}
		})
	}
	wait.Wait()
	if n := l.accounts(); n != 1 {
		t.Errorf("%d accounts", n)
	}
}

// What the CA refuses for good is said to be so, and does not make the CA look bad, however often it is asked.
func TestRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	l.ready(i)
	for range 10 {
		for _, names := range [][]string{{"spiffe://elsewhere/ns/demo/sa/web"}, {"", "www.example.com"}} {
			_, err := l.ask(i, time.Hour, names[0], names[1:]...)
			if kind := kindOf(t, err); kind != fault.Unauthorized {
				t.Fatalf("%v: kind %v: %v", names, kind, err)
			}
		}
	}
	if _, err := i.Issue(t.Context(), issuer.Request{CSR: []byte{1}}); kindOf(t, err) != fault.BadCSR {
		t.Errorf("garbage: %v", err)
	}
	if err := i.Ready(); err != nil {
		t.Error(err)
	}
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
}

// A CA that wants proofs is told apart from one that refuses.
func TestProofWanted(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	l.change(func() { l.binding = nil })
	i := l.start(func(c *acme.Config) { c.DirectoryURL = l.URL + "/acme/p/challenge/directory" })
	l.ready(i)
	_, err := l.ask(i, time.Hour, "", "a.localhost")
	if kindOf(t, err) != fault.Unauthorized || !strings.Contains(err.Error(), "proof of control of dns:a.localhost") {
		t.Errorf("got %v", err)
	}
}

// An answer that is lost does not lead to another certificate for the same call.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	l.ready(i)
	for _, lost := range []string{"/finalize", "/new-order", "/certificate/"} {
		var broken atomic.Bool
		l.change(func() {
			l.after = func(r *http.Request, _ *httptest.ResponseRecorder) {
				if strings.Contains(r.URL.Path, lost) && !broken.Swap(true) {
					panic(http.ErrAbortHandler)
				}
			}
		})
		if _, err := l.ask(i, time.Hour, web); err != nil {
			t.Errorf("%s: %v", lost, err)
		}
		if !broken.Load() {
			t.Errorf("no answer to %s was lost", lost)
		}
	}
	if n := l.issued(); n != 3 {
		t.Errorf("%d certificates for 3 calls", n)
	}
}

// A CA that does not want to be told lifetimes is asked without, and then always so.
func TestLifetimeNotTaken(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	var told atomic.Int64
	l.change(func() {
		l.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/new-order") || !bytes.Contains(payload(r), []byte("notAfter")) {
				return false
			}
			told.Add(1)
			refuse(w, http.StatusBadRequest, "malformed", "notAfter is not supported", 0)
			return true
		}
	})
	i := l.start()
	l.ready(i)
	for range 3 {
		if _, err := l.ask(i, time.Minute, web); err != nil {
			t.Error(err)
		}
	}
	if told.Load() != 1 {
		t.Errorf("the CA was told a lifetime %d times", told.Load())
	}
}

// A CA that takes its time says "processing" (RFC 8555 section 7.4).
func TestProcessing(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	l.ready(i)
	l.change(func() {
		l.after = func(r *http.Request, answer *httptest.ResponseRecorder) {
			if !strings.HasSuffix(r.URL.Path, "/finalize") {
				return
			}
			var order map[string]any
			if err := json.Unmarshal(answer.Body.Bytes(), &order); err != nil {
				t.Error(err)
			}
			order["status"] = "processing"
			delete(order, "certificate")
			answer.Body.Reset()
			_ = json.NewEncoder(answer.Body).Encode(order)
			answer.Header().Del("Content-Length")
		}
	})
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
}

// A root that the CA sends is left out, and a chain that is none is an error of the CA.
func TestChain(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	l.ready(i)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.Root.Certificate})
	answer := func(change func([]byte) []byte) {
		l.change(func() {
			l.after = func(r *http.Request, answer *httptest.ResponseRecorder) {
				if strings.Contains(r.URL.Path, "/certificate/") {
					text := change(answer.Body.Bytes())
					answer.Body = bytes.NewBuffer(text)
					answer.Header().Del("Content-Length")
				}
			}
		})
	}
	answer(func(text []byte) []byte { return append(text, root...) })
	if _, err := l.ask(i, time.Hour, web); err != nil {
		t.Error(err)
	}
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})
	garbage := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}})
	for name, more := range map[string][]byte{"key": key, "garbage": garbage, "long": bytes.Repeat(l.pem(l.Issuing.Certificate), 10)} {
		answer(func(text []byte) []byte { return append(text, more...) })
		if _, err := l.ask(i, time.Hour, web); kindOf(t, err) != fault.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := i.Ready(); err != nil {
		t.Error(err)
	}
}

// Too many who wait are told at once.
func TestQueueFull(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start(func(c *acme.Config) { c.Concurrency = 1 })
	l.ready(i)
	open := make(chan struct{})
	l.change(func() {
		l.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/new-order") {
				<-open
			}
			return false
		}
	})
	var wait sync.WaitGroup
	full := make(chan struct{}, 50)
	var late sync.Map
	for n := range 50 {
		wait.Go(func() {
			_, err := l.ask(i, time.Hour, web)
			if err == nil {
				return
			}
			if kindOf(t, err) != fault.RateLimited {
				t.Errorf("got %v", err)
			}
			late.Store(n, true)
			full <- struct{}{}
		})
	}
	for range 50 - 17 { // one is at work, sixteen wait
		<-full
	}
	close(open)
	wait.Wait()
	if len(full) != 0 {
		t.Errorf("%d more were sent away", len(full))
	}
}

// A deadline that nobody could keep says nothing about the CA.
func TestHastyCallers(t *testing.T) {
	t.Parallel()
	l := newLab(t, acmetest.Options{})
	i := l.start()
	l.ready(i)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
		request, _ := newRequest(t, web)
		if _, err := i.Issue(ctx, issuer.Request{CSR: request, Lifetime: time.Hour}); err == nil {
			t.Error("issued within a microsecond")
		}
		cancel()
	}
	if err := i.Ready(); err != nil {
		t.Error(err)
	}
}
