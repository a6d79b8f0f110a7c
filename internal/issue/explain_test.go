package issue_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
	"github.com/certloom/certloom/internal/testca"
)

// TestExplainMakesNothing explains a request that would be issued: the example is what Issue makes, unsigned.
func TestExplainMakesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	r := s.meshRequest(t, "order-1")
	e, err := s.issuer.Explain(t.Context(), r)
	if err != nil || !e.Issued() || len(e.Chain) == 0 {
		t.Fatalf("%+v, %v", e, err)
	}
	if len(s.ledger.Issued()) != 0 || len(s.ledger.Events()) != 0 || s.count(t, "issued") != 0 {
		t.Error("asking has left something")
	}
	example, err := x509.ParseCertificate(e.Example)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(e.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	if len(example.Signature) != 0 || example.CheckSignatureFrom(ca) == nil {
		t.Error("the example is signed")
	}
	made, err := s.issuer.Issue(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(made.DER)
	if err != nil {
		t.Fatal(err)
	}
	if len(certificate.Extensions) != len(example.Extensions) || string(certificate.RawIssuer) != string(example.RawIssuer) ||
		string(certificate.RawSubject) != string(example.RawSubject) || !certificate.NotBefore.Equal(example.NotBefore) {
		t.Errorf("example %+v, made %+v", example, certificate)
	}
	for i := range certificate.Extensions {
		if !certificate.Extensions[i].Id.Equal(example.Extensions[i].Id) || string(certificate.Extensions[i].Value) != string(example.Extensions[i].Value) {
			t.Errorf("extension %v differs", certificate.Extensions[i].Id)
		}
	}
}

func TestExplainRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*issue.Request)
		rule   policy.Rule
	}{
		"refuses/suspended": {func(r *issue.Request) { p := *r.Profile; p.State = pki.Suspended; r.Profile = &p }, issue.RuleProfile},
		"refuses/past":      {func(r *issue.Request) { r.NotAfter = testca.Now().Add(-time.Hour) }, policy.RuleLifetime},
		"refuses/no-key":    {func(r *issue.Request) { c := *r.CSR; c.KeyAlgorithm = "dsa"; r.CSR = &c }, policy.RuleKey},
		"refuses/names":     {func(r *issue.Request) { c := *r.CSR; c.Names.URIs = []string{"spiffe://evil/ns/a/sa/b"}; r.CSR = &c }, policy.RuleSPIFFE},
		"refuses/depth": {func(r *issue.Request) {
			p := *r.Profile
			p.Template = pki.MeshIntermediate
			c := *r.CSR
			c.Names, c.CommonName, c.CA = pki.Names{}, "mesh", true
			r.Profile, r.CSR = &p, &c
		}, issue.RuleIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{})
			r := s.meshRequest(t, "")
			test.change(&r)
			e, err := s.issuer.Explain(t.Context(), r)
			if err != nil || e.Issued() {
				t.Fatalf("%+v, %v", e, err)
			}
			for _, check := range e.Checks {
				if check.Refused != nil {
					if check.Rule != test.rule {
						t.Errorf("refused by %s (%v), want %s", check.Rule, check.Refused, test.rule)
					}
					return
				}
			}
			t.Error("nothing says why")
		})
	}
}
