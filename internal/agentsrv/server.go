package agentsrv

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

// Catalog is what administrators have configured.
type Catalog interface {
	Current() (*catalog.Snapshot, error)
	// CredentialKey returns a credential's HMAC key.
	CredentialKey(ctx context.Context, c *pki.Credential) ([]byte, error)
}

// Store is the storage that agents need.
type Store interface {
	// Certificate returns a certificate by its serial, or NotFound.
	Certificate(ctx context.Context, serial pki.Serial) (*pki.Certificate, error)
	TouchCredential(ctx context.Context, id pki.CredentialID, at time.Time) error
	// Retire and Restore mark identities of a cluster as gone, and take the mark away.
	Retire(ctx context.Context, cluster string, names []string, at time.Time, event func(name string) audit.Event) ([]string, error)
	Restore(ctx context.Context, cluster string, names []string, event func(name string) audit.Event) ([]string, error)
	// Overdue returns identities of a cluster that should have been renewed, or are gone, by name.
	Overdue(ctx context.Context, cluster, trustDomain string, now time.Time, behind string, limit int) ([]pki.Identity, error)
	// RecordEvent stores a refusal.
	RecordEvent(ctx context.Context, ev audit.Event) error
}

// Issuer makes certificates; what it returns is durable.
type Issuer interface {
	Issue(ctx context.Context, r issue.Request) (*pki.Certificate, error)
	// Chain returns a certificate and those above it, leaf first.
	Chain(c *pki.Certificate, includeRoot bool) ([][]byte, error)
}

// Nonces are good once each. Redeem returns a BadNonce fault for what is no nonce of ours or was used.
type Nonces interface {
	Issue() string
	Redeem(ctx context.Context, nonce string) error
}

// Config is what New needs. Fields without a note that they are optional must be set.
type Config struct {
	Catalog Catalog
	Store   Store
	Issuer  Issuer
	Nonces  Nonces
	// CRL returns a CA's CRL in DER. It is asked every second for each agent that waits, so it must keep what it has made,
	// and return the same bytes until there is something new.
	CRL        func(ctx context.Context, ca pki.CAID) (der []byte, nextUpdate time.Time, err error)
	Now        func() time.Time
	Random     io.Reader // safe for concurrent use
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Replica    string // names this process in audit events
	// MaxItems is how many certificates may be in the making at once; optional. One more is refused at once with
	// RESOURCE_EXHAUSTED, since it would wait for longer than asking again takes.
	MaxItems int
	// Timeout bounds a call that does not wait for something to happen; optional.
	Timeout time.Duration
}

const (
	// defaultMaxItems is about a second of work.
	defaultMaxItems = 2048
	defaultTimeout  = 10 * time.Second
)

// Server serves agents. It is safe for concurrent use.
type Server struct {
	agentapi.UnimplementedAgentServer

	config   Config
	metrics  *metrics
	items    *semaphore.Weighted
	agents   *lru.Cache[[32]byte, *known] // by fingerprint of the certificate
	touches  *lru.Cache[pki.CredentialID, time.Time]
	refusals *audit.Limiter
	lists    *lists
	stopping chan struct{} // closed when Serve begins to stop
	boot     string        // beginning of request IDs
	serial   atomic.Uint64
}

// maxAgents is how many agents are remembered.
const maxAgents = 4096

// New checks the configuration and starts nothing.
func New(c Config) (*Server, error) {
	if c.Catalog == nil || c.Store == nil || c.Issuer == nil || c.Nonces == nil || c.CRL == nil {
		return nil, errors.New("agentsrv: Catalog, Store, Issuer, Nonces and CRL are required")
	}
	if c.Now == nil || c.Random == nil || c.Logger == nil || c.Registerer == nil {
		return nil, errors.New("agentsrv: Now, Random, Logger and Registerer are required")
	}
	if err := c.bound(); err != nil {
		return nil, err
	}
	var raw [4]byte
	if _, err := io.ReadFull(c.Random, raw[:]); err != nil {
		return nil, fmt.Errorf("agentsrv: read randomness: %w", err)
	}
	s := &Server{
		config: c, items: semaphore.NewWeighted(int64(c.MaxItems)), stopping: make(chan struct{}),
		boot: fmt.Sprintf("g%x-", raw), lists: &lists{sets: map[string]*listSet{}},
	}
	var err error
	if s.agents, err = lru.New[[32]byte, *known](maxAgents); err != nil {
		return nil, fmt.Errorf("agentsrv: %w", err)
	}
	if s.touches, err = lru.New[pki.CredentialID, time.Time](maxAgents); err != nil {
		return nil, fmt.Errorf("agentsrv: %w", err)
	}
	if s.refusals, err = audit.NewLimiter(); err != nil {
		return nil, fmt.Errorf("agentsrv: %w", err)
	}
	s.metrics, err = newMetrics(c.Registerer)
	return s, err
}

// bound fills in what is optional, and checks it.
func (c *Config) bound() error {
	if c.MaxItems == 0 {
		c.MaxItems = defaultMaxItems
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	switch {
	case c.MaxItems < agentapi.MaxItems:
		return fmt.Errorf("agentsrv: MaxItems %d is less than the %d of one call", c.MaxItems, agentapi.MaxItems)
	case c.Timeout < 0:
		return fmt.Errorf("agentsrv: Timeout %s is negative", c.Timeout)
	}
	return nil
}

// requestID returns a name for a call in log lines and audit events.
func (s *Server) requestID() string { return s.boot + strconv.FormatUint(s.serial.Add(1), 36) }

// Limits of connections: no peer may hold one for nothing.
const (
	handshakeTimeout = 10 * time.Second
	idleTimeout      = 15 * time.Minute // agents keep a connection, and make a new one when they need it
	pingAfter        = time.Minute
	pingTimeout      = 20 * time.Second
	minPing          = 10 * time.Second // agents may ask whether we live
	maxMessage       = 1 << 20          // MaxItems requests with RSA keys of 4096 bits have half of it
	maxHeaders       = 16 << 10
	maxStreams       = 256 // calls of a connection at once
)

// Serve serves on the listener, which it closes, until ctx ends, and then lets calls end within drain. secure has the
// server's certificate. It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener, secure *tls.Config, drain time.Duration) error {
	secure = secure.Clone()
	secure.NextProtos = []string{"h2"}
	// Whether a certificate is needed depends on the call, and a certificate that has expired should get an answer that
	// says so. The handshake proves that the client has the key; authenticate does the rest.
	secure.ClientAuth = tls.RequestClientCert
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(secure)),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingAfter, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.StaticStreamWindowSize(maxMessage), grpc.StaticConnWindowSize(maxMessage), // measuring takes a ping for nearly each call
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
	)
	agentapi.RegisterAgentServer(server, s)
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(listener) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve agents on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	close(s.stopping)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		server.GracefulStop()
	}()
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-drained:
		if err := <-stopped; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // stopped before it began
			return fmt.Errorf("serve agents on %s: %w", listener.Addr(), err)
		}
		return nil
	case <-timer.C:
	}
	server.Stop()
	<-drained
	return errors.Join(fmt.Errorf("calls of agents still running on %s after %s", listener.Addr(), drain), <-stopped)
}
