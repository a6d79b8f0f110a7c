package api_test

import (
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
	"github.com/certloom/certloom/test/apitest"
)

// extension finds one by name.
func extension(t *testing.T, d *apiv1.CertificateDetails, name string) apiv1.Extension {
	t.Helper()
	if d == nil {
		t.Fatal("no details")
	}
	for _, e := range d.Extensions {
		if e.Name == name {
			return e
		}
	}
	t.Fatalf("no extension %s in %+v", name, d.Extensions)
	return apiv1.Extension{}
}

func TestDetailsOfCertificates(t *testing.T) {
	t.Parallel()
	w := apitest.New(t)
	client := w.Client(t, pki.RoleAdmin)
	const id = "spiffe://cluster.local/ns/shop/sa/web"
	leaf, err := client.Certificate(t.Context(), string(w.Issue(t, "ci", testca.Request{URIs: []string{id}}).Serial))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := client.CA(t.Context(), "issuing")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		details        *apiv1.CertificateDetails
		extension, oid string
		critical       bool
		value, says    string
	}{
		"leaf/names":    {leaf.Details, "subjectAltName", "2.5.29.17", true, "URI " + id, "peers"},
		"leaf/usage":    {leaf.Details, "keyUsage", "2.5.29.15", true, "digitalSignature", "TLS 1.3"},
		"leaf/purposes": {leaf.Details, "extKeyUsage", "2.5.29.37", false, "clientAuth", "TLS servers"},
		"leaf/ca":       {leaf.Details, "basicConstraints", "2.5.29.19", true, "cA false", "no CA"},
		"leaf/key":      {leaf.Details, "subjectKeyIdentifier", "2.5.29.14", false, "", "fingerprint"},
		"leaf/issuer":   {leaf.Details, "authorityKeyIdentifier", "2.5.29.35", false, "", "issuing CA"},
		"ca/usage":      {ca.Details, "keyUsage", "2.5.29.15", true, "keyCertSign", "sign certificates"},
		"ca/depth":      {ca.Details, "basicConstraints", "2.5.29.19", true, "pathLen 0", "leaves only"},
	} {
		e := extension(t, test.details, test.extension)
		if e.OID != test.oid || e.Critical != test.critical || !strings.Contains(strings.Join(e.Values, " "), test.value) || !strings.Contains(e.Sentence, test.says) {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if leaf.Details.KeyAlgorithm != "ECDSA P-256" || leaf.Details.SignatureAlgorithm == "" || leaf.Details.Issuer == "" || leaf.Details.Names.URIs[0] != id {
		t.Errorf("details %+v", leaf.Details)
	}
}
