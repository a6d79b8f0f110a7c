package lint

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/pki"
)

// Want is what was decided: a certificate must be exactly this.
type Want struct {
	Serial    pki.Serial
	NotBefore time.Time
	NotAfter  time.Time
	SPKI      []byte // subject public key info, byte for byte

	Organization string // "" for none; for CAs only
	CommonName   string // "" for none
	Names        pki.Names
	Agent        bool // the names are an agent's own

	KeyUsage    []string // exactly these
	ExtKeyUsage []string // exactly these, in this order; none: no such extension

	CA           bool
	PathLen      int      // of a CA; -1 for no limit
	PermittedDNS []string // name constraints of a CA
	PermittedURI []string
}

// maxTBS bounds what is looked at: a thousand names of the longest kind, and more than any request may have, fit.
const maxTBS = 1 << 19

// Check judges the bytes of a TBSCertificate. A *fault.Error of kind RejectedIdentifier says that the names are
// outside the CA's name constraints; every other error is a mistake of whoever built the certificate, and says which
// element differs.
func (i *Issuer) Check(tbs []byte, w *Want) error {
	if len(tbs) >= maxTBS {
		return fmt.Errorf("lint: certificate has %d bytes, more than %d", len(tbs), maxTBS)
	}
	if err := i.checkWant(w); err != nil {
		return err
	}
	if err := i.Permits(&w.Names); err != nil {
		return err
	}
	if err := i.checkBody(tbs, w); err != nil {
		return fmt.Errorf("lint: %w", err)
	}
	return nil
}

// checkWant applies the rules that hold for every certificate, whatever was decided.
func (i *Issuer) checkWant(w *Want) error {
	serial := w.Serial.Bytes()
	switch {
	case len(serial) != pki.SerialLen || serial[0]&0x80 != 0:
		return fmt.Errorf("lint: serial %q is not a positive number of exactly %d octets", w.Serial, pki.SerialLen)
	case !w.NotBefore.Before(w.NotAfter):
		return fmt.Errorf("lint: notBefore %s is not before notAfter %s", w.NotBefore, w.NotAfter)
	case !i.self && (w.NotBefore.Before(i.notBefore) || w.NotAfter.After(i.notAfter)):
		return fmt.Errorf("lint: validity %s to %s is not within that of the CA, %s to %s", w.NotBefore, w.NotAfter, i.notBefore, i.notAfter)
	case w.CA:
		return i.checkWantCA(w)
	case i.self:
		return fmt.Errorf("lint: a certificate signed by its own key is not that of a CA")
	}
	return checkWantLeaf(w)
}

func checkWantLeaf(w *Want) error {
	switch {
	case len(w.Names.DNS)+len(w.Names.IPs)+len(w.Names.URIs) == 0:
		return fmt.Errorf("lint: certificate has no name")
	case slices.Contains(w.KeyUsage, certSign) || slices.Contains(w.KeyUsage, crlSign):
		return fmt.Errorf("lint: a certificate that is no CA's has key usages %q", w.KeyUsage)
	case len(w.ExtKeyUsage) == 0:
		return fmt.Errorf("lint: certificate has no extended key usage, so it would be good for every purpose")
	case slices.Contains(w.KeyUsage, keyEncipherment) && !slices.Contains(w.ExtKeyUsage, serverAuth):
		return fmt.Errorf("lint: keyEncipherment is for servers, not for extended key usages %q (RFC 5280 section 4.2.1.12)", w.ExtKeyUsage)
	case w.Organization != "" || len(w.PermittedDNS)+len(w.PermittedURI) > 0:
		return fmt.Errorf("lint: a certificate that is no CA's has an organization or name constraints")
	}
	return checkNames(w)
}

func (i *Issuer) checkWantCA(w *Want) error {
	switch {
	case w.CommonName == "":
		return fmt.Errorf("lint: CA has no subject (RFC 5280 section 4.1.2.6)")
	case !slices.Contains(w.KeyUsage, certSign):
		return fmt.Errorf("lint: key usages %q of a CA lack keyCertSign", w.KeyUsage)
	case len(w.Names.DNS)+len(w.Names.IPs)+len(w.Names.URIs) > 0:
		return fmt.Errorf("lint: CA has subject alternative names")
	case i.depth == 0:
		return fmt.Errorf("lint: the path length of the CA allows no CA below it")
	case i.depth > 0 && (w.PathLen < 0 || w.PathLen >= i.depth):
		return fmt.Errorf("lint: path length %d is not below the %d that the CA allows", w.PathLen, i.depth)
	}
	return nil
}

// checkNames applies the syntax of names once more.
func checkNames(w *Want) error {
	for _, name := range w.Names.DNS {
		if err := pki.CheckDNSName(strings.TrimPrefix(name, "*.")); err != nil {
			return fmt.Errorf("lint: %w", err)
		}
	}
	if w.Agent {
		return checkAgent(w)
	}
	for _, uri := range w.Names.URIs {
		if _, err := pki.ParseSPIFFEID(uri); err != nil {
			return fmt.Errorf("lint: %w", err)
		}
	}
	return nil
}

// checkAgent applies what holds for the certificate of an agent itself: it is good for being known to the server, and
// for nothing else.
func checkAgent(w *Want) error {
	if len(w.Names.URIs) != 1 || len(w.Names.DNS)+len(w.Names.IPs) > 0 || w.CommonName != "" {
		return fmt.Errorf("lint: an agent's certificate has more or less than one URI: %v", w.Names)
	}
	if len(w.ExtKeyUsage) != 1 || w.ExtKeyUsage[0] != clientAuth {
		return fmt.Errorf("lint: an agent's certificate has extended key usages %q, not clientAuth alone", w.ExtKeyUsage)
	}
	if _, _, err := pki.ParseAgentURI(w.Names.URIs[0]); err != nil {
		return fmt.Errorf("lint: %w", err)
	}
	return nil
}

// body is a TBSCertificate taken apart (RFC 5280 section 4.1).
type body struct {
	version, serial cryptobyte.String // content
	algorithm       cryptobyte.String // element
	issuer          cryptobyte.String // element
	validity        cryptobyte.String // content
	subject, spki   cryptobyte.String // elements
	extensions      cryptobyte.String // content of the SEQUENCE
}

// readBody takes the bytes apart. The elements that RFC 5280 forbids or that we never make (unique identifiers) are
// not among those that it knows.
func readBody(tbs []byte) (*body, bool) {
	var b body
	var content, outer cryptobyte.String
	input := cryptobyte.String(tbs)
	if !input.ReadASN1(&content, asn1.SEQUENCE) || !input.Empty() ||
		!content.ReadASN1(&b.version, tagVersion) ||
		!content.ReadASN1(&b.serial, asn1.INTEGER) ||
		!content.ReadASN1Element(&b.algorithm, asn1.SEQUENCE) ||
		!content.ReadASN1Element(&b.issuer, asn1.SEQUENCE) ||
		!content.ReadASN1(&b.validity, asn1.SEQUENCE) ||
		!content.ReadASN1Element(&b.subject, asn1.SEQUENCE) ||
		!content.ReadASN1Element(&b.spki, asn1.SEQUENCE) ||
		!content.ReadASN1(&outer, tagExtensions) || !content.Empty() {
		return nil, false
	}
	return &b, outer.ReadASN1(&b.extensions, asn1.SEQUENCE) && outer.Empty()
}

// checkBody compares a TBSCertificate with the decision, element by element.
func (i *Issuer) checkBody(tbs []byte, w *Want) error {
	b, ok := readBody(tbs)
	if !ok {
		return fmt.Errorf("certificate does not consist of version, serial, algorithm, names, validity, key and extensions alone")
	}
	issuer := i.subject
	if i.self {
		issuer = b.subject
	}
	var dates [34]byte // two GeneralizedTimes
	wantDates := appendTime(appendTime(dates[:0], w.NotBefore), w.NotAfter)
	switch {
	case string(b.version) != "\x02\x01\x02":
		return fmt.Errorf("version is not 3")
	case !bytes.Equal(b.serial, w.Serial.Bytes()):
		return fmt.Errorf("serial is %x, not %s", []byte(b.serial), w.Serial)
	case !bytes.Equal(b.algorithm, i.algorithm):
		return fmt.Errorf("signature algorithm is %x, not %x, that of the CA's key", []byte(b.algorithm), i.algorithm)
	case !bytes.Equal(b.issuer, issuer):
		return fmt.Errorf("issuer is %x, not the CA's subject %x", []byte(b.issuer), issuer)
	case !bytes.Equal(b.validity, wantDates):
		return fmt.Errorf("validity is %q, not %q", []byte(b.validity), wantDates)
	case !bytes.Equal(b.spki, w.SPKI):
		return fmt.Errorf("public key is not that of the request")
	}
	if err := checkSubject(b.subject, w); err != nil {
		return err
	}
	if err := checkKeyUsage(b.spki, w.KeyUsage); err != nil {
		return err
	}
	return i.checkExtensions(b, w)
}

// checkSubject compares the subject: an organization and a common name, each in an RDN of its own, or nothing.
func checkSubject(subject cryptobyte.String, w *Want) error {
	var rdns cryptobyte.String
	if !subject.ReadASN1(&rdns, asn1.SEQUENCE) {
		return fmt.Errorf("subject cannot be read")
	}
	for _, want := range [...]struct{ oid, value string }{{oidOrganization, w.Organization}, {oidCommonName, w.CommonName}} {
		if want.value == "" {
			continue
		}
		var rdn, attribute, oid, value cryptobyte.String
		var tag asn1.Tag
		if !rdns.ReadASN1(&rdn, asn1.SET) || !rdn.ReadASN1(&attribute, asn1.SEQUENCE) || !rdn.Empty() ||
			!attribute.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) || !attribute.ReadAnyASN1(&value, &tag) || !attribute.Empty() {
			return fmt.Errorf("subject lacks %q or cannot be read", want.value)
		}
		if string(oid) != want.oid || string(value) != want.value || (tag != asn1.PrintableString && tag != asn1.UTF8String) {
			return fmt.Errorf("subject has attribute %x with %q, not %x with %q", []byte(oid), []byte(value), want.oid, want.value)
		}
	}
	if !rdns.Empty() {
		return fmt.Errorf("subject has more than was asked for: %x", []byte(rdns))
	}
	return nil
}

// checkKeyUsage refuses usages that the key cannot have: RFC 5480 section 3 for ECDSA, RFC 8410 section 5 for Ed25519,
// RFC 3279 section 2.3.1 for RSA.
func checkKeyUsage(spki cryptobyte.String, usages []string) error {
	var info, algorithm, oid cryptobyte.String
	if !spki.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1(&algorithm, asn1.SEQUENCE) || !algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return fmt.Errorf("public key cannot be read")
	}
	for _, usage := range usages {
		if !fits(string(oid), usage) {
			return fmt.Errorf("key usage %s is not for keys of algorithm %x", usage, []byte(oid))
		}
	}
	return nil
}

func fits(key, usage string) bool {
	switch usage {
	case digitalSignature, certSign, crlSign, "contentCommitment":
		return key == oidECPublicKey || key == oidRSAEncryption || key == oidEd25519
	case keyAgreement:
		return key == oidECPublicKey
	case keyEncipherment, "dataEncipherment":
		return key == oidRSAEncryption
	default:
		return false
	}
}
