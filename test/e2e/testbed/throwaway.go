package testbed

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// authority is a throwaway CA: for the API server's own TLS and for its clients, and for a peer in the benchmark.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(name string) (*authority, error) { return makeAuthority(name, nil) }

// issuing makes a CA below this one.
func (a *authority) issuing(name string) (*authority, error) { return makeAuthority(name, a) }

// makeAuthority makes a CA that parent signs, or that signs itself when parent is nil.
func makeAuthority(name string, parent *authority) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of %s: %w", name, err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(240 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if parent == nil {
		parent = &authority{key: key, cert: template}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, key.Public(), parent.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read back %s: %w", name, err)
	}
	return &authority{key: key, cert: cert}, nil
}

// leaf signs a certificate for both ends of TLS and returns certificate and key as PEM.
func (a *authority) leaf(subject pkix.Name, names ...string) (certPEM, keyPEM []byte, err error) {
	return a.sign(&x509.Certificate{Subject: subject, DNSNames: names, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

// sign completes and signs a certificate for both ends of TLS and returns it and its key as PEM.
func (a *authority) sign(template *x509.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign a certificate: %w", err)
	}
	keyPEM, err = KeyPEM(key)
	return CertificatePEM(der), keyPEM, err
}

// NewCA returns a CA that signs itself, with its key, in PEM.
func NewCA(t T, name string) (certPEM, keyPEM []byte) {
	t.Helper()
	ca, err := newAuthority(name)
	if err != nil {
		t.Fatal(err)
	}
	if keyPEM, err = KeyPEM(ca.key); err != nil {
		t.Fatal(err)
	}
	return CertificatePEM(ca.cert.Raw), keyPEM
}

// ForeignCertificate is a certificate for both ends of TLS with its key, in PEM, from a root that nobody knows.
func ForeignCertificate(t T, uri *url.URL) (certPEM, keyPEM []byte) {
	t.Helper()
	ca, err := newAuthority("foreign")
	if err != nil {
		t.Fatal(err)
	}
	if certPEM, keyPEM, err = ca.sign(&x509.Certificate{URIs: []*url.URL{uri}}); err != nil {
		t.Fatal(err)
	}
	return certPEM, keyPEM
}

// serviceAccountKey makes the key that signs service account tokens. The API server reads its public half from the same
// file, and takes a SEC 1 block there but no PKCS #8 one.
func serviceAccountKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

// CertificatePEM is the certificate as a PEM block.
func CertificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// KeyPEM is the private key as a PKCS #8 PEM block.
func KeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// writeFiles writes each file of a folder, readable by its owner only.
func writeFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}
