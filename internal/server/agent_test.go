package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/certloom/certloom/internal/agentapi"
)

// agentClient connects to the agents' address of dev.json, with a client certificate or without.
func (d *dev) agentClient(t *testing.T, certificates ...tls.Certificate) agentapi.AgentClient {
	t.Helper()
	address, err := url.Parse(d.connection.Agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport, ok := d.client.Transport.(*http.Transport)
	if !ok {
		t.Fatal("client has another transport")
	}
	connection, err := grpc.NewClient(address.Host, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: transport.TLSClientConfig.RootCAs, Certificates: certificates,
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return agentapi.NewAgentClient(connection)
}

func newRequest(t *testing.T, uris ...string) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var template x509.CertificateRequest
	for _, text := range uris {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, uri)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// enrol makes an agent's certificate with the credential of dev.json.
func (d *dev) enrol(t *testing.T) tls.Certificate {
	t.Helper()
	client := d.agentClient(t)
	challenge, err := client.Challenge(t.Context(), &agentapi.ChallengeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base64.RawURLEncoding.DecodeString(d.connection.Agent.HMACKey)
	if err != nil {
		t.Fatal(err)
	}
	der, key := newRequest(t)
	in := &agentapi.EnrolRequest{KeyId: d.connection.Agent.KeyID, Nonce: challenge.GetNonce(), Cluster: "east", Csr: der}
	in.Mac = agentapi.EnrolMAC(secret, in)
	out, err := client.Enrol(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: out.GetChain(), PrivateKey: key}
}

// What an agent asks for goes through the whole server, and the API shows who asked.
func TestDevServesAgents(t *testing.T) {
	t.Parallel()
	d := startDev(t, t.TempDir(), freeListen(t), 0)
	client := d.agentClient(t, d.enrol(t))
	der, _ := newRequest(t, "spiffe://cluster.local/ns/demo/sa/web")
	out, err := client.Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{{
		Csr: der, Caller: &agentapi.Caller{Namespace: "demo", ServiceAccount: "web", Pod: "web-1"},
	}}})
	if err != nil || out.GetResults()[0].GetCode() != 0 {
		t.Fatalf("issue: %v, %v", out, err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.connection.URL+"/api/v1/certificates?cluster=east&pod=web-1", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+d.connection.APIToken)
	response, err := d.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var page struct {
		Items []struct{ Identity, Profile string }
	}
	if err := json.NewDecoder(response.Body).Decode(&page); err != nil {
		t.Fatal(err)
	}
	if len(page.Items) != 1 || page.Items[0].Identity != "spiffe://cluster.local/ns/demo/sa/web" || page.Items[0].Profile != "mesh" {
		t.Errorf("inventory has %+v", page)
	}
	_, _, metrics := d.get(t, d.health+"/metrics")
	for _, want := range []string{`certloom_agentapi_items_total{code="OK"} 1`, `certloom_certificates_live{ca="issuing",root="root"} `} {
		if !strings.Contains(metrics, want) {
			t.Errorf("%q is missing", want)
		}
	}
}
