package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/group"
)

// Config is what a Cluster needs.
type Config struct {
	// Name is what the inventory calls the cluster, "" for the one that the agent runs in.
	Name   string
	Client kubernetes.Interface
	Rules  Rules
	// TokenReview asks the API server about each token; otherwise they are verified here.
	TokenReview bool
	// Silent writes no Events, where that is not permitted.
	Silent bool
	Now    func() time.Time
	Logger *slog.Logger
}

// Rules say which tokens are accepted, in every cluster alike.
type Rules struct {
	Audiences []string // at least one
	Issuers   []string // besides the one that the API server names
}

// Cluster answers who in a Kubernetes cluster calls, from its API server. Safe for concurrent use.
type Cluster struct {
	config Config
	watch  *kube.Watch
	teller *kube.Teller // nil for a silent one
	keys   *token.Keys  // nil when the API server is asked
	tokens verifier
}

// verifier is token.Local or token.Review.
type verifier interface {
	Verify(ctx context.Context, raw string) (token.Subject, error)
}

// New checks the configuration and starts nothing.
func New(config Config) (*Cluster, error) {
	if config.Client == nil || config.Now == nil || config.Logger == nil {
		return nil, errors.New("cluster: Client, Now or Logger is missing")
	}
	c := &Cluster{config: config}
	var err error
	if c.watch, err = kube.NewWatch(kube.WatchConfig{Client: config.Client, PodsOnly: config.TokenReview}); err != nil {
		return nil, err
	}
	if !config.Silent {
		c.teller = kube.NewTeller(config.Client)
	}
	if config.TokenReview {
		c.tokens, err = token.NewReview(config.Client.AuthenticationV1().TokenReviews(), config.Rules.Audiences, config.Now)
		return c, err
	}
	c.keys, err = token.NewKeys(token.KeysConfig{
		Fetch: c.fetch, Issuers: config.Rules.Issuers, Now: config.Now, Logger: config.Logger,
	})
	if err != nil {
		return nil, err
	}
	c.tokens, err = token.NewLocal(c.keys, c.watch, config.Rules.Audiences, config.Now)
	return c, err
}

// fetch gets a document of the API server.
func (c *Cluster) fetch(ctx context.Context, path string) ([]byte, error) {
	raw, err := c.config.Client.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Raw()
	if err != nil {
		return nil, fmt.Errorf("ask the API server: %w", err)
	}
	return raw, nil
}

// grace is how long a task may take to stop.
const grace = 10 * time.Second

// Run keeps what is known of the cluster fresh until ctx ends.
func (c *Cluster) Run(ctx context.Context) error {
	var tasks group.Group
	if c.teller != nil {
		tasks.Add("events", c.teller.Run)
	}
	tasks.Add("watch", c.watch.Run)
	if c.keys != nil {
		tasks.Add("keys", c.keys.Run)
	}
	return tasks.Run(ctx, grace)
}

// Synced returns nil once the objects of the cluster are known.
func (c *Cluster) Synced() error { return c.watch.Synced() }

// KeysReady returns nil once tokens can be verified.
func (c *Cluster) KeysReady() error {
	if c.keys == nil {
		return nil
	}
	return c.keys.Ready()
}

// Name is the cluster's name for the inventory, "" for the one that the agent runs in.
func (c *Cluster) Name() string { return c.config.Name }

// Verify returns who holds the token; see token.Local and token.Review.
func (c *Cluster) Verify(ctx context.Context, raw string) (token.Subject, error) {
	return c.tokens.Verify(ctx, raw)
}

// Accounts returns the ServiceAccounts that have Pods, once all Pods are known; see kube.Watch.
func (c *Cluster) Accounts() ([]string, error) {
	if err := c.watch.Synced(); err != nil {
		return nil, err
	}
	return c.watch.Accounts(), nil
}

// Pod returns a Pod; see kube.Watch.
func (c *Cluster) Pod(ctx context.Context, namespace, name, uid string) (kube.Pod, error) {
	return c.watch.Pod(ctx, namespace, name, uid)
}

// RunsOn returns the Pods with that ServiceAccount on the node; see kube.Watch.
func (c *Cluster) RunsOn(ctx context.Context, node, namespace, account string) ([]kube.Pod, error) {
	return c.watch.RunsOn(ctx, node, namespace, account)
}

// Tell writes an Event on a Pod. It does not block.
func (c *Cluster) Tell(pod kube.Pod, reason, sentence string) {
	if c.teller != nil {
		c.teller.Tell(pod, reason, sentence)
	}
}

// Warn writes an Event on an object. It does not block.
func (c *Cluster) Warn(about *corev1.ObjectReference, reason, sentence string) {
	if c.teller != nil {
		c.teller.Warn(about, reason, sentence)
	}
}
