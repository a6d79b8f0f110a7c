package issue_test

import (
	"crypto/x509"
	"testing"

	zcrypto "github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"

	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// accepted returns the findings of zlint that we live with, each with its reason. Everything else fails the test.
func accepted() map[string]string {
	https := "addresses of new CAs come from the server's base URL, which is https unless an administrator says otherwise; " +
		"RFC 5280 wants http or ldap for the sake of clients that check revocation while they fetch it"
	return map[string]string{
		"w_distribution_point_missing_ldap_or_uri": https,
		"w_ext_aia_access_location_missing":        https,
	}
}

// judge asks zlint's rules of RFC 5280, RFC 5480, RFC 5891 and RFC 8813. Those of the CA/Browser Forum, Mozilla, Apple
// and ETSI are for public CAs.
func judge(t *testing.T, der []byte) {
	t.Helper()
	registry, err := lint.GlobalRegistry().Filter(lint.FilterOptions{
		IncludeSources: lint.SourceList{lint.RFC3279, lint.RFC5280, lint.RFC5480, lint.RFC5891, lint.RFC6962, lint.RFC8813, lint.Community},
	})
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := zcrypto.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	for name, result := range zlint.LintCertificateEx(certificate, registry).Results {
		switch result.Status {
		case lint.Pass:
			passed++
		case lint.NA, lint.NE, lint.Reserved:
		default:
			if accepted()[name] == "" {
				t.Errorf("zlint: %s: %s: %s", name, result.Status, result.Details)
			}
		}
	}
	if passed < 20 {
		t.Errorf("zlint passed %d lints only; it has not judged", passed)
	}
}

func TestZLintAgrees(t *testing.T) {
	t.Parallel()
	keys := testKeys(t)
	for caName, caKey := range keys {
		s := newStage(t, testca.Options{RootKey: caKey, IssuingKey: caKey, PathLen: 1})
		for name, key := range keys {
			for _, test := range []struct {
				profile *pki.Profile
				request testca.Request
				order   []pki.Identifier
			}{
				{s.MeshProfile(), testca.Request{URIs: []string{testca.SPIFFE}}, nil},
				{
					s.MeshProfile(),
					testca.Request{URIs: []string{testca.SPIFFE}, DNS: []string{"istiod.istio-system.svc"}, IPs: []string{"10.0.0.1"}},
					[]pki.Identifier{{Type: pki.DNS, Value: "istiod.istio-system.svc"}, {Type: pki.IP, Value: "10.0.0.1"}},
				},
				{
					s.ServerProfile(),
					testca.Request{CommonName: "a.example.com", DNS: []string{"*.example.com"}, IPs: []string{"fd00::1"}},
					[]pki.Identifier{{Type: pki.DNS, Value: "a.example.com"}, {Type: pki.DNS, Value: "*.example.com"}, {Type: pki.IP, Value: "fd00::1"}},
				},
				{s.ClientProfile(), testca.Request{CommonName: "a.example.com"}, []pki.Identifier{{Type: pki.DNS, Value: "a.example.com"}}},
				{s.IntermediateProfile(), testca.Request{CommonName: "istiod CA", CA: true}, nil},
			} {
				t.Run(caName+"/"+name+"/"+test.profile.Name, func(t *testing.T) {
					t.Parallel()
					test.request.Key = key
					request := issue.Request{Profile: test.profile, Identifiers: test.order, CSR: parse(t, testca.CSR(t, test.request))}
					if test.profile.Method != pki.RESTAPI {
						request.Credential = testca.CredentialOf(test.profile)
					}
					got, err := s.issuer.Issue(t.Context(), request)
					if err != nil {
						t.Fatal(err)
					}
					judge(t, got.DER)
				})
			}
		}
	}
}

func TestZLintAgreesOnCAs(t *testing.T) {
	t.Parallel()
	a := newAuthorityStage(t)
	for name, ca := range a.several(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			certificate, err := x509.ParseCertificate(ca.Certificate)
			if err != nil {
				t.Fatal(err)
			}
			judge(t, certificate.Raw)
		})
	}
}
