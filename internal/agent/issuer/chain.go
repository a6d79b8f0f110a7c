package issuer

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxChain is how many certificates a chain may have; a mesh has three at most.
const maxChain = 10

// ReadChain returns the certificates of a chain in PEM, as CAs write it, in DER. A root at its end is left out: clients have
// it, or must not trust it.
func ReadChain(text []byte) ([][]byte, error) {
	var chain [][]byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(chain) == maxChain {
			return nil, fmt.Errorf("the chain is not of up to %d certificates in PEM", maxChain)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read a certificate of the chain: %w", err)
		}
		if len(chain) > 0 && bytes.Equal(certificate.RawIssuer, certificate.RawSubject) {
			break // nothing that matters is above a self-issued certificate
		}
		chain = append(chain, block.Bytes)
	}
	if len(chain) == 0 {
		return nil, errors.New("the chain has no certificate")
	}
	return chain, nil
}
