package testca

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"testing"
	"time"
)

// CRLs signs a CRL of the root and one of the issuing CA, which lists the certificates of these serials. Both are good
// from a minute before now until next.
func (h *Hierarchy) CRLs(t testing.TB, now, next time.Time, revoked ...*big.Int) [][]byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(now.UnixNano()), ThisUpdate: now.Add(-time.Minute), NextUpdate: next}
	root, err := x509.CreateRevocationList(rand.Reader, template, h.RootCert, h.RootKey)
	if err != nil {
		t.Fatalf("sign CRL: %v", err)
	}
	for _, serial := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: now})
	}
	issuing, err := x509.CreateRevocationList(rand.Reader, template, h.IssuingCert, h.IssuingKey)
	if err != nil {
		t.Fatalf("sign CRL: %v", err)
	}
	return [][]byte{root, issuing}
}
