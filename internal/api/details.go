package api

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/apiv1"
)

// details reads a certificate and explains its extensions. It is for certificates of this CA and for those of CAs that
// were brought here; what it does not know it shows in hexadecimal.
func details(der []byte) (*apiv1.CertificateDetails, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	out := &apiv1.CertificateDetails{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
		KeyAlgorithm: keyName(c), SignatureAlgorithm: c.SignatureAlgorithm.String(),
		Names: apiv1.CertificateNames{DNS: c.DNSNames}, Extensions: make([]apiv1.Extension, 0, len(c.Extensions)),
	}
	for _, uri := range c.URIs {
		out.Names.URIs = append(out.Names.URIs, uri.String())
	}
	for _, address := range c.IPAddresses {
		out.Names.IPs = append(out.Names.IPs, address.String())
	}
	for i := range c.Extensions {
		out.Extensions = append(out.Extensions, explain(c, &c.Extensions[i], &out.Names))
	}
	return out, nil
}

func keyName(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d bits", key.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	default:
		return c.PublicKeyAlgorithm.String()
	}
}

// explain says what one extension of a certificate is (RFC 5280 section 4.2.1 and 4.2.2).
func explain(c *x509.Certificate, e *pkix.Extension, names *apiv1.CertificateNames) apiv1.Extension {
	out := apiv1.Extension{Name: e.Id.String(), OID: e.Id.String(), Critical: e.Critical, Values: []string{}}
	switch out.OID {
	case "2.5.29.14":
		out.Name, out.Values = "subjectKeyIdentifier", []string{hex.EncodeToString(c.SubjectKeyId)}
		out.Sentence = "A fingerprint of this certificate's key, by which certificates below it name their issuer."
	case "2.5.29.35":
		out.Name, out.Values = "authorityKeyIdentifier", []string{hex.EncodeToString(c.AuthorityKeyId)}
		out.Sentence = "The key that signed this certificate: it is how a verifier finds the issuing CA."
	case "2.5.29.15":
		out.Name, out.Values = "keyUsage", usageNames(c.KeyUsage)
		out.Sentence = "What the key may do: " + usageSentence(c.KeyUsage) + "."
	case "2.5.29.37":
		out.Name, out.Values = "extKeyUsage", purposeNames(c)
		out.Sentence = "What the certificate is for: " + purposeSentence(c) + "."
	case "2.5.29.17":
		out.Name, out.Values = "subjectAltName", allNames(names)
		out.Sentence = "The names of whoever holds the key. This is what peers compare."
	case "2.5.29.19":
		out.Name, out.Values, out.Sentence = basicConstraints(c)
	case "2.5.29.30":
		out.Name, out.Values = "nameConstraints", constraintTexts(c)
		out.Sentence = "The only names that certificates below this CA may have."
	case "2.5.29.31":
		out.Name, out.Values = "cRLDistributionPoints", append(out.Values, c.CRLDistributionPoints...)
		out.Sentence = "Where the list of revoked certificates is fetched."
	case "1.3.6.1.5.5.7.1.1":
		out.Name = "authorityInfoAccess"
		for _, at := range c.OCSPServer {
			out.Values = append(out.Values, "OCSP "+at)
		}
		for _, at := range c.IssuingCertificateURL {
			out.Values = append(out.Values, "CA "+at)
		}
		out.Sentence = "Where a verifier asks whether this certificate was revoked (OCSP), and where it finds the issuing CA's certificate."
	default:
		const most = 64
		out.Values = []string{hex.EncodeToString(e.Value[:min(len(e.Value), most)])}
		out.Sentence = "An extension that is not explained here; its value is shown in hexadecimal."
	}
	return out
}

func basicConstraints(c *x509.Certificate) (name string, values []string, sentence string) {
	const is = "basicConstraints"
	switch limited := c.MaxPathLen > 0 || c.MaxPathLenZero; {
	case !c.IsCA:
		return is, []string{"cA false"}, "This is no CA: no certificate below it is accepted."
	case !limited:
		return is, []string{"cA true"}, "This is a CA, with any number of CAs below it."
	case c.MaxPathLen == 0:
		return is, []string{"cA true", "pathLen 0"}, "This is a CA that signs leaves only: no CA may be below it."
	default:
		return is, []string{"cA true", fmt.Sprintf("pathLen %d", c.MaxPathLen)},
			fmt.Sprintf("This is a CA; chains below it may have %d more.", c.MaxPathLen)
	}
}

// usage is a key usage with its name (RFC 5280 section 4.2.1.3) and what it is for.
type usage struct {
	bit         x509.KeyUsage
	name, means string
}

func usages() []usage {
	return []usage{
		{x509.KeyUsageDigitalSignature, "digitalSignature", "sign, as in every TLS 1.3 handshake"},
		{x509.KeyUsageContentCommitment, "contentCommitment", "sign what cannot be taken back"},
		{x509.KeyUsageKeyEncipherment, "keyEncipherment", "decrypt keys, as in TLS handshakes with RSA key exchange"},
		{x509.KeyUsageDataEncipherment, "dataEncipherment", "decrypt data"},
		{x509.KeyUsageKeyAgreement, "keyAgreement", "agree on keys"},
		{x509.KeyUsageCertSign, "keyCertSign", "sign certificates"},
		{x509.KeyUsageCRLSign, "cRLSign", "sign revocation lists"},
	}
}

func usageNames(bits x509.KeyUsage) []string {
	names := []string{}
	for _, u := range usages() {
		if bits&u.bit != 0 {
			names = append(names, u.name)
		}
	}
	return names
}

func usageSentence(bits x509.KeyUsage) string {
	var means []string
	for _, u := range usages() {
		if bits&u.bit != 0 {
			means = append(means, u.means)
		}
	}
	return strings.Join(means, "; ")
}

func purposeNames(c *x509.Certificate) []string {
	names := []string{}
	for _, purpose := range c.ExtKeyUsage {
		names = append(names, purposeName(purpose))
	}
	for _, oid := range c.UnknownExtKeyUsage {
		names = append(names, oid.String())
	}
	return names
}

func purposeName(purpose x509.ExtKeyUsage) string {
	switch purpose {
	case x509.ExtKeyUsageServerAuth:
		return "serverAuth"
	case x509.ExtKeyUsageClientAuth:
		return "clientAuth"
	case x509.ExtKeyUsageOCSPSigning:
		return "OCSPSigning"
	case x509.ExtKeyUsageAny:
		return "anyExtendedKeyUsage"
	default:
		return purpose.OID().String()
	}
}

func purposeSentence(c *x509.Certificate) string {
	var means []string
	for _, purpose := range c.ExtKeyUsage {
		switch purpose {
		case x509.ExtKeyUsageServerAuth:
			means = append(means, "TLS servers")
		case x509.ExtKeyUsageClientAuth:
			means = append(means, "TLS clients, as both sides of mutual TLS are in turn")
		case x509.ExtKeyUsageOCSPSigning:
			means = append(means, "OCSP answers")
		case x509.ExtKeyUsageAny:
			means = append(means, "everything")
		default:
			means = append(means, "other uses")
		}
	}
	if len(c.UnknownExtKeyUsage) > 0 {
		means = append(means, "other uses")
	}
	return strings.Join(means, "; ")
}

// allNames lists names with their kinds, as subject alternative names are written.
func allNames(names *apiv1.CertificateNames) []string {
	all := []string{}
	for _, name := range names.URIs {
		all = append(all, "URI "+name)
	}
	for _, name := range names.DNS {
		all = append(all, "DNS "+name)
	}
	for _, name := range names.IPs {
		all = append(all, "IP "+name)
	}
	return all
}

func constraintTexts(c *x509.Certificate) []string {
	out := []string{}
	add := func(what string, values []string) {
		for _, value := range values {
			out = append(out, what+" "+value)
		}
	}
	add("permitted DNS", c.PermittedDNSDomains)
	add("permitted URI", c.PermittedURIDomains)
	add("excluded DNS", c.ExcludedDNSDomains)
	add("excluded URI", c.ExcludedURIDomains)
	for _, r := range c.PermittedIPRanges {
		out = append(out, "permitted IP "+r.String())
	}
	for _, r := range c.ExcludedIPRanges {
		out = append(out, "excluded IP "+r.String())
	}
	return out
}
