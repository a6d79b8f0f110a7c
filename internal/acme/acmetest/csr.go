package acmetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"testing"
)

// NewKey returns a fresh P-256 key.
func NewKey(t testing.TB) crypto.Signer {
	t.Helper()
	return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
}

// CSR returns a CSR of a fresh key with the subject, names and URIs of a template.
func CSR(t testing.TB, template *x509.CertificateRequest) []byte {
	t.Helper()
	return must(x509.CreateCertificateRequest(rand.Reader, template, NewKey(t)))(t)
}

// WorkloadCSR returns the CSR of a mesh workload as istio-csr hands it on: an empty organization and one SPIFFE ID.
func WorkloadCSR(t testing.TB, id string) []byte {
	t.Helper()
	return CSR(t, &x509.CertificateRequest{
		RawSubject: must(asn1.Marshal(pkix.Name{Organization: []string{""}}.ToRDNSequence()))(t),
		URIs:       []*url.URL{must(url.Parse(id))(t)},
	})
}

// ServerCSR returns a CSR with DNS names, the first of them also as common name.
func ServerCSR(t testing.TB, names ...string) []byte {
	t.Helper()
	return CSR(t, &x509.CertificateRequest{Subject: pkix.Name{CommonName: names[0]}, DNSNames: names})
}
