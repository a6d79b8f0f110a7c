package issuer

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Source is the part of Issuer that Obtain needs.
type Source interface {
	Issue(ctx context.Context, r Request) ([][]byte, error)
	Bundle() *Bundle
}

// Order is a certificate that the agent itself wants, with a key that it makes.
type Order struct {
	DNS      []string
	URI      string // "" for none
	Key      pki.KeyAlgorithm
	Lifetime time.Duration
	Caller   Caller
}

// Obtain makes a key and gets a certificate for it, checked against the order and against the bundle that it returns.
func Obtain(ctx context.Context, from Source, o Order, random io.Reader, now func() time.Time) (*tls.Certificate, *Bundle, error) {
	key, err := newKey(o.Key, random)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.CertificateRequest{DNSNames: o.DNS}
	want := pki.Names{DNS: slices.Sorted(slices.Values(o.DNS))}
	if o.URI != "" {
		uri, err := url.Parse(o.URI)
		if err != nil {
			return nil, nil, fmt.Errorf("URI of a certificate: %w", err)
		}
		template.URIs, want.URIs = []*url.URL{uri}, []string{o.URI}
	}
	request, err := x509.CreateCertificateRequest(random, template, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make a certificate request: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, fmt.Errorf("encode a public key: %w", err)
	}
	chain, err := from.Issue(ctx, Request{CSR: request, Lifetime: o.Lifetime, Caller: o.Caller})
	if err != nil {
		return nil, nil, err
	}
	bundle := from.Bundle()
	if bundle == nil {
		return nil, nil, fault.New(fault.Unavailable, "the trust bundle is not known yet")
	}
	leaf, err := bundle.Check(chain, Wanted{SPKI: spki, Names: want}, now())
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, bundle, nil
}

func newKey(algorithm pki.KeyAlgorithm, random io.Reader) (crypto.Signer, error) {
	var (
		key crypto.Signer
		err error
	)
	switch algorithm {
	case "", pki.ECDSAP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), random)
	case pki.ECDSAP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), random)
	case pki.RSA2048:
		key, err = rsa.GenerateKey(random, 2048)
	case pki.RSA3072:
		key, err = rsa.GenerateKey(random, 3072)
	case pki.RSA4096:
		key, err = rsa.GenerateKey(random, 4096)
	default:
		return nil, fmt.Errorf("keys of algorithm %q are not made", algorithm)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key, nil
}
