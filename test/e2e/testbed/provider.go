package testbed

import (
	"context"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"path/filepath"
)

// Provider is an OpenID Connect provider with a sign-in page, as a process of its own (parts/oidcprovider).
type Provider struct {
	Issuer string
	CAFile string // of its TLS
	People []ProviderPerson

	port         int
	dir          string
	client       string
	secret       string
	groupsInside bool
	built        string
	process      *Process
}

// ProviderPerson is somebody who can sign in there.
type ProviderPerson struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Password string   `json:"password"`
	Groups   []string `json:"groups"`
}

// NewProvider prepares a provider, which does not run yet. Groups are in the ID token, or at the userinfo endpoint only.
func NewProvider(ctx context.Context, t T, groupsInToken bool, people ...ProviderPerson) *Provider {
	t.Helper()
	port := Ports(t, 1)
	p := &Provider{
		Issuer: fmt.Sprintf("https://127.0.0.1:%d", port), People: people, port: port, dir: Folder(t), client: "certloom", secret: rand.Text(),
		groupsInside: groupsInToken, built: filepath.Join(ensure(ctx, t, "oidcprovider")["oidcprovider"], "bin", "oidcprovider"),
	}
	p.CAFile = filepath.Join(p.dir, "ca.pem")
	ca, err := newAuthority("e2e-oidc")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.leaf(pkix.Name{CommonName: "localhost"}, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(p.dir, map[string][]byte{
		"ca.pem": CertificatePEM(ca.cert.Raw), "server.pem": cert, "server.key": key, "client.secret": []byte(p.secret + "\n"),
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// settings are the server's, which know the provider.
func (p *Provider) settings() string {
	return fmt.Sprintf(`signIn:
  oidc:
    issuer: %s
    displayName: Company login
    clientId: %s
    clientSecretFile: %s
    caFile: %s
    roles:
      - {group: ca-admins, role: admin}
      - {group: ca-operators, role: operator}
      - {group: auditors, role: auditor}
      - {group: shop, role: namespace-viewer, sees: ["spiffe://cluster.local/ns/shop/*"]}
      - {group: pay, role: namespace-viewer, sees: ["spiffe://cluster.local/ns/pay/*"]}
`, p.Issuer, p.client, filepath.Join(p.dir, "client.secret"), p.CAFile)
}

// Start starts it, with the server as its client.
func (p *Provider) Start(ctx context.Context, t T, server *Certloom) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	settings, err := json.Marshal(map[string]any{
		"issuer": p.Issuer, "listen": Addr(p.port), "certificate": filepath.Join(p.dir, "server.pem"), "key": filepath.Join(p.dir, "server.key"),
		"client": p.client, "secret": p.secret, "redirects": []string{server.URL + "/sign-in/oidc/callback"},
		"inIdToken": p.groupsInside, "people": p.People,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := writeFiles(p.dir, map[string][]byte{"provider.json": settings}); err != nil {
		t.Fatal(err)
	}
	p.process = Start(t, Program{
		Name: "oidcprovider", Path: p.built, Dir: p.dir, Args: []string{"-config", filepath.Join(p.dir, "provider.json")},
	})
	client, err := TrustingClient(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	if err := p.process.Await(ctx, answers(client, p.Issuer+"/.well-known/openid-configuration")); err != nil {
		t.Fatal(err)
	}
}
