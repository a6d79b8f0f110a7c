package server

import (
	"crypto/x509"
	"encoding/pem"

	"github.com/certloom/certloom/internal/pki"
)

// root returns the root, in PEM, that the certificate leads to, when that is above one of the CAs; "" for a certificate of
// somebody else, which clients either trust anyhow or have to be told of by people.
func (o *ownCertificate) root(cas []*pki.CA) string {
	current := o.current.Load()
	if current == nil || current.Leaf == nil {
		return ""
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range current.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	for _, ca := range cas {
		der := ca.Certificate
		if len(ca.Chain) > 0 {
			der = ca.Chain[len(ca.Chain)-1]
		}
		if c, err := x509.ParseCertificate(der); err == nil {
			roots.AddCert(c)
		}
	}
	chains, err := current.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: o.now()})
	if err != nil {
		return ""
	}
	top := chains[0][len(chains[0])-1]
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: top.Raw}))
}
