package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/keys"
)

// privateKeys are PEM files as other programs write them.
func privateKeys(t testing.TB) map[string][]byte {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(p256)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"SEC 1":   pemOf("EC PRIVATE KEY", sec1),
		"openssl": append(pemOf("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}), pemOf("EC PRIVATE KEY", sec1)...),
		"PKCS #1": pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)),
	}
	for name, key := range map[string]any{"PKCS #8 EC": p256, "PKCS #8 RSA": rsaKey, "PKCS #8 Ed25519": edwards} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = pemOf("PRIVATE KEY", der)
	}
	return files
}

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	vault := newVault(t)
	for name, text := range privateKeys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := keys.ParsePrivateKey(append([]byte("Bag Attributes\n"), text...))
			if err != nil {
				t.Fatal(err)
			}
			sealed, err := vault.Import(key, "imported", time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := vault.Signer(sealed); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	big, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(big)
	if err != nil {
		t.Fatal(err)
	}
	good := privateKeys(t)["SEC 1"]
	for name, test := range map[string]struct {
		text []byte
		says string
	}{
		"refuses/empty":         {nil, "not PEM"},
		"refuses/der":           {sec1, "not PEM"},
		"refuses/certificate":   {pemOf("CERTIFICATE", []byte{0x30, 0}), "CERTIFICATE"},
		"refuses/two-keys":      {append(bytes.Clone(good), good...), "more than one"},
		"refuses/RSA-2048":      {pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(small)), "2048 bits"},
		"refuses/P-521":         {pemOf("EC PRIVATE KEY", sec1), "P-521"},
		"refuses/encrypted":     {pemOf("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}), "openssl pkcs8"},
		"refuses/old-encrypted": {[]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"), "encrypted"},
		"refuses/damaged":       {pemOf("EC PRIVATE KEY", []byte{0x30, 0}), "cannot be read"},
		"refuses/damaged-rsa":   {pemOf("RSA PRIVATE KEY", []byte{0x30, 0}), "cannot be read"},
		"refuses/damaged-pkcs8": {pemOf("PRIVATE KEY", []byte{0x30, 0}), "cannot be read"},
		"refuses/huge":          {bytes.Repeat([]byte("x"), 100_000), "100000 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if key, err := keys.ParsePrivateKey(test.text); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("ParsePrivateKey = %v, %v, want an error with %q", key, err, test.says)
			}
		})
	}
}

func FuzzParsePrivateKey(f *testing.F) {
	for _, text := range privateKeys(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := keys.ParsePrivateKey(text)
		if err != nil {
			return
		}
		if _, err := keys.Algorithm(key.Public()); err != nil {
			t.Errorf("a key was read that no CA may have: %v", err)
		}
	})
}
