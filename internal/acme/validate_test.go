package acme_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// responder answers http-01 on loopback.
type responder struct {
	port   int
	mu     sync.Mutex // guards proofs
	proofs map[string]string
}

func startResponder(t *testing.T) *responder {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	r := &responder{proofs: make(map[string]string)}
	r.port, _ = strconv.Atoi(port)
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Second}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return r
}

func (r *responder) ServeHTTP(w http.ResponseWriter, h *http.Request) {
	r.mu.Lock()
	proof, ok := r.proofs[strings.TrimPrefix(h.URL.Path, "/.well-known/acme-challenge/")]
	r.mu.Unlock()
	if !ok {
		http.NotFound(w, h)
		return
	}
	io.WriteString(w, proof)
}

func (r *responder) prove(token, proof string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proofs[token] = proof
}

// authorization is an authorization object.
type authorization struct {
	Status     string
	Identifier struct{ Type, Value string }
	Wildcard   bool
	Challenges []struct {
		Type, URL, Status, Token, Validated string
		Error                               *acmetest.Problem
	}
}

// httpChallenge reads an authorization and returns the index of its http-01 challenge.
func httpChallenge(t *testing.T, c *acmetest.Client, at string) (*authorization, int) {
	t.Helper()
	a := new(authorization)
	c.Read(t, at).Into(t, a)
	for i := range a.Challenges {
		if a.Challenges[i].Type == "http-01" {
			return a, i
		}
	}
	t.Fatalf("no http-01 challenge in %+v", a)
	return nil, 0
}

// challengeClient has an account in the directory without EAB.
func challengeClient(t *testing.T, s *acmetest.Server) *acmetest.Client {
	t.Helper()
	c := s.NewClient(t)
	c.Prefix = s.URL + "/acme/p/challenge"
	c.Register(t, acmetest.Credential{})
	return c
}

func TestHTTP01(t *testing.T) {
	t.Parallel()
	answers := startResponder(t)
	s := acmetest.Start(t, acmetest.Options{HTTP01Port: answers.port})
	clients := map[string]*acmetest.Client{"without EAB": challengeClient(t, s), "with EAB": s.Register(t, "challenge")}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.NewOrder(t, "localhost")
			if o.Status != "pending" || len(o.Authorizations) != 1 {
				t.Fatalf("new order: %+v", o)
			}
			csr := acmetest.ServerCSR(t, "localhost")
			if answer := c.Finalize(t, o, csr); answer.Status != http.StatusForbidden || answer.Problem(t).Type != "orderNotReady" {
				t.Errorf("finalize of a pending order: %d %s", answer.Status, answer.Body)
			}
			a, i := httpChallenge(t, c, o.Authorizations[0])
			answers.prove(a.Challenges[i].Token, a.Challenges[i].Token+"."+acmetest.Thumbprint(t, c.Key.Public()))
			if again, _ := httpChallenge(t, c, o.Authorizations[0]); again.Status != "pending" {
				t.Errorf("authorization is %s after it was read, want pending", again.Status)
			}
			// The answer waits for a quick validation, which spares the client a poll.
			answer := c.Post(t, a.Challenges[i].URL, struct{}{})
			var done struct{ Status, Validated string }
			answer.Into(t, &done)
			if answer.Status != http.StatusOK || done.Status != "valid" || done.Validated == "" ||
				!strings.Contains(strings.Join(answer.Header.Values("Link"), "\n"), "<"+o.Authorizations[0]+">;rel=\"up\"") {
				t.Fatalf("challenge: %d %s %v", answer.Status, answer.Body, answer.Header)
			}
			if got := c.Read(t, o.URL).Order(t).Status; got != "ready" {
				t.Fatalf("order is %s after validation, want ready", got)
			}
			final := c.Finalize(t, o, csr)
			if final.Status != http.StatusOK {
				t.Fatalf("finalize: %d %s", final.Status, final.Body)
			}
			download(t, c, final.Order(t).Certificate)
			if answer := c.Finalize(t, o, csr); answer.Status != http.StatusOK || answer.Order(t).Certificate != final.Order(t).Certificate {
				t.Errorf("finalize again: %d %s", answer.Status, answer.Body)
			}
		})
	}
}

func TestFailedValidation(t *testing.T) {
	t.Parallel()
	answers := startResponder(t)
	s := acmetest.Start(t, acmetest.Options{HTTP01Port: answers.port})
	c := challengeClient(t, s)
	o := c.NewOrder(t, "localhost")
	a, i := httpChallenge(t, c, o.Authorizations[0])
	answers.prove(a.Challenges[i].Token, "something else")
	c.Post(t, a.Challenges[i].URL, struct{}{})
	a, i = httpChallenge(t, c, o.Authorizations[0])
	if a.Status != "invalid" || a.Challenges[i].Status != "invalid" || a.Challenges[i].Error == nil ||
		a.Challenges[i].Error.Type != "urn:ietf:params:acme:error:unauthorized" {
		t.Errorf("authorization after a wrong proof: %+v", a)
	}
	if got := c.Read(t, o.URL).Order(t); got.Status != "invalid" || got.Error == nil || got.Error.Detail == "" {
		t.Errorf("order after a wrong proof: %+v", got)
	}
	answers.prove(a.Challenges[i].Token, a.Challenges[i].Token+"."+acmetest.Thumbprint(t, c.Key.Public()))
	c.Post(t, a.Challenges[i].URL, struct{}{})
	if again, _ := httpChallenge(t, c, o.Authorizations[0]); again.Status != "invalid" {
		t.Errorf("authorization is %s after another try, want invalid for ever", again.Status)
	}
}

// validator is one that a test decides for.
type validator func(context.Context, challenge.Request) error

func (v validator) Validate(ctx context.Context, r challenge.Request) error { return v(ctx, r) }

// A validation that its process did not finish is gone on with by whoever hears of it after its lease.
func TestAbandonedValidation(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := acmetest.Start(t, acmetest.Options{Validator: validator(func(context.Context, challenge.Request) error {
		asked.Add(1)
		return nil
	})})
	c := challengeClient(t, s)
	o := c.NewOrder(t, "localhost")
	a, i := httpChallenge(t, c, o.Authorizations[0])
	// As another process would have left it.
	token := o.URL[strings.LastIndex(o.URL, "/")+1:]
	plain, err := s.Ring.Open("order", []byte(s.URL), token)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := acme.DecodeOrder(plain)
	if err != nil {
		t.Fatal(err)
	}
	proof := pki.Proof{OrderID: listed.ID, AccountID: listed.AccountID, Name: "localhost", Type: "http-01", At: s.Clock.Now(), Expires: listed.Expires}
	started, err := s.Store.StartProof(t.Context(), proof, 30*time.Second)
	if !started || err != nil {
		t.Fatalf("StartProof = %t, %v", started, err)
	}
	var reply struct{ Status string }
	answer := c.Post(t, a.Challenges[i].URL, struct{}{})
	answer.Into(t, &reply)
	if reply.Status != "processing" || answer.Header.Get("Retry-After") == "" || asked.Load() != 0 {
		t.Errorf("challenge that another process validates: %s, Retry-After %q, asked %d times", reply.Status, answer.Header.Get("Retry-After"), asked.Load())
	}
	s.Advance(t, time.Minute)
	c.Read(t, o.Authorizations[0])
	if a, i := httpChallenge(t, c, o.Authorizations[0]); a.Status != "valid" || a.Challenges[i].Status != "valid" || asked.Load() != 1 {
		t.Errorf("authorization after the lease: %+v, asked %d times", a, asked.Load())
	}
}

// A slow validation goes on when its request has been answered, and its client polls.
func TestSlowValidation(t *testing.T) {
	t.Parallel()
	release := make(chan error)
	s := acmetest.Start(t, acmetest.Options{
		ACME:      acme.Options{ValidationWait: time.Millisecond},
		Validator: validator(func(context.Context, challenge.Request) error { return <-release }),
	})
	c := challengeClient(t, s)
	o := c.NewOrder(t, "localhost")
	a, i := httpChallenge(t, c, o.Authorizations[0])
	for range 3 {
		var reply struct{ Status string }
		c.Post(t, a.Challenges[i].URL, struct{}{}).Into(t, &reply)
		if reply.Status != "processing" {
			t.Fatalf("challenge is %s while it is validated, want processing", reply.Status)
		}
	}
	release <- fault.New(fault.Connection, "nobody answers")
	deadline := time.Now().Add(10 * time.Second)
	for {
		a, i := httpChallenge(t, c, o.Authorizations[0])
		if a.Status == "invalid" {
			if p := a.Challenges[i].Error; p == nil || p.Type != "urn:ietf:params:acme:error:connection" || p.Detail != "nobody answers" {
				t.Errorf("error of the challenge: %+v", p)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("authorization is %s, want invalid", a.Status)
		}
	}
}

func TestOrderQuota(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{ACME: acme.Options{OrdersPerMinute: 1}})
	c := challengeClient(t, s)
	order := map[string]any{"identifiers": []map[string]string{{"type": "dns", "value": "localhost"}}}
	bad := map[string]any{"identifiers": []map[string]string{{"type": "dns", "value": "under_score"}}}
	if answer := c.Post(t, c.Prefix+"/new-order", bad); answer.Status != http.StatusBadRequest {
		t.Errorf("bad order: %d %s", answer.Status, answer.Body)
	}
	if answer := c.Post(t, c.Prefix+"/new-order", order); answer.Status != http.StatusCreated {
		t.Errorf("first order: %d %s", answer.Status, answer.Body)
	}
	answer := c.Post(t, c.Prefix+"/new-order", order)
	wait, err := strconv.Atoi(answer.Header.Get("Retry-After"))
	if answer.Status != http.StatusTooManyRequests || answer.Problem(t).Type != "rateLimited" || err != nil || wait < 1 || wait > 60 {
		t.Errorf("second order: %d %s, Retry-After %d (%v)", answer.Status, answer.Body, wait, err)
	}
	s.Advance(t, time.Duration(wait)*time.Second)
	if answer := c.Post(t, c.Prefix+"/new-order", order); answer.Status != http.StatusCreated {
		t.Errorf("order at the time that Retry-After told: %d %s", answer.Status, answer.Body)
	}
	mesh := s.Register(t, "istio")
	for range 20 {
		mesh.NewOrder(t) // never limited
	}
}

var errDisk = errors.New("disk full at /secret/path")

// overrun is a validator whose target is asked too much, until a test says otherwise.
type overrun struct{ free atomic.Bool }

func (o *overrun) Validate(context.Context, challenge.Request) error {
	if o.free.Load() {
		return nil
	}
	return fault.New(fault.Unavailable, "64 validations are asking 127.0.0.1 now; try again in a moment")
}

// A validation that could not be made because of others decides nothing: 503, and the next attempt counts.
func TestValidationPutOff(t *testing.T) {
	t.Parallel()
	validator := &overrun{}
	s := acmetest.Start(t, acmetest.Options{Validator: validator})
	c := challengeClient(t, s)
	o := c.NewOrder(t, "localhost")
	a, i := httpChallenge(t, c, o.Authorizations[0])
	answer := c.Post(t, a.Challenges[i].URL, struct{}{})
	if answer.Status != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("challenge: %d %s", answer.Status, answer.Body)
	}
	if got := c.Read(t, o.URL).Order(t).Status; got != "pending" {
		t.Errorf("order is %s, want pending", got)
	}
	validator.free.Store(true)
	if answer := c.Post(t, a.Challenges[i].URL, struct{}{}); answer.Status != http.StatusOK {
		t.Errorf("challenge afterwards: %d %s", answer.Status, answer.Body)
	}
	if got := c.Read(t, o.URL).Order(t).Status; got != "ready" {
		t.Errorf("order is %s, want ready", got)
	}
}
