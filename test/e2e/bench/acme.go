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

// orderer is one ACME client with its account: the same code for every server.
type orderer struct {
	acme   *acmeclient.Client
	name   string
	solver acmeclient.Solver
	wishes []wish // as many as it has names
}

// wish is what one certificate is ordered with. It is made before anything is measured: making a CSR takes a client as
// much time as all of its requests sign for, and a real one is on a machine of its own.
type wish struct {
	order acmeclient.OrderRequest
	csr   []byte
}

// target is where clients get certificates.
type target struct {
	directory string
	binding   *acmeclient.Binding
	http      func() *http.Client // one for each client: each has connections of its own
}

// clients registers n of them.
func (to *target) clients(ctx context.Context, o options, solver acmeclient.Solver) ([]client, error) {
	made := make([]client, o.clients)
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
		one := &orderer{acme: acme, name: fmt.Sprintf("client-%02d", i), solver: solver}
		if one.wishes, err = one.wish(key); err != nil {
			return nil, err
		}
		made[i] = one
	}
	return made, nil
}

// wish makes the client's orders, all for one key: SPIFFE IDs, or DNS names when there is a solver.
func (c *orderer) wish(key *ecdsa.PrivateKey) ([]wish, error) {
	wishes := make([]wish, names)
	for n := range wishes {
		template := &x509.CertificateRequest{}
		if c.solver == nil {
			id, err := url.Parse(fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/workload-%03d", c.name, n))
			if err != nil {
				return nil, err
			}
			template.URIs = []*url.URL{id}
		} else {
			name := fmt.Sprintf("host-%03d.%s.bench.test", n, c.name)
			template.DNSNames = []string{name}
			wishes[n].order.Identifiers = []pki.Identifier{{Type: pki.DNS, Value: name}}
		}
		var err error
		if wishes[n].csr, err = x509.CreateCertificateRequest(rand.Reader, template, key); err != nil {
			return nil, err
		}
	}
	return wishes, nil
}

// obtain gets one certificate, from the order to the downloaded chain, for the SPIFFE ID or DNS name number n.
func (c *orderer) obtain(ctx context.Context, n int) error {
	w := &c.wishes[n%len(c.wishes)]
	_, err := c.acme.Obtain(ctx, w.order, w.csr, c.solver)
	return err
}

func (c *orderer) String() string { return c.name }

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
