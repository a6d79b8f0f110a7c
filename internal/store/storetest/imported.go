package storetest

import (
	"crypto/sha256"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

// importedCertificate returns a certificate of another CA that ends in so many days.
func importedCertificate(name string, days int) *pki.Imported {
	return &pki.Imported{
		Fingerprint: sha256.Sum256([]byte(name)), Name: name, Subject: "CN=" + name, Issuer: "CN=Other CA", Serial: "1f",
		Names: pki.Names{DNS: []string{name}}, NotBefore: Now().AddDate(-1, 0, 0), NotAfter: Now().AddDate(0, 0, days), KeyAlgorithm: "RSA 2048",
		Signature: "SHA256-RSA", DER: []byte("der of " + name), CreatedAt: Now(),
		Rating: pki.Rating{Level: pki.Secure, Findings: []pki.Finding{{Code: pki.SmallKey, Level: pki.Secure, Text: "small"}}},
	}
}

func testImported(t *testing.T, s *store.Store) {
	ev := Event(audit.CertificateImport)
	uploaded := importedCertificate("a.example.com", 10)
	uploaded.Uploaded = true
	for _, want := range []bool{true, false} {
		added, err := s.AddImported(t.Context(), uploaded, ev)
		check(t, err)
		equal(t, "added", want, added)
	}
	found, other := importedCertificate("b.example.com", -10), importedCertificate("b.example.com/2", 90)
	for i, c := range []*pki.Imported{found, found, other} {
		added, err := s.SeeEndpoint(t.Context(), c, pki.EndpointTLS, "b.example.com:443", Now().Add(time.Duration(i)*time.Hour))
		check(t, err)
		equal(t, "found", i != 1, added)
	}
	_, err := s.SeeEndpoint(t.Context(), uploaded, pki.EndpointKubernetes, "east/shop/tls", Now())
	check(t, err)

	got, err := s.ImportedCertificate(t.Context(), uploaded.Fingerprint[:])
	check(t, err)
	uploaded.Endpoints = []pki.Endpoint{{Kind: pki.EndpointKubernetes, Place: "east/shop/tls", FirstSeenAt: Now(), LastSeenAt: Now()}}
	got.Cursor = ""
	equal(t, "certificate", uploaded, got)
	got, err = s.ImportedCertificate(t.Context(), found.Fingerprint[:])
	check(t, err)
	equal(t, "places of one that was replaced", 0, len(got.Endpoints))
	got, err = s.ImportedCertificate(t.Context(), other.Fingerprint[:])
	check(t, err)
	equal(t, "its successor", []pki.Endpoint{{Kind: pki.EndpointTLS, Place: "b.example.com:443", FirstSeenAt: Now().Add(2 * time.Hour), LastSeenAt: Now().Add(2 * time.Hour)}}, got.Endpoints)

	expired, valid := true, false
	for name, test := range map[string]struct {
		filter pki.ImportedFilter
		want   []string
	}{
		"all":            {pki.ImportedFilter{}, []string{"a.example.com", "b.example.com", "b.example.com/2"}},
		"text":           {pki.ImportedFilter{Text: "B.EXAMPLE other"}, []string{"b.example.com", "b.example.com/2"}},
		"place":          {pki.ImportedFilter{Text: "east/shop"}, []string{"a.example.com"}},
		"nothing":        {pki.ImportedFilter{Text: "100%"}, []string{}},
		"level":          {pki.ImportedFilter{Level: pki.NotSecure}, []string{}},
		"expired":        {pki.ImportedFilter{Expired: &expired}, []string{"b.example.com"}},
		"valid":          {pki.ImportedFilter{Expired: &valid}, []string{"a.example.com", "b.example.com/2"}},
		"expires before": {pki.ImportedFilter{Expired: &valid, ExpiresBefore: Now().AddDate(0, 0, 30)}, []string{"a.example.com"}},
	} {
		equal(t, name, test.want, importedNames(t, s, test.filter))
	}
	_, err = s.ImportedCertificates(t.Context(), pki.ImportedFilter{After: "forged"}, Now())
	refused(t, err, fault.Malformed)

	n, err := s.ForgetImported(t.Context(), Now().AddDate(0, 0, -30), 10)
	check(t, err)
	equal(t, "forgotten", 1, n) // the one that a scan had found and that was replaced
	check(t, s.ForgetEndpoints(t.Context(), pki.EndpointKubernetes, "east/", Now().Add(time.Hour)))
	n, err = s.ForgetImported(t.Context(), Now(), 10)
	check(t, err)
	equal(t, "forgotten of what was uploaded", 0, n)
	check(t, s.DeleteImported(t.Context(), uploaded.Fingerprint[:], ev))
	refused(t, s.DeleteImported(t.Context(), uploaded.Fingerprint[:], ev), fault.NotFound)
	equal(t, "left", []string{"b.example.com/2"}, importedNames(t, s, pki.ImportedFilter{}))
}

// importedNames walks through all pages.
func importedNames(t *testing.T, s *store.Store, filter pki.ImportedFilter) []string {
	t.Helper()
	names := []string{}
	filter.Limit = 1
	for {
		page, err := s.ImportedCertificates(t.Context(), filter, Now())
		check(t, err)
		if len(page) == 0 {
			return names
		}
		names = append(names, page[0].Name)
		filter.After = page[0].Cursor
	}
}
