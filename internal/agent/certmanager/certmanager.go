// Package certmanager is the issuer that asks cert-manager: it makes a CertificateRequest for each certificate, as istio-csr
// does, waits until whatever signs for the configured issuer has decided it, and deletes it.
//
// It must never approve a request, which is for cert-manager or for a policy, and never hold a key. It trusts the API server
// that its client talks to, and who may write the status of CertificateRequests in that namespace: what stands in it as
// the signer's CA becomes a root of the mesh where no file says what the roots are.
//
// Requests, issuers and the ConfigMap are read with client-go's dynamic client. cert-manager's own types would bring its
// module's graph, some hundred modules of cloud providers among them, for the dozen fields that are used here.
package certmanager

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/certloom/certloom/internal/agent/issuer"
)

// Ref names an issuer as spec.issuerRef of a CertificateRequest does. The zero value names none.
type Ref struct {
	Name, Kind, Group string
}

func (r Ref) String() string { return fmt.Sprintf("%s.%s %q", r.Kind, r.Group, r.Name) }

// Roots is a trust bundle that is known without cert-manager; see issuer.RootFile.
type Roots interface {
	Bundle() *issuer.Bundle
	Run(ctx context.Context) error
}

// Config is what an Issuer needs.
type Config struct {
	Client    dynamic.Interface
	Namespace string // of the CertificateRequests
	Issuer    Ref    // what is used while no ConfigMap names another; zero for none
	// RuntimeMap is the ConfigMap that can name another issuer at any time; "" for none.
	RuntimeMap, RuntimeNamespace string
	Annotations                  map[string]string // added to each request
	Preserve                     bool              // requests are not deleted
	Roots                        Roots             // nil takes the roots from the requests' status.ca
	// Pod is the agent's own Pod: what an earlier process in it left behind is deleted at once. "" when it is not known.
	Pod string
	// Concurrency is how many requests are under way at once; default 256.
	Concurrency int
	// Poll is how often the issuer is looked at; default 3 s.
	Poll       time.Duration
	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const (
	defaultConcurrency = 256
	defaultPoll        = 3 * time.Second
)

// resources of the API server. A function, so that nothing can change them.
func requestResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: cmGroup, Version: "v1", Resource: "certificaterequests"}
}

// cmGroup is the API group of cert-manager: of its CertificateRequests, and of the issuers that it has itself.
const cmGroup = "cert-manager.io"

// Issuer implements issuer.Issuer. Make it with New; it works while Run does.
type Issuer struct {
	config   Config
	metrics  *metrics
	requests dynamic.ResourceInterface
	instance string // marks the requests of this process
	queue    *issuer.Queue
	gate     *gate
	target   *target
	waiters  waiters
	rubbish  *rubbish
	learned  *learned // nil when the roots are in a file
	watching atomic.Pointer[outcome]
}

// outcome is how something went last.
type outcome struct{ err error }

// New checks the configuration and starts nothing.
func New(config Config) (*Issuer, error) {
	if err := config.check(); err != nil {
		return nil, err
	}
	if config.Concurrency <= 0 {
		config.Concurrency = defaultConcurrency
	}
	if config.Poll <= 0 {
		config.Poll = defaultPoll
	}
	mark := make([]byte, 8)
	if _, err := io.ReadFull(config.Random, mark); err != nil {
		return nil, fmt.Errorf("issuer cert-manager: make a mark for requests: %w", err)
	}
	i := &Issuer{
		config: config, requests: config.Client.Resource(requestResource()).Namespace(config.Namespace), instance: hex.EncodeToString(mark),
		queue: issuer.NewQueue("cert-manager", config.Concurrency), gate: newGate(config.Now), target: newTarget(config.Issuer, config.RuntimeMap == ""),
		rubbish: newRubbish(),
	}
	i.watching.Store(&outcome{errors.New("CertificateRequests are not watched yet")})
	if config.Roots == nil {
		i.learned = &learned{now: config.Now}
	}
	var err error
	i.metrics, err = newMetrics(config.Registerer, i)
	return i, err
}

func (c *Config) check() error {
	var problems []error
	for _, required := range []struct {
		name    string
		missing bool
	}{
		{"Client", c.Client == nil},
		{"Namespace", c.Namespace == ""},
		{"Issuer or RuntimeMap", c.Issuer == Ref{} && c.RuntimeMap == ""},
		{"RuntimeNamespace", c.RuntimeMap != "" && c.RuntimeNamespace == ""},
		{"Now", c.Now == nil},
		{"Random", c.Random == nil},
		{"Logger", c.Logger == nil},
		{"Registerer", c.Registerer == nil},
	} {
		if required.missing {
			problems = append(problems, fmt.Errorf("issuer cert-manager: %s is missing", required.name))
		}
	}
	return errors.Join(problems...)
}

// Run watches the requests, the issuer and the ConfigMap, and deletes requests, until ctx ends. What is to be deleted then is
// deleted first.
func (i *Issuer) Run(ctx context.Context) error {
	running, runCtx := errgroup.WithContext(ctx)
	if i.config.Roots != nil {
		running.Go(func() error { return i.config.Roots.Run(runCtx) })
	}
	if i.config.RuntimeMap != "" {
		running.Go(func() error { return i.followMap(runCtx) })
	}
	running.Go(func() error { return i.followRequests(runCtx) })
	running.Go(func() error { return i.followIssuer(runCtx) })
	if !i.config.Preserve {
		running.Go(func() error { return i.sweep(runCtx) })
	}
	for range deleters {
		running.Go(func() error { return i.clean(runCtx) })
	}
	err := running.Wait()
	i.cleanUp(ctx)
	return err
}

// Bundle implements issuer.Issuer.
func (i *Issuer) Bundle() *issuer.Bundle {
	if i.learned != nil {
		return i.learned.bundle.Load()
	}
	return i.config.Roots.Bundle()
}

// Ready implements issuer.Issuer: there is an issuer that is ready, requests are watched and are being decided.
func (i *Issuer) Ready() error {
	if err := i.usable(); err != nil {
		return err
	}
	if i.Bundle() == nil {
		return errors.New("the roots are not known: no certificate has told its CA yet (status.ca), as those of ACME issuers never do; give --root-ca-file")
	}
	return nil
}

// usable returns why there is no sense in making a request now.
func (i *Issuer) usable() error {
	if err := i.target.failure(); err != nil {
		return err
	}
	if err := i.watching.Load().err; err != nil {
		return err
	}
	return i.gate.closedBy()
}
