package rating_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/rating"
	"github.com/certloom/certloom/internal/testca"
)

const day = 24 * time.Hour

// leaf is a good certificate of a server, to be spoilt.
func leaf() *x509.Certificate {
	return &x509.Certificate{
		DNSNames: []string{"db.example.com"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: testca.Now(), NotAfter: testca.Now().Add(90 * day),
	}
}

func rsaKey(t *testing.T, bits int) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestRate(t *testing.T) {
	t.Parallel()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := testca.New(t)
	for name, test := range map[string]struct {
		change  func(c *x509.Certificate)
		key     crypto.Signer
		self    bool
		algo    x509.SignatureAlgorithm // set after signing: Go makes no bad ones
		want    pki.Level
		because []pki.RatingCode
	}{
		"good":          {want: pki.VerySecure},
		"Ed25519":       {key: edKey, want: pki.VerySecure},
		"RSA 2048":      {key: rsaKey(t, 2048), want: pki.Secure, because: []pki.RatingCode{pki.SmallKey}},
		"RSA 3072":      {key: rsaKey(t, 3072), want: pki.VerySecure},
		"RSA 1024":      {key: rsaKey(t, 1024), want: pki.NotSecure, because: []pki.RatingCode{pki.WeakKey}},
		"P-521":         {key: p521, want: pki.Secure, because: []pki.RatingCode{pki.UnusualKey}},
		"SHA-1":         {algo: x509.SHA1WithRSA, want: pki.NotSecure, because: []pki.RatingCode{pki.WeakSignature}},
		"two years":     {change: func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(730 * day) }, want: pki.Secure, because: []pki.RatingCode{pki.LongLifetime}},
		"ten years":     {change: func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(3650 * day) }, want: pki.AtRisk, because: []pki.RatingCode{pki.VeryLong}},
		"398 days":      {change: func(c *x509.Certificate) { c.NotAfter = c.NotBefore.Add(398 * day) }, want: pki.VerySecure},
		"common name":   {change: func(c *x509.Certificate) { c.DNSNames, c.Subject = nil, pkix.Name{CommonName: "db"} }, want: pki.AtRisk, because: []pki.RatingCode{pki.NoNames}},
		"wildcard":      {change: func(c *x509.Certificate) { c.DNSNames = []string{"*.example.com"} }, want: pki.Secure, because: []pki.RatingCode{pki.Wildcard}},
		"every purpose": {change: func(c *x509.Certificate) { c.ExtKeyUsage = nil }, want: pki.Secure, because: []pki.RatingCode{pki.NoKeyUsage}},
		"client, no name": {change: func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}, want: pki.VerySecure},
		"self-signed": {self: true, want: pki.AtRisk, because: []pki.RatingCode{pki.SelfSigned}},
		"several": {
			change: func(c *x509.Certificate) { c.NotAfter, c.ExtKeyUsage = c.NotBefore.Add(3650*day), nil }, key: rsaKey(t, 1024), want: pki.NotSecure,
			because: []pki.RatingCode{pki.WeakKey, pki.VeryLong, pki.NoKeyUsage},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			template, key := leaf(), test.key
			if test.change != nil {
				test.change(template)
			}
			if key == nil {
				key = testca.Key(t)
			}
			parent, signer := h.IssuingCert, h.IssuingKey
			template.SerialNumber = big.NewInt(7)
			if test.self {
				parent, signer = template, key
			}
			der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if test.algo != 0 {
				c.SignatureAlgorithm = test.algo
			}
			got := rating.Rate(c)
			var codes []pki.RatingCode
			for _, f := range got.Findings {
				codes = append(codes, f.Code)
				if f.Text == "" {
					t.Errorf("%s has no text", f.Code)
				}
			}
			if diff := cmp.Diff(test.because, codes); got.Level != test.want || diff != "" {
				t.Errorf("level %s, want %s; findings %+v %s", got.Level, test.want, got.Findings, diff)
			}
		})
	}
}

// CAs have long lifetimes, and nobody relies on the signature of a root.
func TestRateCAs(t *testing.T) {
	t.Parallel()
	h := testca.New(t)
	root := *h.RootCert
	root.SignatureAlgorithm = x509.SHA1WithRSA
	for name, c := range map[string]*x509.Certificate{"root": h.RootCert, "issuing CA": h.IssuingCert, "root with SHA-1": &root} {
		if got := rating.Rate(c); got.Level != pki.VerySecure {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
