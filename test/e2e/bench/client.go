package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// names is how many identities a client has; it goes round, as a fleet that renews does.
const names = 500

// client is one ACME client with its account: the same code for every server.
type client struct {
	acme   *acmeclient.Client
	key    *ecdsa.PrivateKey // of its certificates
	name   string
	solver acmeclient.Solver
}

// target is where clients get certificates.
type target struct {
	directory string
	binding   *acmeclient.Binding
	http      func() *http.Client // one for each client: each has connections of its own
}

// clients registers n of them.
func (to *target) clients(ctx context.Context, o options, solver acmeclient.Solver) ([]*client, error) {
	made := make([]*client, o.clients)
	for i := range made {
		transport := to.http()
		transport.Transport.(*http.Transport).ForceAttemptHTTP2 = o.http2
		accountKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		acme, err := acmeclient.New(acmeclient.Config{
			DirectoryURL: to.directory, HTTPClient: transport, Key: accountKey, Random: rand.Reader,
			UserAgent: "certloom-bench", Poll: 10 * time.Millisecond, Retries: 1,
		})
		if err != nil {
			return nil, err
		}
		if _, err := acme.Register(ctx, acmeclient.Registration{Binding: to.binding, TermsAgreed: true}); err != nil {
			return nil, err
		}
		made[i] = &client{acme: acme, key: key, name: fmt.Sprintf("client-%02d", i), solver: solver}
	}
	return made, nil
}

// obtain gets one certificate, from the order to the downloaded chain, for the SPIFFE ID or DNS name number n.
func (c *client) obtain(ctx context.Context, n int) error {
	template, request := &x509.CertificateRequest{}, acmeclient.OrderRequest{}
	if c.solver == nil {
		id, err := url.Parse(fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/workload-%03d", c.name, n%names))
		if err != nil {
			return err
		}
		template.URIs = []*url.URL{id}
	} else {
		name := fmt.Sprintf("host-%03d.%s.bench.test", n%names, c.name)
		template.DNSNames = []string{name}
		request.Identifiers = []pki.Identifier{{Type: pki.DNS, Value: name}}
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, template, c.key)
	if err != nil {
		return err
	}
	_, err = c.acme.Obtain(ctx, request, csr, c.solver)
	return err
}

// httpSolver has the shared responder answer for all clients of all servers.
type httpSolver struct{ responder *testbed.Responder }

// Type is http-01.
func (s httpSolver) Type() string { return "http-01" }

// Present has the validation succeed.
func (s httpSolver) Present(_ context.Context, task acmeclient.Task) error {
	s.responder.Set(task.Token, task.KeyAuthorization)
	return nil
}

// CleanUp takes the answer away.
func (s httpSolver) CleanUp(_ context.Context, task acmeclient.Task) error {
	s.responder.Clear(task.Token)
	return nil
}

// binding is a credential as acmeclient takes it.
func binding(c testbed.Credential) (*acmeclient.Binding, error) {
	key, err := base64.RawURLEncoding.DecodeString(c.HMACKey)
	return &acmeclient.Binding{KeyID: c.KeyID, HMACKey: key}, err
}
