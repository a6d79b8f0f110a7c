package challenge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/fault"
)

// systemDials leads what is asked of port 53 to a server of the test's.
type systemDials struct{ server string }

func (d *systemDials) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if strings.HasSuffix(address, ":53") {
		address = d.server
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// The certificate that a client of the Go project makes.
func TestTLSAcceptsOtherClients(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	client := &acme.Client{Key: key}
	certificate, err := client.TLSALPN01ChallengeCert(token, "web.example")
	if err != nil {
		t.Fatal(err)
	}
	thumbprint, err := acme.JWKThumbprint(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, nil)
	l.ports.tls = serveTLS(t, &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{acme.ALPNProto}})
	r := request(challenge.TLSALPN01, "web.example")
	r.KeyAuthorization = token + "." + thumbprint
	if err := l.validator(t).Validate(t.Context(), r); err != nil {
		t.Error(err)
	}
}

func TestTLSAccepts(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*proofCertificate)
		config func(*tls.Config)
	}{
		"plain":      {func(*proofCertificate) {}, func(*tls.Config) {}},
		"tls-1.2":    {func(*proofCertificate) {}, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
		"more-alpn":  {func(*proofCertificate) {}, func(c *tls.Config) { c.NextProtos = []string{"h2", "acme-tls/1"} }},
		"subject":    {func(p *proofCertificate) { p.template.Subject.CommonName = "anything" }, func(*tls.Config) {}},
		"name-case":  {func(p *proofCertificate) { p.san = [][]byte{general(2, "WEB.example")} }, func(*tls.Config) {}},
		"expired":    {func(p *proofCertificate) { p.template.NotAfter = time.Unix(2, 0) }, func(*tls.Config) {}},
		"more-certs": {func(p *proofCertificate) { p.chain = true }, func(*tls.Config) {}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			p := newProof(t)
			test.change(p)
			config := p.config(t)
			test.config(config)
			l.ports.tls = serveTLS(t, config)
			if err := l.validator(t).Validate(t.Context(), request(challenge.TLSALPN01, "web.example")); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTLSHandshake(t *testing.T) {
	t.Parallel()
	addresses := map[string]struct{ dial, sni string }{
		"127.0.0.1":   {"127.0.0.1", "1.0.0.127.in-addr.arpa"},
		"2001:db8::1": {"[2001:db8::1]", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"},
	}
	for address, want := range addresses {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			hellos := make(chan *tls.ClientHelloInfo, 1)
			p := newProof(t)
			raw := net.ParseIP(address)
			if four := raw.To4(); four != nil {
				raw = four
			}
			p.san = [][]byte{general(7, string(raw))}
			config := p.config(t)
			config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				hellos <- hello
				return nil, nil
			}
			l := newLab(t, nil)
			l.ports.tls = serveTLS(t, config)
			l.dials.routes = map[string]string{fmt.Sprintf("%s:%d", want.dial, l.ports.tls): fmt.Sprintf("127.0.0.1:%d", l.ports.tls)}
			r := request(challenge.TLSALPN01, "")
			r.Identifier = ip(address)
			r.Networks = networks("127.0.0.0/8", "2001:db8::/32")
			if err := l.validator(t).Validate(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			hello := <-hellos
			if hello.ServerName != want.sni || !slices.Equal(hello.SupportedProtos, []string{"acme-tls/1"}) {
				t.Errorf("server name %q, protocols %q", hello.ServerName, hello.SupportedProtos)
			}
			for _, version := range hello.SupportedVersions {
				if version < tls.VersionTLS12 {
					t.Errorf("offers version %x", version)
				}
			}
		})
	}
}

func TestTLSRefusesCertificates(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte(keyAuthz))
	other := sha256.Sum256([]byte("other"))
	name := general(2, "web.example")
	identifier := func(value ...byte) func(*proofCertificate) {
		return func(p *proofCertificate) { p.identifier.Value = value }
	}
	san := func(names ...[]byte) func(*proofCertificate) { return func(p *proofCertificate) { p.san = names } }
	const self, form = fault.IncorrectResponse, fault.IncorrectResponse
	tests := map[string]struct {
		change func(*proofCertificate)
		kind   fault.Kind
		says   string
	}{
		"signed-by-other":     {func(p *proofCertificate) { p.signer = newKey(t) }, self, "not self-signed"},
		"other-issuer":        {func(p *proofCertificate) { p.issuer = &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}} }, self, "not self-signed"},
		"no-identifier":       {func(p *proofCertificate) { p.identifier.Id = nil }, form, "0 acmeIdentifier extensions"},
		"old-identifier":      {func(p *proofCertificate) { p.identifier.Id = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 30, 1} }, form, "0 acmeIdentifier extensions"},
		"not-critical":        {func(p *proofCertificate) { p.identifier.Critical = false }, form, "not critical"},
		"two-identifiers":     {func(p *proofCertificate) { p.more = []pkix.Extension{p.identifier} }, fault.TLS, "handshake failed"},
		"other-digest":        {identifier(append([]byte{4, 32}, other[:]...)...), fault.Unauthorized, fmt.Sprintf("has %x, not %x", other, sum)},
		"raw-digest":          {identifier(sum[:]...), form, "OCTET STRING"},
		"short-digest":        {identifier(append([]byte{4, 31}, sum[:31]...)...), form, "OCTET STRING of 32"},
		"long-digest":         {identifier(append([]byte{4, 33}, append(sum[:], 0)...)...), form, "OCTET STRING of 32"},
		"trailing-bytes":      {identifier(append([]byte{4, 32}, append(sum[:], 5, 0)...)...), form, "OCTET STRING of 32"},
		"long-form-length":    {identifier(append([]byte{4, 0x81, 32}, sum[:]...)...), form, "OCTET STRING of 32"},
		"other-string":        {identifier(append([]byte{12, 32}, sum[:]...)...), form, "OCTET STRING of 32"},
		"empty-identifier":    {identifier(), form, "OCTET STRING of 32"},
		"no-san":              {func(p *proofCertificate) { p.san = nil }, form, "0 subjectAltName extensions"},
		"other-name":          {san(general(2, "evil.example")), form, `name is "evil.example", not "web.example"`},
		"longer-name":         {san(general(2, "a.web.example")), form, "a.web.example"},
		"wildcard":            {san(general(2, "*.example")), form, "*.example"},
		"trailing-dot":        {san(general(2, "web.example.")), form, "web.example."},
		"name-and-other":      {san(name, general(2, "evil.example")), form, "exactly one subject alternative name"},
		"name-twice":          {san(name, name), form, "exactly one"},
		"name-and-address":    {san(name, general(7, "\x7f\x00\x00\x01")), form, "exactly one"},
		"name-and-mail":       {san(name, general(1, "a@web.example")), form, "exactly one"},
		"name-and-unknown":    {san(name, append([]byte{0xa0, 8}, "\x06\x01\x2a\xa0\x03\x0c\x01a"...)), form, "exactly one"},
		"name-and-registered": {san(name, general(8, "\x2a")), form, "exactly one"},
		"name-as-mail":        {san(general(1, "web.example")), form, "subject alternative name is"},
		"name-as-uri":         {san(general(6, "web.example")), form, "subject alternative name is"},
		"address-as-name":     {san(general(7, "\x7f\x00\x00\x01")), form, "subject alternative name is"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			p := newProof(t)
			test.change(p)
			l := newLab(t, nil)
			l.ports.tls = serveTLS(t, p.config(t))
			err := l.validator(t).Validate(t.Context(), request(challenge.TLSALPN01, "web.example"))
			wantFault(t, err, test.kind, test.says)
			if at := fmt.Sprintf("127.0.0.1:%d (web.example)", l.ports.tls); !strings.Contains(fault.From(err).Public, at) {
				t.Errorf("sentence %q does not contain %q", fault.From(err).Public, at)
			}
		})
	}
}

func TestTLSRefusesServers(t *testing.T) {
	t.Parallel()
	secured := func(change func(*tls.Config)) func(*testing.T) int {
		return func(t *testing.T) int {
			t.Helper()
			config := newProof(t).config(t)
			change(config)
			return serveTLS(t, config)
		}
	}
	plain := func(serve func(net.Conn)) func(*testing.T) int {
		return func(t *testing.T) int {
			t.Helper()
			return portOf(t, talk(t, serve).Addr())
		}
	}
	tests := map[string]struct {
		server func(*testing.T) int
		kind   fault.Kind
		says   string
	}{
		"no-alpn":      {secured(func(c *tls.Config) { c.NextProtos = nil }), fault.IncorrectResponse, `protocol "", not "acme-tls/1"`},
		"other-alpn":   {secured(func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }), fault.TLS, `alert "no application protocol"`},
		"tls-1.1":      {secured(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), fault.TLS, `alert "protocol version not supported"`},
		"no-cert":      {secured(func(c *tls.Config) { c.Certificates = nil }), fault.TLS, "alert"},
		"not-tls":      {plain(func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n\r\n\r\n") }), fault.TLS, "not TLS"},
		"closes":       {plain(func(net.Conn) {}), fault.TLS, "handshake failed"},
		"slow/silent":  {plain(func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), fault.TLS, "no answer in time"},
		"endless":      {plain(endless("", "\x16\x03\x03\x00\x04\x02\xff\xff\xff")), fault.TLS, "handshake failed"},
		"refused":      {unused, fault.Connection, "connection refused"},
		"half-a-hello": {plain(func(conn net.Conn) { _, _ = io.WriteString(conn, "\x16\x03\x03\x00\x7a\x02\x00") }), fault.TLS, "handshake failed"},
	}
	for name, test := range tests {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			v, err := challenge.New(challenge.Config{TLSPort: test.server(t), Resolver: l.resolver, Timeout: timeoutFor(name)})
			if err != nil {
				t.Fatal(err)
			}
			wantFault(t, v.Validate(t.Context(), request(challenge.TLSALPN01, "web.example")), test.kind, test.says)
		})
	}
}

func TestTLSStaysInNetworks(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	l.ports.tls = serveTLS(t, newProof(t).config(t))
	r := request(challenge.TLSALPN01, "web.example")
	r.Networks = networks("10.0.0.0/8")
	wantFault(t, l.validator(t).Validate(t.Context(), r), fault.Connection, "127.0.0.1")
	if dialled := l.dials.to(l.ports.tls); len(dialled) > 0 {
		t.Errorf("connected to %v", dialled)
	}
}

// proofCertificate is a certificate of tls-alpn-01 in the making.
type proofCertificate struct {
	template   x509.Certificate
	san        [][]byte // GeneralNames; nil: no extension
	identifier pkix.Extension
	more       []pkix.Extension
	key        *ecdsa.PrivateKey
	signer     *ecdsa.PrivateKey // nil: key
	issuer     *x509.Certificate // nil: itself
	chain      bool              // send another certificate behind it
}

func newProof(t *testing.T) *proofCertificate {
	t.Helper()
	sum := sha256.Sum256([]byte(keyAuthz))
	return &proofCertificate{
		template: x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(1, 0), NotAfter: time.Now().Add(time.Hour)},
		san:      [][]byte{general(2, "web.example")},
		identifier: pkix.Extension{
			Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}, Critical: true, Value: append([]byte{4, 32}, sum[:]...),
		},
		key: newKey(t),
	}
}

func (p *proofCertificate) config(t *testing.T) *tls.Config {
	t.Helper()
	template := p.template
	if p.san != nil {
		value := slices.Concat(p.san...)
		template.ExtraExtensions = []pkix.Extension{{
			Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: append([]byte{0x30, byte(len(value))}, value...),
		}}
	}
	if p.identifier.Id != nil {
		template.ExtraExtensions = append(template.ExtraExtensions, p.identifier)
	}
	template.ExtraExtensions = append(template.ExtraExtensions, p.more...)
	signer, issuer := p.signer, p.issuer
	if signer == nil {
		signer = p.key
	}
	if issuer == nil {
		issuer = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, p.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	chain := [][]byte{der}
	if p.chain {
		chain = append(chain, newProof(t).config(t).Certificates[0].Certificate...)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: p.key}},
		NextProtos:   []string{"acme-tls/1"},
	}
}

func general(choice byte, value string) []byte {
	return append([]byte{0x80 | choice, byte(len(value))}, value...)
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// serveTLS makes handshakes.
func serveTLS(t *testing.T, config *tls.Config) (port int) {
	t.Helper()
	listener := talk(t, func(conn net.Conn) {
		server := tls.Server(conn, config)
		if err := server.HandshakeContext(t.Context()); err == nil {
			_, _ = io.Copy(io.Discard, server)
		}
	})
	return portOf(t, listener.Addr())
}
