package imported

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/rating"
)

// maxText bounds the texts of a record; what is in the certificate stays whole.
const maxText = 500

// Record is what the inventory keeps of a certificate. Whoever stores it says when and how it came.
func Record(c *x509.Certificate) *pki.Imported {
	names := pki.Names{DNS: c.DNSNames}
	for _, ip := range c.IPAddresses {
		names.IPs = append(names.IPs, ip.String())
	}
	for _, uri := range c.URIs {
		names.URIs = append(names.URIs, uri.String())
	}
	name := c.Subject.CommonName
	switch {
	case len(names.URIs) > 0:
		name = names.URIs[0]
	case len(names.DNS) > 0:
		name = names.DNS[0]
	case len(names.IPs) > 0:
		name = names.IPs[0]
	case name == "":
		name = c.Subject.String()
	}
	return &pki.Imported{
		Fingerprint: sha256.Sum256(c.Raw), Name: short(name), Subject: short(c.Subject.String()), Issuer: short(c.Issuer.String()),
		Serial: fmt.Sprintf("%x", c.SerialNumber), Names: names, IsCA: c.IsCA, NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		KeyAlgorithm: keyText(c), Signature: c.SignatureAlgorithm.String(), Rating: rating.Rate(c), DER: c.Raw,
	}
}

func short(text string) string {
	if runes := []rune(text); len(runes) > maxText {
		return string(runes[:maxText]) + "…"
	}
	return text
}

func keyText(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	default:
		return c.PublicKeyAlgorithm.String()
	}
}
