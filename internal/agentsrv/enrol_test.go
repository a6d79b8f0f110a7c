package agentsrv_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
)

func TestEnrol(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.dial(t)
	in, key := l.enrolment(t, client, l.credential)
	out, err := client.Enrol(t.Context(), in)
	check(t, err)

	leaf := certificate(t, out.GetChain())
	roots, above := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range out.GetBundle().GetRoots() {
		roots.AddCert(certificate(t, [][]byte{der}))
	}
	for _, der := range out.GetChain()[1:] {
		above.AddCert(certificate(t, [][]byte{der}))
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: above, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	check(t, err)
	uri := pki.AgentURI("cluster.local", l.credential.ID)
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != uri || len(leaf.ExtKeyUsage) != 1 || leaf.KeyUsage != x509.KeyUsageDigitalSignature ||
		len(leaf.Subject.Names)+len(leaf.DNSNames) > 0 || !key.(*ecdsa.PrivateKey).PublicKey.Equal(leaf.PublicKey) {
		t.Errorf("certificate has URIs %v, usages %v %v, subject %q", leaf.URIs, leaf.KeyUsage, leaf.ExtKeyUsage, leaf.Subject)
	}
	if life := leaf.NotAfter.Sub(l.Clock.Now()); life > 24*time.Hour {
		t.Errorf("certificate lives for %s", life)
	}
	if p := out.GetProfile(); p.GetName() != "mesh" || fmt.Sprint(p.GetTrustDomains()) != "[cluster.local]" || p.GetMaxLifetimeSeconds() != 7*24*3600 {
		t.Errorf("profile is %v", p)
	}
	row, err := l.Store.Certificate(t.Context(), serial(t, out.GetChain()))
	check(t, err)
	if row.Identity != uri || row.CredentialID != l.credential.ID || row.Workload != (pki.Workload{Cluster: "east-1"}) ||
		!strings.HasPrefix(row.Client.UserAgent, "certloom-agent/test") || row.Client.Address != "127.0.0.1" {
		t.Errorf("inventory has %+v", row)
	}
	events, err := l.Store.Events(t.Context(), pki.EventFilter{Target: string(row.Serial), Limit: 10})
	check(t, err)
	if len(events) != 1 || events[0].Actor != (audit.Actor{Kind: audit.Agent, ID: string(l.credential.ID), Name: "east"}) ||
		events[0].Detail.Workload.Cluster != "east-1" || events[0].Replica != "" || events[0].Request == "" {
		t.Errorf("events are %+v", events)
	}
	credentials, err := l.Store.Credentials(t.Context())
	check(t, err)
	for _, c := range credentials {
		if used := !c.LastUsedAt.IsZero(); used != (c.ID == l.credential.ID) {
			t.Errorf("credential %s: last used %s", c.Name, c.LastUsedAt)
		}
	}
}

func TestEnrolRefuses(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.dial(t)
	revoked := l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "revoked"})
	_, err := l.Catalog.RevokeCredential(t.Context(), revoked.ID, acmetest.By())
	check(t, err)
	expired := l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "expired", ExpiresAt: l.Clock.Now().Add(time.Minute)})
	l.Advance(t, time.Hour)
	suspended := l.AddProfile(t, "suspended", pki.PrivateMTLS, pki.Agent, func(rules *pki.ProfileRules) { rules.Names = l.mesh.Rules.Names })
	asleep := l.AddCredential(t, catalog.NewCredential{ProfileID: suspended.ID, Name: "asleep"})
	_, err = l.Catalog.SetProfileState(t.Context(), suspended.ID, pki.Suspended, acmetest.By())
	check(t, err)
	used, _ := l.enrolment(t, client, l.credential)
	_, err = client.Enrol(t.Context(), used)
	check(t, err)

	sign := func(in *agentapi.EnrolRequest, credential acmetest.Credential) {
		in.Mac = agentapi.EnrolMAC(credential.Key, in)
	}
	with := func(template *x509.CertificateRequest) func(*agentapi.EnrolRequest) {
		return func(in *agentapi.EnrolRequest) {
			in.Csr, _ = request(t, template)
			sign(in, l.credential)
		}
	}
	tests := map[string]struct {
		credential acmetest.Credential
		change     func(in *agentapi.EnrolRequest)
		code       codes.Code
		want       string
	}{
		"refuses/wrong-key":          {acmetest.Credential{ID: l.credential.ID, Key: make([]byte, 32)}, nil, codes.Unauthenticated, "do not belong together"},
		"refuses/no-mac":             {l.credential, func(in *agentapi.EnrolRequest) { in.Mac = nil }, codes.Unauthenticated, "do not belong together"},
		"refuses/short-mac":          {l.credential, func(in *agentapi.EnrolRequest) { in.Mac = in.GetMac()[:16] }, codes.Unauthenticated, "do not belong together"},
		"refuses/other-cluster":      {l.credential, func(in *agentapi.EnrolRequest) { in.Cluster = "west" }, codes.Unauthenticated, "do not belong together"},
		"refuses/other-csr":          {l.credential, func(in *agentapi.EnrolRequest) { in.Csr, _ = request(t, &x509.CertificateRequest{}) }, codes.Unauthenticated, "do not belong together"},
		"refuses/other-nonce":        {l.credential, func(in *agentapi.EnrolRequest) { in.Nonce = l.Nonces.Issue() }, codes.Unauthenticated, "do not belong together"},
		"refuses/unknown-credential": {acmetest.Credential{ID: "nobody", Key: []byte("nobody")}, nil, codes.Unauthenticated, "do not belong together"},
		"refuses/unknown-nobody-key": {acmetest.Credential{ID: pki.CredentialID(strings.Repeat("0", 36)), Key: []byte("nobody")}, nil, codes.Unauthenticated, "do not belong together"},
		"refuses/used-nonce": {l.credential, func(in *agentapi.EnrolRequest) {
			in.Nonce = used.GetNonce()
			sign(in, l.credential)
		}, codes.Aborted, "nonce"},
		"refuses/unknown-nonce": {l.credential, func(in *agentapi.EnrolRequest) {
			in.Nonce = "nonsense"
			sign(in, l.credential)
		}, codes.Aborted, "nonce"},
		"refuses/revoked-credential": {revoked, nil, codes.PermissionDenied, "revoked or has expired"},
		"refuses/expired-credential": {expired, nil, codes.PermissionDenied, "revoked or has expired"},
		"refuses/profile-for-acme":   {l.Credentials["istio"], nil, codes.PermissionDenied, "not for agents"},
		"refuses/suspended-profile":  {asleep, nil, codes.PermissionDenied, "suspended"},
		"refuses/no-cluster": {l.credential, func(in *agentapi.EnrolRequest) {
			in.Cluster = ""
			sign(in, l.credential)
		}, codes.InvalidArgument, "cluster"},
		"refuses/strange-cluster": {l.credential, func(in *agentapi.EnrolRequest) {
			in.Cluster = "a/b\n"
			sign(in, l.credential)
		}, codes.InvalidArgument, "cluster"},
		"refuses/long-cluster": {l.credential, func(in *agentapi.EnrolRequest) {
			in.Cluster = strings.Repeat("a", 64)
			sign(in, l.credential)
		}, codes.InvalidArgument, "cluster"},
		"refuses/no-csr": {l.credential, func(in *agentapi.EnrolRequest) {
			in.Csr = nil
			sign(in, l.credential)
		}, codes.InvalidArgument, "CSR"},
		"refuses/csr-with-dns":  {l.credential, with(&x509.CertificateRequest{DNSNames: []string{"istiod.istio-system.svc"}}), codes.InvalidArgument, "names"},
		"refuses/csr-with-mesh": {l.credential, with(meshRequest(t, "spiffe://cluster.local/ns/a/sa/b")), codes.InvalidArgument, "names"},
		"refuses/csr-with-uri":  {l.credential, with(meshRequest(t, pki.AgentURI("cluster.local", l.credential.ID))), codes.InvalidArgument, "names"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, _ := l.enrolment(t, client, test.credential)
			if test.change != nil {
				test.change(in)
			}
			out, err := client.Enrol(t.Context(), in)
			refused(t, err, test.code)
			if message := status.Convert(err).Message(); out != nil || !strings.Contains(message, test.want) {
				t.Errorf("got %v, %q, want %q", out, message, test.want)
			}
		})
	}
	t.Cleanup(func() {
		issued, err := l.Store.Certificates(t.Context(), pki.CertificateFilter{ProfileID: l.mesh.ID, Limit: 10}, l.Clock.Now())
		if err == nil && len(issued) != 1 {
			t.Errorf("%d certificates were issued", len(issued))
		}
	})
}

// One nonce is good for one of many enrolments at once, also when the nonce was seen by somebody else before.
func TestNonceIsUsedOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.dial(t)
	in, _ := l.enrolment(t, client, l.credential)
	bad := clone(t, in)
	bad.Mac = make([]byte, 32)
	_, err := client.Enrol(t.Context(), bad)
	refused(t, err, codes.Unauthenticated)
	results := make(chan error)
	for range 8 {
		go func() {
			_, err := client.Enrol(t.Context(), in)
			results <- err
		}()
	}
	good := 0
	for range 8 {
		if err := <-results; err == nil {
			good++
		} else {
			refused(t, err, codes.Aborted)
		}
	}
	if good != 1 {
		t.Errorf("%d enrolments with one nonce", good)
	}
}

// everyCall makes each call that needs an agent's certificate.
func everyCall(t *testing.T, client agentapi.AgentClient) map[string]error {
	t.Helper()
	der, _ := request(t, &x509.CertificateRequest{})
	_, renewErr := client.Renew(t.Context(), &agentapi.RenewRequest{Csr: der})
	_, issueErr := client.Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{workload(t, "demo", "web")}})
	_, bundleErr := client.Bundle(t.Context(), &agentapi.BundleRequest{})
	return map[string]error{"Renew": renewErr, "Issue": issueErr, "Bundle": bundleErr}
}

func TestCallsNeedAnAgent(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		client func(t *testing.T, l *lab) agentapi.AgentClient
		code   codes.Code
		want   string
	}{
		"refuses/no-certificate": {func(t *testing.T, l *lab) agentapi.AgentClient {
			return l.dial(t)
		}, codes.Unauthenticated, "needs the agent's client certificate"},
		"refuses/workload": {func(t *testing.T, l *lab) agentapi.AgentClient {
			der, key := request(t, meshRequest(t, "spiffe://cluster.local/ns/demo/sa/web"))
			item := workload(t, "demo", "web")
			item.Csr = der
			return l.dial(t, tls.Certificate{Certificate: issueOne(t, l.agent(t), item).GetChain(), PrivateKey: key})
		}, codes.Unauthenticated, "not an agent's"},
		"refuses/foreign-ca": {func(t *testing.T, l *lab) agentapi.AgentClient {
			return l.dial(t, forged(t, l, big.NewInt(7)))
		}, codes.Unauthenticated, "not issued here"},
		"refuses/foreign-ca-with-our-serial": {func(t *testing.T, l *lab) agentapi.AgentClient {
			real := certificate(t, l.enrol(t, l.credential).Certificate)
			return l.dial(t, forged(t, l, real.SerialNumber))
		}, codes.Unauthenticated, "not issued here"},
		"refuses/expired": {func(t *testing.T, l *lab) agentapi.AgentClient {
			client := l.agent(t)
			l.Advance(t, 25*time.Hour)
			return client
		}, codes.Unauthenticated, "expired at"},
		"refuses/revoked": {func(t *testing.T, l *lab) agentapi.AgentClient {
			own := l.enrol(t, l.credential)
			client := l.dial(t, own)
			_, err := client.Bundle(t.Context(), &agentapi.BundleRequest{})
			check(t, err)
			check(t, l.Revoker.Revoke(t.Context(), revoke.Request{Serial: serial(t, own.Certificate), Reason: pki.Superseded, Actor: acmetest.By().Actor}))
			l.Advance(t, 2*time.Second)
			return client
		}, codes.Unauthenticated, "was revoked"},
		"refuses/revoked-credential": {func(t *testing.T, l *lab) agentapi.AgentClient {
			client := l.agent(t)
			_, err := l.Catalog.RevokeCredential(t.Context(), l.credential.ID, acmetest.By())
			check(t, err)
			return client
		}, codes.PermissionDenied, "revoked or has expired"},
		"refuses/profile-with-another-method": {func(t *testing.T, l *lab) agentapi.AgentClient {
			client := l.agent(t)
			p := *l.mesh
			p.Method = pki.MTLSOverACME
			_, err := l.Catalog.UpdateProfile(t.Context(), p, acmetest.By())
			check(t, err)
			return client
		}, codes.PermissionDenied, "not for agents"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, nil)
			for call, err := range everyCall(t, test.client(t, l)) {
				refused(t, err, test.code)
				if message := status.Convert(err).Message(); !strings.Contains(message, test.want) {
					t.Errorf("%s: %q, want %q", call, message, test.want)
				}
			}
			events, err := l.Store.Events(t.Context(), pki.EventFilter{Action: string(audit.AgentRefuse), Limit: 10})
			check(t, err)
			if len(events) != 3 || events[0].Outcome != audit.Refused || !strings.Contains(events[0].Detail.Reason, test.want) {
				t.Errorf("events are %+v", events)
			}
		})
	}
}

// forged is an agent's certificate in all but its issuer.
func forged(t *testing.T, l *lab, serial *big.Int) tls.Certificate {
	t.Helper()
	uri, err := url.Parse(pki.AgentURI("cluster.local", l.credential.ID))
	check(t, err)
	made, _ := selfSigned(t, &x509.Certificate{SerialNumber: serial, URIs: []*url.URL{uri}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return made
}

// Whoever has a certificate of ours but not its key does not get through the handshake.
func TestStolenCertificate(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	stolen := l.enrol(t, l.credential)
	stolen.PrivateKey = newKey(t)
	_, err := l.dial(t, stolen).Bundle(t.Context(), &agentapi.BundleRequest{})
	refused(t, err, codes.Unavailable)
}

func TestRenew(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	old := l.enrol(t, l.credential)
	l.Advance(t, 12*time.Hour)
	der, key := request(t, &x509.CertificateRequest{})
	out, err := l.dial(t, old).Renew(t.Context(), &agentapi.RenewRequest{Csr: der})
	check(t, err)
	row, err := l.Store.Certificate(t.Context(), serial(t, out.GetChain()))
	check(t, err)
	if row.Workload.Cluster != "east-1" || row.CredentialID != l.credential.ID {
		t.Errorf("inventory has %+v", row)
	}
	l.Advance(t, 13*time.Hour) // the old one has expired
	renewed := l.dial(t, tls.Certificate{Certificate: out.GetChain(), PrivateKey: key})
	if result := issueOne(t, renewed, workload(t, "demo", "web")); result.GetCode() != 0 {
		t.Errorf("with the new certificate: %v", result)
	}
	_, err = renewed.Renew(t.Context(), &agentapi.RenewRequest{Csr: []byte("nonsense")})
	refused(t, err, codes.InvalidArgument)
}

// A revoked certificate is believed for a second at most; the credential is asked for each certificate.
func TestRevokedCredentialAtOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	client := l.agent(t)
	if result := issueOne(t, client, workload(t, "demo", "web")); result.GetCode() != 0 {
		t.Fatalf("before: %v", result)
	}
	// As another replica does it: the catalog of this one does not know yet.
	at := l.Clock.Now()
	check(t, l.Store.RevokeCredential(t.Context(), l.credential.ID, at, audit.Event{Time: at, Action: audit.CredentialRevoke, Outcome: audit.Done}))
	out, err := client.Issue(t.Context(), &agentapi.IssueRequest{Items: []*agentapi.Item{workload(t, "demo", "web")}})
	if code := status.Code(err); code != codes.PermissionDenied && (err != nil || out.GetResults()[0].GetCode() != uint32(codes.PermissionDenied)) {
		t.Errorf("after: %v, %v", out, err)
	}
}

// Two agents of different credentials are kept apart.
func TestFingerprintIsOfOneAgent(t *testing.T) {
	t.Parallel()
	l := newLab(t, nil)
	other := l.AddCredential(t, catalog.NewCredential{ProfileID: l.mesh.ID, Name: "other", Limit: &pki.NameRules{
		SPIFFE: pki.SPIFFERules{TrustDomains: []string{"cluster.local"}, Allow: []string{"team/*"}},
	}})
	first, second := l.enrol(t, l.credential), l.enrol(t, other)
	if sha256.Sum256(first.Certificate[0]) == sha256.Sum256(second.Certificate[0]) {
		t.Fatal("one certificate for two agents")
	}
	limited := l.dial(t, second)
	if result := issueOne(t, limited, workload(t, "team", "web")); result.GetCode() != 0 {
		t.Errorf("within the limit: %v", result)
	}
	if result := issueOne(t, limited, workload(t, "demo", "web")); result.GetCode() != uint32(codes.PermissionDenied) || !strings.Contains(result.GetMessage(), `credential "other"`) {
		t.Errorf("outside the limit: %v", result)
	}
}
