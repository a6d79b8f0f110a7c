package certloom_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agent/certloom"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/testca"
)

// eventually asks until check returns nil.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(err)
		case <-ticker.C:
		}
	}
}

func request(t *testing.T) issuer.Request {
	t.Helper()
	return issuer.Request{
		CSR: testca.SPIFFECSR(t), Lifetime: time.Hour,
		Caller: issuer.Caller{Namespace: "demo", ServiceAccount: "web", Pod: "web-0", PodUID: "uid", Node: "node-1", ImpersonatedBy: "a/b/c"},
	}
}

func TestIssue(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	chain, err := i.Issue(t.Context(), request(t))
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 {
		t.Fatalf("chain of %d", len(chain))
	}
	s.Verify(t, chain[0], time.Now())
	item := s.batches[0][0]
	caller := item.GetCaller()
	got := fmt.Sprint(item.GetLifetimeSeconds(), caller.GetNamespace(), caller.GetServiceAccount(), caller.GetPod(), caller.GetPodUid(), caller.GetNode(), caller.GetImpersonatedBy())
	if got != "3600demowebweb-0uidnode-1a/b/c" || len(item.GetId()) != 32 {
		t.Errorf("the server was sent %s with ID %q", got, item.GetId())
	}
	if caller.GetCluster()+string(caller.GetCertificateSerial())+string(caller.GetCertificateFingerprint()) != "" {
		t.Errorf("the server was sent %v of a caller with a token in our own cluster", caller)
	}
	if bundle := i.Bundle(); bundle == nil || len(bundle.Roots) != 1 {
		t.Errorf("bundle %+v", bundle)
	}
}

// The server is told by which certificate a caller is known, and in which other cluster it is.
func TestKnownByCertificate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	r := request(t)
	r.Caller = issuer.Caller{Namespace: "demo", ServiceAccount: "web", Cluster: "west", Certificate: s.IssuingCert}
	if _, err := i.Issue(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	got, sum := s.batches[0][0].GetCaller(), sha256.Sum256(s.IssuingCert.Raw)
	if got.GetCluster() != "west" || !bytes.Equal(got.GetCertificateFingerprint(), sum[:]) ||
		!bytes.Equal(got.GetCertificateSerial(), s.IssuingCert.SerialNumber.Bytes()) {
		t.Errorf("the server was sent %v", got)
	}
}

// A call fails at once, with a kind that makes callers come again, while there is no server.
func TestNotEnrolled(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.with(func() { s.key = []byte("another") })
	i := s.newIssuer()
	eventually(t, func() error {
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), "the credential is not good") {
			return fmt.Errorf("ready says %w", errNotYet)
		}
		return nil
	})
	if _, err := i.Issue(t.Context(), request(t)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	s.with(func() { s.key = []byte("0123456789abcdef0123456789abcdef") })
	eventually(t, i.Ready) // the credential was mended on the server
}

// Calls that wait together go together, and each gets its own answer.
func TestBatch(t *testing.T) {
	t.Parallel()
	const callers = 300
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	block := make(chan struct{})
	s.with(func() { s.block = block })
	var waiting sync.WaitGroup
	for range callers {
		r := request(t)
		waiting.Go(func() {
			chain, err := i.Issue(t.Context(), r)
			if err != nil {
				t.Error(err)
				return
			}
			leaf, err := x509.ParseCertificate(chain[0])
			if err != nil {
				t.Error(err)
				return
			}
			asked, err := x509.ParseCertificateRequest(r.CSR)
			if err != nil || string(leaf.RawSubjectPublicKeyInfo) != string(asked.RawSubjectPublicKeyInfo) {
				t.Error("got the certificate of somebody else")
			}
		})
	}
	eventually(t, func() error { // all workers hold a call, the rest waits
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.batches) < 3 {
			return errNotYet
		}
		return nil
	})
	close(block)
	waiting.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.batches); n > callers/4 {
		t.Errorf("%d calls for %d certificates", n, callers)
	}
	for _, batch := range s.batches {
		if len(batch) > 128 {
			t.Errorf("a batch of %d", len(batch))
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		call error
		item *agentapi.Result
		want fault.Kind
	}{
		"policy":            {item: &agentapi.Result{Code: uint32(codes.PermissionDenied), Message: "x"}, want: fault.Unauthorized},
		"bad-request":       {item: &agentapi.Result{Code: uint32(codes.InvalidArgument), Message: "x"}, want: fault.Unauthorized},
		"ca-suspended":      {item: &agentapi.Result{Code: uint32(codes.FailedPrecondition), Message: "x"}, want: fault.Unauthorized},
		"certificate":       {item: &agentapi.Result{Code: uint32(codes.Unauthenticated), Message: "revoked"}, want: fault.Unauthenticated},
		"item-later":        {item: &agentapi.Result{Code: uint32(codes.Unavailable), Message: "x"}, want: fault.Unavailable},
		"item-overload":     {item: &agentapi.Result{Code: uint32(codes.ResourceExhausted), Message: "x"}, want: fault.RateLimited},
		"item-bug":          {item: &agentapi.Result{Code: uint32(codes.Internal), Message: "x"}, want: fault.Internal},
		"item-says-nothing": {item: &agentapi.Result{}, want: fault.Internal},
		"overload":          {call: status.Error(codes.ResourceExhausted, "x"), want: fault.RateLimited},
		"later":             {call: status.Error(codes.Unavailable, "x"), want: fault.Unavailable},
		"agent-refused":     {call: status.Error(codes.PermissionDenied, "x"), want: fault.Unauthorized},
		"bug":               {call: status.Error(codes.Internal, "x"), want: fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			i := s.newIssuer()
			eventually(t, i.Ready)
			s.with(func() { s.issueErr, s.answer = c.call, c.item })
			if _, err := i.Issue(t.Context(), request(t)); !fault.Is(err, c.want) {
				t.Errorf("got %v (%s), want %s", err, fault.From(err).Kind, c.want)
			}
		})
	}
}

// The agent's own certificate is renewed at half of its life, and calls go on while it is.
func TestRenewal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.life = 2 * time.Second
	i := s.newIssuer()
	eventually(t, i.Ready)
	eventually(t, func() error {
		if _, err := i.Issue(t.Context(), request(t)); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.renewed < 3 {
			return errNotYet
		}
		return nil
	})
	if s.enrolled != 1 {
		t.Errorf("enrolled %d times", s.enrolled)
	}
}

// A server that has forgotten the agent's certificate gets it to enrol again.
func TestLost(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	s.with(func() { s.issueErr = status.Error(codes.Unauthenticated, "revoked") })
	if _, err := i.Issue(t.Context(), request(t)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	s.with(func() { s.issueErr = nil })
	eventually(t, func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.enrolled < 2 {
			return errNotYet
		}
		return nil
	})
	eventually(t, i.Ready)
}

// The server goes away and comes back: calls fail quickly meanwhile, and nobody has to restart anything.
func TestServerGone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	s.stop()
	began := time.Now()
	if _, err := i.Issue(t.Context(), request(t)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("took %s to say that the server is gone", took)
	}
	eventually(t, func() error {
		if i.Ready() == nil {
			return errNotYet
		}
		return nil
	})
	s.start()
	eventually(t, i.Ready)
	if _, err := i.Issue(t.Context(), request(t)); err != nil {
		t.Errorf("after the server came back: %v", err)
	}
}

// A call whose caller has left is not sent.
func TestCallerLeft(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := i.Issue(ctx, request(t)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := i.Issue(t.Context(), request(t)); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.batches) != 1 || len(s.batches[0]) != 1 {
		t.Errorf("the server was asked for %d batches", len(s.batches))
	}
}

func TestBundleFollows(t *testing.T) {
	t.Parallel()
	s, second := newServer(t), testca.New(t)
	i := s.newIssuer()
	eventually(t, i.Ready)
	before := i.Bundle()
	s.announce(func() { s.roots, s.version = append(s.roots, second.RootCert.Raw), "2" })
	eventually(t, func() error {
		if len(i.Bundle().Roots) != 2 {
			return errNotYet
		}
		return nil
	})
	if i.Bundle().Version == before.Version {
		t.Error("the version is the same")
	}
}

// A profile that has nothing for this mesh is told before the first workload is refused.
func TestForeignTrustDomain(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	i := s.newIssuer(func(c *certloom.Config) { c.TrustDomain = "other" })
	eventually(t, func() error {
		if err := i.Ready(); err == nil || !strings.Contains(err.Error(), `"mesh"`) {
			return fmt.Errorf("%w: %w", errNotYet, err)
		}
		return nil
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := certloom.New(certloom.Config{})
	if err == nil || strings.Count(err.Error(), "is missing") != 9 {
		t.Errorf("got %v", err)
	}
}
