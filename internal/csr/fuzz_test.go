package csr_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
)

// FuzzParse holds Parse to what its package promises of any bytes: no panic, errors that are sentences fit for
// a client and a log, and nothing accepted that the standard library refuses or reads differently.
func FuzzParse(f *testing.F) {
	key := newECDSA(f, elliptic.P256())
	organization := pkix.Name{Organization: []string{""}}
	for _, template := range []x509.CertificateRequest{
		{Subject: organization, URIs: uris(workload)},
		{Subject: organization, DNSNames: []string{"cert-manager-istio-csr.cert-manager.svc"}},
		{
			Subject:  pkix.Name{CommonName: "istiod.istio-system.svc"},
			DNSNames: []string{"istiod.istio-system.svc"},
			URIs:     uris("spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"),
		},
	} {
		f.Add(create(f, &template, key))
	}
	f.Add(build{key: key, names: [][]byte{general(1, "a@b"), general(2, "a.example")}}.der(f))
	f.Add(build{key: key, names: [][]byte{general(7, "\x7f\x00\x00\x01")}, attributes: [][]byte{microsoftRequest()}}.der(f))
	f.Add(build{key: key, subject: sequence(attribute(3, "a.example"), attribute(10, ""))}.der(f))
	f.Add(rsaSized(f, 2048))
	f.Fuzz(func(t *testing.T, der []byte) {
		request, err := csr.Parse(bytes.Clone(der))
		if err != nil {
			checkRefusal(t, err)
			return
		}
		checkAccepted(t, der, request)
	})
}

// FuzzParseSigned goes where FuzzParse cannot, behind the signature: it signs what the fuzzer made of a subject and of
// attributes.
func FuzzParseSigned(f *testing.F) {
	key := newECDSA(f, elliptic.P256())
	san := func(names ...[]byte) []byte {
		return extensionRequest(pkix.Extension{Id: oid(2, 5, 29, 17), Critical: true, Value: sequence(names...)})
	}
	f.Add(sequence(attribute(10, "")), san(general(6, workload)))
	f.Add(sequence(attribute(3, "a.example")), san(general(2, "a.example"), general(2, "*.b.example"), general(7, "\x7f\x00\x00\x01")))
	f.Add(sequence(), san(general(1, "a@b"), der(0xa0, []byte("\x06\x01\x2a\xa0\x03\x0c\x01a"))))
	f.Add(sequence(), extensionRequest(
		pkix.Extension{Id: oid(2, 5, 29, 19), Critical: true, Value: []byte{0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00}},
		pkix.Extension{Id: oid(2, 5, 29, 15), Critical: true, Value: []byte{0x03, 0x02, 0x05, 0xa0}},
	))
	f.Add(sequence(), microsoftRequest())
	f.Fuzz(func(t *testing.T, subject, attributes []byte) {
		if len(subject) == 0 {
			subject = sequence()
		}
		der := build{key: key, subject: subject, attributes: [][]byte{attributes}}.der(t)
		request, err := csr.Parse(bytes.Clone(der))
		if err != nil {
			checkRefusal(t, err)
			return
		}
		checkAccepted(t, der, request)
	})
}

func checkRefusal(t *testing.T, err error) {
	t.Helper()
	refusal, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("error %v is no fault.Error", err)
	}
	if !slices.Contains([]fault.Kind{fault.BadCSR, fault.BadPublicKey, fault.Malformed}, refusal.Kind) {
		t.Errorf("error has kind %v", refusal.Kind)
	}
	if strings.ContainsFunc(refusal.Public, func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("sentence %q has characters that are not printable", refusal.Public)
	}
	const longest = 1200 // three quoted values, each byte of them escaped
	if len(refusal.Public) > longest {
		t.Errorf("sentence has %d bytes", len(refusal.Public))
	}
}

func checkAccepted(t *testing.T, der []byte, request *csr.Request) {
	t.Helper()
	oracle, err := x509.ParseCertificateRequest(der)
	if len(request.Names.URIs) > 0 && err != nil {
		return // the library judges URIs too, which we leave to policy
	}
	if err != nil {
		t.Fatalf("accepted what the standard library refuses: %v", err)
	}
	if err := oracle.CheckSignature(); err != nil {
		t.Fatalf("accepted a bad signature: %v", err)
	}
	if oracle.Subject.CommonName != request.CommonName {
		t.Errorf("common name %q, want %q", request.CommonName, oracle.Subject.CommonName)
	}
	if len(oracle.EmailAddresses) > 0 {
		t.Errorf("accepted mail addresses %q", oracle.EmailAddresses)
	}
	var dns, ips, uris []string
	for _, name := range oracle.DNSNames {
		dns = append(dns, strings.ToLower(name))
	}
	for _, ip := range oracle.IPAddresses {
		ips = append(ips, ip.String())
	}
	for _, uri := range oracle.URIs {
		uris = append(uris, uri.String())
	}
	sameSet(t, "DNS names", request.Names.DNS, dns)
	sameSet(t, "addresses", request.Names.IPs, ips)
	if len(uris) != len(request.Names.URIs) {
		t.Errorf("URIs %q, want %q", request.Names.URIs, uris)
	}
}

func sameSet(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(want)
	if want = slices.Compact(want); !slices.Equal(got, want) {
		t.Errorf("%s %q, want %q", what, got, want)
	}
}

// BenchmarkParse is to cost little more than the verification of the signature, which is measured beside it.
func BenchmarkParse(b *testing.B) {
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		der := create(b, &x509.CertificateRequest{URIs: uris(workload)}, newECDSA(b, curve))
		b.Run(curve.Params().Name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := csr.Parse(der); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	der := create(b, &x509.CertificateRequest{URIs: uris(workload)}, newECDSA(b, elliptic.P256()))
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("verification-alone/P-256", func(b *testing.B) {
		for b.Loop() {
			if err := request.CheckSignature(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
