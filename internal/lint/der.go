package lint

import (
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"
)

// Tags of context-specific elements.
const (
	tagVersion    = asn1.Tag(0xa0) // [0] EXPLICIT version
	tagExtensions = asn1.Tag(0xa3) // [3] EXPLICIT extensions
	tagDNSName    = asn1.Tag(0x82) // GeneralName
	tagURI        = asn1.Tag(0x86)
	tagIPAddress  = asn1.Tag(0x87)
	tagFirst      = asn1.Tag(0xa0) // [0], constructed
	tagKeyID      = asn1.Tag(0x80) // [0] IMPLICIT keyIdentifier
)

// Object identifiers as the content of their DER encoding.
const (
	oidCommonName   = "\x55\x04\x03"
	oidOrganization = "\x55\x04\x0a"

	oidSubjectKeyID     = "\x55\x1d\x0e"
	oidKeyUsage         = "\x55\x1d\x0f"
	oidSubjectAltName   = "\x55\x1d\x11"
	oidBasicConstraints = "\x55\x1d\x13"
	oidNameConstraints  = "\x55\x1d\x1e"
	oidCRLPoints        = "\x55\x1d\x1f"
	oidAuthorityKeyID   = "\x55\x1d\x23"
	oidExtKeyUsage      = "\x55\x1d\x25"
	oidAuthorityInfo    = "\x2b\x06\x01\x05\x05\x07\x01\x01"

	oidOCSP      = "\x2b\x06\x01\x05\x05\x07\x30\x01"
	oidCAIssuers = "\x2b\x06\x01\x05\x05\x07\x30\x02"

	oidECPublicKey   = "\x2a\x86\x48\xce\x3d\x02\x01"
	oidRSAEncryption = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01"
	oidEd25519       = "\x2b\x65\x70"
)

// Signature AlgorithmIdentifiers (RFC 5758 section 3.2, RFC 4055 section 5, RFC 8410 section 3).
const (
	sigECDSAWithSHA256 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02"
	sigECDSAWithSHA384 = "\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03"
	sigSHA256WithRSA   = "\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b\x05\x00"
	sigEd25519         = "\x30\x05\x06\x03\x2b\x65\x70"
)

// element encodes one DER element. Lengths beyond 24 bits do not occur: a TBSCertificate that long is refused before.
func element(tag asn1.Tag, contents ...[]byte) []byte {
	length := 0
	for _, content := range contents {
		length += len(content)
	}
	out := make([]byte, 0, length+5)
	switch {
	case length < 0x80:
		out = append(out, byte(tag), byte(length))
	case length < 0x100:
		out = append(out, byte(tag), 0x81, byte(length))
	case length < 0x10000:
		out = append(out, byte(tag), 0x82, byte(length>>8), byte(length))
	default:
		out = append(out, byte(tag), 0x83, byte(length>>16), byte(length>>8), byte(length))
	}
	for _, content := range contents {
		out = append(out, content...)
	}
	return out
}

// appendTime appends a Time of RFC 5280 section 4.1.2.5: UTCTime through the year 2049, GeneralizedTime after it.
func appendTime(to []byte, t time.Time) []byte {
	const utcLayout, generalizedLayout = "060102150405Z", "20060102150405Z"
	t = t.UTC()
	if year := t.Year(); year >= 1950 && year < 2050 {
		to = append(to, byte(asn1.UTCTime), byte(len(utcLayout)))
		return t.AppendFormat(to, utcLayout)
	}
	to = append(to, byte(asn1.GeneralizedTime), byte(len(generalizedLayout)))
	return t.AppendFormat(to, generalizedLayout)
}

// keyUsageBit returns the bit of a key usage (RFC 5280 section 4.2.1.3).
func keyUsageBit(name string) (bit uint, ok bool) {
	switch name {
	case digitalSignature:
		return 0, true
	case "contentCommitment":
		return 1, true
	case keyEncipherment:
		return 2, true
	case "dataEncipherment":
		return 3, true
	case keyAgreement:
		return 4, true
	case certSign:
		return 5, true
	case crlSign:
		return 6, true
	default:
		return 0, false
	}
}

// Key usages that rules speak of.
const (
	digitalSignature = "digitalSignature"
	keyEncipherment  = "keyEncipherment"
	keyAgreement     = "keyAgreement"
	certSign         = "keyCertSign"
	crlSign          = "cRLSign"

	serverAuth = "serverAuth"
	clientAuth = "clientAuth"
)

// encodeKeyUsage encodes a named bit list: without trailing zero bits (X.690 section 11.2.2).
func encodeKeyUsage(names []string) ([]byte, bool) {
	var bits byte
	last := uint(0)
	for _, name := range names {
		bit, ok := keyUsageBit(name)
		if !ok {
			return nil, false
		}
		bits |= 0x80 >> bit
		last = max(last, bit)
	}
	return element(asn1.BIT_STRING, []byte{byte(7 - last), bits}), bits != 0
}

// encodePurposes encodes an extended key usage extension (RFC 5280 section 4.2.1.12).
func encodePurposes(names []string) ([]byte, bool) {
	var content []byte
	for _, name := range names {
		switch name {
		case serverAuth:
			content = append(content, "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x01"...)
		case clientAuth:
			content = append(content, "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"...)
		default:
			return nil, false
		}
	}
	return element(asn1.SEQUENCE, content), len(content) > 0
}

// encodeBasicConstraints encodes RFC 5280 section 4.2.1.9; a path length below zero is left out.
func encodeBasicConstraints(ca bool, pathLen int) []byte {
	const maxShort = 127
	switch {
	case !ca:
		return element(asn1.SEQUENCE)
	case pathLen < 0:
		return element(asn1.SEQUENCE, element(asn1.BOOLEAN, []byte{0xff}))
	default:
		return element(asn1.SEQUENCE, element(asn1.BOOLEAN, []byte{0xff}), element(asn1.INTEGER, []byte{byte(min(pathLen, maxShort))}))
	}
}

// encodeCRLPoints encodes RFC 5280 section 4.2.1.13 with one distribution point for each address.
func encodeCRLPoints(urls []string) []byte {
	var points []byte
	for _, url := range urls {
		name := element(tagFirst, element(tagURI, []byte(url)))
		points = append(points, element(asn1.SEQUENCE, element(tagFirst, name))...)
	}
	return element(asn1.SEQUENCE, points)
}

// encodeAuthorityInfo encodes RFC 5280 section 4.2.2.1.
func encodeAuthorityInfo(ocsp, issuers []string) []byte {
	var descriptions []byte
	add := func(method, url string) {
		descriptions = append(descriptions, element(asn1.SEQUENCE,
			element(asn1.OBJECT_IDENTIFIER, []byte(method)), element(tagURI, []byte(url)))...)
	}
	for _, url := range ocsp {
		add(oidOCSP, url)
	}
	for _, url := range issuers {
		add(oidCAIssuers, url)
	}
	return element(asn1.SEQUENCE, descriptions)
}

// encodeNameConstraints encodes permitted subtrees (RFC 5280 section 4.2.1.10).
func encodeNameConstraints(dns, uris []string) []byte {
	var trees []byte
	for _, domain := range dns {
		trees = append(trees, element(asn1.SEQUENCE, element(tagDNSName, []byte(domain)))...)
	}
	for _, domain := range uris {
		trees = append(trees, element(asn1.SEQUENCE, element(tagURI, []byte(domain)))...)
	}
	return element(asn1.SEQUENCE, element(tagFirst, trees))
}
