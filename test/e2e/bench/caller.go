package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	istio "istio.io/api/security/v1alpha1"

	"github.com/certloom/certloom/test/e2e/testbed"
)

// ca is a server of Istio's certificate service, ours or a peer.
type ca struct {
	title     string
	address   string // HOST:PORT
	name      string // that its certificate is for
	roots     *x509.CertPool
	processes []*testbed.Process // it, the server behind it, the API server
	issued    atomic.Int64       // certificates that callers got

	mu       sync.Mutex // guards verified
	verified []byte     // the last serving certificate whose chain was verified
}

// caller is a workload with a connection of its own to a ca.
type caller struct {
	*workload
	ca         *ca
	connection *grpc.ClientConn
	answer     []byte // the last one
}

// connect makes a caller. Its connection is established by its first call.
func (c *ca) connect(w *workload) (*caller, error) {
	secure := &tls.Config{
		ServerName: c.name, MinVersion: tls.VersionTLS12,
		// The handshake is checked as ever, and so is the chain, but once for all of the workloads in this process:
		// in a cluster each does it on its own machine.
		InsecureSkipVerify: true, VerifyConnection: c.verify,
	}
	connection, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(credentials.NewTLS(secure)),
		grpc.WithDisableServiceConfig(), grpc.WithReadBufferSize(8<<10), grpc.WithWriteBufferSize(8<<10))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", c.address, err)
	}
	return &caller{workload: w, ca: c, connection: connection}, nil
}

func (c *ca) verify(state tls.ConnectionState) error {
	leaf := state.PeerCertificates[0]
	c.mu.Lock()
	defer c.mu.Unlock()
	if bytes.Equal(leaf.Raw, c.verified) {
		return nil
	}
	above := x509.NewCertPool()
	for _, one := range state.PeerCertificates[1:] {
		above.AddCert(one)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: c.name, Roots: c.roots, Intermediates: above}); err != nil {
		return fmt.Errorf("verify the server: %w", err)
	}
	c.verified = leaf.Raw
	return nil
}

func (c *caller) String() string { return c.id }

// obtain sends request number n. Like Istio's agents it sets no deadline.
func (c *caller) obtain(ctx context.Context, n int) error {
	const method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
	ctx = metadata.NewOutgoingContext(ctx, c.headers)
	var answer []byte
	if err := c.connection.Invoke(ctx, method, c.requests[n%len(c.requests)], &answer, grpc.ForceCodec(encoded{})); err != nil {
		return err
	}
	c.ca.issued.Add(1)
	c.answer = answer
	return nil
}

// encoded is a codec for messages that are encoded already, so that the clients' work is not measured.
type encoded struct{}

// Name is that of the encoding on the wire.
func (encoded) Name() string { return "proto" }

// Marshal implements encoding.Codec.
func (encoded) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal implements encoding.Codec.
func (encoded) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// check verifies the last answer: for this workload, by the roots that it trusts.
func (c *caller) check() error {
	var answer istio.IstioCertificateResponse
	if err := proto.Unmarshal(c.answer, &answer); err != nil {
		return fmt.Errorf("%s: read the answer: %w", c, err)
	}
	chain := answer.GetCertChain()
	if len(chain) < 2 {
		return fmt.Errorf("%s: the answer has %d elements", c, len(chain))
	}
	var leaf *x509.Certificate
	above := x509.NewCertPool()
	for i, element := range chain[:len(chain)-1] {
		block, _ := pem.Decode([]byte(element))
		if block == nil {
			return fmt.Errorf("%s: element %d of the answer is no certificate", c, i)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("%s: element %d of the answer: %w", c, i, err)
		}
		if i == 0 {
			leaf = certificate
			continue
		}
		above.AddCert(certificate)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != c.id {
		return fmt.Errorf("%s got a certificate for %v", c, leaf.URIs)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: c.ca.roots, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err
}

// close ends the connection.
func (c *caller) close() error { return c.connection.Close() }

// closeAll ends connections, and checks the last certificate of each.
func closeAll(callers []*caller) error {
	var problems []error
	for _, c := range callers {
		problems = append(problems, c.check(), c.close())
	}
	return errors.Join(problems...)
}
