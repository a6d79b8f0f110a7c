package e2e_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// TestKill kills the server without warning, again and again, in the middle of a load of finalizes, and looks after
// each restart whether everything that a client holds is in the inventory, and whether every order that was cut off
// still leads to its certificate.
func TestKill(t *testing.T) {
	onEachDatabase(t, func(t *testing.T, o testbed.Options) {
		const rounds, clients = 20, 16
		server := testbed.StartCertloom(t.Context(), t, o)
		l := newLoad(t, server, clients, func() *http.Client { return server.HTTPClient(t) })
		for _, w := range l.workers {
			w.limit = math.MaxInt
		}
		for round := range rounds {
			l.interrupt(t, 30*time.Millisecond+rand.N(270*time.Millisecond))
			l.server.Restart(t.Context(), t)
			before := l.compare(t)
			settled := l.settle(t, before)
			t.Logf("round %2d: %4d certificates in hand, %2d attempts cut off, %2d of them committed before the kill",
				round+1, len(l.held), settled.all, settled.committed)
		}
		l.account(t, l.compare(t))
		t.Logf("%d kills, %d certificates in hand", rounds, len(l.held))
	})
}

// load is a number of clients that get certificates as fast as they can.
type load struct {
	server  *testbed.Certloom
	workers []*worker
	held    map[string]*x509.Certificate // by serial
}

// worker is one client with an account of its own.
type worker struct {
	client *acmeclient.Client
	key    *ecdsa.PrivateKey // of its certificates
	name   string
	count  int
	limit  int      // of certificates
	cutOff *attempt // what it was doing when the server went
}

// attempt is one certificate on its way; advance goes on from wherever it was.
type attempt struct {
	id        string
	csr       []byte
	order     *acmeclient.Order
	finalized *acmeclient.Order
	chain     []byte
}

const loadPrefix = "spiffe://cluster.local/ns/load/sa/"

// newLoad registers clients, each with an account and connections of its own.
func newLoad(t *testing.T, server *testbed.Certloom, clients int, transport func() *http.Client) *load {
	t.Helper()
	l := &load{server: server, held: map[string]*x509.Certificate{}}
	credential := server.ACME["istio"]
	hmacKey, err := base64.RawURLEncoding.DecodeString(credential.HMACKey)
	if err != nil {
		t.Fatal(err)
	}
	for i := range clients {
		accountKey, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		client, err := acmeclient.New(acmeclient.Config{
			DirectoryURL: credential.DirectoryURL, HTTPClient: transport(), Key: accountKey,
			Random: cryptorand.Reader, UserAgent: "certloom-e2e",
			Retries: 2, // enough for a nonce of the server that was killed, too few to wait for the next
		})
		if err != nil {
			t.Fatal(err)
		}
		binding := &acmeclient.Binding{KeyID: credential.KeyID, HMACKey: hmacKey}
		if _, err := client.Register(t.Context(), acmeclient.Registration{Binding: binding}); err != nil {
			t.Fatal(err)
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		l.workers = append(l.workers, &worker{client: client, key: key, name: fmt.Sprintf("client-%02d", i)})
	}
	return l
}

// interrupt lets all clients work for a while, kills the server, and waits until every client has noticed.
func (l *load) interrupt(t *testing.T, after time.Duration) {
	t.Helper()
	var (
		wait  sync.WaitGroup
		chain = make(chan []byte)
		errs  = make(chan error, len(l.workers))
	)
	for _, w := range l.workers {
		wait.Go(func() { errs <- w.run(t.Context(), chain) })
	}
	collected := make(chan [][]byte)
	go func() {
		var all [][]byte
		for c := range chain {
			all = append(all, c)
		}
		collected <- all
	}()
	timer := time.NewTimer(after)
	defer timer.Stop()
	<-timer.C
	l.server.Kill()
	wait.Wait()
	close(chain)
	for _, c := range <-collected {
		l.keep(t, c)
	}
	close(errs)
	for err := range errs {
		// The server may be gone; it may not have refused anything.
		if problem, ok := errors.AsType[*acmeclient.Problem](err); ok {
			t.Errorf("a client was refused: %v", problem)
		}
	}
}

// run gets one certificate after the other up to its limit or until something fails, and remembers what it was doing
// then.
func (w *worker) run(ctx context.Context, chain chan<- []byte) error {
	for w.count < w.limit {
		a, err := w.next()
		if err != nil {
			return err
		}
		if err := a.advance(ctx, w.client); err != nil {
			w.cutOff = a
			return err
		}
		chain <- a.chain
	}
	return nil
}

// next begins another certificate, for an identity that no other has.
func (w *worker) next() (*attempt, error) {
	w.count++
	id := fmt.Sprintf("%s%s-%05d", loadPrefix, w.name, w.count)
	uri, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	csr, err := x509.CreateCertificateRequest(cryptorand.Reader, &x509.CertificateRequest{URIs: []*url.URL{uri}}, w.key)
	return &attempt{id: id, csr: csr}, err
}

// advance does what is left to do: order, finalize, download.
func (a *attempt) advance(ctx context.Context, client *acmeclient.Client) (err error) {
	if a.order == nil {
		if a.order, err = client.NewOrder(ctx, acmeclient.OrderRequest{}); err != nil {
			return err
		}
	}
	if a.finalized == nil {
		if a.finalized, err = client.Finalize(ctx, a.order, a.csr); err != nil {
			return err
		}
	}
	a.chain, err = client.Certificate(ctx, a.finalized.Certificate)
	return err
}

// keep notes a certificate that a client got.
func (l *load) keep(t *testing.T, chain []byte) *x509.Certificate {
	t.Helper()
	leaf, err := testbed.VerifyChain(chain, l.server.RootFile, x509.ExtKeyUsageClientAuth)
	if err != nil {
		t.Fatal(err)
	}
	serial := testbed.Serial(leaf)
	if other := l.held[serial]; other != nil {
		t.Errorf("serial %s was given twice, to %v and %v", serial, other.URIs, leaf.URIs)
	}
	l.held[serial] = leaf
	return leaf
}

// compare checks that the inventory has exactly the certificates that clients hold, among others, and returns it.
func (l *load) compare(t *testing.T) map[string]apiv1.Certificate {
	t.Helper()
	inventory := l.server.Inventory(t.Context(), t)
	for serial, leaf := range l.held {
		entry, ok := inventory[serial]
		if !ok {
			t.Fatalf("a client holds %s for %v, and the inventory lacks it", serial, leaf.URIs)
		}
		print := sha256.Sum256(leaf.Raw)
		if entry.Fingerprint != hex.EncodeToString(print[:]) || entry.Identity != leaf.URIs[0].String() {
			t.Errorf("a client holds %s for %v; the inventory has another certificate under that serial, for %s", serial, leaf.URIs, entry.Identity)
		}
	}
	return inventory
}

// account checks that the inventory has nothing more than what clients hold: no second certificate of an order, and
// none that its client could not get.
func (l *load) account(t *testing.T, inventory map[string]apiv1.Certificate) {
	t.Helper()
	seen := map[string]string{}
	for serial, entry := range inventory {
		if !strings.HasPrefix(entry.Identity, loadPrefix) {
			continue // the server's own certificate
		}
		if other, twice := seen[entry.Identity]; twice {
			t.Errorf("one order for %s made two certificates, %s and %s", entry.Identity, serial, other)
		}
		seen[entry.Identity] = serial
		if l.held[serial] == nil {
			t.Errorf("certificate %s for %s is in the inventory, but its client never got it", serial, entry.Identity)
		}
	}
}

// settlement counts what became of attempts that were cut off.
type settlement struct{ all, committed int }

// settle goes on with every attempt that was cut off. One whose certificate was committed must get that very one.
func (l *load) settle(t *testing.T, before map[string]apiv1.Certificate) settlement {
	t.Helper()
	committed := map[string]string{}
	for serial, entry := range before {
		committed[entry.Identity] = serial
	}
	var s settlement
	for _, w := range l.workers {
		a := w.cutOff
		if a == nil {
			continue
		}
		w.cutOff = nil
		s.all++
		if err := a.advance(t.Context(), w.client); err != nil {
			t.Errorf("the order for %s is stuck: %v", a.id, err)
			continue
		}
		leaf := l.keep(t, a.chain)
		if serial, ok := committed[a.id]; ok {
			s.committed++
			if testbed.Serial(leaf) != serial {
				t.Errorf("finalized again, the order for %s gave %s; %s was committed before the kill", a.id, testbed.Serial(leaf), serial)
			}
		}
	}
	return s
}
