// Package publish owns what the agent writes into the cluster, so that Istio finds it: the roots and the revocation lists,
// as ConfigMaps in each namespace, the roots as ClusterTrustBundles, and istiod's own certificate, as a Secret. One
// replica at a time writes, the holder of a Lease.
//
// It must never take over a Secret that somebody else keeps, never takes a good certificate away, and never leaves a
// revocation list in place that has ended. It trusts the issuer's bundle and lists; what is in the cluster may be
// anything, and is repaired.
package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
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

	// LeaseNamespace is where the Lease is, LeaseName its name; Identity tells the replicas apart.
	LeaseNamespace, LeaseName, Identity string

	// RootMap is the name of the ConfigMap with the roots. Selector chooses the namespaces that get one, by label; "" is all.
	RootMap, Selector string
	// Workers is how many ConfigMaps of a kind are written at once.
	Workers int

	// CRLMap is the name of the ConfigMap with the revocation lists, "" for none. CRLs says them; nil when the CA has none.
	CRLMap string
	CRLs   issuer.CRLSource

	// TrustBundles writes ClusterTrustBundles with the roots where the API server has them: Istio's, and one of the name
	// TrustBundle, unless that is "".
	TrustBundles bool
	TrustBundle  string

	// Istiod is istiod's certificate; nil when somebody else makes it.
	Istiod *Istiod

	// Tell writes an Event, nil for none. Namespace and Pod are the agent's own, "" when they are not known.
	Tell           func(about *corev1.ObjectReference, reason, sentence string)
	Namespace, Pod string

	// Dial connects to an address and hangs up. It is needed with Istiod.
	Dial func(ctx context.Context, address string) error

	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Publisher writes while Run runs and this replica is the leader.
type Publisher struct {
	config  Config
	metrics *metrics
	leading sync.Mutex // held by lead: one at a time
	leads   atomic.Bool
	own     atomic.Pointer[corev1.ObjectReference] // the Pod that we run in, nil when it is not known
	lists   *crlContent
	istiod  *istiodSecret // nil when it is not ours

	rootContest, crlContest, bundleContest *contest
	contests                               []*contest // all of them
}

// New checks the configuration and starts nothing.
func New(config Config) (*Publisher, error) {
	if config.Client == nil || config.Source == nil || config.Now == nil || config.Random == nil || config.Logger == nil || config.Registerer == nil {
		return nil, errors.New("publisher: Client, Source, Now, Random, Logger or Registerer is missing")
	}
	if config.LeaseNamespace == "" || config.LeaseName == "" || config.Identity == "" || config.RootMap == "" || config.Workers < 1 {
		return nil, errors.New("publisher: LeaseNamespace, LeaseName, Identity, RootMap or Workers is missing")
	}
	p := &Publisher{config: config}
	p.lists = &crlContent{Publisher: p}
	p.rootContest, p.crlContest, p.bundleContest = p.newContest("the roots"), p.newContest("the revocation lists"), p.newContest("the roots")
	p.contests = []*contest{p.rootContest, p.crlContest, p.bundleContest}
	if config.Istiod != nil {
		if config.Dial == nil {
			return nil, errors.New("publisher: Dial is missing")
		}
		p.istiod = &istiodSecret{config: &p.config, wants: *config.Istiod}
		p.istiod.early = &earlyIstiods{config: &p.config, namespace: config.Istiod.Namespace, restart: config.Istiod.Restart}
	}
	var err error
	p.metrics, err = newMetrics(config.Registerer, p)
	return p, err
}

// Names of the Leases that say which replica writes: in the cluster that the agents run in, and in one that agents elsewhere
// write the roots into. That cluster may have agents of its own, which keep istiod's certificate as well: nobody from outside
// may hold their Lease.
const (
	LeaseName       = "certloom-agent"
	RemoteLeaseName = "certloom-agent-remote"
)

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
				LeaseMeta:  metav1.ObjectMeta{Namespace: p.config.LeaseNamespace, Name: p.config.LeaseName},
				Client:     p.config.Client.CoordinationV1(),
				LockConfig: resourcelock.ResourceLockConfig{Identity: p.config.Identity},
			},
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: leaseRetry, ReleaseOnCancel: true,
			Name: p.config.LeaseName,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: p.lead,
				OnStoppedLeading: func() {}, // lead ends with its context
			},
		})
		if err != nil {
			return fmt.Errorf("prepare the election of a leader: %w", err)
		}
		elector.Run(ctx) // which does not wait for lead
		p.leading.Lock()
		p.leading.Unlock() //nolint:staticcheck // lead has ended
	}
	return nil
}

// lead writes while this replica is the leader.
func (p *Publisher) lead(ctx context.Context) {
	p.leading.Lock()
	defer p.leading.Unlock()
	p.leads.Store(true)
	defer p.leads.Store(false)
	p.config.Logger.InfoContext(ctx, "this replica writes the roots into the cluster", "lease", p.config.LeaseNamespace+"/"+p.config.LeaseName)
	p.findOwn(ctx)
	running, ctx := errgroup.WithContext(ctx)
	spaces := p.selected()
	defer spaces.Shutdown()
	tasks := p.tasks(spaces)
	spaces.Start(ctx.Done())
	for _, task := range tasks {
		running.Go(func() error { return task(ctx) })
	}
	if err := running.Wait(); err != nil {
		p.config.Logger.ErrorContext(ctx, "roots are not written into the cluster any more", telemetry.KeyError, err)
	}
}

// tasks are what there is to write.
func (p *Publisher) tasks(spaces informers.SharedInformerFactory) []func(context.Context) error {
	keepers := []*mapKeeper{{
		Publisher: p, what: "roots", name: p.config.RootMap, key: rootKey, content: rootContent{p},
		written: p.metrics.roots, contest: p.rootContest,
	}}
	if p.config.CRLMap != "" {
		keepers = append(keepers, &mapKeeper{
			Publisher: p, what: "revocation lists", name: p.config.CRLMap, key: crlKey, content: p.lists,
			written: p.metrics.lists, contest: p.crlContest,
		})
	}
	var tasks []func(context.Context) error
	for _, k := range keepers {
		k.namespaces = spaces.Core().V1().Namespaces().Informer()
		tasks = append(tasks, k.keep)
	}
	if p.config.TrustBundles {
		signers := map[string]string{istioBundle: istioSigner}
		if p.config.TrustBundle != "" {
			signers[p.config.TrustBundle] = ""
		}
		tasks = append(tasks, (&trustBundles{Publisher: p, signers: signers, contest: p.bundleContest}).keep)
	}
	if p.istiod != nil {
		tasks = append(tasks, p.istiod.keep)
	}
	return tasks
}

// findOwn looks up the Pod that we run in, for Events.
func (p *Publisher) findOwn(ctx context.Context) {
	if p.config.Pod == "" || p.config.Namespace == "" || p.own.Load() != nil {
		return
	}
	pod, err := p.config.Client.CoreV1().Pods(p.config.Namespace).Get(ctx, p.config.Pod, metav1.GetOptions{})
	if err != nil {
		p.config.Logger.WarnContext(ctx, "the agent's own Pod is not found, so that no Events are written about it", telemetry.KeyError, err)
		return
	}
	p.own.Store(&corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID})
}

// tellOwn writes an Event on our own Pod, where it is known.
func (p *Publisher) tellOwn(reason, sentence string) {
	if own := p.own.Load(); own != nil && p.config.Tell != nil {
		p.config.Tell(own, reason, sentence)
	}
}
