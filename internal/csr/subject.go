package csr

import (
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// notPrintable is the part of printable ASCII that a PrintableString does not have (X.680 section 41.4), without
// "*" and "&", which are in so many of them that everybody lets them pass.
const notPrintable = "!\"#$%;<>@[\\]^_`{|}~"

// readSubject reads the content of an RDNSequence (RFC 5280 section 4.1.2.4). It takes the common name; every other
// attribute must be empty. Istio's agents send an organization with an empty value.
func (r *Request) readSubject(rdns cryptobyte.String) error {
	for !rdns.Empty() {
		var rdn cryptobyte.String
		if !rdns.ReadASN1(&rdn, asn1.SET) || rdn.Empty() {
			return bad("CSR's subject cannot be read")
		}
		for !rdn.Empty() {
			var attribute, oid, value cryptobyte.String
			var tag asn1.Tag
			if !rdn.ReadASN1(&attribute, asn1.SEQUENCE) || !readOID(&attribute, &oid) ||
				!attribute.ReadAnyASN1(&value, &tag) || !attribute.Empty() {
				return bad("CSR's subject cannot be read")
			}
			if err := r.readSubjectAttribute(oid, tag, value); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Request) readSubjectAttribute(oid []byte, tag asn1.Tag, value []byte) error {
	text := tag == asn1.UTF8String || tag == asn1.PrintableString || tag == asn1.IA5String
	switch {
	case len(value) == 0 && text:
		return nil // says nothing; Istio's agents write an organization like that
	case string(oid) == oidOrganization:
		return bad("CSR's subject has organization %.60q; only a common name may be there", value)
	case string(oid) != oidCommonName:
		return bad("CSR's subject has attribute %s with value %.60q; only a common name may be there", dotted(oid), value)
	case r.CommonName != "":
		return bad("CSR's subject has more than one common name: %.60q and %.60q", r.CommonName, value)
	case !text:
		return bad("CSR's common name has ASN.1 type %d, not UTF8String, PrintableString or IA5String", tag)
	case len(value) > maxCommonName:
		return bad("CSR's common name %.60q... has %d bytes, more than %d", value, len(value), maxCommonName)
	}
	for _, c := range value {
		if c < ' ' || c > '~' {
			return bad("CSR's common name %.60q has character %q, which is not printable ASCII", value, c)
		}
		if tag == asn1.PrintableString && strings.IndexByte(notPrintable, c) >= 0 {
			return bad("CSR's common name %.60q has character %q, which a PrintableString cannot have", value, c)
		}
	}
	r.CommonName = string(value)
	return nil
}
