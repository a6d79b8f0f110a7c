package testca

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/netip"
	"net/url"
	"testing"

	"github.com/certloom/certloom/internal/pki"
)

// Request is what a CSR asks for.
type Request struct {
	CommonName string
	URIs       []string
	DNS        []string
	IPs        []string
	CA         bool          // ask for a CA certificate
	Key        crypto.Signer // nil: a fresh ECDSA P-256 key
}

// CSR makes a certification request in DER.
func CSR(t testing.TB, r Request) []byte {
	t.Helper()
	if r.Key == nil {
		r.Key = Key(t)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: r.CommonName}, DNSNames: r.DNS}
	for _, ip := range r.IPs {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(ip))
	}
	for _, text := range r.URIs {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatalf("URI of CSR: %v", err)
		}
		template.URIs = append(template.URIs, uri)
	}
	if r.CA {
		template.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 19}, Critical: true, Value: []byte{0x30, 0x03, 0x01, 0x01, 0xff}}}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, r.Key)
	if err != nil {
		t.Fatalf("make CSR: %v", err)
	}
	return der
}

// SPIFFE is the identity of the CSR that SPIFFECSR makes; the profile of MeshProfile allows it.
const SPIFFE = "spiffe://cluster.local/ns/demo/sa/web"

// SPIFFECSR makes the CSR of a mesh workload: one SPIFFE ID and an empty subject.
func SPIFFECSR(t testing.TB) []byte {
	t.Helper()
	return CSR(t, Request{URIs: []string{SPIFFE}})
}

// MeshProfile is a pre-authorized profile for mesh workloads, under the hierarchy's issuing CA: trust domain
// cluster.local, every namespace and service account, DNS names under .svc and .example.com, addresses in 10.0.0.0/8.
func (h *Hierarchy) MeshProfile() *pki.Profile {
	p := h.profile("istio", pki.PrivateMTLS, pki.MTLSOverACME)
	p.Rules.Names.SPIFFE = pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"*/*"}}
	p.Rules.ExtKeyUsage = []string{"serverAuth", "clientAuth"}
	return p
}

// ServerProfile is a pre-authorized profile for TLS servers, with the names of MeshProfile but SPIFFE IDs. It keeps
// common names.
func (h *Hierarchy) ServerProfile() *pki.Profile {
	p := h.profile("server", pki.PrivateServer, pki.ACMEClient)
	p.Rules.Subject = pki.SubjectCommonName
	p.Rules.ExtKeyUsage = []string{"serverAuth"}
	return p
}

// ClientProfile is like ServerProfile, for TLS clients over the REST API.
func (h *Hierarchy) ClientProfile() *pki.Profile {
	p := h.profile("client", pki.PrivateClient, pki.RESTAPI)
	p.Rules.Subject = pki.SubjectCommonName
	p.Rules.ExtKeyUsage = []string{"clientAuth"}
	return p
}

// IntermediateProfile makes CAs for meshes over the REST API; the hierarchy's PathLen must be 1 or more.
func (h *Hierarchy) IntermediateProfile() *pki.Profile {
	p := h.profile("mesh-ca", pki.MeshIntermediate, pki.RESTAPI)
	p.Rules.Names = pki.NameRules{}
	p.Rules.Subject = pki.SubjectCommonName
	p.Rules.KeyUsage = []string{"keyCertSign", "cRLSign"}
	return p
}

func (h *Hierarchy) profile(name string, template pki.Template, method pki.EnrollmentMethod) *pki.Profile {
	const hour = pki.Duration(3600e9)
	return &pki.Profile{
		ID:        pki.ProfileID("profile-" + name),
		Name:      name,
		Template:  template,
		IssuingCA: h.Issuing.ID,
		Method:    method,
		State:     pki.Active,
		Rules: pki.ProfileRules{
			Validity: pki.Validity{Default: 24 * hour, Max: 168 * hour, Backdate: hour / 60},
			Keys:     []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA2048, pki.RSA3072, pki.RSA4096, pki.Ed25519},
			Names: pki.NameRules{
				DNS: pki.DNSRules{Allow: []string{"**.svc", "**.example.com"}, Wildcards: true},
				IP:  pki.IPRules{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}},
			},
			MaxNames: 100,
			Subject:  pki.SubjectEmpty,
			KeyUsage: []string{"digitalSignature", "keyEncipherment"},
		},
		Version:   1,
		CreatedAt: h.Issuing.CreatedAt,
		UpdatedAt: h.Issuing.UpdatedAt,
	}
}

// CredentialOf is a usable EAB credential of a profile.
func CredentialOf(p *pki.Profile) *pki.Credential {
	return &pki.Credential{
		ID:        pki.CredentialID("credential-" + p.Name),
		Name:      "test",
		ProfileID: p.ID,
		State:     pki.Active,
		CreatedAt: p.CreatedAt,
	}
}

// AccountOf is a valid account of a credential.
func AccountOf(c *pki.Credential) *pki.Account {
	return &pki.Account{
		ID:           pki.AccountID("account-" + string(c.ID)),
		Thumbprint:   "thumbprint-of-" + string(c.ID),
		CredentialID: c.ID,
		ProfileID:    c.ProfileID,
		Status:       pki.StatusValid,
		CreatedAt:    c.CreatedAt,
	}
}
