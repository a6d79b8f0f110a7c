// Package csr reads PKCS #10 certification requests (RFC 2986) strictly: it owns the question "what exactly does
// this request ask for?", and answers it in a form that cannot be read in two ways.
//
// It must never decide whether what is asked for is allowed (that is policy), and it hands on nothing that policy
// does not judge: requested extensions other than names and the CA flag are checked for form and then forgotten.
// It trusts nothing; every byte comes from an attacker.
//
// The standard library's parser is not used for the structure, because it is lenient where a CA must not be: it
// skips unknown kinds of subject alternative names, extra elements at the end of a SEQUENCE and repeated attributes.
// Whatever Parse accepts, the standard library accepts as well and reads alike; the fuzz test holds it to that.
package csr

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Limits on a request. They are checked before work that grows with what they bound.
const (
	maxSize       = 64 << 10
	maxNames      = 1000 // of a subject alternative name extension; profiles allow fewer
	maxExtensions = 32
	maxCommonName = 255
)

// Request is a request whose form and self-signature are good. It is not permitted yet.
type Request struct {
	Raw  []byte   // the DER that was parsed
	Hash [32]byte // SHA-256 of Raw

	PublicKey    crypto.PublicKey // *ecdsa.PublicKey, *rsa.PublicKey or ed25519.PublicKey, checked by goodkey
	KeyAlgorithm pki.KeyAlgorithm
	SPKI         []byte   // the subject public key info; each key has one encoding only
	SPKIHash     [32]byte // SHA-256 of SPKI
	Thumbprint   string   // RFC 7638 thumbprint of the key, to compare it with account keys

	CommonName string    // as it was written, printable ASCII; "" when there is none or it is empty
	Names      pki.Names // subject alternative names: DNS lower-case, addresses canonical, URIs as they were written
	CA         bool      // basicConstraints with cA true was asked for
}

// Extension is one that a request asks for.
type Extension struct {
	ID    []byte // the object identifier, as the content octets of its DER
	Value []byte
}

// OID returns the object identifier in dots, for people.
func (e *Extension) OID() string { return dotted(e.ID) }

// Unverified is what a request says. Whose it is, is not known: nothing may be issued for it before Verify.
type Unverified struct {
	request    Request
	parts      *parts
	extensions []Extension
}

// Raw returns the DER that was read.
func (u *Unverified) Raw() []byte { return u.request.Raw }

// SPKI returns the subject public key info as it was written. It may be no key at all.
func (u *Unverified) SPKI() []byte { return u.request.SPKI }

// CommonName returns what Request.CommonName will be.
func (u *Unverified) CommonName() string { return u.request.CommonName }

// Names returns what Request.Names will be.
func (u *Unverified) Names() pki.Names { return u.request.Names }

// Extensions returns the extensions that are asked for.
func (u *Unverified) Extensions() []Extension { return u.extensions }

// Verify checks the key and that it signed the request. It refuses as Parse does.
func (u *Unverified) Verify() (*Request, error) {
	request := u.request
	request.Hash, request.SPKIHash = sha256.Sum256(request.Raw), sha256.Sum256(request.SPKI)
	if err := request.readKey(); err != nil {
		return nil, err
	}
	if err := u.parts.checkSignature(request.PublicKey); err != nil {
		return nil, err
	}
	return &request, nil
}

// Read reads a request and neither its key nor its signature, for those who hand it to somebody else who does, and who
// refuse what is not theirs to hand on. It keeps der, which must not be changed afterwards. It refuses as Parse does.
func Read(der []byte) (*Unverified, error) {
	parts, err := split(der)
	if err != nil {
		return nil, err
	}
	u := &Unverified{request: Request{Raw: der, SPKI: parts.spki}, parts: parts}
	if err := u.request.readSubject(parts.subject); err != nil {
		return nil, err
	}
	if err := u.readAttributes(parts.attributes); err != nil {
		return nil, err
	}
	return u, nil
}

// Parse reads a request. It keeps der, which must not be changed afterwards.
//
// It refuses, with a *fault.Error whose sentence names the field, the value and the rule:
//   - Malformed: what is too large;
//   - BadPublicKey: a key that goodkey refuses, or that is not in its one canonical encoding;
//   - BadCSR: everything else, that is anything but exact DER of RFC 2986 signed by its own key with SHA-256 or
//     better, a subject with more than one common name or any other attribute that is not empty, more than one
//     extensionRequest, an extension twice, an unknown critical extension, subject alternative names that are not DNS
//     names, IP addresses or URIs.
//
// DNS names are compared without regard to case (RFC 4343), so upper-case letters become lower-case ones, and
// a name or address that is written twice counts once, as in an order. A trailing dot, a NUL or a character outside ASCII
// is refused; an IPv4 address in 16 octets becomes the IPv4 address. The same URI twice is refused.
func Parse(der []byte) (*Request, error) {
	u, err := Read(der)
	if err != nil {
		return nil, err
	}
	// What costs most comes last, so that a request that is refused anyhow is refused quickly.
	return u.Verify()
}

// parts is a request taken apart.
type parts struct {
	tbs        []byte // CertificationRequestInfo, the signed bytes
	subject    cryptobyte.String
	spki       []byte
	attributes cryptobyte.String
	algorithm  cryptobyte.String // content of the AlgorithmIdentifier
	signature  []byte
}

// attributesTag is [0] IMPLICIT SET OF Attribute.
const attributesTag = asn1.Tag(0x80 | 0x20)

func split(der []byte) (*parts, error) {
	if len(der) > maxSize {
		return nil, fault.New(fault.Malformed, "CSR has %d bytes, more than %d", len(der), maxSize)
	}
	if bytes.HasPrefix(der, []byte("-----BEGIN ")) {
		return nil, bad("CSR is PEM; its DER is wanted")
	}
	var (
		p           parts
		outer, info cryptobyte.String
	)
	input := cryptobyte.String(der)
	if !input.ReadASN1(&outer, asn1.SEQUENCE) || !outer.ReadASN1Element(&info, asn1.SEQUENCE) ||
		!outer.ReadASN1(&p.algorithm, asn1.SEQUENCE) || !outer.ReadASN1BitStringAsBytes(&p.signature) {
		return nil, bad("CSR is not a DER encoded certification request (RFC 2986)")
	}
	if !input.Empty() || !outer.Empty() {
		return nil, bad("CSR has bytes after its end")
	}
	p.tbs = info
	return &p, p.splitInfo(info)
}

// splitInfo takes the CertificationRequestInfo apart.
func (p *parts) splitInfo(element cryptobyte.String) error {
	var (
		info, spki cryptobyte.String
		version    int
	)
	if !element.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1Integer(&version) ||
		!info.ReadASN1(&p.subject, asn1.SEQUENCE) || !info.ReadASN1Element(&spki, asn1.SEQUENCE) ||
		!info.ReadASN1(&p.attributes, attributesTag) || !info.Empty() {
		return bad("CSR's certification request info is not as RFC 2986 has it")
	}
	if version != 0 {
		return bad("CSR has version %d, not 0 (RFC 2986 section 4.1)", version)
	}
	p.spki = spki
	return nil
}

// checkSignature checks that the request was signed by the key in it (RFC 2986 section 3).
func (p *parts) checkSignature(key crypto.PublicKey) error {
	algorithm, err := signatureAlgorithm(p.algorithm)
	if err != nil {
		return err
	}
	signed := x509.CertificateRequest{
		RawTBSCertificateRequest: p.tbs,
		SignatureAlgorithm:       algorithm,
		Signature:                p.signature,
		PublicKey:                key,
	}
	if err := signed.CheckSignature(); err != nil {
		return fault.Wrap(err, fault.BadCSR, "CSR's signature was not made by the key in the CSR")
	}
	return nil
}

// signatureAlgorithm reads the content of an AlgorithmIdentifier. RSASSA-PSS is not among the algorithms: nobody
// signs requests with it, and its parameters are a language of their own.
func signatureAlgorithm(identifier cryptobyte.String) (x509.SignatureAlgorithm, error) {
	var oid cryptobyte.String
	if !readOID(&identifier, &oid) {
		return 0, bad("CSR's signature algorithm cannot be read")
	}
	var algorithm x509.SignatureAlgorithm
	isRSA := false
	switch string(oid) {
	case oidSHA256WithRSA:
		algorithm, isRSA = x509.SHA256WithRSA, true
	case oidSHA384WithRSA:
		algorithm, isRSA = x509.SHA384WithRSA, true
	case oidSHA512WithRSA:
		algorithm, isRSA = x509.SHA512WithRSA, true
	case oidECDSAWithSHA256:
		algorithm = x509.ECDSAWithSHA256
	case oidECDSAWithSHA384:
		algorithm = x509.ECDSAWithSHA384
	case oidECDSAWithSHA512:
		algorithm = x509.ECDSAWithSHA512
	case oidEd25519:
		algorithm = x509.PureEd25519
	default:
		return 0, bad("CSR is signed with algorithm %s, not with ECDSA or RSA (PKCS #1 v1.5) over SHA-256, SHA-384 or SHA-512, or Ed25519",
			dotted(oid))
	}
	// RSA has NULL parameters, which RFC 4055 section 5 allows to be absent; the others have none (RFC 5758, RFC 8410).
	var null cryptobyte.String
	if isRSA && !identifier.Empty() && (!identifier.ReadASN1(&null, asn1.NULL) || !null.Empty()) || !identifier.Empty() {
		return 0, bad("CSR's signature algorithm %s has parameters that it may not have", dotted(oid))
	}
	return algorithm, nil
}

// bad returns the error that refuses a request for its form.
func bad(format string, args ...any) error { return fault.New(fault.BadCSR, format, args...) }
