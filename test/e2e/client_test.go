package e2e_test

import (
	"context"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// acmeClient is a client library that others wrote, registered and ready.
type acmeClient interface {
	obtain(ctx context.Context, names []string) (*held, error)
	renewalWindow(ctx context.Context, h *held) (start, end time.Time, err error)
	renew(ctx context.Context, h *held) (*held, error) // naming h as what it replaces (RFC 9773 section 5)
	revoke(ctx context.Context, h *held) error
}

// held is a certificate that a client holds.
type held struct {
	chain []byte // PEM, the leaf first
	leaf  *x509.Certificate
	own   any // what the library needs to renew it
}

func newHeld(chain []byte, own any) (*held, error) {
	certs, err := testbed.ParseChain(chain)
	if err != nil {
		return nil, err
	}
	return &held{chain: chain, leaf: certs[0], own: own}, nil
}

// proof is how a client shows that it controls names.
type proof struct {
	name      string // of the challenge; "" when names are pre-authorized
	directory string
	binding   *testbed.Credential
	names     []string
}

// grounds is what clients need around them: a server, the DNS that it asks, and free ports for solvers.
type grounds struct {
	server            *testbed.Certloom
	zone              *testbed.Zone
	httpPort, tlsPort int
}

// TestACMEClients gets, renews and revokes certificates with the two client libraries that most Go programs use.
func TestACMEClients(t *testing.T) {
	zone := testbed.StartZone(t)
	ports := testbed.Ports(t, 2)
	g := &grounds{zone: zone, httpPort: ports, tlsPort: ports + 1}
	g.server = testbed.StartCertloom(t.Context(), t, testbed.Options{
		DNSResolver: zone.Addr(), HTTP01Port: g.httpPort, TLSALPN01Port: g.tlsPort,
	})
	binding := g.server.ACME["server"]
	byChallenge := g.server.URL + "/acme/p/challenge/directory"
	proofs := []proof{
		{directory: binding.DirectoryURL, binding: &binding, names: []string{"shop.example.com", "www.shop.example.com"}},
		{name: "http-01", directory: byChallenge, names: []string{"http.test", "www.http.test"}},
		{name: "dns-01", directory: byChallenge, names: []string{"dns.test", "*.dns.test"}},
		{name: "tls-alpn-01", directory: byChallenge, names: []string{"alpn.test"}},
	}
	for library, register := range map[string]func(*testing.T, *grounds, proof) acmeClient{"lego": newLego, "acmez": newAcmez} {
		for _, p := range proofs {
			title := library + "/" + p.name
			if p.name == "" {
				title = library + "/pre-authorized"
			}
			t.Run(title, func(t *testing.T) { g.lifecycle(t, register(t, g, p), p) })
		}
	}
}

// lifecycle takes a certificate through all that its owner does with it.
func (g *grounds) lifecycle(t *testing.T, client acmeClient, p proof) {
	first, err := client.obtain(t.Context(), p.names)
	if err != nil {
		t.Fatal(err)
	}
	g.check(t, first, p)
	start, end, err := client.renewalWindow(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	if !start.After(first.leaf.NotBefore) || !end.After(start) || !first.leaf.NotAfter.After(end) {
		t.Errorf("renewal is suggested from %s to %s for a certificate from %s to %s", start, end, first.leaf.NotBefore, first.leaf.NotAfter)
	}
	second, err := client.renew(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	g.check(t, second, p)
	if err := client.revoke(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if err := client.revoke(t.Context(), second); err == nil {
		t.Error("the certificate can be revoked twice")
	}
	inventory := g.server.Inventory(t.Context(), t)
	replaced := pki.ARICertID(first.leaf.AuthorityKeyId, pki.SerialFromInt(first.leaf.SerialNumber))
	entry := inventory[testbed.Serial(second.leaf)]
	if entry.Replaces != replaced || entry.Status != "revoked" {
		t.Errorf("inventory has status %q, replaces %q; want revoked, %s", entry.Status, entry.Replaces, replaced)
	}
	if status := inventory[testbed.Serial(first.leaf)].Status; status != "valid" {
		t.Errorf("the certificate that was replaced is %q, want valid", status)
	}
	t.Logf("%s until %s, renewal suggested from %s, replaced by %s, which is revoked",
		first.leaf.DNSNames, first.leaf.NotAfter.Format(time.DateTime), start.Format(time.DateTime), entry.Serial)
}

func (g *grounds) check(t *testing.T, h *held, p proof) {
	t.Helper()
	leaf, err := testbed.VerifyChain(h.chain, g.server.RootFile, x509.ExtKeyUsageServerAuth)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(leaf.DNSNames))
	if want := slices.Sorted(slices.Values(p.names)); !slices.Equal(got, want) {
		t.Errorf("names = %v, want %v", got, want)
	}
}
