package acme_test

import (
	"context"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// TestReadBodyAllocatesWhatComes: whoever announces a large body has sent nothing yet, and is not known. It is not
// parallel, since it looks at the memory that the process has used.
func TestReadBodyAllocatesWhatComes(t *testing.T) {
	s := acmetest.Start(t, acmetest.Options{})
	c := s.NewClient(t)
	const requests, announced = 50, 256 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range requests {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/acme/new-order", strings.NewReader("{"))
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = announced
		request.Header.Set("Content-Type", "application/jose+json")
		if answer := c.Do(t, request); answer.Status != http.StatusBadRequest {
			t.Fatalf("half a body: %d %s", answer.Status, answer.Body)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / requests; each > announced/4 {
		t.Errorf("a request that announces %d bytes and sends 1 allocates %d", announced, each)
	}
}

// TestFinalizeLongAfterNotBefore: an order says "from now on" and is finalized when its names have been proved. The time
// that this took must not make the date one that cannot be granted; the order shows what was granted.
func TestFinalizeLongAfterNotBefore(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "server")
	ordered := s.Clock.Now().UTC().Truncate(time.Second)
	answer := c.Post(t, c.Prefix+"/new-order", map[string]any{
		"identifiers": []map[string]string{{"type": "dns", "value": "a.example.com"}},
		"notBefore":   ordered.Format(time.RFC3339),
		"notAfter":    ordered.Add(24 * time.Hour).Format(time.RFC3339),
	})
	if answer.Status != http.StatusCreated {
		t.Fatalf("newOrder: %d %s", answer.Status, answer.Body)
	}
	o := answer.Order(t)
	s.Advance(t, time.Hour)
	answer = c.Finalize(t, o, acmetest.ServerCSR(t, "a.example.com"))
	if answer.Status != http.StatusOK {
		t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
	}
	done := answer.Order(t)
	leaf := download(t, c, done.Certificate)[0]
	// The profile's backdating is a minute.
	if from := ordered.Add(time.Hour - time.Minute); !leaf.NotBefore.Equal(from) || done.NotBefore != from.Format(time.RFC3339) {
		t.Errorf("certificate from %s, order from %s, want %s", leaf.NotBefore, done.NotBefore, from)
	}
	if !leaf.NotAfter.Equal(ordered.Add(24 * time.Hour)) {
		t.Errorf("certificate until %s, want to the second what was asked for", leaf.NotAfter)
	}
}

// TestFinalizeAfterProfileDemandsProof: an order that was ready without a proof does not stay so when its profile begins
// to ask for one.
func TestFinalizeAfterProfileDemandsProof(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c := s.Register(t, "server")
	before, after := c.NewOrder(t, "a.example.com"), c.NewOrder(t, "b.example.com")
	csr := acmetest.ServerCSR(t, "a.example.com")
	if answer := c.Finalize(t, before, csr); answer.Status != http.StatusOK {
		t.Fatalf("finalize: %d %s", answer.Status, answer.Body)
	}
	p := *s.Profiles["server"]
	p.Rules.Challenges = &pki.Challenges{Types: []string{"http-01"}, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	if _, err := s.Catalog.UpdateProfile(t.Context(), p, acmetest.By()); err != nil {
		t.Fatal(err)
	}
	answer := c.Finalize(t, after, acmetest.ServerCSR(t, "b.example.com"))
	if p := answer.Problem(t); answer.Status != http.StatusForbidden || p.Type != "orderNotReady" {
		t.Errorf("finalize without a proof: %d %s", answer.Status, answer.Body)
	}
	// What was issued before stays, also for a client that asks again.
	if answer := c.Finalize(t, before, csr); answer.Status != http.StatusOK {
		t.Errorf("finalize again: %d %s", answer.Status, answer.Body)
	}
}

// TestFinalizeAfterProfileNarrows: what a profile allows is judged when the certificate is made, not only when the order
// was: names that it has come to refuse are refused, and the others are not.
func TestFinalizeAfterProfileNarrows(t *testing.T) {
	t.Parallel()
	s := acmetest.Start(t, acmetest.Options{})
	c, mesh := s.Register(t, "server"), s.Register(t, "istio")
	gone, kept, identity := c.NewOrder(t, "a.example.com"), c.NewOrder(t, "b.example.com"), mesh.NewOrder(t)
	server, istio := *s.Profiles["server"], *s.Profiles["istio"]
	server.Rules.Names.DNS.Deny = append(server.Rules.Names.DNS.Deny, "a.example.com")
	istio.Rules.Names.SPIFFE.TrustDomains = []string{"other.example"}
	for _, p := range []pki.Profile{server, istio} {
		if _, err := s.Catalog.UpdateProfile(t.Context(), p, acmetest.By()); err != nil {
			t.Fatal(err)
		}
	}
	for name, answer := range map[string]*acmetest.Response{
		"DNS name":  c.Finalize(t, gone, acmetest.ServerCSR(t, "a.example.com")),
		"SPIFFE ID": mesh.Finalize(t, identity, acmetest.WorkloadCSR(t, workload)),
	} {
		if p := answer.Problem(t); answer.Status != http.StatusForbidden || p.Type != "rejectedIdentifier" {
			t.Errorf("%s: %d %s", name, answer.Status, answer.Body)
		}
	}
	if answer := c.Finalize(t, kept, acmetest.ServerCSR(t, "b.example.com")); answer.Status != http.StatusOK {
		t.Errorf("a name that is still allowed: %d %s", answer.Status, answer.Body)
	}
}

// backlog is a store with more expired orders than go into one transaction.
type backlog struct {
	acme.Store
	batches []int // how many each call removes
}

func (b *backlog) DeleteExpiredOrders(context.Context, time.Time, int) (int, error) {
	n := b.batches[0]
	b.batches = b.batches[1:]
	return n, nil
}

// TestSweepGoesOn: until nothing is left, however many a transaction removes; else what arrives faster than one
// transaction a minute removes would stay for good.
func TestSweepGoesOn(t *testing.T) {
	t.Parallel()
	expired := &backlog{batches: []int{712, 3, 500, 0}}
	s := acmetest.Start(t, acmetest.Options{Store: func(inner *store.Store) acme.Store {
		expired.Store = inner
		return expired
	}})
	if err := acme.Sweep(t.Context(), s.Replica(t, acme.Options{})); err != nil {
		t.Fatal(err)
	}
	if len(expired.batches) != 0 {
		t.Errorf("stopped before %v", expired.batches)
	}
}
