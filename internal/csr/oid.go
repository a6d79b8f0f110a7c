package csr

import (
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers as the content octets of their DER, so that comparing one costs nothing.
const (
	oidCommonName   = "\x55\x04\x03" // 2.5.4.3
	oidOrganization = "\x55\x04\x0a" // 2.5.4.10

	oidExtensionRequest   = "\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"     // 1.2.840.113549.1.9.14
	oidMicrosoftExtension = "\x2b\x06\x01\x04\x01\x82\x37\x02\x01\x0e" // 1.3.6.1.4.1.311.2.1.14

	oidSubjectKeyID     = "\x55\x1d\x0e" // 2.5.29.14
	oidKeyUsage         = "\x55\x1d\x0f" // 2.5.29.15
	oidSubjectAltName   = "\x55\x1d\x11" // 2.5.29.17
	oidBasicConstraints = "\x55\x1d\x13" // 2.5.29.19
	oidExtKeyUsage      = "\x55\x1d\x25" // 2.5.29.37

	oidSHA256WithRSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b" // 1.2.840.113549.1.1.11
	oidSHA384WithRSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c" // 1.2.840.113549.1.1.12
	oidSHA512WithRSA   = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d" // 1.2.840.113549.1.1.13
	oidECDSAWithSHA256 = "\x2a\x86\x48\xce\x3d\x04\x03\x02"     // 1.2.840.10045.4.3.2
	oidECDSAWithSHA384 = "\x2a\x86\x48\xce\x3d\x04\x03\x03"     // 1.2.840.10045.4.3.3
	oidECDSAWithSHA512 = "\x2a\x86\x48\xce\x3d\x04\x03\x04"     // 1.2.840.10045.4.3.4
	oidEd25519         = "\x2b\x65\x70"                         // 1.3.101.112
)

// maxArc is how many octets an arc may have: 28 bits, more than any arc that is in use for what requests have.
const maxArc = 4

// readOID reads the content of an object identifier, if it is in the one form that DER has for it (X.690 section
// 8.19): whole arcs without leading zero bits.
func readOID(from, oid *cryptobyte.String) bool {
	if !from.ReadASN1(oid, asn1.OBJECT_IDENTIFIER) || oid.Empty() {
		return false
	}
	const more = 0x80 // set in every octet of an arc but the last
	length := 0
	for _, octet := range *oid {
		if length == 0 && octet == more {
			return false
		}
		length++
		if length > maxArc {
			return false
		}
		if octet&more == 0 {
			length = 0
		}
	}
	return length == 0
}

// dotted writes an object identifier for people.
func dotted(content []byte) string {
	var oid x509.OID
	if err := oid.UnmarshalBinary(content); err != nil || len(content) > 32 {
		return "(unreadable)"
	}
	return oid.String()
}
