package lint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/pki"
)

// keyIDLen is the length of the key identifiers that we make.
const keyIDLen = 20

// Issuer is a CA as its certificates must show it. It never changes, so it is safe for concurrent use; make a new one
// when the CA's certificate or settings change.
type Issuer struct {
	self        bool // the certificate is signed by its own key: a root
	subject     []byte
	notBefore   time.Time
	notAfter    time.Time
	key         crypto.PublicKey
	algorithm   []byte // AlgorithmIdentifier of its signatures
	depth       int    // CAs that may follow below, -1 for any number
	constraints []constraint

	// Values of extensions; nil for those that its certificates do not have.
	authorityKeyID []byte
	crlPoints      []byte
	authorityInfo  []byte
}

// NewIssuer returns a CA as an issuer. Above are the certificates of the CAs above it, nearest first; their name
// constraints count as much as its own. The settings give the addresses that go into certificates.
func NewIssuer(certificate *x509.Certificate, above []*x509.Certificate, settings pki.CASettings) (*Issuer, error) {
	if err := CheckCA(certificate); err != nil {
		return nil, err
	}
	algorithm, err := signatureAlgorithm(certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	i := &Issuer{
		subject:        certificate.RawSubject,
		notBefore:      certificate.NotBefore,
		notAfter:       certificate.NotAfter,
		key:            certificate.PublicKey,
		algorithm:      algorithm,
		depth:          depth(certificate, above),
		authorityKeyID: element(asn1.SEQUENCE, element(tagKeyID, certificate.SubjectKeyId)),
	}
	if len(settings.CRLURLs) > 0 {
		i.crlPoints = encodeCRLPoints(settings.CRLURLs)
	}
	if len(settings.OCSPURLs) > 0 || len(settings.IssuerURLs) > 0 {
		i.authorityInfo = encodeAuthorityInfo(settings.OCSPURLs, settings.IssuerURLs)
	}
	for _, ca := range append([]*x509.Certificate{certificate}, above...) {
		if c, ok := newConstraint(ca); ok {
			i.constraints = append(i.constraints, c)
		}
	}
	return i, nil
}

// NewRoot returns the issuer of a root's own certificate.
func NewRoot(key crypto.PublicKey) (*Issuer, error) {
	algorithm, err := signatureAlgorithm(key)
	if err != nil {
		return nil, err
	}
	return &Issuer{self: true, key: key, algorithm: algorithm, depth: -1}, nil
}

// CheckCA says what keeps a certificate from being that of a CA whose certificates and CRLs verifiers accept.
func CheckCA(certificate *x509.Certificate) error {
	switch usage := certificate.KeyUsage; {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return errors.New("certificate is not one of a CA: its basicConstraints do not have cA true (RFC 5280 section 4.2.1.9)")
	case usage != 0 && usage&x509.KeyUsageCertSign == 0:
		return errors.New("certificate's key usage does not have keyCertSign, so it can sign no certificates (RFC 5280 section 4.2.1.3)")
	case usage != 0 && usage&x509.KeyUsageCRLSign == 0:
		return errors.New("certificate's key usage does not have cRLSign, so revocations could not be published (RFC 5280 section 4.2.1.3)")
	case len(certificate.SubjectKeyId) == 0:
		return errors.New("certificate has no subject key identifier, which a CA must have (RFC 5280 section 4.2.1.2)")
	case len(certificate.SubjectKeyId) > sha256.Size*2:
		return fmt.Errorf("certificate's subject key identifier has %d octets, more than %d", len(certificate.SubjectKeyId), sha256.Size*2)
	case len(certificate.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("certificate has critical extension %s, which is not supported here", certificate.UnhandledCriticalExtensions[0])
	case len(certificate.ExtKeyUsage) > 0 || len(certificate.UnknownExtKeyUsage) > 0:
		// Verifiers differ on whether it limits what the CA may issue; CA/Browser Forum CAs have it, private ones need not.
		return checkPurposes(certificate)
	}
	return nil
}

// checkPurposes accepts extended key usages under which both kinds of TLS certificates are good.
func checkPurposes(certificate *x509.Certificate) error {
	server, client := false, false
	for _, usage := range certificate.ExtKeyUsage {
		server = server || usage == x509.ExtKeyUsageServerAuth || usage == x509.ExtKeyUsageAny
		client = client || usage == x509.ExtKeyUsageClientAuth || usage == x509.ExtKeyUsageAny
	}
	if !server || !client {
		return errors.New("certificate's extended key usage does not have both serverAuth and clientAuth, so some certificates below it would not be accepted")
	}
	return nil
}

// depth returns how many CAs may follow below a CA, by its own path length and those above.
func depth(certificate *x509.Certificate, above []*x509.Certificate) int {
	least := -1
	for level, ca := range append([]*x509.Certificate{certificate}, above...) {
		if ca.MaxPathLen < 0 || (ca.MaxPathLen == 0 && !ca.MaxPathLenZero) {
			continue // no limit
		}
		// Each CA between uses up one.
		if left := max(ca.MaxPathLen-level, 0); least < 0 || left < least {
			least = left
		}
	}
	return least
}

// Depth returns how many CAs may follow below this one in a chain; -1 for any number.
func (i *Issuer) Depth() int { return i.depth }

// signatureAlgorithm returns the algorithm that a CA with this key signs with.
func signatureAlgorithm(key crypto.PublicKey) ([]byte, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return []byte(sigECDSAWithSHA256), nil
		case elliptic.P384():
			return []byte(sigECDSAWithSHA384), nil
		}
	case *rsa.PublicKey:
		return []byte(sigSHA256WithRSA), nil
	case ed25519.PublicKey:
		return []byte(sigEd25519), nil
	}
	return nil, errors.New("key of the CA is not one of ECDSA P-256 or P-384, RSA, Ed25519")
}

// KeyID returns the key identifier that certificates with this subject public key info have: the left-most 160 bits of
// the SHA-256 hash of the key's bit string (RFC 7093 section 2, method 1).
func KeyID(spki []byte) ([]byte, error) {
	var info, algorithm cryptobyte.String
	var key []byte
	input := cryptobyte.String(spki)
	if !input.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1(&algorithm, asn1.SEQUENCE) ||
		!info.ReadASN1BitStringAsBytes(&key) || !info.Empty() || !input.Empty() {
		return nil, errors.New("subject public key info cannot be read")
	}
	sum := sha256.Sum256(key)
	return sum[:keyIDLen], nil
}
