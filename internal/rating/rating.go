// Package rating judges how secure a certificate is: its key, its signature, its lifetime and its names. It says nothing of
// whether it has expired or is revoked, which the inventory tells beside it.
//
// The rules are those that a careful administrator goes by in 2026: NIST SP 800-57 part 1 for keys, the CA/Browser Forum's
// baseline requirements for what servers have (SHA-1, names in the SAN, 398 days), RFC 9325 for TLS.
package rating

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/goodkey"
	"github.com/certloom/certloom/internal/pki"
)

type rater pki.Rating

// Lifetimes, of the CA/Browser Forum's baseline requirements section 6.3.2 as they were from 2018 and from 2020.
const (
	day          = 24 * time.Hour
	longLifetime = 398 * day
	veryLong     = 825 * day
)

// Rate judges a certificate. It is cheap: no chain is built, no signature verified but its own.
func Rate(c *x509.Certificate) pki.Rating {
	r := &rater{Level: pki.VerySecure, Findings: []pki.Finding{}}
	r.key(c)
	r.signature(c)
	if !c.IsCA {
		r.lifetime(c)
		r.names(c)
	}
	r.purpose(c)
	return pki.Rating(*r)
}

func (r *rater) add(code pki.RatingCode, level pki.Level, format string, args ...any) {
	r.Findings = append(r.Findings, pki.Finding{Code: code, Level: level, Text: fmt.Sprintf(format, args...)})
	if slices.Index(pki.Levels(), level) > slices.Index(pki.Levels(), r.Level) {
		r.Level = level
	}
}

// Sizes of RSA keys in bits: NIST SP 800-57 part 1 gives 112 bits of security to the first and 128 to the second.
const (
	leastRSA = 2048
	goodRSA  = 3072
)

func (r *rater) key(c *x509.Certificate) {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		bits := key.N.BitLen()
		switch {
		case bits < leastRSA:
			r.add(pki.WeakKey, pki.NotSecure, "RSA key of %d bits is smaller than %d bits", bits, leastRSA)
			return
		case key.E < 65537:
			r.add(pki.WeakExponent, pki.AtRisk, "RSA key has the public exponent %d, smaller than 65537", key.E)
			return
		case bits > 4096 || bits%8 != 0:
			r.add(pki.UnusualKey, pki.Secure, "RSA key of %d bits is of an unusual size", bits)
			return
		case bits < goodRSA:
			r.add(pki.SmallKey, pki.Secure, "RSA key of %d bits is smaller than the %d that are good beyond 2030", bits, goodRSA)
		}
	case *ecdsa.PublicKey:
		if bits := key.Curve.Params().BitSize; bits != 256 && bits != 384 {
			level := pki.Secure
			if bits < 256 {
				level = pki.AtRisk
			}
			r.add(pki.UnusualKey, level, "ECDSA key on %s is not on P-256 or P-384", key.Curve.Params().Name)
			return
		}
	case ed25519.PublicKey:
	default:
		r.add(pki.UnusualKey, pki.AtRisk, "key of algorithm %s is neither RSA, ECDSA nor Ed25519", c.PublicKeyAlgorithm)
		return
	}
	if err := goodkey.CheckPublicKey(c.PublicKey); err != nil {
		r.add(pki.WeakKey, pki.NotSecure, "%v", err)
	}
}

func (r *rater) signature(c *x509.Certificate) {
	selfSigned := bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	weak := []x509.SignatureAlgorithm{x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1}
	// Nobody relies on the signature of a root.
	if root := c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject); !root && slices.Contains(weak, c.SignatureAlgorithm) {
		r.add(pki.WeakSignature, pki.NotSecure, "signature %s can be forged", c.SignatureAlgorithm)
	}
	if selfSigned && !c.IsCA {
		r.add(pki.SelfSigned, pki.AtRisk, "certificate is signed with its own key, so that no CA vouches for it")
	}
}

func (r *rater) lifetime(c *x509.Certificate) {
	switch life := c.NotAfter.Sub(c.NotBefore); {
	case life > veryLong+day:
		r.add(pki.VeryLong, pki.AtRisk, "lifetime of %d days is longer than %d days", life/day, veryLong/day)
	case life > longLifetime+day:
		r.add(pki.LongLifetime, pki.Secure, "lifetime of %d days is longer than %d days", life/day, longLifetime/day)
	}
}

func (r *rater) names(c *x509.Certificate) {
	server := slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	if server && len(c.DNSNames)+len(c.IPAddresses)+len(c.URIs) == 0 {
		r.add(pki.NoNames, pki.AtRisk, "certificate for servers has no name in its subject alternative names, and clients look nowhere else (common name %.64q)", c.Subject.CommonName)
	}
	for _, name := range c.DNSNames {
		if strings.HasPrefix(name, "*.") {
			r.add(pki.Wildcard, pki.Secure, "name %.100q lets one key speak for many names", name)
			return
		}
	}
}

func (r *rater) purpose(c *x509.Certificate) {
	switch {
	case c.IsCA && slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && len(c.DNSNames) > 0:
		r.add(pki.ServerIsCA, pki.AtRisk, "certificate for servers is a CA's as well: whoever has its key can sign others")
	case !c.IsCA && len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0:
		r.add(pki.NoKeyUsage, pki.Secure, "certificate has no extended key usage, so that it is good for every purpose")
	}
}
