package csr_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const workload = "spiffe://cluster.local/ns/demo/sa/web"

// Shapes of requests as istio-csr and cert-manager send them: istio's agents and istio-csr write an organization
// with an empty value.
func TestParseReadsMeshShapes(t *testing.T) {
	t.Parallel()
	emptyOrganization := pkix.Name{Organization: []string{""}}
	tests := map[string]struct {
		template x509.CertificateRequest
		name     string
		names    pki.Names
	}{
		"workload":            {x509.CertificateRequest{Subject: emptyOrganization, URIs: uris(workload)}, "", pki.Names{URIs: []string{workload}}},
		"workload/no-subject": {x509.CertificateRequest{URIs: uris(workload)}, "", pki.Names{URIs: []string{workload}}},
		"istio-csr-serving": {
			x509.CertificateRequest{Subject: emptyOrganization, DNSNames: []string{"cert-manager-istio-csr.cert-manager.svc"}},
			"",
			pki.Names{DNS: []string{"cert-manager-istio-csr.cert-manager.svc"}},
		},
		"istiod": {
			x509.CertificateRequest{
				Subject:  pkix.Name{CommonName: "istiod.istio-system.svc"},
				DNSNames: []string{"istiod.istio-system.svc", "istio-pilot.istio-system.svc"},
				URIs:     uris("spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"),
				ExtraExtensions: []pkix.Extension{
					{Id: oid(2, 5, 29, 15), Critical: true, Value: []byte{0x03, 0x02, 0x05, 0xa0}},
				},
			},
			"istiod.istio-system.svc",
			pki.Names{
				DNS:  []string{"istio-pilot.istio-system.svc", "istiod.istio-system.svc"},
				URIs: []string{"spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"},
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := newECDSA(t, elliptic.P256())
			request, err := csr.Parse(create(t, &test.template, key))
			if err != nil {
				t.Fatal(err)
			}
			if request.CommonName != test.name || request.CA {
				t.Errorf("common name %q, CA %t; want %q, false", request.CommonName, request.CA, test.name)
			}
			if diff := cmp.Diff(test.names, request.Names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseNormalizesNames(t *testing.T) {
	t.Parallel()
	mapped := net.ParseIP("192.0.2.1") // 16 octets
	der := build{names: [][]byte{
		general(2, "B.Example"), general(2, "a.example"), general(2, "b.example"), general(2, "*.A.example"),
		general(7, string(mapped)), general(7, string(mapped.To4())), general(7, string(net.ParseIP("2001:DB8::1"))),
		general(6, workload),
	}}.der(t)
	request, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	want := pki.Names{
		DNS:  []string{"*.a.example", "a.example", "b.example"},
		IPs:  []string{"192.0.2.1", "2001:db8::1"},
		URIs: []string{workload},
	}
	if diff := cmp.Diff(want, request.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func TestParseKeys(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tests := map[pki.KeyAlgorithm]crypto.Signer{
		pki.ECDSAP256: newECDSA(t, elliptic.P256()),
		pki.ECDSAP384: newECDSA(t, elliptic.P384()),
		pki.Ed25519:   ed,
		pki.RSA2048:   newRSA(t, 2048),
		pki.RSA3072:   newRSA(t, 3072),
	}
	for algorithm, key := range tests {
		t.Run(string(algorithm), func(t *testing.T) {
			t.Parallel()
			der := create(t, &x509.CertificateRequest{DNSNames: []string{"a.example"}}, key)
			request, err := csr.Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			want := csr.Request{
				Raw: der, Hash: sha256.Sum256(der), PublicKey: key.Public(), KeyAlgorithm: algorithm,
				SPKI: spki, SPKIHash: sha256.Sum256(spki), Thumbprint: thumbprint(t, key.Public()),
				Names: pki.Names{DNS: []string{"a.example"}},
			}
			equalKeys := cmp.Comparer(func(a, b crypto.PublicKey) bool {
				return a.(interface{ Equal(crypto.PublicKey) bool }).Equal(b)
			})
			onlyKeys := cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "PublicKey" }, equalKeys)
			if diff := cmp.Diff(&want, request, onlyKeys); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestParseSignatureAlgorithms(t *testing.T) {
	t.Parallel()
	key := newRSA(t, 2048)
	tests := map[x509.SignatureAlgorithm]bool{
		x509.SHA256WithRSA:    true,
		x509.SHA384WithRSA:    true,
		x509.SHA512WithRSA:    true,
		x509.SHA256WithRSAPSS: false,
	}
	for algorithm, accepted := range tests {
		_, err := csr.Parse(create(t, &x509.CertificateRequest{DNSNames: []string{"a.example"}, SignatureAlgorithm: algorithm}, key))
		if accepted && err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		if !accepted && !fault.Is(err, fault.BadCSR) {
			t.Errorf("%s: error %v, want BadCSR", algorithm, err)
		}
	}
}

func TestParseCAFlag(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		value []byte
		ca    bool
	}{
		"true":             {[]byte{0x30, 0x03, 0x01, 0x01, 0xff}, true},
		"true-path-length": {[]byte{0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00}, true},
		"absent":           {[]byte{0x30, 0x00}, false},
		"false":            {[]byte{0x30, 0x03, 0x01, 0x01, 0x00}, false},
	}
	for name, test := range tests {
		der := build{extensions: []pkix.Extension{{Id: oid(2, 5, 29, 19), Critical: true, Value: test.value}}}.der(t)
		request, err := csr.Parse(der)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if request.CA != test.ca {
			t.Errorf("%s: CA is %t, want %t", name, request.CA, test.ca)
		}
	}
}

// Extensions that a request may have are read over: nothing of them is in the result.
func TestParseForgetsOtherExtensions(t *testing.T) {
	t.Parallel()
	der := build{
		names: [][]byte{general(2, "a.example")},
		extensions: []pkix.Extension{
			{Id: oid(2, 5, 29, 15), Value: []byte{0x03, 0x02, 0x02, 0x04}},                               // keyCertSign
			{Id: oid(2, 5, 29, 37), Value: []byte{0x30, 0x06, 0x06, 0x04, 0x55, 0x1d, 0x25, 0x00}},       // any purpose
			{Id: oid(1, 3, 6, 1, 5, 5, 7, 1, 24), Value: []byte{0x30, 0x03, 0x02, 0x01, 0x05}},           // must-staple
			{Id: oid(2, 5, 29, 14), Value: []byte{0x04, 0x02, 0x01, 0x02}},                               // subject key identifier
			{Id: oid(1, 3, 6, 1, 4, 1, 311, 20, 2), Value: []byte{0x1e, 0x04, 0x00, 0x57, 0x00, 0x53}},   // template of Windows
			{Id: oid(2, 5, 29, 30), Value: []byte{0x30, 0x00}},                                           // name constraints
			{Id: oid(2, 5, 29, 32), Value: []byte{0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03}},       // policies
			{Id: oid(2, 5, 29, 35), Value: []byte{0x30, 0x04, 0x80, 0x02, 0x01, 0x02}, Critical: false},  // authority key
			{Id: oid(2, 23, 140, 1, 31), Value: []byte{0x30, 0x00}},                                      // onion descriptor
			{Id: oid(1, 3, 6, 1, 4, 1, 11129, 2, 4, 2), Value: []byte{0x04, 0x00}},                       // SCT list
			{Id: oid(1, 3, 6, 1, 5, 5, 7, 1, 1), Value: []byte{0x30, 0x00}},                              // authority information
			{Id: oid(2, 5, 29, 31), Value: []byte{0x30, 0x00}},                                           // CRL
			{Id: oid(2, 5, 29, 9), Value: []byte{0x30, 0x00}},                                            // directory attributes
			{Id: oid(2, 5, 29, 18), Value: []byte{0x30, 0x08, 0x82, 0x06, 'e', 'v', 'i', 'l', '.', 'x'}}, // issuer names
		},
	}.der(t)
	request, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pki.Names{DNS: []string{"a.example"}}, request.Names); diff != "" || request.CA {
		t.Errorf("CA %t, names (-want +got):\n%s", request.CA, diff)
	}
}

// Refusals, each with the words of the sentence that tell what to change.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	san := func(names ...[]byte) build { return build{names: names} }
	good := san(general(2, "a.example"))
	with := func(change func(*build)) build {
		b := good
		change(&b)
		return b
	}
	subject := func(attributes ...[]byte) build { return with(func(b *build) { b.subject = sequence(attributes...) }) }
	tests := map[string]struct {
		der  []byte
		kind fault.Kind
		says string
	}{
		"empty":            {nil, fault.BadCSR, "DER"},
		"too-large":        {make([]byte, 64<<10+1), fault.Malformed, "65537 bytes"},
		"pem":              {[]byte("-----BEGIN CERTIFICATE REQUEST-----\nMIIB"), fault.BadCSR, "PEM"},
		"trailing-bytes":   {append(good.der(t), 0), fault.BadCSR, "after its end"},
		"certificate":      {selfSigned(t), fault.BadCSR, "RFC 2986"},
		"version-1":        {with(func(b *build) { b.version = 1 }).der(t), fault.BadCSR, "version 1"},
		"info-trailing":    {with(func(b *build) { b.infoTail = []byte{0x05, 0x00} }).der(t), fault.BadCSR, "RFC 2986"},
		"outer-trailing":   {with(func(b *build) { b.outerTail = []byte{0x05, 0x00} }).der(t), fault.BadCSR, "after its end"},
		"no-attributes":    {with(func(b *build) { b.noAttributes = true }).der(t), fault.BadCSR, "RFC 2986"},
		"signature":        {flipLast(good.der(t)), fault.BadCSR, "not made by the key"},
		"signed-by-other":  {with(func(b *build) { b.signer = newECDSA(t, elliptic.P256()) }).der(t), fault.BadCSR, "not made by the key"},
		"sha1":             {with(func(b *build) { b.algorithm = oid(1, 2, 840, 10045, 4, 1) }).der(t), fault.BadCSR, "1.2.840.10045.4.1"},
		"md5":              {with(func(b *build) { b.algorithm = oid(1, 2, 840, 113549, 1, 1, 4) }).der(t), fault.BadCSR, "1.2.840.113549.1.1.4"},
		"algorithm-of-rsa": {with(func(b *build) { b.algorithm = oid(1, 2, 840, 113549, 1, 1, 11) }).der(t), fault.BadCSR, "not made by the key"},
		"parameters":       {with(func(b *build) { b.parameters = []byte{0x05, 0x00} }).der(t), fault.BadCSR, "parameters"},

		"key/p224":          {with(func(b *build) { b.key = newECDSA(t, elliptic.P224()) }).der(t), fault.BadPublicKey, "key"},
		"key/p521":          {with(func(b *build) { b.key = newECDSA(t, elliptic.P521()) }).der(t), fault.BadPublicKey, "key"},
		"key/rsa-1024":      {rsaSized(t, 1024), fault.BadPublicKey, "key"},
		"key/rsa-2056":      {rsaSized(t, 2056), fault.BadPublicKey, "key"},
		"key/rsa-16384":     {rsaSized(t, 16384), fault.BadPublicKey, "key"},
		"key/x25519":        {with(func(b *build) { b.spki = x25519 }).der(t), fault.BadPublicKey, "type"},
		"key/trailing":      {with(func(b *build) { b.spkiTail = []byte{0x05, 0x00} }).der(t), fault.BadPublicKey, "canonical"},
		"key/not-on-curve":  {with(func(b *build) { b.spki = offCurve(t) }).der(t), fault.BadPublicKey, "cannot be read"},
		"key/empty-element": {with(func(b *build) { b.spki = []byte{0x30, 0x00} }).der(t), fault.BadPublicKey, "cannot be read"},

		"subject/two-common-names": {subject(attribute(3, "a.example"), attribute(3, "b.example")).der(t), fault.BadCSR, `"a.example" and "b.example"`},
		"subject/organization":     {subject(attribute(10, "Example Ltd")).der(t), fault.BadCSR, `organization "Example Ltd"`},
		"subject/unit":             {subject(attribute(11, "x")).der(t), fault.BadCSR, "2.5.4.11"},
		"subject/serial-number":    {subject(attribute(5, "1")).der(t), fault.BadCSR, "2.5.4.5"},
		"subject/country":          {subject(attribute(6, "DE")).der(t), fault.BadCSR, "2.5.4.6"},
		"subject/email": {
			subject(der(0x31, der(0x30, der(0x06, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x01")), der(0x16, []byte("a@b"))))).der(t),
			fault.BadCSR, "1.2.840.113549.1.9.1",
		},
		"subject/bmp-string":    {subject(der(0x31, der(0x30, der(0x06, []byte("\x55\x04\x03")), der(0x1e, []byte("\x00a"))))).der(t), fault.BadCSR, "type 30"},
		"subject/nul":           {subject(attribute(3, "a.example\x00.evil")).der(t), fault.BadCSR, `\x00`},
		"subject/non-ascii":     {subject(attribute(3, "ä.example")).der(t), fault.BadCSR, "ASCII"},
		"subject/long":          {subject(attribute(3, strings.Repeat("a", 256))).der(t), fault.BadCSR, "256 bytes"},
		"subject/1-mb":          {subject(attribute(3, strings.Repeat("a", 1<<20))).der(t), fault.Malformed, "more than 65536"},
		"subject/empty-rdn":     {subject([]byte{0x31, 0x00}).der(t), fault.BadCSR, "subject"},
		"subject/attribute-end": {subject(der(0x31, der(0x30, der(0x06, []byte("\x55\x04\x03")), der(0x0c, []byte("a")), []byte{5, 0}))).der(t), fault.BadCSR, "subject"},

		"name/other-name":     {san(general(2, "a.example"), der(0xa0, []byte("\x06\x01\x2a\xa0\x03\x0c\x01a"))).der(t), fault.BadCSR, "otherName"},
		"name/rfc822":         {san(general(2, "a.example"), general(1, "a@b.example")).der(t), fault.BadCSR, "rfc822Name"},
		"name/x400":           {san(der(0xa3, nil)).der(t), fault.BadCSR, "x400Address"},
		"name/directory":      {san(der(0xa4, []byte{0x30, 0x00})).der(t), fault.BadCSR, "directoryName"},
		"name/edi-party":      {san(der(0xa5, nil)).der(t), fault.BadCSR, "ediPartyName"},
		"name/registered-id":  {san(general(8, "\x2a")).der(t), fault.BadCSR, "registeredID"},
		"name/unknown-9":      {san(general(9, "x")).der(t), fault.BadCSR, "unknown"},
		"name/universal":      {san(der(0x16, []byte("a.example"))).der(t), fault.BadCSR, "unknown"},
		"name/constructed":    {san(der(0xa2, []byte("a.example"))).der(t), fault.BadCSR, "bad encoding"},
		"name/nul":            {san(general(2, "a.example\x00.evil")).der(t), fault.BadCSR, `\x00`},
		"name/non-ascii":      {san(general(2, "ä.example")).der(t), fault.BadCSR, "not a lower-case letter"},
		"name/kelvin-sign":    {san(general(2, "\u212a.example")).der(t), fault.BadCSR, "not a lower-case letter"},
		"name/trailing-dot":   {san(general(2, "a.example.")).der(t), fault.BadCSR, "empty label"},
		"name/empty":          {san(general(2, "")).der(t), fault.BadCSR, "empty"},
		"name/underscore":     {san(general(2, "a_b.example")).der(t), fault.BadCSR, "not a lower-case letter"},
		"name/inner-wildcard": {san(general(2, "a.*.example")).der(t), fault.BadCSR, "not a lower-case letter"},
		"name/address-as-dns": {san(general(2, "192.0.2.1")).der(t), fault.BadCSR, "IP address"},
		"name/ip-3-octets":    {san(general(7, "\x01\x02\x03")).der(t), fault.BadCSR, "3 octets"},
		"name/ip-8-octets":    {san(general(7, "\x01\x02\x03\x04\xff\xff\xff\x00")).der(t), fault.BadCSR, "8 octets"},
		"name/uri-nul":        {san(general(6, workload+"\x00")).der(t), fault.BadCSR, `\x00`},
		"name/uri-non-ascii":  {san(general(6, workload+"ä")).der(t), fault.BadCSR, "printable ASCII"},
		"name/uri-space":      {san(general(6, workload+" x")).der(t), fault.BadCSR, "printable ASCII"},
		"name/uri-twice":      {san(general(6, workload), general(6, workload)).der(t), fault.BadCSR, "more than once"},
		"name/none":           {with(func(b *build) { b.names = [][]byte{} }).der(t), fault.BadCSR, "no name"},
		"name/10000":          {san(many(10_000)...).der(t), fault.Malformed, "more than"},
		"name/1001":           {san(many(1001)...).der(t), fault.Malformed, "more than 1000"},

		"extension/two-sans": {
			with(func(b *build) {
				b.extensions = []pkix.Extension{{Id: oid(2, 5, 29, 17), Value: sequence(general(2, "evil.example"))}}
			}).der(t), fault.BadCSR, "2.5.29.17 more than once",
		},
		"extension/unknown-critical": {
			with(func(b *build) {
				b.extensions = []pkix.Extension{{Id: oid(1, 2, 3, 4), Critical: true, Value: []byte{5, 0}}}
			}).der(t), fault.BadCSR, "critical extension 1.2.3.4",
		},
		"extension/name-constraints-critical": {
			with(func(b *build) {
				b.extensions = []pkix.Extension{{Id: oid(2, 5, 29, 30), Critical: true, Value: []byte{0x30, 0}}}
			}).der(t), fault.BadCSR, "critical extension 2.5.29.30",
		},
		"extension/constraints-garbage": {
			with(func(b *build) { b.extensions = []pkix.Extension{{Id: oid(2, 5, 29, 19), Value: []byte{0x04, 0}}} }).der(t),
			fault.BadCSR, "basicConstraints",
		},
		"extension/san-trailing": {
			build{extensions: []pkix.Extension{{Id: oid(2, 5, 29, 17), Value: append(sequence(general(2, "a.example")), 5, 0)}}}.der(t),
			fault.BadCSR, "subjectAltName",
		},
		"extension/many": {with(func(b *build) { b.extensions = manyExtensions(33) }).der(t), fault.BadCSR, "more than 32"},
		"attribute/two-requests": {
			with(func(b *build) {
				b.attributes = [][]byte{extensionRequest(pkix.Extension{Id: oid(2, 5, 29, 17), Value: sequence(general(2, "b.example"))})}
			}).der(t), fault.BadCSR, "more than one extensionRequest",
		},
		"attribute/two-values": {
			build{attributes: [][]byte{der(0x30, der(0x06, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e")), der(0x31, sequence(), sequence()))}}.der(t),
			fault.BadCSR, "exactly one value",
		},
		"attribute/microsoft-too": {
			with(func(b *build) { b.attributes = [][]byte{microsoftRequest()} }).der(t), fault.BadCSR, "Microsoft",
		},
		"attribute/microsoft-only": {build{attributes: [][]byte{microsoftRequest()}}.der(t), fault.BadCSR, "Microsoft"},
		"attribute/garbage":        {with(func(b *build) { b.attributes = [][]byte{{0x30, 0x02, 0x05, 0x00}} }).der(t), fault.BadCSR, "attributes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := csr.Parse(test.der)
			if !fault.Is(err, test.kind) {
				t.Fatalf("error %v, want kind %v", err, test.kind)
			}
			if public := fault.From(err).Public; !strings.Contains(public, test.says) {
				t.Errorf("sentence %q does not contain %q", public, test.says)
			}
		})
	}
}

func TestParseIgnoresOtherAttributes(t *testing.T) {
	t.Parallel()
	challengePassword := der(0x30, der(0x06, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x09\x07")), der(0x31, der(0x0c, []byte("hunter2"))))
	request, err := csr.Parse(build{names: [][]byte{general(2, "a.example")}, attributes: [][]byte{challengePassword}}.der(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(pki.Names{DNS: []string{"a.example"}}, request.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

func thumbprint(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64url(sum)
}

func uris(raw ...string) []*url.URL {
	parsed := make([]*url.URL, 0, len(raw))
	for _, s := range raw {
		u, err := url.Parse(s)
		if err != nil {
			panic(err)
		}
		parsed = append(parsed, u)
	}
	return parsed
}

func newECDSA(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t testing.TB, template *x509.CertificateRequest, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func oid(arcs ...int) asn1.ObjectIdentifier { return arcs }

// Read says what Parse says, and leaves key and signature to Verify.
func TestRead(t *testing.T) {
	t.Parallel()
	der := create(t, &x509.CertificateRequest{URIs: uris(workload)}, newECDSA(t, elliptic.P256()))
	forged := slices.Clone(der)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		der  []byte
		want fault.Kind
	}{
		"accepts/good":        {der: der},
		"refuses/forged":      {forged, fault.BadCSR},
		"refuses/another-key": {bytes.Replace(der, spkiOf(t, der), spkiOf(t, create(t, &x509.CertificateRequest{}, newECDSA(t, elliptic.P256()))), 1), fault.BadCSR},
		"refuses/no-point":    {bytes.Replace(der, spkiOf(t, der)[26:], make([]byte, 65), 1), fault.BadPublicKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			unverified, err := csr.Read(c.der)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(pki.Names{URIs: []string{workload}}, unverified.Names()); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if e := unverified.Extensions(); len(e) != 1 || e[0].OID() != "2.5.29.17" || len(e[0].Value) == 0 {
				t.Errorf("extensions %v", e)
			}
			if !bytes.Equal(unverified.SPKI(), spkiOf(t, c.der)) || !bytes.Equal(unverified.Raw(), c.der) || unverified.CommonName() != "" {
				t.Error("key, request or common name is another one")
			}
			verified, err := unverified.Verify()
			if c.want != 0 {
				if !fault.Is(err, c.want) {
					t.Errorf("error %v, want %s", err, c.want)
				}
				return
			}
			parsed, parseErr := csr.Parse(c.der)
			if err != nil || parseErr != nil {
				t.Fatal(err, parseErr)
			}
			if verified.Thumbprint != parsed.Thumbprint || verified.Hash != parsed.Hash || verified.SPKIHash != parsed.SPKIHash {
				t.Error("Verify and Parse return different requests")
			}
		})
	}
}

// spkiOf returns the subject public key info of a request that may have no good key.
func spkiOf(t *testing.T, der []byte) []byte {
	t.Helper()
	unverified, err := csr.Read(der)
	if err != nil {
		t.Fatal(err)
	}
	return unverified.SPKI()
}
