package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/certloom/certloom/internal/agent/kube"
	"github.com/certloom/certloom/internal/agent/token"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/group"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	// remoteTimeout bounds a question to a remote API server: one that hangs costs its own callers this much, and others
	// nothing.
	remoteTimeout = 5 * time.Second
	// forgetAfter is how long what was known counts when the API server does not answer. It bridges an upgrade; what was
	// deleted there since, and whether our access was taken away on purpose, is not known.
	forgetAfter  = time.Hour
	firstRetry   = 500 * time.Millisecond
	longestRetry = 30 * time.Second
	// rightsEvery is how soon rights that were given later, or taken away, are noticed.
	rightsEvery = time.Minute
	readyEvery  = 250 * time.Millisecond
)

// remote is a cluster that a Secret names. It finds out what its kubeconfig permits, and verifies tokens accordingly.
// Safe for concurrent use.
type remote struct {
	entry   entry
	client  kubernetes.Interface
	config  *SetConfig
	logger  *slog.Logger
	contact *contact
	stop    context.CancelFunc

	current atomic.Pointer[Cluster] // nil until the API server has answered
}

// newRemote returns a remote that has not started.
func newRemote(e entry, config *SetConfig) (*remote, error) {
	r := &remote{entry: e, config: config, logger: config.Logger.With(telemetry.KeyCluster, e.id)}
	r.contact = &contact{now: config.Now, changed: func(ctx context.Context, err error) {
		if err != nil {
			r.logger.WarnContext(ctx, "the API server of a remote cluster does not answer", telemetry.KeyError, err)
			return
		}
		r.logger.InfoContext(ctx, "the API server of a remote cluster answers again")
	}}
	e.config.Wrap(r.contact.wrap)
	var err error
	r.client, err = config.Connect(e.config)
	return r, err
}

// run keeps what is known of the cluster fresh until ctx ends.
func (r *remote) run(ctx context.Context) {
	pause := firstRetry
	for ctx.Err() == nil {
		may, err := r.ask(ctx)
		if err == nil {
			err = r.serve(ctx, may)
		}
		if err == nil {
			pause = firstRetry // ctx has ended, or the rights have changed
			continue
		}
		r.logger.WarnContext(ctx, "remote cluster not served", telemetry.KeyError, err)
		wait(ctx, pause)
		pause = min(2*pause, longestRetry)
	}
}

// wait waits until the time is over or ctx ends.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// serve serves the cluster with those rights, until ctx ends or they have changed.
func (r *remote) serve(ctx context.Context, may rights) error {
	review := r.config.TokenReview || !may.verify
	made, err := New(Config{
		Name: r.entry.id, Client: r.client, Rules: r.config.Rules, TokenReview: review, Silent: !may.events,
		Now: r.config.Now, Logger: r.logger,
	})
	if err != nil {
		return err
	}
	r.current.Store(made)
	var tasks group.Group
	tasks.Add("cluster", made.Run)
	publish := may.publish && r.config.Publish != nil
	if publish {
		tasks.Add("publisher", func(ctx context.Context) error { return r.config.Publish(ctx, r.client, r.logger) })
	}
	r.logger.InfoContext(ctx, "remote cluster connected", "token_review", review, "events", may.events, "roots", publish)
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- tasks.Run(ctx, 2*grace) }()
	err = r.watchRights(ctx, made, may, ended)
	cancel()
	if err != nil {
		return err // it has ended already
	}
	return <-ended
}

// watchRights returns when ctx ends or the rights have changed, with nil, and when the cluster's tasks end before.
func (r *remote) watchRights(ctx context.Context, made *Cluster, may rights, ended <-chan error) error {
	looking, asking := time.NewTicker(readyEvery), time.NewTicker(rightsEvery)
	defer looking.Stop()
	defer asking.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			return fault.Wrap(err, fault.Internal, "the tasks of remote cluster %q have ended", r.entry.id)
		case <-looking.C:
			if made.Synced() == nil && made.KeysReady() == nil {
				r.logger.InfoContext(ctx, "remote cluster is ready")
				looking.Stop()
			}
		case <-asking.C: // also before it is ready: a right that is missing may be why it is not
			if now, err := r.ask(ctx); err == nil && now != may {
				return nil
			}
		}
	}
}

// state is how the metrics call what is the matter with the cluster.
func (r *remote) state() string {
	made := r.current.Load()
	if _, failure := r.contact.state(); made == nil || failure != nil || made.Synced() != nil || made.KeysReady() != nil {
		return stateUnreachable
	}
	return stateReady
}

// reached returns what is known of the cluster, unless that is nothing, or too old.
func (r *remote) reached() (*Cluster, error) {
	made := r.current.Load()
	since, failure := r.contact.state()
	switch {
	case made == nil:
		return nil, fault.Wrap(failure, fault.Unavailable, "the API server of remote cluster %q has not answered yet", r.entry.id)
	case failure != nil && r.config.Now().Sub(since) > forgetAfter:
		return nil, fault.Wrap(failure, fault.Unavailable, "the API server of remote cluster %q has not answered for %s", r.entry.id, forgetAfter)
	}
	return made, nil
}

// Name is the cluster's ID.
func (r *remote) Name() string { return r.entry.id }

// Verify returns who holds the token; see Cluster.
func (r *remote) Verify(ctx context.Context, raw string) (token.Subject, error) {
	made, err := r.reached()
	if err != nil {
		return token.Subject{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	return made.Verify(ctx, raw)
}

// Pod returns a Pod; see kube.Watch.
func (r *remote) Pod(ctx context.Context, namespace, name, uid string) (kube.Pod, error) {
	made, err := r.reached()
	if err != nil {
		return kube.Pod{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	return made.Pod(ctx, namespace, name, uid)
}

// RunsOn returns the Pods with that ServiceAccount on the node; see kube.Watch.
func (r *remote) RunsOn(ctx context.Context, node, namespace, account string) ([]kube.Pod, error) {
	made, err := r.reached()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
	defer cancel()
	return made.RunsOn(ctx, node, namespace, account)
}

// Tell writes an Event on a Pod. It does not block.
func (r *remote) Tell(pod kube.Pod, reason, sentence string) {
	if made := r.current.Load(); made != nil {
		made.Tell(pod, reason, sentence)
	}
}
