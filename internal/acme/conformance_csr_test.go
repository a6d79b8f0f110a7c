package acme_test

import (
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
	"encoding/pem"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
)

// refusesCSRs finalizes one order with CSRs that must all be refused, and holds it to staying ready.
func (s *suite) refusesCSRs(t *testing.T, c *acmetest.Client, made *acmetest.Order, csrs map[string][]byte, kinds ...string) {
	t.Helper()
	for name, csr := range csrs {
		t.Run("refuses/"+name, func(t *testing.T) {
			// What is not well-formed is badCSR, a name that policy refuses rejectedIdentifier: both leave the order ready.
			if answer := c.Finalize(t, made, csr); answer.Status == http.StatusForbidden && slices.Contains(kinds, "rejectedIdentifier") {
				refused(t, answer, http.StatusForbidden, "rejectedIdentifier")
			} else {
				refused(t, answer, http.StatusBadRequest, kinds...)
			}
			if got := statusOf(t, c, made.URL); got != "ready" {
				t.Errorf("order is %s", got)
			}
		})
	}
}

func csrRows() []row {
	const id = "spiffe://cluster.local/ns/demo/sa/web"
	san := asn1.ObjectIdentifier{2, 5, 29, 17}
	extension := func(oid asn1.ObjectIdentifier, critical bool, value ...byte) *x509.CertificateRequest {
		template := meshRequest(id)
		template.ExtraExtensions = []pkix.Extension{{Id: oid, Critical: critical, Value: value}}
		return template
	}
	return []row{
		{"FIN-5", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			made := meshOrder(t, c)
			good := acmetest.WorkloadCSR(t, id)
			for _, text := range []string{acmetest.Base64(good) + "=", acmetest.Base64(good) + "\\n", "+/+/", "a", "*"} {
				refused(t, c.PostRaw(t, made.Finalize, []byte(`{"csr":"`+text+`"}`)), http.StatusBadRequest, "malformed")
			}
			s.refusesCSRs(t, c, made, map[string][]byte{
				"empty": {}, "text": []byte("hello"), "trailing": append(slices.Clone(good), 0), "truncated": good[:len(good)-1],
				"pem":         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: good}),
				"certificate": s.Root.Certificate,
			}, "badCSR")
			// The order was left alone by all of them.
			ok(t, c.Finalize(t, made, good), http.StatusOK)
		}},
		{"FIN-6", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			made := meshOrder(t, c)
			good := acmetest.WorkloadCSR(t, id)
			flipped := slices.Clone(good)
			flipped[len(flipped)-1] ^= 1
			rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			s.refusesCSRs(t, c, made, map[string][]byte{
				"flipped":   flipped,
				"sha1":      relabelled(t, csrOf(t, rsaKey, meshRequest(id)), asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}),
				"md5":       relabelled(t, csrOf(t, rsaKey, meshRequest(id)), asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}),
				"ecdsasha1": relabelled(t, good, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}),
				"other-key": resignedCSR(t, good, acmetest.NewKey(t)),
			}, "badCSR")
		}},
		{"FIN-7", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			made := ok(t, order(t, c, names("a.fin7.example.com", "b.fin7.example.com")), http.StatusCreated).Order(t)
			dns := func(list ...string) []byte { return acmetest.CSR(t, &x509.CertificateRequest{DNSNames: list}) }
			s.refusesCSRs(t, c, made, map[string][]byte{
				"missing":    dns("a.fin7.example.com"),
				"additional": dns("a.fin7.example.com", "b.fin7.example.com", "c.fin7.example.com"),
				"other":      dns("a.fin7.example.com", "c.fin7.example.com"),
				"none":       dns(),
				"wildcard":   dns("a.fin7.example.com", "*.fin7.example.com"),
				"dot":        dns("a.fin7.example.com", "b.fin7.example.com."),
				"nul":        rawSAN(t, "a.fin7.example.com", "b.fin7.example.com\x00.evil.example"),
				"not-ascii":  rawSAN(t, "a.fin7.example.com", "b.fin7.example.com", "bücher.example.com"),
				"cn-only":    acmetest.CSR(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "a.fin7.example.com"}}),
				"cn-more":    acmetest.ServerCSR(t, "c.fin7.example.com", "a.fin7.example.com", "b.fin7.example.com"),
			}, "badCSR")
			// Case and order make no other set of names, nor does writing one twice.
			valid := ok(t, c.Finalize(t, made, dns("B.fin7.Example.com", "a.fin7.example.com", "b.fin7.example.com")), http.StatusOK).Order(t)
			got := leaf(t, c.Read(t, valid.Certificate).Body).DNSNames
			if slices.Sort(got); strings.Join(got, " ") != "a.fin7.example.com b.fin7.example.com" {
				t.Errorf("names %v", got)
			}
		}},
		{"FIN-8", addressesOfCSRs},
		{"FIN-9", func(t *testing.T, s *suite) {
			mesh, server := s.account(t, "istio"), s.account(t, "server")
			made := ok(t, order(t, server, names("fin9.example.com")), http.StatusCreated).Order(t)
			sans := map[string][]byte{}
			for name, general := range map[string][]byte{
				"otherName": {0xa0, 0x0a, 0x06, 0x03, 0x2a, 0x03, 0x04, 0xa0, 0x03, 0x0c, 0x01, 'a'},
				"rfc822":    general(1, "a@b.example"), "x400": {0xa3, 0}, "dirName": {0xa4, 0x02, 0x30, 0}, "ediParty": {0xa5, 0},
				"uri": general(6, id), "registeredID": general(8, "\x2a\x03"),
			} {
				value := append(append([]byte(nil), generalDNS("fin9.example.com")...), general...)
				sans[name] = acmetest.CSR(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: san, Value: sequenceOf(value)}}})
			}
			s.refusesCSRs(t, server, made, sans, "badCSR", "rejectedIdentifier")
			meshMade := meshOrder(t, mesh)
			withEmail := acmetest.CSR(t, &x509.CertificateRequest{URIs: meshRequest(id).URIs, EmailAddresses: []string{"a@b.example"}})
			s.refusesCSRs(t, mesh, meshMade, map[string][]byte{"mesh-email": withEmail}, "badCSR")
		}},
		{"FIN-10", subjectsOfCSRs},
		{"FIN-11", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			made := meshOrder(t, c)
			key := acmetest.NewKey(t)
			s.refusesCSRs(t, c, made, map[string][]byte{
				"ca":               csrOf(t, key, extension(asn1.ObjectIdentifier{2, 5, 29, 19}, true, 0x30, 3, 1, 1, 0xff)),
				"unknown-critical": csrOf(t, key, extension(asn1.ObjectIdentifier{1, 2, 3, 4}, true, 5, 0)),
			}, "badCSR")
			for name, template := range map[string]*x509.CertificateRequest{
				"cert-sign":    extension(asn1.ObjectIdentifier{2, 5, 29, 15}, true, 3, 2, 2, 4),
				"any-usage":    extension(asn1.ObjectIdentifier{2, 5, 29, 37}, false, 0x30, 6, 6, 4, 0x55, 0x1d, 0x25, 0),
				"must-staple":  extension(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, false, 0x30, 3, 2, 1, 5),
				"unknown":      extension(asn1.ObjectIdentifier{1, 2, 3, 4}, false, 5, 0),
				"ocsp-nocheck": extension(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, false, 5, 0),
			} {
				t.Run("not-copied/"+name, func(t *testing.T) {
					made := meshOrder(t, c)
					valid := ok(t, c.Finalize(t, made, csrOf(t, acmetest.NewKey(t), template)), http.StatusOK).Order(t)
					checkMeshCertificate(t, s, leaf(t, c.Read(t, valid.Certificate).Body), []string{id}, nil)
				})
			}
		}},
		{"FIN-12", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			made := meshOrder(t, c)
			sanExtension := pkix.Extension{Id: san, Value: sequenceOf(general(6, id))}
			other := pkix.Extension{Id: san, Value: sequenceOf(general(6, "spiffe://cluster.local/ns/kube-system/sa/admin"))}
			request := func(oid asn1.ObjectIdentifier, extensions ...pkix.Extension) []byte {
				return attribute(t, oid, extensions)
			}
			pkcs9, microsoft := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 14}
			s.refusesCSRs(t, c, made, map[string][]byte{
				"two-sans":       rawCSR(t, nil, request(pkcs9, sanExtension, other)),
				"two-attributes": rawCSR(t, nil, request(pkcs9, sanExtension), request(pkcs9, other)),
				"both":           rawCSR(t, nil, request(pkcs9, sanExtension), request(microsoft, other)),
				"microsoft":      rawCSR(t, nil, request(microsoft, sanExtension)),
			}, "badCSR")
			ok(t, c.Finalize(t, made, rawCSR(t, nil, request(pkcs9, sanExtension))), http.StatusOK)
		}},
		{"FIN-13", func(t *testing.T, s *suite) {
			c, other, gone := s.account(t, "istio"), s.account(t, "server"), s.account(t, "server")
			ok(t, gone.PostRaw(t, gone.KID, []byte(`{"status":"deactivated"}`)), http.StatusOK)
			s.refusesCSRs(t, c, meshOrder(t, c), map[string][]byte{
				"own":         csrOf(t, c.Key, meshRequest(id)),
				"another":     csrOf(t, other.Key, meshRequest(id)),
				"deactivated": csrOf(t, gone.Key, meshRequest(id)),
			}, "badCSR", "badPublicKey")
		}},
		{"FIN-14", keysOfCSRs},
		{"FIN-15", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			key := acmetest.NewKey(t)
			valid := ok(t, c.Finalize(t, meshOrder(t, c), csrOf(t, key, meshRequest(id))), http.StatusOK).Order(t)
			certificate := leaf(t, c.Read(t, valid.Certificate).Body)
			ok(t, c.Post(t, c.Prefix+"/revoke-cert", map[string]any{"certificate": acmetest.Base64(certificate.Raw), "reason": 1}), http.StatusOK)
			ca, err := s.Signers.Signer(t.Context(), s.Issuing.KeyID)
			if err != nil {
				t.Fatal(err)
			}
			s.refusesCSRs(t, c, meshOrder(t, c), map[string][]byte{
				"compromised": csrOf(t, key, meshRequest(id)), "ca": csrOf(t, ca, meshRequest(id)),
			}, "badPublicKey")
		}},
	}
}

func addressesOfCSRs(t *testing.T, s *suite) {
	c := s.scoped(t)
	made, a := s.pending(t, c, ipID("127.0.0.1"))
	token := a.of(t, "http-01").Token
	s.lab.prove("127.0.0.1", token, keyAuthorization(t, c, token))
	s.answer(t, c, a, "http-01")
	ips := func(list ...string) []byte {
		template := &x509.CertificateRequest{}
		for _, address := range list {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(address))
		}
		return acmetest.CSR(t, template)
	}
	withSAN := func(value []byte) []byte {
		return acmetest.CSR(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: sequenceOf(value)}}})
	}
	s.refusesCSRs(t, c, made, map[string][]byte{
		"other": ips("127.0.0.2"), "additional": ips("127.0.0.1", "127.0.0.2"), "none": ips(), "length": withSAN(general(7, "\x7f\x00\x00")),
		"network": withSAN(general(7, "\x7f\x00\x00\x01\xff\xff\xff\xff")), "as-dns": withSAN(general(2, "127.0.0.1")),
		"and-dns": acmetest.CSR(t, &x509.CertificateRequest{DNSNames: []string{"a.test"}, IPAddresses: []net.IP{net.ParseIP("127.0.0.1")}}),
	}, "badCSR")
	// Sixteen octets of an IPv4 address are that address.
	valid := ok(t, c.Finalize(t, made, withSAN(general(7, string(net.ParseIP("127.0.0.1").To16())))), http.StatusOK).Order(t)
	if got := leaf(t, c.Read(t, valid.Certificate).Body).IPAddresses; len(got) != 1 || got[0].String() != "127.0.0.1" {
		t.Errorf("addresses %v", got)
	}
}

func subjectsOfCSRs(t *testing.T, s *suite) {
	server, mesh := s.account(t, "server"), s.account(t, "istio")
	made := ok(t, order(t, server, names("fin10.example.com")), http.StatusCreated).Order(t)
	subject := func(types ...pkix.AttributeTypeAndValue) []byte {
		return acmetest.CSR(t, &x509.CertificateRequest{Subject: pkix.Name{ExtraNames: types}, DNSNames: []string{"fin10.example.com"}})
	}
	attr := func(value string, oid ...int) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: oid, Value: value}
	}
	s.refusesCSRs(t, server, made, map[string][]byte{
		"two-cns":      subject(attr("fin10.example.com", 2, 5, 4, 3), attr("evil.example.com", 2, 5, 4, 3)),
		"cn-not-san":   subject(attr("evil.example.com", 2, 5, 4, 3)),
		"cn-address":   subject(attr("127.0.0.1", 2, 5, 4, 3)),
		"email":        subject(attr("a@b.example", 1, 2, 840, 113549, 1, 9, 1)),
		"organization": subject(attr("Evil Inc.", 2, 5, 4, 10)),
		"unit":         subject(attr("Evil", 2, 5, 4, 11)),
		"serial":       subject(attr("7", 2, 5, 4, 5)),
		"country":      subject(attr("DE", 2, 5, 4, 6)),
	}, "badCSR")
	valid := ok(t, server.Finalize(t, made, acmetest.ServerCSR(t, "fin10.example.com")), http.StatusOK).Order(t)
	if got := leaf(t, server.Read(t, valid.Certificate).Body).Subject.CommonName; got != "fin10.example.com" {
		t.Errorf("common name %q", got)
	}
	// What istio's agents send: an organization with an empty value. It is not in the certificate.
	const id = "spiffe://cluster.local/ns/demo/sa/fin10"
	_, chain := obtained(t, s, mesh, id)
	checkMeshCertificate(t, s, leaf(t, chain), []string{id}, nil)
}

func keysOfCSRs(t *testing.T, s *suite) {
	const id = "spiffe://cluster.local/ns/demo/sa/fin14"
	c := s.account(t, "istio")
	weak := map[string][]byte{}
	for name, curve := range map[string]elliptic.Curve{"P-224": elliptic.P224(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		weak[name] = csrOf(t, key, meshRequest(id))
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak["RSA-1024"] = csrOf(t, small, meshRequest(id))
	s.refusesCSRs(t, c, meshOrder(t, c), weak, "badPublicKey", "badCSR")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{ed, p384} {
		ok(t, c.Finalize(t, meshOrder(t, c), csrOf(t, key, meshRequest(id))), http.StatusOK)
	}
	// A profile that takes ECDSA only.
	profile := s.AddProfile(t, "fin14", pki.PrivateMTLS, pki.MTLSOverACME, func(rules *pki.ProfileRules) {
		*rules = s.Profiles["istio"].Rules
		rules.Keys = []pki.KeyAlgorithm{pki.ECDSAP256}
	})
	narrow := s.client(t)
	narrow.Register(t, s.credentialOf(t, profile, "fin14"))
	s.refusesCSRs(t, narrow, meshOrder(t, narrow), map[string][]byte{"ed25519": csrOf(t, ed, meshRequest(id)), "P-384": csrOf(t, p384, meshRequest(id))}, "badPublicKey", "badCSR")
}

func generalDNS(name string) []byte { return general(2, name) }

func sequenceOf(content []byte) []byte {
	raw, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content})
	if err != nil {
		panic(err)
	}
	return raw
}

// rawSAN returns a CSR with DNS names as they are given, which the standard library would not write.
func rawSAN(t *testing.T, names ...string) []byte {
	t.Helper()
	var all []byte
	for _, name := range names {
		all = append(all, general(2, name)...)
	}
	return acmetest.CSR(t, &x509.CertificateRequest{ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: sequenceOf(all)}}})
}

// attribute is a PKCS #10 attribute that requests extensions.
func attribute(t *testing.T, oid asn1.ObjectIdentifier, extensions []pkix.Extension) []byte {
	t.Helper()
	raw, err := asn1.Marshal(struct {
		ID    asn1.ObjectIdentifier
		Value [][]pkix.Extension `asn1:"set"`
	}{oid, [][]pkix.Extension{extensions}})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

type requestInfo struct {
	Version    int
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Attributes asn1.RawValue
}

type signedRequest struct {
	Info      asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

// rawCSR makes a CSR of parts, signed by a fresh key.
func rawCSR(t *testing.T, subject []byte, attributes ...[]byte) []byte {
	t.Helper()
	key := acmetest.NewKey(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if subject == nil {
		subject = sequenceOf(nil)
	}
	info, err := asn1.Marshal(requestInfo{
		Subject: asn1.RawValue{FullBytes: subject}, PublicKey: asn1.RawValue{FullBytes: spki},
		Attributes: asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: slices.Concat(attributes...)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return signRequest(t, info, key)
}

func signRequest(t *testing.T, info []byte, key crypto.Signer) []byte {
	t.Helper()
	digest := sha256.Sum256(info)
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return marshalRequest(t, signedRequest{
		Info: asn1.RawValue{FullBytes: info}, Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}},
		Signature: asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)},
	})
}

func marshalRequest(t *testing.T, r signedRequest) []byte {
	t.Helper()
	raw, err := asn1.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func parseRequest(t *testing.T, csr []byte) signedRequest {
	t.Helper()
	var r signedRequest
	if _, err := asn1.Unmarshal(csr, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// relabelled says that a CSR was signed with another algorithm.
func relabelled(t *testing.T, csr []byte, oid asn1.ObjectIdentifier) []byte {
	t.Helper()
	r := parseRequest(t, csr)
	r.Algorithm.Algorithm = oid
	return marshalRequest(t, r)
}

// resignedCSR signs a CSR by a key that is not the one in it.
func resignedCSR(t *testing.T, csr []byte, key crypto.Signer) []byte {
	t.Helper()
	return signRequest(t, parseRequest(t, csr).Info.FullBytes, key)
}
