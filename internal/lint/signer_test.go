package lint_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"io"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/testca"
)

// elsewhere is a key outside of the process, which may do anything.
type elsewhere struct {
	crypto.Signer
	change func(signature []byte)
}

func (e elsewhere) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	signature, err := e.Signer.Sign(random, digest, opts)
	e.change(signature)
	return signature, err
}

// wrapped is a key that says that it needs no check.
type wrapped struct{ elsewhere }

func (wrapped) Dependable() bool { return true }

// TestFinish: whoever puts the certificate together, it verifies, and only keys of this process that an error does not
// give away spare CreateCertificate its check.
func TestFinish(t *testing.T) {
	t.Parallel()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa3072, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	same := func([]byte) {}
	for name, test := range map[string]struct {
		key       crypto.Signer
		unchecked bool
	}{
		"P-256":     {testca.Key(t), true},
		"P-384":     {p384, true},
		"Ed25519":   {edwards, true},
		"RSA":       {rsa3072, false},
		"elsewhere": {elsewhere{p384, same}, false},
		"wrapped":   {wrapped{elsewhere{p384, same}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, key := testca.NewWith(t, testca.Options{IssuingKey: test.key}), testca.Key(t)
			want, template := leaf(t, h, key)
			signer, err := lint.NewSigner(test.key, issuerOf(t, h), want, time.Now)
			if err != nil {
				t.Fatal(err)
			}
			der, err := x509.CreateCertificate(rand.Reader, template, h.IssuingCert, key.Public(), signer)
			if (err != nil) != test.unchecked {
				t.Errorf("CreateCertificate ended with %v", err)
			}
			if der, err = signer.Finish(der, err); err != nil {
				t.Fatal(err)
			}
			certificate, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := certificate.CheckSignatureFrom(h.IssuingCert); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("refuses/wrong-signature", func(t *testing.T) {
		t.Parallel()
		bad := elsewhere{p384, func(signature []byte) { signature[len(signature)-1] ^= 1 }}
		h, key := testca.NewWith(t, testca.Options{IssuingKey: p384}), testca.Key(t)
		want, template := leaf(t, h, key)
		signer, err := lint.NewSigner(bad, issuerOf(t, h), want, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if der, err := signer.Finish(x509.CreateCertificate(rand.Reader, template, h.IssuingCert, key.Public(), signer)); err == nil {
			t.Errorf("a wrong signature is in %x", der)
		}
	})
}
