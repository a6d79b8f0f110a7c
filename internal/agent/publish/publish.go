// Package publish owns what the agent writes into the cluster, so that Istio finds it: the roots, as a ConfigMap in each
// namespace, and istiod's own certificate, as a Secret. One replica at a time writes, the holder of a Lease.
//
// It must never take over a Secret that somebody else keeps, and never takes a good certificate away. It trusts the
// issuer's bundle; what is in the cluster may be anything, and is repaired.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what a Publisher needs.
type Config struct {
	Client kubernetes.Interface
	Source issuer.Source

	// LeaseNamespace is where the Lease is; Identity tells the replicas apart.
	LeaseNamespace, Identity string

	// RootMap is the name of the ConfigMap with the roots. Selector chooses the namespaces that get one, by label; "" is all.
	RootMap, Selector string
	// Workers is how many ConfigMaps are written at once.
	Workers int

	// Istiod is istiod's certificate; nil when somebody else makes it.
	Istiod *Istiod

	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Publisher writes while Run runs and this replica is the leader.
type Publisher struct {
	config  Config
	metrics *metrics
	leads   atomic.Bool
	istiod  *istiodSecret // nil when it is not ours
}

// New checks the configuration and starts nothing.
func New(config Config) (*Publisher, error) {
	if config.Client == nil || config.Source == nil || config.Now == nil || config.Random == nil || config.Logger == nil || config.Registerer == nil {
		return nil, errors.New("publisher: Client, Source, Now, Random, Logger or Registerer is missing")
	}
	if config.LeaseNamespace == "" || config.Identity == "" || config.RootMap == "" || config.Workers < 1 {
		return nil, errors.New("publisher: LeaseNamespace, Identity, RootMap or Workers is missing")
	}
	p := &Publisher{config: config}
	if config.Istiod != nil {
		p.istiod = &istiodSecret{config: &p.config, wants: *config.Istiod}
	}
	var err error
	p.metrics, err = newMetrics(config.Registerer, p)
	return p, err
}

// LeaseName is the name of the Lease that says which replica writes.
const LeaseName = "certloom-agent"

// Times of the Lease: when the leader is lost without a word, another replica writes after a quarter of a minute.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	leaseRetry    = 2 * time.Second
)

// Run waits until this replica is the leader, writes, and waits again when it has lost that, until ctx ends.
func (p *Publisher) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Namespace: p.config.LeaseNamespace, Name: LeaseName},
				Client:     p.config.Client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: p.config.Identity},
			},
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseRetry, ReleaseOnCancel: true,
			Name: LeaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: p.lead,
				OnStoppedLeading: func() {}, // lead ends with its context
			},
		})
		if err != nil {
			return fmt.Errorf("prepare the election of a leader: %w", err)
		}
		elector.Run(ctx)
	}
	return nil
}

// lead writes while this replica is the leader.
func (p *Publisher) lead(ctx context.Context) {
	p.leads.Store(true)
	defer p.leads.Store(false)
	p.config.Logger.InfoContext(ctx, "this replica writes the roots into the cluster", "lease", p.config.LeaseNamespace+"/"+LeaseName)
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return p.keepRootMaps(ctx) })
	if p.istiod != nil {
		running.Go(func() error { return p.istiod.keep(ctx) })
	}
	if err := running.Wait(); err != nil {
		p.config.Logger.ErrorContext(ctx, "roots are not written into the cluster any more", telemetry.KeyError, err)
	}
}

// metrics are the publisher's own numbers.
type metrics struct {
	written *prometheus.CounterVec
}

func newMetrics(registerer prometheus.Registerer, p *Publisher) (*metrics, error) {
	m := &metrics{written: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "certloom_agent_root_configmaps_total",
		Help: "Writes of ConfigMaps with the roots, by outcome: created, repaired, failed (to be tried again).",
	}, []string{"outcome"})}
	leader := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_leader", Help: "1 while this replica writes the roots into the cluster.",
	}, func() float64 {
		if p.leads.Load() {
			return 1
		}
		return 0
	})
	root := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_root_expiry_timestamp_seconds", Help: "When the first root of the trust bundle expires, in Unix time; 0 before it is known.",
	}, func() float64 {
		if bundle := p.config.Source.Bundle(); bundle != nil {
			return float64(bundle.Expiry().Unix())
		}
		return 0
	})
	istiod := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "certloom_agent_istiod_expiry_timestamp_seconds",
		Help: "When istiod's certificate expires, in Unix time; 0 where this replica does not keep it.",
	}, func() float64 {
		if p.istiod == nil || !p.leads.Load() {
			return 0
		}
		return float64(p.istiod.expiry.Load())
	})
	for _, c := range []prometheus.Collector{m.written, leader, root, istiod} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	for _, outcome := range []string{"created", "repaired", "failed"} {
		m.written.WithLabelValues(outcome)
	}
	return m, nil
}
