package lint

import (
	"bytes"
	"fmt"
	"net/netip"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/pki"
)

// expected is an extension that a certificate must have.
type expected struct {
	oid      string
	critical bool
	value    []byte
	seen     bool
}

// maxExpected is how many extensions a certificate can have: those of a CA, and names.
const maxExpected = 9

// checkExtensions compares the extensions with those that are expected, in any order: none is missing, none is there
// twice, none is there that is not expected (RFC 5280 section 4.2).
func (i *Issuer) checkExtensions(b *body, w *Want) error {
	var list [maxExpected]expected
	want, err := i.expect(list[:0], b, w)
	if err != nil {
		return err
	}
	for !b.extensions.Empty() {
		var extension, oid, value cryptobyte.String
		var critical bool
		if !b.extensions.ReadASN1(&extension, asn1.SEQUENCE) || !extension.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!readCritical(&extension, &critical) || !extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
			return fmt.Errorf("extensions cannot be read")
		}
		if err := compare(want, oid, critical, value); err != nil {
			return err
		}
	}
	for n := range want {
		if !want[n].seen {
			return fmt.Errorf("extension %x is missing", want[n].oid)
		}
	}
	return nil
}

// readCritical reads the criticality, which DER leaves out when it is false.
func readCritical(extension *cryptobyte.String, critical *bool) bool {
	if !extension.PeekASN1Tag(asn1.BOOLEAN) {
		return true
	}
	return extension.ReadASN1Boolean(critical) && *critical
}

func compare(want []expected, oid []byte, critical bool, value []byte) error {
	for n := range want {
		e := &want[n]
		if e.oid != string(oid) {
			continue
		}
		switch {
		case e.seen:
			return fmt.Errorf("extension %x is there twice", oid)
		case e.critical != critical:
			return fmt.Errorf("extension %x has criticality %t, not %t", oid, critical, e.critical)
		case !bytes.Equal(e.value, value):
			return fmt.Errorf("extension %x has value %x, not %x", oid, value, e.value)
		}
		e.seen = true
		return nil
	}
	return fmt.Errorf("extension %x was not asked for", oid)
}

// expect appends the extensions that a certificate must have.
func (i *Issuer) expect(list []expected, b *body, w *Want) ([]expected, error) {
	usage, ok := encodeKeyUsage(w.KeyUsage)
	if !ok {
		return nil, fmt.Errorf("key usages %q are empty or not known", w.KeyUsage)
	}
	keyID, err := KeyID(b.spki)
	if err != nil {
		return nil, err
	}
	list = append(list,
		expected{oid: oidKeyUsage, critical: true, value: usage},
		expected{oid: oidBasicConstraints, critical: true, value: encodeBasicConstraints(w.CA, w.PathLen)},
		expected{oid: oidSubjectKeyID, value: element(asn1.OCTET_STRING, keyID)})
	if len(w.ExtKeyUsage) > 0 {
		purposes, ok := encodePurposes(w.ExtKeyUsage)
		if !ok {
			return nil, fmt.Errorf("extended key usages %q are not known", w.ExtKeyUsage)
		}
		list = append(list, expected{oid: oidExtKeyUsage, value: purposes})
	}
	if !w.CA {
		names, err := encodeNames(&w.Names)
		if err != nil {
			return nil, err
		}
		// RFC 5280 section 4.2.1.6: critical if, and here only if, the subject is empty.
		list = append(list, expected{oid: oidSubjectAltName, critical: w.CommonName == "", value: names})
	}
	if len(w.PermittedDNS)+len(w.PermittedURI) > 0 {
		list = append(list, expected{oid: oidNameConstraints, critical: true, value: encodeNameConstraints(w.PermittedDNS, w.PermittedURI)})
	}
	for _, e := range [...]expected{
		{oid: oidAuthorityKeyID, value: i.authorityKeyID},
		{oid: oidCRLPoints, value: i.crlPoints},
		{oid: oidAuthorityInfo, value: i.authorityInfo},
	} {
		if e.value != nil {
			list = append(list, e)
		}
	}
	return list, nil
}

// encodeNames encodes a subjectAltName extension: DNS names, addresses, URIs.
func encodeNames(names *pki.Names) ([]byte, error) {
	var content []byte
	add := func(tag asn1.Tag, value []byte) {
		content = append(content, element(tag, value)...)
	}
	for _, name := range names.DNS {
		add(tagDNSName, []byte(name))
	}
	for _, name := range names.IPs {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return nil, fmt.Errorf("IP address %q cannot be read", name)
		}
		add(tagIPAddress, addr.AsSlice())
	}
	for _, uri := range names.URIs {
		add(tagURI, []byte(uri))
	}
	return element(asn1.SEQUENCE, content), nil
}
