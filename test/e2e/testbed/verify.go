package testbed

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/certloom/certloom/internal/pki"
)

// ParseChain reads a chain in PEM, the leaf first.
func ParseChain(chain []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, chain = pem.Decode(chain); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %d of the chain: %w", len(certs)+1, err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("the chain holds no certificate")
	}
	return certs, nil
}

// VerifyChain checks that a chain in PEM leads from its first certificate to a root of the file, for each usage, and
// returns that certificate.
func VerifyChain(chain []byte, rootFile string, usages ...x509.ExtKeyUsage) (*x509.Certificate, error) {
	if len(usages) == 0 {
		return nil, errors.New("a chain is verified for at least one usage")
	}
	certs, err := ParseChain(chain)
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(rootFile)
	if err != nil {
		return nil, fmt.Errorf("read the root: %w", err)
	}
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("%s holds no certificate", rootFile)
	}
	for _, cert := range certs[1:] {
		above.AddCert(cert)
	}
	// One by one: Verify is content with any of the usages that it is given.
	for _, usage := range usages {
		_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{usage}})
		if err != nil {
			return nil, fmt.Errorf("verify the chain: %w", err)
		}
	}
	return certs[0], nil
}

// Serial is the certificate's serial number as the inventory writes it.
func Serial(cert *x509.Certificate) string {
	return string(pki.SerialFromInt(cert.SerialNumber))
}
