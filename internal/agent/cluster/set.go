package cluster

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/telemetry"
)

// Member is a cluster of a Set.
type Member interface {
	Name() string
	Verify(ctx context.Context, raw string) (token.Subject, error)
	Pod(ctx context.Context, namespace, name, uid string) (kube.Pod, error)
	RunsOn(ctx context.Context, node, namespace, account string) ([]kube.Pod, error)
	Tell(pod kube.Pod, reason, sentence string)
}

// SetConfig is what a Set needs.
type SetConfig struct {
	Own *Cluster
	// IDs are the names by which callers may know Own: its own, and aliases.
	IDs []string

	// Client reads the Secrets of remote clusters in Namespace. Without a Namespace there are none, and what follows is
	// not needed.
	Client    kubernetes.Interface
	Namespace string
	// Connect makes a client of what a kubeconfig says.
	Connect func(config *rest.Config) (kubernetes.Interface, error)
	Rules   Rules
	// TokenReview asks the remote API servers about each token. They are asked too where a kubeconfig does not permit what
	// verifying here needs.
	TokenReview bool
	// Publish writes what Istio needs into a remote cluster until ctx ends, where the kubeconfig permits PublishNeeds; nil
	// writes nothing.
	Publish      func(ctx context.Context, client kubernetes.Interface, logger *slog.Logger) error
	PublishNeeds []authorizationv1.ResourceAttributes

	Now        func() time.Time
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Set finds clusters by the names that callers have for them. Safe for concurrent use.
type Set struct {
	config SetConfig
	found  atomic.Pointer[table] // nil until the Secrets have been read

	// What Run and those that it calls use.
	running sync.WaitGroup
	noted   map[string]string // problems that have been logged, by Secret and ID
}

// table is what the Secrets say. It does not change.
type table struct {
	remotes map[string]*remote
	broken  []entry
}

// NewSet checks the configuration and starts nothing.
func NewSet(config SetConfig) (*Set, error) {
	if config.Own == nil || len(config.IDs) == 0 {
		return nil, errors.New("set of clusters: Own or IDs is missing")
	}
	s := &Set{config: config}
	if config.Namespace == "" {
		return s, nil
	}
	if config.Client == nil || config.Connect == nil || len(config.Rules.Audiences) == 0 || config.Now == nil ||
		config.Logger == nil || config.Registerer == nil {
		return nil, errors.New("set of clusters: Client, Connect, Rules, Now, Logger or Registerer is missing")
	}
	return s, s.register(config.Registerer)
}

// Find returns the cluster of that name; "" is our own, which is always found. For a name that no cluster has it returns
// fault.Unauthenticated, with a sentence that says which are expected, and fault.Unavailable while that is not known.
func (s *Set) Find(id string) (Member, error) {
	if id == "" || slices.Contains(s.config.IDs, id) {
		return s.config.Own, nil
	}
	known := &table{}
	if s.config.Namespace != "" {
		if known = s.found.Load(); known == nil {
			return nil, fault.New(fault.Unavailable, "the Secrets of remote clusters in namespace %q have not been read yet", s.config.Namespace)
		}
	}
	if r, ok := known.remotes[id]; ok {
		return r, nil
	}
	for _, e := range known.broken {
		if e.id == id {
			return nil, fault.New(fault.Unauthenticated, "the caller's cluster ID is %.200q, whose Secret %s does not count: %s", id, e.secret, e.problem)
		}
	}
	if len(known.remotes) > 0 {
		return nil, fault.New(fault.Unauthenticated, "the caller's cluster ID is %.200q; %q is expected, or one of the remote clusters %.500q "+
			"(--cluster-id here, global.multiCluster.clusterName in Istio)", id, s.config.IDs, sorted(known.remotes))
	}
	return nil, fault.New(fault.Unauthenticated,
		"the caller's cluster ID is %.200q; %q is expected (--cluster-id here, global.multiCluster.clusterName in Istio)", id, s.config.IDs)
}

// Run follows the Secrets and keeps the remote clusters fresh until ctx ends. Our own cluster has a Run of its own: it does
// not depend on others.
func (s *Set) Run(ctx context.Context) error {
	if s.config.Namespace == "" {
		<-ctx.Done()
		return nil
	}
	factory := informers.NewSharedInformerFactoryWithOptions(s.config.Client, 0, informers.WithNamespace(s.config.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = secretLabel }))
	secrets := factory.Core().V1().Secrets()
	poke := make(chan struct{}, 1)
	changed := func() {
		select {
		case poke <- struct{}{}:
		default: // it will look anyway
		}
	}
	_, err := secrets.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { changed() }, UpdateFunc: func(any, any) { changed() }, DeleteFunc: func(any) { changed() },
	})
	if err != nil {
		return fault.Wrap(err, fault.Internal, "the Secrets of remote clusters cannot be watched")
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer s.running.Wait()
	if !cache.WaitForCacheSync(ctx.Done(), secrets.Informer().HasSynced) {
		return nil
	}
	for ctx.Err() == nil {
		s.follow(ctx, secretsOf(secrets.Informer().GetStore()))
		select {
		case <-ctx.Done():
		case <-poke:
		}
	}
	return nil
}

func secretsOf(store cache.Store) []*corev1.Secret {
	var all []*corev1.Secret
	for _, object := range store.List() {
		if secret, ok := object.(*corev1.Secret); ok {
			all = append(all, secret)
		}
	}
	return all
}

// follow makes what runs agree with the Secrets: clusters that are new or have another kubeconfig are started, and those
// that are gone are stopped. Their callers are refused from then on.
func (s *Set) follow(ctx context.Context, secrets []*corev1.Secret) {
	before, next := s.found.Load(), &table{remotes: map[string]*remote{}}
	if before == nil {
		before = &table{}
	}
	for _, e := range readSecrets(secrets, s.config.IDs) {
		if e.config == nil {
			next.broken = append(next.broken, e)
			continue
		}
		if known, ok := before.remotes[e.id]; ok && known.entry.sum == e.sum && known.entry.secret == e.secret {
			next.remotes[e.id] = known
			continue
		}
		started, err := s.start(ctx, e)
		if err != nil {
			e.state, e.problem = stateRefused, err.Error()
			next.broken = append(next.broken, e)
			continue
		}
		next.remotes[e.id] = started
	}
	s.found.Store(next)
	for id, r := range before.remotes {
		if next.remotes[id] != r {
			r.stop()
			s.config.Logger.InfoContext(ctx, "remote cluster removed", telemetry.KeyCluster, id, keySecret, r.entry.secret)
		}
	}
	s.note(ctx, next.broken)
}

// keySecret is the attribute of log lines that names a Secret.
const keySecret = "secret"

// start starts a remote cluster.
func (s *Set) start(ctx context.Context, e entry) (*remote, error) {
	r, err := newRemote(e, &s.config)
	if err != nil {
		return nil, err
	}
	ctx, r.stop = context.WithCancel(ctx)
	s.running.Go(func() { r.run(ctx) })
	s.config.Logger.InfoContext(ctx, "remote cluster added", telemetry.KeyCluster, e.id, keySecret, e.secret, telemetry.KeyAddress, e.config.Host)
	return r, nil
}

// note logs problems that have not been logged before.
func (s *Set) note(ctx context.Context, broken []entry) {
	noted := map[string]string{}
	for _, e := range broken {
		key := e.secret + "/" + e.id
		noted[key] = e.problem
		if s.noted[key] != e.problem {
			s.config.Logger.ErrorContext(ctx, "remote cluster not served", telemetry.KeyCluster, e.id, keySecret, e.secret,
				telemetry.KeyError, e.problem)
		}
	}
	s.noted = noted
}
