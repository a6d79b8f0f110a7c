// Package demo owns the simulated workloads of `certloom dev`: each has a SPIFFE ID of its own and gets short certificates
// over HTTPS with the ACME client that everything else uses, renewing at half of their life, so that inventory and
// metrics show what a mesh looks like.
//
// It must never take a short cut: what it gets went through the whole server, like anybody's certificate.
package demo

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Config is what a Fleet needs. All fields are required.
type Config struct {
	Workloads    int
	DirectoryURL string
	KeyID        string // of the EAB credential
	HMACKey      string // in unpadded base64url
	Roots        *x509.CertPool
	Now          func() time.Time
	Random       io.Reader // safe for concurrent use
	Logger       *slog.Logger
}

// Lives and paces.
const (
	lifetime = 10 * time.Minute
	// warmUp is over how long the first certificates are spread, as if workloads had been started one by one.
	warmUp = 10 * time.Second
	// retryAfter is how long a workload waits after a failure.
	retryAfter = 5 * time.Second
	// namespaces is how many namespaces the workloads are spread over.
	namespaces     = 8
	requestTimeout = 30 * time.Second
	maxConnections = 16
)

// services are the service accounts of a shop that nobody has to be told about.
func services() []string {
	return []string{"web", "cart", "catalog", "checkout", "payments", "shipping", "search", "reviews", "users", "emails"}
}

// Fleet is the simulated workloads of one cluster, which share an ACME account as those behind one cert-manager do.
type Fleet struct {
	config Config
	client *acmeclient.Client
	key    []byte
}

// New checks the configuration and starts nothing.
func New(c Config) (*Fleet, error) {
	key, err := base64.RawURLEncoding.DecodeString(c.HMACKey)
	if err != nil {
		return nil, errors.New("demo: HMAC key is not base64url")
	}
	account, err := ecdsa.GenerateKey(elliptic.P256(), c.Random)
	if err != nil {
		return nil, fmt.Errorf("generate account key: %w", err)
	}
	client, err := acmeclient.New(acmeclient.Config{
		DirectoryURL: c.DirectoryURL, Key: account, Random: c.Random, UserAgent: "certloom-demo",
		HTTPClient: &http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				TLSClientConfig:     &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
				MaxConnsPerHost:     maxConnections,
				MaxIdleConnsPerHost: maxConnections,
				TLSHandshakeTimeout: requestTimeout,
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("demo: %w", err)
	}
	return &Fleet{config: c, client: client, key: key}, nil
}

// Run registers the account and runs all workloads until ctx ends.
func (f *Fleet) Run(ctx context.Context) error {
	for {
		_, err := f.client.Register(ctx, acmeclient.Registration{Binding: &acmeclient.Binding{KeyID: f.config.KeyID, HMACKey: f.key}})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		f.config.Logger.WarnContext(ctx, "demo workloads cannot register", telemetry.KeyError, err)
		if !wait(ctx, retryAfter) {
			return nil
		}
	}
	var workloads sync.WaitGroup
	for i := range f.config.Workloads {
		first := warmUp / time.Duration(f.config.Workloads) * time.Duration(i)
		workloads.Go(func() { f.live(ctx, identity(i), first) })
	}
	workloads.Wait()
	return nil
}

// identity names workload i.
func identity(i int) pki.SPIFFEID {
	names := services()
	account := names[i%len(names)]
	if round := i / (len(names) * namespaces); round > 0 {
		account = fmt.Sprintf("%s-%d", account, round)
	}
	return pki.SPIFFEID{
		TrustDomain: "cluster.local", Namespace: fmt.Sprintf("shop-%d", i/len(names)%namespaces), ServiceAccount: account,
	}
}

// live is the life of one workload.
func (f *Fleet) live(ctx context.Context, id pki.SPIFFEID, next time.Duration) {
	for wait(ctx, next) {
		renewAt, err := f.obtain(ctx, id)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			f.config.Logger.WarnContext(ctx, "demo workload gets no certificate", "identity", id.String(), telemetry.KeyError, err)
			next = retryAfter
			continue
		}
		next = renewAt.Sub(f.config.Now())
	}
}

// obtain gets a certificate for a fresh key and returns when to renew it.
func (f *Fleet) obtain(ctx context.Context, id pki.SPIFFEID) (renewAt time.Time, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), f.config.Random)
	if err != nil {
		return time.Time{}, fmt.Errorf("generate key: %w", err)
	}
	uri, err := url.Parse(id.String())
	if err != nil {
		return time.Time{}, fmt.Errorf("identity %s: %w", id, err)
	}
	request, err := x509.CreateCertificateRequest(f.config.Random, &x509.CertificateRequest{URIs: []*url.URL{uri}}, key)
	if err != nil {
		return time.Time{}, fmt.Errorf("make request: %w", err)
	}
	issued, err := f.client.Obtain(ctx, acmeclient.OrderRequest{NotAfter: f.config.Now().Add(lifetime)}, request, nil)
	if err != nil {
		return time.Time{}, fmt.Errorf("obtain certificate: %w", err)
	}
	return f.check(issued.Chain, key)
}

// check looks at a certificate as a careful client does: it is for our key and chains to the root.
func (f *Fleet) check(chain []byte, key *ecdsa.PrivateKey) (renewAt time.Time, err error) {
	block, rest := pem.Decode(chain)
	if block == nil {
		return time.Time{}, errors.New("the chain has no certificate")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, fmt.Errorf("parse certificate: %w", err)
	}
	if !key.PublicKey.Equal(leaf.PublicKey) {
		return time.Time{}, errors.New("the certificate is for another key")
	}
	between := x509.NewCertPool()
	between.AppendCertsFromPEM(bytes.TrimSpace(rest))
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: f.config.Roots, Intermediates: between, CurrentTime: f.config.Now(),
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("verify certificate: %w", err)
	}
	// A little before half of its life, as Istio's agents do, so that they do not renew together.
	early, err := rand.Int(f.config.Random, big.NewInt(int64(lifetime/10)))
	if err != nil {
		return time.Time{}, fmt.Errorf("read randomness: %w", err)
	}
	return pki.RenewAt(leaf.NotBefore, leaf.NotAfter).Add(-time.Duration(early.Int64())), nil
}

// wait waits; it reports whether ctx is still alive.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(max(d, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
