package issuer

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bundle is a set of roots. It does not change once made, and is safe for concurrent use.
type Bundle struct {
	Roots   []*x509.Certificate // in a fixed order, whatever order they came in
	Pool    *x509.CertPool
	PEM     string // all of them
	Version string // differs when the roots differ

	paths paths
}

// NewBundle reads roots in DER. Each must be a CA's certificate; one that comes twice counts once.
func NewBundle(roots [][]byte) (*Bundle, error) {
	if len(roots) == 0 {
		return nil, errors.New("the trust bundle has no root")
	}
	b := &Bundle{Pool: x509.NewCertPool()}
	sorted := slices.SortedFunc(slices.Values(roots), bytes.Compare)
	var text bytes.Buffer
	for _, der := range slices.CompactFunc(sorted, bytes.Equal) {
		root, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("read a root of the trust bundle: %w", err)
		}
		if !root.IsCA || !root.BasicConstraintsValid {
			return nil, fmt.Errorf("certificate %q of the trust bundle is not a CA's", root.Subject)
		}
		b.Roots = append(b.Roots, root)
		b.Pool.AddCert(root)
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
			return nil, fmt.Errorf("write the trust bundle: %w", err)
		}
	}
	b.PEM = text.String()
	sum := sha256.Sum256(text.Bytes())
	b.Version = hex.EncodeToString(sum[:8])
	return b, nil
}

// Expiry is when the first of the roots expires.
func (b *Bundle) Expiry() time.Time {
	first := b.Roots[0].NotAfter
	for _, root := range b.Roots[1:] {
		if root.NotAfter.Before(first) {
			first = root.NotAfter
		}
	}
	return first
}
