// Package acme is the issuer that asks an ACME CA (RFC 8555): Certloom's own, or any other that has authorized the names
// beforehand. It keeps one account for all replicas in a Secret, makes an order for each certificate, and notices when the
// CA or the account is gone.
//
// It cannot prove control of a name: a CA that wants a proof refuses. It must never write the account key anywhere but into
// its Secret, nor log or hand on the EAB credential. It trusts the CA whose TLS certificate leads to the configured roots;
// the certificates that the CA returns are checked by whoever asked for them.
package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/agent/issuer"
)

// Secrets is what the issuer needs of the API server: the Secrets of one namespace.
type Secrets interface {
	Get(ctx context.Context, name string, o metav1.GetOptions) (*corev1.Secret, error)
	Create(ctx context.Context, secret *corev1.Secret, o metav1.CreateOptions) (*corev1.Secret, error)
	Update(ctx context.Context, secret *corev1.Secret, o metav1.UpdateOptions) (*corev1.Secret, error)
}

// Roots is the trust bundle, which ACME does not tell; see issuer.RootFile.
type Roots interface {
	Bundle() *issuer.Bundle
	Run(ctx context.Context) error
}

// Config is what an Issuer needs.
type Config struct {
	DirectoryURL string
	// TLSRoots returns what the TLS certificate of the CA must lead to, nil for what the system trusts. Binding returns the
	// EAB credential, nil when there is none. Both are asked again and again, so that files that change are read again.
	TLSRoots func() (*x509.CertPool, error)
	Binding  func() (*acmeclient.Binding, error)
	Email    string // contact of the account; "" for none
	Profile  string // ACME profile that orders name; "" for none
	// Secret is the name of the Secret that holds the account.
	Secret  string
	Secrets Secrets
	Roots   Roots
	// Own are the agent's own DNS names: what is ordered to find out whether the account may order at all.
	Own []string
	// Concurrency is how many orders are under way at once; default 32.
	Concurrency int
	// Ping is how often the CA is asked for a sign of life; default 15 s.
	Ping time.Duration
	// Proxy is that of http.Transport; nil is none.
	Proxy      func(*http.Request) (*url.URL, error)
	Now        func() time.Time
	Random     io.Reader
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

const (
	defaultConcurrency = 32
	defaultPing        = 15 * time.Second
)

// Issuer implements issuer.Issuer. Make it with New; it works while Run does.
type Issuer struct {
	config  Config
	metrics *metrics
	store   store
	queue   *issuer.Queue
	gate    *gate
	session atomic.Pointer[session] // nil before the account is known; the last one stays
	// transport and its roots are used by connect only, which nothing else runs at the same time.
	transport *http.Transport
	tlsRoots  *x509.CertPool
	// doubted has room for one word: that the CA refused an order in a way that may be about the account.
	doubted chan struct{}
	// ownLifetimes is set when the CA has refused to be told a lifetime.
	ownLifetimes atomic.Bool
}

// New checks the configuration and starts nothing.
func New(config Config) (*Issuer, error) {
	var problems []error
	for _, required := range []struct {
		name    string
		missing bool
	}{
		{"TLSRoots", config.TLSRoots == nil},
		{"Binding", config.Binding == nil},
		{"Secret", config.Secret == ""},
		{"Secrets", config.Secrets == nil},
		{"Roots", config.Roots == nil},
		{"Own", len(config.Own) == 0},
		{"Now", config.Now == nil},
		{"Random", config.Random == nil},
		{"Logger", config.Logger == nil},
		{"Registerer", config.Registerer == nil},
	} {
		if required.missing {
			problems = append(problems, fmt.Errorf("issuer acme: %s is missing", required.name))
		}
	}
	if err := CheckDirectoryURL(config.DirectoryURL); err != nil {
		problems = append(problems, fmt.Errorf("issuer acme: %w", err))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	if config.Concurrency <= 0 {
		config.Concurrency = defaultConcurrency
	}
	if config.Ping <= 0 {
		config.Ping = defaultPing
	}
	i := &Issuer{
		config: config, store: store{secrets: config.Secrets, name: config.Secret, random: config.Random},
		queue: issuer.NewQueue("the ACME CA", config.Concurrency), gate: newGate(config.Now), doubted: make(chan struct{}, 1),
	}
	var err error
	i.metrics, err = newMetrics(config.Registerer, i)
	return i, err
}

// CheckDirectoryURL returns why something is not the URL of an ACME directory (RFC 8555 section 6.1: https only).
func CheckDirectoryURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return fmt.Errorf("%q is not an https URL such as https://certloom.example.com/acme/directory", text)
	}
	return nil
}

// Run keeps the account, the connection and the roots until ctx ends.
func (i *Issuer) Run(ctx context.Context) error {
	running, ctx := errgroup.WithContext(ctx)
	running.Go(func() error { return i.config.Roots.Run(ctx) })
	running.Go(func() error { return i.stay(ctx) })
	return running.Wait()
}

// Bundle implements issuer.Issuer.
func (i *Issuer) Bundle() *issuer.Bundle { return i.config.Roots.Bundle() }

// Ready implements issuer.Issuer: there is an account, the CA has answered lately and takes orders of that account.
func (i *Issuer) Ready() error {
	if err := i.gate.closedBy(); err != nil {
		return fmt.Errorf("ACME CA %s: %w", i.config.DirectoryURL, err)
	}
	return nil
}
