package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/certloom/certloom/internal/agent/caservice"
	"github.com/certloom/certloom/internal/agent/cluster"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/agent/publish"
	"github.com/certloom/certloom/internal/agent/serving"
	"github.com/certloom/certloom/internal/group"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what an Agent needs of the process.
type Config struct {
	Settings Settings
	Kube     kubernetes.Interface
	// Dynamic is for objects that are not Kubernetes' own; nil where the issuer has none.
	Dynamic dynamic.Interface
	// Connect makes clients of the API servers of remote clusters; nil where there are none.
	Connect func(config *rest.Config) (kubernetes.Interface, error)
	Now     func() time.Time
	Random  io.Reader
	// Jitter returns a number in [0, 1), different each time.
	Jitter func() float64
	Logger *slog.Logger
}

// Agent is everything, bound to its addresses but not running.
type Agent struct {
	config    Config
	registry  *prometheus.Registry
	listeners listeners

	own      *cluster.Cluster
	clusters *cluster.Set
	issuer   issuer.Issuer
	upstream string // what the issuer asks, for the log
	serving  *serving.Certificate
	service  *caservice.Service
	health   *health

	publisher *publish.Publisher
}

// New checks the settings, makes the parts and binds the addresses. Settings that are wrong are reported together.
func New(ctx context.Context, config Config) (*Agent, error) {
	if err := config.Settings.Check(); err != nil {
		return nil, err
	}
	a := &Agent{config: config, registry: telemetry.NewRegistry()}
	for _, step := range []func() error{a.makeClusters, a.makeIssuer, a.makeServing, a.makeService, a.makePublisher} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	a.health = newHealth(a)
	return a, a.listeners.bind(ctx, &config.Settings)
}

func (a *Agent) makeIssuer() error {
	var err error
	a.issuer, a.upstream, err = a.newIssuer()
	return err
}

func (a *Agent) makeServing() error {
	c, s := &a.config, &a.config.Settings
	var err error
	a.serving, err = serving.New(serving.Config{
		Source: a.issuer,
		Order:  issuer.Order{DNS: s.ServingNames, Key: s.ServingKey, Lifetime: s.ServingLifetime, Caller: s.own()},
		Now:    c.Now, Random: c.Random, Logger: c.Logger, Registerer: a.registry,
	})
	return err
}

func (a *Agent) makeService() error {
	c, s := &a.config, &a.config.Settings
	var err error
	a.service, err = caservice.New(caservice.Config{
		Issuer: a.issuer, Clusters: a.findCluster, TrustDomain: s.TrustDomain, MaxLifetime: s.MaxLifetime, Timeout: requestTimeout,
		ClientCertificates: s.ClientCertificates, NodeAccounts: s.NodeAccounts,
		Now: c.Now, Random: c.Random, Jitter: c.Jitter, Logger: c.Logger, Registerer: a.registry,
	})
	return err
}

func (a *Agent) makePublisher() error {
	c, s := &a.config, &a.config.Settings
	if s.Istiod != nil {
		s.Istiod.TrustDomain = s.TrustDomain
	}
	holder, err := a.holder()
	if err != nil {
		return err
	}
	crls, _ := a.issuer.(issuer.CRLSource) // nil for issuers whose CA gives none
	a.publisher, err = publish.New(publish.Config{
		Client: c.Kube, Source: a.issuer, LeaseNamespace: s.LeaseNamespace, LeaseName: publish.LeaseName, Identity: holder,
		RootMap: s.RootMap, Selector: s.NamespaceSelector, Workers: s.Workers, Istiod: s.Istiod,
		CRLMap: s.CRLMap, CRLs: crls, TrustBundles: s.TrustBundles, TrustBundle: s.TrustBundle,
		Tell: a.own.Warn, Namespace: s.Namespace, Pod: s.Pod, Dial: dial,
		Now: c.Now, Random: c.Random, Logger: c.Logger, Registerer: a.registry,
	})
	return err
}

// holder makes a name for the holder of a Lease: two replicas on one node, or one that was started again, are not the same.
func (a *Agent) holder() (string, error) {
	suffix := make([]byte, 8)
	if _, err := io.ReadFull(a.config.Random, suffix); err != nil {
		return "", fmt.Errorf("make a name for the holder of the Lease: %w", err)
	}
	return a.config.Settings.Pod + "_" + hex.EncodeToString(suffix), nil
}

// dial connects to an address and hangs up.
func dial(ctx context.Context, address string) error {
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	_ = connection.Close() // nothing was sent
	return nil
}

const (
	// requestTimeout bounds a workload's call, which has no deadline of its own.
	requestTimeout = 10 * time.Second
	// grace is how long a task may take to stop, besides Settings.ShutdownDelay; calls drain within it.
	grace = 20 * time.Second
)

// Run serves until ctx ends. It stops in this order: readiness fails, nobody is served who comes after a while, calls under
// way end, everything else ends.
func (a *Agent) Run(ctx context.Context) error {
	defer a.listeners.close()
	context.AfterFunc(ctx, a.health.drain)
	var tasks group.Group
	tasks.Add("metrics", a.health.serveMetrics(a.listeners.metrics))
	tasks.Add("health", a.health.serveHealth(a.listeners.health))
	tasks.Add("cluster", a.own.Run)
	tasks.Add("remote clusters", a.clusters.Run)
	tasks.Add("issuer", a.issuer.Run)
	if reporter, ok := a.issuer.(interface {
		Report(ctx context.Context, running func() ([]string, error)) error
	}); ok {
		tasks.Add("report of what runs", func(ctx context.Context) error { return reporter.Report(ctx, a.own.Accounts) })
	}
	tasks.Add("serving certificate", a.serving.Run)
	tasks.Add("publisher", a.publisher.Run)
	delay := a.config.Settings.ShutdownDelay
	tasks.Add("certificate service", func(ctx context.Context) error {
		ctx, cancel := later(ctx, delay)
		defer cancel()
		return a.service.Serve(ctx, a.listeners.service, a.config.Settings.TLS.apply(a.service.TLS(a.serving.Get)))
	})
	a.config.Logger.InfoContext(ctx, "certloom-agent starts", telemetry.KeyAddress, a.listeners.service.Addr().String(),
		telemetry.KeyCluster, a.config.Settings.ClusterIDs[0], "issuer", a.config.Settings.Issuer, "upstream", a.upstream)
	return tasks.Run(ctx, grace+delay)
}

// later returns a context that ends some time after ctx. Who connects through a Service learns only after a moment that a
// replica is stopping; until then it takes new connections, or their callers would be refused.
func later(ctx context.Context, delay time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-out.Done(): // it has ended by itself
		}
	})
	return out, func() {
		stop()
		cancel()
	}
}

// listeners are bound before anything runs, so that an address that is taken ends the start.
type listeners struct {
	service, health, metrics net.Listener
}

func (l *listeners) bind(ctx context.Context, s *Settings) error {
	var problems []error
	var network net.ListenConfig
	for _, item := range []struct {
		flag, address string
		to            *net.Listener
	}{
		{"--serving-address", s.ServingAddress, &l.service},
		{"--readiness-probe-port", s.HealthAddress, &l.health},
		{"--metrics-port", s.MetricsAddress, &l.metrics},
	} {
		listener, err := network.Listen(ctx, "tcp", item.address)
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: cannot listen on %s: %w", item.flag, item.address, err))
			continue
		}
		*item.to = listener
	}
	if len(problems) > 0 {
		l.close()
	}
	return errors.Join(problems...)
}

func (l *listeners) close() {
	for _, listener := range []net.Listener{l.service, l.health, l.metrics} {
		if listener != nil {
			_ = listener.Close() // serving has closed it
		}
	}
}
