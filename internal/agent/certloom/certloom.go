// Package certloom is the issuer that asks a Certloom server: it enrols with an EAB credential, holds a short-lived
// certificate of its own and renews it at half its life, and sends what callers wait for in batches over one connection.
//
// It must never write its key anywhere, nor log or hand on the credential. It trusts the server whose certificate leads
// to the configured roots; the certificates that the server returns are checked by whoever asked for them.
package certloom

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/fault"
)

// Credential is what an agent enrols with, as "certloom credential create -o json" prints it.
type Credential struct {
	KeyID string
	Key   []byte // of the HMAC
}

// Config is what an Issuer needs.
type Config struct {
	// Server is HOST:PORT of the server's agent listener.
	Server string
	// Roots returns what the server's certificate must lead to. It is asked at each enrolment and renewal, so that
	// a file that changes is read again; so is Credential.
	Roots      func() (*x509.CertPool, error)
	Credential func() (Credential, error)
	// Cluster is the name that the inventory gives to this cluster.
	Cluster string
	// TrustDomain is the one of the identities that will be asked for.
	TrustDomain string
	// Dial connects to the server; nil is TCP.
	Dial       func(ctx context.Context, address string) (net.Conn, error)
	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Limits. A thousand workloads that start at once fit into the queue; a server that does not keep up is told apart from
// one that is gone by the answer: RESOURCE_EXHAUSTED or UNAVAILABLE.
const (
	queueLength = 4096
	batchSize   = 128
	// workers is how many calls are under way at once: one whose certificates are made, one that waits for the server's
	// disk, and one on its way. More would only make the batches smaller, and each certificate dearer.
	workers     = 3
	callTimeout = 5 * time.Second
	idTime      = 6 // bytes of an item's ID: milliseconds, which last for 8,900 years
	idRandom    = 10
)

// Issuer implements issuer.Issuer. Make it with New; it works while Run does.
type Issuer struct {
	config  Config
	metrics *metrics
	queue   chan *call
	// lost has room for one word: that the server does not know our certificate any more.
	lost    chan struct{}
	link    atomic.Pointer[link]  // nil before the first enrolment
	retired chan *grpc.ClientConn // replaced, to be closed
	bundle  atomic.Pointer[issuer.Bundle]
	version atomic.Pointer[string] // the server's word for the bundle
	lists   atomic.Pointer[lists]  // nil before the server has said anything of CRLs

	mu      sync.Mutex      // guards failure and served; held for assignments only
	failure error           // why the last contact with the server failed, nil when it did not
	served  map[string]bool // ServiceAccounts of the agent's own cluster with a certificate since the last report
}

// New checks the configuration and starts nothing.
func New(config Config) (*Issuer, error) {
	var problems []error
	for _, required := range []struct {
		name    string
		missing bool
	}{
		{"Server", config.Server == ""},
		{"Roots", config.Roots == nil},
		{"Credential", config.Credential == nil},
		{"Cluster", config.Cluster == ""},
		{"TrustDomain", config.TrustDomain == ""},
		{"Now", config.Now == nil},
		{"Random", config.Random == nil},
		{"Logger", config.Logger == nil},
		{"Registerer", config.Registerer == nil},
	} {
		if required.missing {
			problems = append(problems, fmt.Errorf("issuer certloom: %s is missing", required.name))
		}
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	i := &Issuer{
		config: config, queue: make(chan *call, queueLength), lost: make(chan struct{}, 1),
		retired: make(chan *grpc.ClientConn, 1), failure: errors.New("not enrolled yet"), served: map[string]bool{},
	}
	var err error
	i.metrics, err = newMetrics(config.Registerer, i)
	return i, err
}

// Run enrols, renews and sends until ctx ends. Calls that wait then fail.
func (i *Issuer) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return i.stayEnrolled(ctx) })
	running.Go(func() error { return i.watchBundle(ctx) })
	running.Go(func() error { return i.closeRetired(ctx) })
	for range workers {
		running.Go(func() error { return i.work(ctx) })
	}
	return running.Wait()
}

// Bundle implements issuer.Issuer.
func (i *Issuer) Bundle() *issuer.Bundle { return i.bundle.Load() }

// VerifiesCSRs implements issuer.Verifier: the server reads each CSR as if it came from anybody.
func (i *Issuer) VerifiesCSRs() bool { return true }

// Ready implements issuer.Issuer.
func (i *Issuer) Ready() error {
	l := i.link.Load()
	failure := i.lastFailure()
	switch {
	case failure != nil:
		return fmt.Errorf("server %s: %w", i.config.Server, failure)
	case l == nil:
		return errors.New("not enrolled yet")
	case !i.config.Now().Before(l.certificate.NotAfter):
		return fmt.Errorf("the agent's own certificate expired at %s", l.certificate.NotAfter.UTC().Format(time.RFC3339))
	case i.bundle.Load() == nil:
		return errors.New("the server has sent no trust bundle yet")
	}
	return l.allows(i.config.TrustDomain)
}

// contacted notes how the last contact with the server went.
func (i *Issuer) contacted(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failure = err
}

func (i *Issuer) lastFailure() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.failure
}

// call is one waiting caller.
type call struct {
	ctx  context.Context //nolint:containedctx // of the caller: a call that nobody waits for is not sent
	item *agentapi.Item
	done chan outcome // has room for the one outcome, so that nobody waits for a caller who has left
}

type outcome struct {
	chain [][]byte
	err   error
}

// Issue implements issuer.Issuer. It fails at once with fault.RateLimited when too many wait already, and with
// fault.Unavailable while there is no connection.
func (i *Issuer) Issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	if i.link.Load() == nil {
		return nil, fault.Wrap(i.lastFailure(), fault.Unavailable, "the agent is not enrolled at the server yet")
	}
	id, err := i.newID()
	if err != nil {
		return nil, err
	}
	waiting := &call{ctx: ctx, item: itemOf(r, id), done: make(chan outcome, 1)}
	select {
	case i.queue <- waiting:
	default:
		i.metrics.count("queue_full", 1)
		return nil, fault.New(fault.RateLimited, "%d requests wait for the server already", queueLength)
	}
	select {
	case <-ctx.Done():
		return nil, fault.Wrap(context.Cause(ctx), fault.Unavailable, "the server did not answer in time")
	case o := <-waiting.done:
		if o.err == nil {
			i.serve(&r.Caller)
		}
		return o.chain, o.err
	}
}

// newID makes the ID of an item. IDs begin with the time, so that those of a batch stand beside one another in the
// server's index, at its end: random ones would each change a page of their own.
func (i *Issuer) newID() (string, error) {
	var id [2 + idTime + idRandom]byte
	binary.BigEndian.PutUint64(id[:], uint64(i.config.Now().UnixMilli()))
	if _, err := io.ReadFull(i.config.Random, id[2+idTime:]); err != nil {
		return "", fmt.Errorf("make the ID of a request: %w", err)
	}
	return hex.EncodeToString(id[2:]), nil
}

func itemOf(r issuer.Request, id string) *agentapi.Item {
	caller := &agentapi.Caller{
		Namespace: r.Caller.Namespace, ServiceAccount: r.Caller.ServiceAccount, Pod: r.Caller.Pod,
		PodUid: r.Caller.PodUID, Node: r.Caller.Node, ImpersonatedBy: r.Caller.ImpersonatedBy, Cluster: r.Caller.Cluster,
	}
	if certificate := r.Caller.Certificate; certificate != nil {
		fingerprint := sha256.Sum256(certificate.Raw)
		caller.CertificateSerial, caller.CertificateFingerprint = certificate.SerialNumber.Bytes(), fingerprint[:]
	}
	return &agentapi.Item{Csr: r.CSR, LifetimeSeconds: int64(r.Lifetime / time.Second), Id: id, Caller: caller}
}
