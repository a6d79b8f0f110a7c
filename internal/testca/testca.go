// Package testca makes throwaway CA hierarchies, profiles and requests for tests, and fakes that keep the promises of
// storage. Only tests may import it.
//
// It owns no behaviour of the product: what it signs is signed by the standard library directly, so that a test of
// issuance does not judge itself.
package testca

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Now is the time at which hierarchies are made. Tests take it for their clock.
func Now() time.Time { return time.Date(2026, time.March, 10, 12, 0, 0, 0, time.UTC) }

// Hierarchy is a root and an issuing CA below it, with their private keys. It implements what issue and revoke need
// of CAs and signers, and is safe for concurrent use.
type Hierarchy struct {
	Root, Issuing         *pki.CA
	RootCert, IssuingCert *x509.Certificate
	RootKey, IssuingKey   crypto.Signer
}

// Options change a hierarchy. The zero value is what New makes.
type Options struct {
	Now         time.Time     // zero: Now
	RootKey     crypto.Signer // nil: ECDSA P-256
	IssuingKey  crypto.Signer
	Settings    *pki.CASettings // of both CAs; nil: addresses at ca.example
	PathLen     int             // of the issuing CA
	Constraints func(issuing *x509.Certificate)
}

// New makes a hierarchy with ECDSA P-256 keys that is valid from an hour before Now.
func New(t testing.TB) *Hierarchy {
	t.Helper()
	return NewWith(t, Options{})
}

// NewWith makes a hierarchy.
func NewWith(t testing.TB, o Options) *Hierarchy {
	t.Helper()
	if o.Now.IsZero() {
		o.Now = Now()
	}
	if o.RootKey == nil {
		o.RootKey = Key(t)
	}
	if o.IssuingKey == nil {
		o.IssuingKey = Key(t)
	}
	h := &Hierarchy{RootKey: o.RootKey, IssuingKey: o.IssuingKey}
	h.RootCert = h.sign(t, authority("Test root", 1, o.PathLen+1, o.Now), nil)
	issuing := authority("Test issuing CA", 2, o.PathLen, o.Now)
	issuing.NotAfter = o.Now.AddDate(5, 0, 0)
	if o.Constraints != nil {
		o.Constraints(issuing)
	}
	h.IssuingCert = h.sign(t, issuing, h.RootCert)
	h.Root = record("root", pki.RootCA, h.RootCert, o)
	h.Issuing = record("issuing", pki.IssuingCA, h.IssuingCert, o)
	h.Issuing.ParentID = h.Root.ID
	h.Issuing.Chain = [][]byte{h.RootCert.Raw}
	return h
}

func authority(name string, serial int64, pathLen int, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.AddDate(10, 0, 0),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            pathLen,
		MaxPathLenZero:        pathLen == 0,
	}
}

func (h *Hierarchy) sign(t testing.TB, template, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	public := h.IssuingKey.Public()
	if parent == nil {
		parent, public = template, h.RootKey.Public()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, h.RootKey)
	if err != nil {
		t.Fatalf("sign CA certificate: %v", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse CA certificate: %v", err)
	}
	return certificate
}

func record(name string, kind pki.CAKind, certificate *x509.Certificate, o Options) *pki.CA {
	ca := &pki.CA{
		ID:           pki.CAID("ca-" + name),
		Name:         name,
		Kind:         kind,
		State:        pki.Active,
		KeyID:        pki.KeyID("key-" + name),
		KeyAlgorithm: pki.ECDSAP256,
		Certificate:  certificate.Raw,
		CreatedAt:    o.Now,
		UpdatedAt:    o.Now,
	}
	if o.Settings != nil {
		ca.Settings = *o.Settings
		return ca
	}
	ca.Settings = pki.CASettings{
		CRLURLs:    []string{fmt.Sprintf("http://ca.example/crl/%s.crl", ca.ID)},
		OCSPURLs:   []string{"http://ca.example/ocsp/"},
		IssuerURLs: []string{fmt.Sprintf("http://ca.example/ca/%s.cer", ca.ID)},
	}
	return ca
}

// Signer returns the signer of a CA's key.
func (h *Hierarchy) Signer(_ context.Context, id pki.KeyID) (crypto.Signer, error) {
	switch id {
	case h.Root.KeyID:
		return h.RootKey, nil
	case h.Issuing.KeyID:
		return h.IssuingKey, nil
	default:
		return nil, fmt.Errorf("no key %q", id)
	}
}

// CA finds a CA.
func (h *Hierarchy) CA(id pki.CAID) (*pki.CA, bool) {
	for _, ca := range h.CAs() {
		if ca.ID == id {
			return ca, true
		}
	}
	return nil, false
}

// CAs returns both CAs.
func (h *Hierarchy) CAs() []*pki.CA { return []*pki.CA{h.Issuing, h.Root} }

// Pool returns the root as a pool of trusted certificates.
func (h *Hierarchy) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(h.RootCert)
	return pool
}

// Verify checks that a certificate leads to the root at the given time.
func (h *Hierarchy) Verify(t testing.TB, der []byte, now time.Time) *x509.Certificate {
	t.Helper()
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse certificate: %v", err)
	}
	between := x509.NewCertPool()
	between.AddCert(h.IssuingCert)
	options := x509.VerifyOptions{
		Roots: h.Pool(), Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	if _, err := certificate.Verify(options); err != nil {
		t.Fatalf("verify certificate: %v", err)
	}
	return certificate
}

// Leaf signs a certificate with the issuing CA as it is told, for tests that need one which was not issued.
func (h *Hierarchy) Leaf(t testing.TB, template *x509.Certificate, public crypto.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, h.IssuingCert, public, h.IssuingKey)
	if err != nil {
		t.Fatalf("sign certificate: %v", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parse certificate: %v", err)
	}
	return certificate
}

// Key makes an ECDSA P-256 key.
func Key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("generate key: %v", err)
	}
	return key
}

// SPKIHash returns the hash by which keys are known.
func SPKIHash(t testing.TB, key crypto.PublicKey) [32]byte {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatalf("encode public key: %v", err)
	}
	return sha256.Sum256(spki)
}

// NothingDenied is an empty deny list.
func NothingDenied(*pki.Names, *pki.Workload) error { return nil }
