package connector_test

import (
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/connector"
	"github.com/certloom/certloom/internal/pki"
)

func TestCheck(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		method pki.EnrollmentMethod // "": mtls-over-acme
		name   string               // "": east
		change func(*pki.Connector, *connector.Subject)
		want   []string // field and words of each refusal
	}{
		"accepts/defaults": {},
		"accepts/agent":    {method: pki.Agent},
		"accepts/any cluster name that Istio takes": {name: "digicert_acme.EU-1"},
		"refuses/mode of another method": {
			method: pki.Agent, change: func(c *pki.Connector, _ *connector.Subject) { c.Mode = pki.ModeCertManager },
			want: []string{"/mode|profile \"istio\" has agent"},
		},
		"refuses/agent with an ACME profile": {
			change: func(c *pki.Connector, _ *connector.Subject) { c.Mode = pki.ModeAgent },
			want:   []string{"/mode|needs a profile with enrollment method agent"},
		},
		"refuses/unknown mode": {
			change: func(c *pki.Connector, _ *connector.Subject) { c.Mode = "magic" },
			want:   []string{"/mode|not one of cert-manager, agent"},
		},
		"refuses/trust domain": {
			change: func(c *pki.Connector, _ *connector.Subject) { c.Settings.TrustDomain = "evil.example" },
			want:   []string{"/trustDomain|\"evil.example\" is not one that profile \"istio\" allows: cluster.local, other.example"},
		},
		"refuses/suspended profile": {
			change: func(_ *pki.Connector, s *connector.Subject) { s.Profile.State = pki.Suspended },
			want:   []string{"/profile|is suspended"},
		},
		"refuses/suspended CA": {
			change: func(_ *pki.Connector, s *connector.Subject) { s.IssuingCA.State = pki.Suspended },
			want:   []string{"/profile|issuing CA \"issuing\""},
		},
		"refuses/lifetime": {
			change: func(_ *pki.Connector, s *connector.Subject) {
				s.Profile.Rules.Validity.Max = pki.Duration(30 * time.Minute)
			},
			want: []string{"/profile|grants at most 30m"},
		},
		"refuses/lifetime for the agent": {
			method: pki.Agent, change: func(_ *pki.Connector, s *connector.Subject) {
				s.Profile.Rules.Validity.Max = pki.Duration(20 * time.Minute)
			},
			want: []string{"/profile|grants at most 20m"},
		},
		"refuses/no DNS names": {
			change: func(_ *pki.Connector, s *connector.Subject) {
				s.Profile.Rules.Names.DNS.Allow = []string{"istiod.istio-system.svc"}
			},
			want: []string{"/profile|cert-manager-istio-csr.cert-manager.svc"},
		},
		"refuses/istiod's namespace": {
			change: func(_ *pki.Connector, s *connector.Subject) { s.Profile.Rules.Names.SPIFFE.Allow = []string{"shop/*"} },
			want:   []string{"/profile|spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"},
		},
		"refuses/limit of the credential": {
			change: func(_ *pki.Connector, s *connector.Subject) {
				s.Credential = &pki.Credential{ProfileID: "p", Name: "narrow", State: pki.Active, Limit: &pki.NameRules{
					SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}}, DNS: pki.DNSRules{Allow: []string{"**.example.com"}},
				}}
			},
			want: []string{"/profile|istiod.istio-system.svc", "/profile|cert-manager-istio-csr"},
		},
		"refuses/revoked credential": {
			change: func(_ *pki.Connector, s *connector.Subject) {
				s.Credential = &pki.Credential{ProfileID: "p", Name: "old", State: pki.Revoked}
			},
			want: []string{"/credential|\"old\""},
		},
		"refuses/one purpose only": {
			change: func(_ *pki.Connector, s *connector.Subject) { s.Profile.Rules.ExtKeyUsage = []string{"clientAuth"} },
			want:   []string{"/profile|serverAuth"},
		},
		"refuses/keys": {
			change: func(_ *pki.Connector, s *connector.Subject) { s.Profile.Rules.Keys = []pki.KeyAlgorithm{pki.Ed25519} },
			want:   []string{"/profile|neither"},
		},
		"refuses/RSA only with ambient": {
			change: func(c *pki.Connector, s *connector.Subject) {
				c.Settings.Dataplane, s.Profile.Rules.Keys = pki.Ambient, []pki.KeyAlgorithm{pki.RSA2048}
			},
			want: []string{"/dataplane|ztunnel"},
		},
		"refuses/no listener for agents": {
			method: pki.Agent, change: func(_ *pki.Connector, s *connector.Subject) { s.AgentURL = "" },
			want: []string{"/mode|listener for agents"},
		},
		"refuses/cluster name":      {name: "a b\n<script>", want: []string{"/name|not 1 to 63"}},
		"refuses/long cluster name": {name: strings.Repeat("a", 64), want: []string{"/name|not 1 to 63"}},
		"refuses/everything at once": {
			name: "-", change: func(c *pki.Connector, _ *connector.Subject) {
				c.Kind, c.Settings = "linkerd", pki.ConnectorSettings{
					IstioNamespace: "Istio_System", Dataplane: "both", IssuerName: "a b", Email: "nobody", AgentImage: "x", TrustDomain: "cluster.local",
				}
			},
			want: []string{"/kind|linkerd", "/name|\"-\"", "/istioNamespace|Istio_System", "/dataplane|both", "/issuerName|a b", "/email|nobody", "/agentImage|mode agent"},
		},
		"refuses/agent image": {
			method: pki.Agent, change: func(c *pki.Connector, _ *connector.Subject) {
				c.Settings = pki.ConnectorSettings{AgentImage: "a image", IssuerName: "x", Email: "a@example.com"}
			},
			want: []string{"/agentImage|REGISTRY/PATH", "/issuerName|mode cert-manager", "/email|mode cert-manager"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.method == "" {
				test.method = pki.MTLSOverACME
			}
			if test.name == "" {
				test.name = "east"
			}
			s := subject(test.method)
			c := made(test.name, s, func(c *pki.Connector) {
				if test.change != nil {
					test.change(c, s)
				}
			})
			got := fieldsOf(connector.Check(c, s, today()))
			if len(got) != len(test.want) {
				t.Fatalf("got %d refusals, want %d:\n%s", len(got), len(test.want), strings.Join(got, "\n"))
			}
			for i, want := range test.want {
				field, words, _ := strings.Cut(want, "|")
				if !strings.HasPrefix(got[i], field+": ") || !strings.Contains(got[i], words) {
					t.Errorf("refusal %d is %q, want %q", i, got[i], want)
				}
			}
		})
	}
}
