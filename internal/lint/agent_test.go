package lint_test

import (
	"crypto"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// agentLeaf is the decision on an agent's own certificate, and the certificate.
func agentLeaf(t *testing.T, h *testca.Hierarchy, key crypto.Signer) (*lint.Want, *x509.Certificate) {
	t.Helper()
	want, template := leaf(t, h, key)
	uri, err := url.Parse(pki.AgentURI("cluster.local", pki.CredentialID(strings.Repeat("0", 36))))
	if err != nil {
		t.Fatal(err)
	}
	want.Agent, want.Names, want.ExtKeyUsage = true, pki.Names{URIs: []string{uri.String()}}, []string{"clientAuth"}
	template.DNSNames, template.IPAddresses, template.URIs = nil, nil, []*url.URL{uri}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return want, template
}

func TestCheckAgent(t *testing.T) {
	t.Parallel()
	h, key := testca.New(t), testca.Key(t)
	workload, err := url.Parse(testca.SPIFFE)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*lint.Want, *x509.Certificate){
		"good":             func(*lint.Want, *x509.Certificate) {},
		"refuses/no-agent": func(w *lint.Want, _ *x509.Certificate) { w.Agent = false },
		"refuses/for-peers": func(w *lint.Want, c *x509.Certificate) {
			w.ExtKeyUsage = []string{"serverAuth", "clientAuth"}
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		},
		"refuses/workload": func(w *lint.Want, c *x509.Certificate) {
			w.Names.URIs, c.URIs = []string{testca.SPIFFE}, []*url.URL{workload}
		},
		"refuses/two-uris": func(w *lint.Want, c *x509.Certificate) {
			w.Names.URIs, c.URIs = append(w.Names.URIs, testca.SPIFFE), append(c.URIs, workload)
		},
		"refuses/dns": func(w *lint.Want, c *x509.Certificate) {
			w.Names.DNS, c.DNSNames = []string{"a.example.com"}, []string{"a.example.com"}
		},
		"refuses/common-name": func(w *lint.Want, c *x509.Certificate) { w.CommonName, c.Subject.CommonName = "agent", "agent" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want, template := agentLeaf(t, h, key)
			change(want, template)
			err := issuerOf(t, h).Check(tbs(t, h, template, key.Public()), want)
			if good := name == "good"; good != (err == nil) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}
