package csr

import (
	"bytes"
	"net/netip"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// readAttributes reads the content of the attributes. Those that ask for nothing (challengePassword, what
// Windows says of itself) are ignored.
func (u *Unverified) readAttributes(attributes cryptobyte.String) error {
	seen := false
	for !attributes.Empty() {
		var attribute, oid, values cryptobyte.String
		if !attributes.ReadASN1(&attribute, asn1.SEQUENCE) || !readOID(&attribute, &oid) ||
			!attribute.ReadASN1(&values, asn1.SET) || !attribute.Empty() {
			return bad("CSR's attributes cannot be read")
		}
		switch string(oid) {
		case oidMicrosoftExtension:
			// Readers that know this attribute and readers that do not would see different requests.
			return bad("CSR asks for extensions in Microsoft's attribute %s; the extensionRequest attribute of PKCS #9 is wanted",
				dotted(oid))
		case oidExtensionRequest:
			if seen {
				return bad("CSR has more than one extensionRequest attribute")
			}
			seen = true
			if err := u.readExtensions(values); err != nil {
				return err
			}
		}
	}
	return nil
}

// readExtensions reads the values of an extensionRequest attribute (RFC 2985 section 5.4.2).
func (u *Unverified) readExtensions(values cryptobyte.String) error {
	var extensions cryptobyte.String
	if !values.ReadASN1(&extensions, asn1.SEQUENCE) || !values.Empty() {
		return bad("CSR's extensionRequest attribute does not have exactly one value")
	}
	for !extensions.Empty() {
		var extension, oid, value cryptobyte.String
		var critical bool
		if !extensions.ReadASN1(&extension, asn1.SEQUENCE) || !readOID(&extension, &oid) ||
			!readCritical(&extension, &critical) || !extension.ReadASN1(&value, asn1.OCTET_STRING) || !extension.Empty() {
			return bad("CSR's requested extensions cannot be read")
		}
		if slices.ContainsFunc(u.extensions, func(e Extension) bool { return bytes.Equal(e.ID, oid) }) {
			return bad("CSR asks for extension %s more than once", dotted(oid))
		}
		u.extensions = append(u.extensions, Extension{ID: oid, Value: value})
		if len(u.extensions) > maxExtensions {
			return bad("CSR asks for more than %d extensions", maxExtensions)
		}
		if err := u.request.readExtension(oid, critical, value); err != nil {
			return err
		}
	}
	return nil
}

// readCritical reads the optional criticality. FALSE may be written out: DER wants the default left out, but
// requests that have it there can be read in one way only.
func readCritical(extension *cryptobyte.String, critical *bool) bool {
	if !extension.PeekASN1Tag(asn1.BOOLEAN) {
		return true
	}
	return extension.ReadASN1Boolean(critical)
}

func (r *Request) readExtension(oid []byte, critical bool, value cryptobyte.String) error {
	switch string(oid) {
	case oidSubjectAltName:
		return r.readNames(value)
	case oidBasicConstraints:
		return r.readBasicConstraints(value)
	case oidKeyUsage, oidExtKeyUsage, oidSubjectKeyID:
		return nil // the profile decides on usages, we on identifiers
	}
	if critical {
		return bad("CSR asks for critical extension %s, which we do not grant", dotted(oid))
	}
	return nil
}

// readBasicConstraints reads RFC 5280 section 4.2.1.9. A path length is read over: the profile sets it.
func (r *Request) readBasicConstraints(value cryptobyte.String) error {
	var constraints cryptobyte.String
	var pathLength int
	if !value.ReadASN1(&constraints, asn1.SEQUENCE) || !value.Empty() ||
		(constraints.PeekASN1Tag(asn1.BOOLEAN) && !constraints.ReadASN1Boolean(&r.CA)) ||
		(!constraints.Empty() && !constraints.ReadASN1Integer(&pathLength)) || !constraints.Empty() {
		return bad("CSR's basicConstraints extension cannot be read")
	}
	return nil
}

// Tags of the GeneralName choices that we take (RFC 5280 section 4.2.1.6).
const (
	tagDNSName   = asn1.Tag(0x80 | 2)
	tagURI       = asn1.Tag(0x80 | 6)
	tagIPAddress = asn1.Tag(0x80 | 7)
)

// readNames reads a subjectAltName extension, name by name from the raw bytes: one that we do not know must be
// refused, not skipped.
func (r *Request) readNames(value cryptobyte.String) error {
	var names cryptobyte.String
	if !value.ReadASN1(&names, asn1.SEQUENCE) || !value.Empty() {
		return bad("CSR's subjectAltName extension cannot be read")
	}
	if names.Empty() {
		return bad("CSR's subjectAltName extension has no name")
	}
	for count := 1; !names.Empty(); count++ {
		if count > maxNames {
			return fault.New(fault.Malformed, "CSR has more than %d subject alternative names", maxNames)
		}
		var name cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1(&name, &tag) {
			return bad("CSR's subjectAltName extension cannot be read")
		}
		if err := r.readName(tag, name); err != nil {
			return err
		}
	}
	return r.sortNames()
}

func (r *Request) readName(tag asn1.Tag, value []byte) error {
	switch tag {
	case tagDNSName:
		id, err := pki.NormalizeIdentifier(pki.Identifier{Type: pki.DNS, Value: string(value)})
		if err != nil {
			return bad("CSR's subject alternative name is refused: %v", err)
		}
		r.Names.DNS = append(r.Names.DNS, id.Value)
	case tagIPAddress:
		addr, ok := netip.AddrFromSlice(value)
		if !ok {
			return bad("CSR's subject alternative name of type iPAddress has %d octets, not 4 or 16", len(value))
		}
		r.Names.IPs = append(r.Names.IPs, addr.Unmap().String())
	case tagURI:
		for _, c := range value {
			if c <= ' ' || c > '~' {
				return bad("CSR's URI %.200q has character %q, which is not printable ASCII", value, c)
			}
		}
		r.Names.URIs = append(r.Names.URIs, string(value))
	default:
		return bad("CSR has a subject alternative name of type %s; only dNSName, iPAddress and uniformResourceIdentifier are issued",
			generalName(tag))
	}
	return nil
}

// sortNames sorts the names and drops DNS names and addresses that are there twice, as in an order's
// identifiers.
func (r *Request) sortNames() error {
	slices.Sort(r.Names.DNS)
	r.Names.DNS = slices.Compact(r.Names.DNS)
	slices.Sort(r.Names.IPs)
	r.Names.IPs = slices.Compact(r.Names.IPs)
	slices.Sort(r.Names.URIs)
	for i := 1; i < len(r.Names.URIs); i++ {
		if r.Names.URIs[i] == r.Names.URIs[i-1] {
			return bad("CSR has URI %.200q more than once", r.Names.URIs[i])
		}
	}
	return nil
}

// generalName names a GeneralName choice by its tag.
func generalName(tag asn1.Tag) string {
	choices := [...]string{
		"otherName", "rfc822Name", "dNSName in a bad encoding", "x400Address", "directoryName", "ediPartyName",
		"uniformResourceIdentifier in a bad encoding", "iPAddress in a bad encoding", "registeredID",
	}
	const classBits, contextSpecific, numberBits = 0xc0, 0x80, 0x1f
	if number := int(tag & numberBits); tag&classBits == contextSpecific && number < len(choices) {
		return choices[number]
	}
	return "unknown"
}
