package challenge

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cryptobyte_asn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// alpnProtocol is the one protocol of the handshake (RFC 8737 section 4).
const alpnProtocol = "acme-tls/1"

// validateTLS makes the handshake and judges the certificate (RFC 8737 section 3, RFC 8738 section 6).
func (v *Validator) validateTLS(ctx context.Context, r Request) error {
	serverName, err := sni(r.Identifier)
	if err != nil {
		return err
	}
	to, err := v.target(ctx, r, r.Identifier, v.tlsPort)
	if err != nil {
		return err
	}
	conn, at, err := v.connect(ctx, to)
	if err != nil {
		return err
	}
	defer bind(ctx, conn)()
	// Sessions are not resumed: without a cache there is nothing to resume with.
	client := tls.Client(conn, &tls.Config{
		ServerName:         serverName,
		NextProtos:         []string{alpnProtocol},
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the certificate is self-signed; checkProof judges it
	})
	if err := client.HandshakeContext(ctx); err != nil {
		return handshakeError(err, at, r.Identifier.Value)
	}
	state := client.ConnectionState()
	if state.NegotiatedProtocol != alpnProtocol {
		return fault.New(fault.IncorrectResponse, "%s (%s) negotiated ALPN protocol %s, not %q",
			at, r.Identifier.Value, shown(state.NegotiatedProtocol), alpnProtocol)
	}
	if len(state.PeerCertificates) == 0 {
		return fault.New(fault.IncorrectResponse, "%s (%s) sent no certificate", at, r.Identifier.Value)
	}
	if err := checkProof(r, state.PeerCertificates[0]); err != nil {
		return fault.New(fault.From(err).Kind, "%s (%s): %s", at, r.Identifier.Value, fault.From(err).Public)
	}
	return nil
}

// sni returns the server name to send: for an address the name of its reverse mapping (RFC 8738 section 6).
func sni(id pki.Identifier) (string, error) {
	if id.Type == pki.DNS {
		return id.Value, nil
	}
	addr, err := netip.ParseAddr(id.Value)
	if err != nil {
		return "", fault.New(fault.Unauthorized, "identifier %.60q is not an IP address", id.Value)
	}
	var b strings.Builder
	raw := addr.AsSlice()
	for i := len(raw) - 1; i >= 0; i-- {
		if addr.Is4() {
			b.WriteString(strconv.Itoa(int(raw[i])) + ".")
		} else {
			fmt.Fprintf(&b, "%x.%x.", raw[i]&0x0f, raw[i]>>4)
		}
	}
	if addr.Is4() {
		return b.String() + "in-addr.arpa", nil
	}
	return b.String() + "ip6.arpa", nil
}

// checkProof judges the certificate of tls-alpn-01: self-signed, one name and no other, the acmeIdentifier extension
// with the digest.
func checkProof(r Request, certificate *x509.Certificate) error {
	if string(certificate.RawIssuer) != string(certificate.RawSubject) ||
		certificate.CheckSignature(certificate.SignatureAlgorithm, certificate.RawTBSCertificate, certificate.Signature) != nil {
		return fault.New(fault.IncorrectResponse, "certificate is not self-signed (RFC 8737 section 3)")
	}
	names, _, err := extension(certificate, asn1.ObjectIdentifier{2, 5, 29, 17}, "subjectAltName")
	if err != nil {
		return err
	}
	if err := checkName(r.Identifier, names); err != nil {
		return err
	}
	proof, critical, err := extension(certificate, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, "acmeIdentifier")
	if err != nil {
		return err
	}
	var got cryptobyte.String
	if !proof.ReadASN1(&got, cryptobyte_asn1.OCTET_STRING) || !proof.Empty() || len(got) != sha256.Size {
		return fault.New(fault.IncorrectResponse, "certificate's acmeIdentifier extension is not an OCTET STRING of %d octets", sha256.Size)
	}
	if !critical {
		return fault.New(fault.IncorrectResponse, "certificate's acmeIdentifier extension is not critical")
	}
	want := digest(r)
	if subtle.ConstantTimeCompare(got, want[:]) != 1 {
		return fault.New(fault.Unauthorized, "certificate's acmeIdentifier extension has %s, not %s, the digest of the key authorization",
			hex.EncodeToString(got), hex.EncodeToString(want[:]))
	}
	return nil
}

// extension returns the value of an extension that must be there exactly once. The standard library refuses a second
// one when it parses; the answer must not depend on that.
func extension(certificate *x509.Certificate, id asn1.ObjectIdentifier, name string) (value cryptobyte.String, critical bool, err error) {
	count := 0
	for _, candidate := range certificate.Extensions {
		if candidate.Id.Equal(id) {
			value, critical = candidate.Value, candidate.Critical
			count++
		}
	}
	if count != 1 {
		return nil, false, fault.New(fault.IncorrectResponse, "certificate has %d %s extensions, not exactly one", count, name)
	}
	return value, critical, nil
}

// checkName reads the subject alternative names from the raw extension, because the library skips kinds that it does
// not know.
func checkName(id pki.Identifier, extension cryptobyte.String) error {
	const dnsName, ipAddress = cryptobyte_asn1.Tag(0x80 | 2), cryptobyte_asn1.Tag(0x80 | 7)
	var names, name cryptobyte.String
	var tag cryptobyte_asn1.Tag
	if !extension.ReadASN1(&names, cryptobyte_asn1.SEQUENCE) || !extension.Empty() ||
		!names.ReadAnyASN1(&name, &tag) || !names.Empty() {
		return fault.New(fault.IncorrectResponse, "certificate does not have exactly one subject alternative name, %q", id.Value)
	}
	same := false
	switch id.Type {
	case pki.DNS:
		same = tag == dnsName && strings.EqualFold(string(name), id.Value)
	case pki.IP:
		addr, ok := netip.AddrFromSlice(name)
		same = tag == ipAddress && ok && addr.String() == id.Value
	}
	if !same {
		return fault.New(fault.IncorrectResponse, "certificate's subject alternative name is %s, not %q", shown(string(name)), id.Value)
	}
	return nil
}

// handshakeError makes an error of a handshake that failed.
func handshakeError(err error, at netip.AddrPort, name string) error {
	const failed = "%s (%s): TLS handshake failed: %s"
	if alert, ok := errors.AsType[tls.AlertError](err); ok {
		return fault.Wrap(err, fault.TLS, failed, at, name, "alert "+strconv.Quote(strings.TrimPrefix(alert.Error(), "tls: ")))
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok && operation.Op == "remote error" {
		return fault.Wrap(err, fault.TLS, failed, at, name, "alert "+strconv.Quote(strings.TrimPrefix(operation.Err.Error(), "tls: ")))
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fault.Wrap(err, fault.TLS, failed, at, name, "the answer is not TLS")
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return fault.Wrap(err, fault.TLS, failed, at, name, reason(err))
	}
	return fault.Wrap(err, fault.TLS, failed, at, name, "the server's part of it is not acceptable")
}
