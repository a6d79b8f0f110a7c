package caservice

import (
	"encoding/pem"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
)

// maxPEM is above what a request of 4096-bit RSA needs (2 KB), and bounds what is decoded.
const maxPEM = 64 << 10

// readCSR reads a CSR in PEM that may name nothing but identity. What istio-csr refuses is refused: other names,
// a common name, extensions other than those below. Key and signature are not looked at.
func readCSR(text, identity string) (*csr.Unverified, error) {
	if len(text) > maxPEM {
		return nil, fault.New(fault.Malformed, "CSR has %d bytes, more than %d", len(text), maxPEM)
	}
	block, rest := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return nil, fault.New(fault.BadCSR, "CSR is not PEM")
	case block.Type != "CERTIFICATE REQUEST":
		return nil, fault.New(fault.BadCSR, "CSR is PEM of type %.80q, not CERTIFICATE REQUEST", block.Type)
	case strings.TrimSpace(string(rest)) != "":
		return nil, fault.New(fault.BadCSR, "CSR has %d bytes after its PEM block", len(rest))
	}
	request, err := csr.Read(block.Bytes)
	if err != nil {
		return nil, err
	}
	switch names := request.Names(); {
	case request.CommonName() != "":
		return nil, fault.New(fault.BadCSR, "CSR has common name %.200q; workloads have none", request.CommonName())
	case len(names.DNS) > 0:
		return nil, fault.New(fault.BadCSR, "CSR has DNS names %.200q; workloads have only their SPIFFE ID", names.DNS)
	case len(names.IPs) > 0:
		return nil, fault.New(fault.BadCSR, "CSR has IP addresses %.200q; workloads have only their SPIFFE ID", names.IPs)
	case len(names.URIs) != 1 || names.URIs[0] != identity:
		return nil, fault.New(fault.BadCSR, "CSR is for %.300q, the caller may have %q", names.URIs, identity)
	}
	return request, checkExtensions(request.Extensions())
}

// checkExtensions checks what csr.Read reads over, because a profile decides it: a mesh CSR asks for nothing unusual.
func checkExtensions(extensions []csr.Extension) error {
	const subjectAltName, keyUsage, extKeyUsage = "\x55\x1d\x11", "\x55\x1d\x0f", "\x55\x1d\x25" // 2.5.29.17, .15, .37
	for i := range extensions {
		extension := &extensions[i]
		var good bool
		switch string(extension.ID) {
		case subjectAltName: // its names are checked already
			good = true
		case keyUsage:
			good = goodKeyUsage(extension.Value)
		case extKeyUsage:
			good = goodExtKeyUsage(extension.Value)
		}
		if !good {
			return fault.New(fault.BadCSR, "CSR asks for extension %s with value %.40x; workloads may ask for their name, "+
				"key usages digitalSignature and keyEncipherment, and extended key usages serverAuth and clientAuth", extension.OID(), extension.Value)
		}
	}
	return nil
}

// goodKeyUsage reports whether no bit but digitalSignature (0) and keyEncipherment (2) is set (RFC 5280 section 4.2.1.3).
func goodKeyUsage(value []byte) bool {
	const allowed = 0b1010_0000
	// A BIT STRING of one octet.
	return len(value) == 4 && value[0] == byte(asn1.BIT_STRING) && value[1] == 2 && value[2] < 8 && value[3]&^allowed == 0
}

// goodExtKeyUsage reports whether only serverAuth and clientAuth are there (RFC 5280 section 4.2.1.12).
func goodExtKeyUsage(value []byte) bool {
	const serverAuth, clientAuth = "\x2b\x06\x01\x05\x05\x07\x03\x01", "\x2b\x06\x01\x05\x05\x07\x03\x02"
	input := cryptobyte.String(value)
	var list cryptobyte.String
	if !input.ReadASN1(&list, asn1.SEQUENCE) || !input.Empty() || list.Empty() {
		return false
	}
	for !list.Empty() {
		var oid cryptobyte.String
		if !list.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) || string(oid) != serverAuth && string(oid) != clientAuth {
			return false
		}
	}
	return true
}
