package issuer_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

func bundleOf(t testing.TB, hierarchies ...*testca.Hierarchy) *issuer.Bundle {
	t.Helper()
	var roots [][]byte
	for _, h := range hierarchies {
		roots = append(roots, h.RootCert.Raw)
	}
	b, err := issuer.NewBundle(roots)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBundle(t *testing.T) {
	t.Parallel()
	one, two := testca.New(t), testca.New(t)
	b := bundleOf(t, one, two, one)
	if len(b.Roots) != 2 || strings.Count(b.PEM, "BEGIN CERTIFICATE") != 2 {
		t.Errorf("%d roots", len(b.Roots))
	}
	if other := bundleOf(t, two, one); other.Version != b.Version || other.PEM != b.PEM {
		t.Error("the order of the roots matters")
	}
	if bundleOf(t, one).Version == b.Version {
		t.Error("other roots have the same version")
	}
	if !b.Expiry().Equal(one.RootCert.NotAfter) {
		t.Errorf("expires %s", b.Expiry())
	}
	leaf := one.Leaf(t, &x509.Certificate{SerialNumber: big.NewInt(1)}, testca.Key(t).Public())
	for name, roots := range map[string][][]byte{"none": nil, "garbage": {{1}}, "leaf": {leaf.Raw}} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			if _, err := issuer.NewBundle(roots); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// source signs what it is asked for.
type source struct {
	*testca.Hierarchy
	bundle *issuer.Bundle
	err    error
	change func(*x509.Certificate)
	asked  []issuer.Request
}

func (s *source) Bundle() *issuer.Bundle { return s.bundle }

func (s *source) Issue(_ context.Context, r issuer.Request) ([][]byte, error) {
	s.asked = append(s.asked, r)
	if s.err != nil {
		return nil, s.err
	}
	request, err := x509.ParseCertificateRequest(r.CSR)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: request.URIs, DNSNames: request.DNSNames,
		NotBefore: testca.Now().Add(-time.Minute), NotAfter: testca.Now().Add(r.Lifetime),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if s.change != nil {
		s.change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, s.IssuingCert, request.PublicKey, s.IssuingKey)
	return [][]byte{der, s.IssuingCert.Raw}, err
}

func TestObtain(t *testing.T) {
	t.Parallel()
	h := testca.New(t)
	for _, algorithm := range []pki.KeyAlgorithm{"", pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048} {
		s := &source{Hierarchy: h, bundle: bundleOf(t, h)}
		order := issuer.Order{
			DNS: []string{"b.svc", "a.svc"}, URI: testca.SPIFFE, Key: algorithm, Lifetime: time.Hour, Caller: issuer.Caller{Pod: "p"},
		}
		got, bundle, err := issuer.Obtain(t.Context(), s, order, rand.Reader, testca.Now)
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if bundle != s.bundle || got.Leaf == nil || len(got.Certificate) != 2 || s.asked[0].Caller.Pod != "p" || s.asked[0].Lifetime != time.Hour {
			t.Errorf("%s: got %+v, asked %+v", algorithm, got, s.asked)
		}
	}
	order := issuer.Order{DNS: []string{"a.svc"}, Lifetime: time.Hour}
	for name, s := range map[string]*source{
		"ca-gone":    {err: fault.New(fault.Unavailable, "x")},
		"no-bundle":  {Hierarchy: h},
		"other-root": {Hierarchy: h, bundle: bundleOf(t, testca.New(t))},
		"other-name": {Hierarchy: h, bundle: bundleOf(t, h), change: func(c *x509.Certificate) { c.DNSNames = []string{"b.svc"} }},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := issuer.Obtain(t.Context(), s, order, rand.Reader, testca.Now); err == nil {
				t.Error("accepted")
			}
		})
	}
	if _, _, err := issuer.Obtain(t.Context(), &source{}, issuer.Order{Key: "x"}, rand.Reader, testca.Now); err == nil {
		t.Error("an unknown algorithm was accepted")
	}
}

// What is remembered of the CAs above does not make a bad leaf good, and is forgotten when one of them expires.
func TestRememberedPath(t *testing.T) {
	t.Parallel()
	h := testca.New(t)
	b := bundleOf(t, h)
	key := testca.Key(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	want := issuer.Wanted{SPKI: spki, Names: pki.Names{URIs: []string{testca.SPIFFE}}}
	uri, err := url.Parse(testca.SPIFFE)
	if err != nil {
		t.Fatal(err)
	}
	leaf := func(change func(*x509.Certificate)) [][]byte {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), URIs: []*url.URL{uri}, NotBefore: testca.Now(), NotAfter: testca.Now().AddDate(20, 0, 0),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}
		if change != nil {
			change(template)
		}
		return [][]byte{h.Leaf(t, template, key.Public()).Raw, h.IssuingCert.Raw}
	}
	good := leaf(nil)
	for range 3 {
		if _, err := b.Check(good, want, testca.Now()); err != nil {
			t.Fatal(err)
		}
	}
	forged := [][]byte{append([]byte(nil), good[0]...), good[1]}
	forged[0][len(forged[0])-1] ^= 1
	swapped := [][]byte{good[0], testca.New(t).IssuingCert.Raw}
	for name, c := range map[string]struct {
		chain [][]byte
		at    time.Time
	}{
		"bad-signature":      {forged, testca.Now()},
		"other-issuer":       {swapped, testca.Now()},
		"not-yet-valid":      {good, testca.Now().Add(-time.Minute)},
		"issuing-ca-expired": {good, h.IssuingCert.NotAfter.Add(time.Second)},
		"unknown-critical": {leaf(func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, criticalExtension())
		}), testca.Now()},
		"one-usage": {leaf(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), testca.Now()},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			if _, err := b.Check(c.chain, want, c.at); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// Where a CA is constrained, each leaf is verified in full.
func TestConstrainedPath(t *testing.T) {
	t.Parallel()
	h := testca.NewWith(t, testca.Options{Constraints: func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"svc"}
	}})
	s := &source{Hierarchy: h, bundle: bundleOf(t, h)}
	obtain := func(name string) error {
		_, _, err := issuer.Obtain(t.Context(), s, issuer.Order{DNS: []string{name}, Lifetime: time.Hour}, rand.Reader, testca.Now)
		return err
	}
	if err := obtain("a.svc"); err != nil {
		t.Fatal(err)
	}
	if err := obtain("a.example"); err == nil || !errors.As(err, new(x509.CertificateInvalidError)) {
		t.Errorf("a name outside of the constraints: %v", err)
	}
}

func BenchmarkCheck(b *testing.B) {
	h := testca.New(b)
	bundle := bundleOf(b, h)
	s := &source{Hierarchy: h, bundle: bundle}
	key := testca.Key(b)
	der := testca.CSR(b, testca.Request{URIs: []string{testca.SPIFFE}, Key: key})
	chain, err := s.Issue(b.Context(), issuer.Request{CSR: der, Lifetime: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		b.Fatal(err)
	}
	want := issuer.Wanted{SPKI: spki, Names: pki.Names{URIs: []string{testca.SPIFFE}}}
	for b.Loop() {
		if _, err := bundle.Check(chain, want, testca.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func criticalExtension() pkix.Extension {
	return pkix.Extension{Id: []int{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}
}

// Leaves directly below roots, which chains without a CA do not tell apart, not even by their names.
func TestCheckBelowRoots(t *testing.T) {
	t.Parallel()
	one, two := testca.New(t), testca.New(t)
	b, err := issuer.NewBundle([][]byte{one.IssuingCert.Raw, two.IssuingCert.Raw})
	if err != nil {
		t.Fatal(err)
	}
	key := testca.Key(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*testca.Hierarchy{one, two, one, two, two} {
		leaf := h.Leaf(t, &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{"a.svc"}, NotBefore: testca.Now(), NotAfter: testca.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		}, key.Public())
		if _, err := b.Check([][]byte{leaf.Raw}, issuer.Wanted{SPKI: spki, Names: pki.Names{DNS: []string{"a.svc"}}}, testca.Now()); err != nil {
			t.Error(err)
		}
	}
}
