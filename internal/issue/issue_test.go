package issue_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/testca"
)

// stage is an Issuer with everything around it.
type stage struct {
	*testca.Hierarchy
	ledger   *testca.Ledger
	registry *prometheus.Registry
	issuer   *issue.Issuer
}

func newStage(t testing.TB, o testca.Options) *stage {
	t.Helper()
	s := &stage{Hierarchy: testca.NewWith(t, o), ledger: testca.NewLedger(), registry: prometheus.NewRegistry()}
	s.issuer = s.newIssuer(t, s.ledger, s.Hierarchy)
	return s
}

func (s *stage) newIssuer(t testing.TB, store issue.Store, signers issue.Signers) *issue.Issuer {
	t.Helper()
	issuer, err := issue.New(issue.Config{
		Store: store, Signers: signers, CA: s.CA, Denied: testca.NothingDenied, Now: testca.Now, Random: rand.Reader,
		Registerer: s.registry, Replica: "replica-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return issuer
}

func parse(t testing.TB, der []byte) *csr.Request {
	t.Helper()
	request, err := csr.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// meshRequest asks for a workload's certificate in an order.
func (s *stage) meshRequest(t testing.TB, order pki.OrderID) issue.Request {
	t.Helper()
	profile := s.MeshProfile()
	credential := testca.CredentialOf(profile)
	return issue.Request{
		Profile:    profile,
		Credential: credential,
		Account:    testca.AccountOf(credential),
		Order:      order,
		CSR:        parse(t, testca.SPIFFECSR(t)),
		Client:     pki.Client{UserAgent: "cert-manager", Address: "10.1.2.3"},
		Actor:      audit.Actor{Kind: audit.Account, ID: "account"},
		RequestID:  "request-1",
	}
}

func (s *stage) count(t testing.TB, outcome string) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	total := 0.0
	for _, family := range families {
		if family.GetName() != "certloom_issuance_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				if label.GetName() == "outcome" && label.GetValue() == outcome {
					total += metric.GetCounter().GetValue()
				}
			}
		}
	}
	return total
}

func TestIssueMesh(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.meshRequest(t, "order-1")
	request.Replaces = "AAAA.AQ"
	got, err := s.issuer.Issue(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	now := testca.Now()
	want := &pki.Certificate{
		Names:        pki.Names{URIs: []string{testca.SPIFFE}},
		Identity:     testca.SPIFFE,
		CAID:         s.Issuing.ID,
		ProfileID:    request.Profile.ID,
		OrderID:      "order-1",
		CSRHash:      request.CSR.Hash,
		SPKIHash:     request.CSR.SPKIHash,
		AccountID:    request.Account.ID,
		CredentialID: request.Credential.ID,
		Client:       request.Client,
		NotBefore:    now.Add(-time.Minute),
		NotAfter:     now.Add(24 * time.Hour),
		RenewAt:      now.Add(-time.Minute).Add((24*time.Hour + time.Minute) / 2),
		Granted:      24 * time.Hour,
		KeyAlgorithm: pki.ECDSAP256,
		Signature:    "ECDSA-SHA256",
		Replaces:     "AAAA.AQ",
		IssuedAt:     now,
		Serial:       got.Serial,
		DER:          got.DER,
		Fingerprint:  sha256.Sum256(got.DER),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	certificate := s.Verify(t, got.DER, now)
	checkMeshCertificate(t, s, certificate, got)
	if events := s.ledger.Events(); len(events) != 1 || events[0].Action != audit.CertificateIssue ||
		events[0].Detail.Serial != got.Serial || events[0].Replica != "replica-1" || events[0].Outcome != audit.Done ||
		events[0].Detail.CSRHash != hex.EncodeToString(request.CSR.Hash[:]) || events[0].Detail.Names.URIs[0] != testca.SPIFFE ||
		events[0].Detail.Credential != request.Credential.ID || events[0].Request != "request-1" {
		t.Errorf("events = %+v", events)
	}
	if got := s.count(t, "issued"); got != 1 {
		t.Errorf("certloom_issuance_total{outcome=issued} = %v", got)
	}
	if n, err := testutil.GatherAndCount(s.registry, "certloom_issuance_stage_seconds"); err != nil || n != 6 {
		t.Errorf("stages = %d, %v", n, err)
	}
}

// checkMeshCertificate checks that the certificate has what was asked for and what the profile and CA say, and no more.
func checkMeshCertificate(t *testing.T, s *stage, c *x509.Certificate, row *pki.Certificate) {
	t.Helper()
	switch {
	case len(c.Subject.Names) != 0:
		t.Errorf("subject = %v, want an empty one", c.Subject)
	case len(c.URIs) != 1 || c.URIs[0].String() != testca.SPIFFE || len(c.DNSNames)+len(c.IPAddresses)+len(c.EmailAddresses) != 0:
		t.Errorf("names = %v %v %v %v", c.URIs, c.DNSNames, c.IPAddresses, c.EmailAddresses)
	case c.KeyUsage != x509.KeyUsageDigitalSignature:
		t.Errorf("key usage = %b; an ECDSA key does not encipher", c.KeyUsage)
	case !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}):
		t.Errorf("extended key usage = %v", c.ExtKeyUsage)
	case c.IsCA || !c.BasicConstraintsValid:
		t.Error("basicConstraints are not those of a leaf")
	case !bytes.Equal(c.AuthorityKeyId, s.IssuingCert.SubjectKeyId) || len(c.SubjectKeyId) != 20:
		t.Errorf("key identifiers = %x, %x", c.AuthorityKeyId, c.SubjectKeyId)
	case !slices.Equal(c.CRLDistributionPoints, s.Issuing.Settings.CRLURLs) || !slices.Equal(c.OCSPServer, s.Issuing.Settings.OCSPURLs) ||
		!slices.Equal(c.IssuingCertificateURL, s.Issuing.Settings.IssuerURLs):
		t.Errorf("addresses = %v %v %v", c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL)
	case pki.SerialFromInt(c.SerialNumber) != row.Serial || len(row.Serial.Bytes()) != 20:
		t.Errorf("serial = %x, row has %s", c.SerialNumber, row.Serial)
	case !c.NotBefore.Equal(row.NotBefore) || !c.NotAfter.Equal(row.NotAfter):
		t.Errorf("validity = %s to %s", c.NotBefore, c.NotAfter)
	case len(c.Extensions) != 8:
		t.Errorf("extensions = %v", c.Extensions)
	}
}

func TestIssueIsIdempotent(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.meshRequest(t, "order-1")
	first, err := s.issuer.Issue(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.issuer.Issue(t.Context(), request)
	if err != nil || again.Serial != first.Serial {
		t.Errorf("Issue again = %v, %v, want serial %s", again, err, first.Serial)
	}
	other := request
	other.CSR = parse(t, testca.SPIFFECSR(t))
	if _, err := s.issuer.Issue(t.Context(), other); !fault.Is(err, fault.OrderNotReady) {
		t.Errorf("Issue with another CSR: %v, want OrderNotReady", err)
	}
	stranger := request
	stranger.Account = &pki.Account{ID: "stranger", Thumbprint: "x", Status: pki.StatusValid}
	if _, err := s.issuer.Issue(t.Context(), stranger); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("Issue by another account: %v, want Unauthorized", err)
	}
	// A credential that is revoked after the certificate was made does not take the answer away.
	s.ledger.Facts = func(f *pki.FinalizeFacts) { f.CredentialUsable = false }
	if again, err := s.issuer.Issue(t.Context(), request); err != nil || again.Serial != first.Serial {
		t.Errorf("Issue with a revoked credential = %v, %v", again, err)
	}
	if n := len(s.ledger.Issued()); n != 1 {
		t.Errorf("%d certificates, want 1", n)
	}
	if got := s.count(t, "repeated"); got != 2 {
		t.Errorf("repeated = %v, want 2", got)
	}
}

func TestIssueOfOneOrderAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	// Two replicas: nothing is shared but storage.
	s.registry = prometheus.NewRegistry()
	issuers := []*issue.Issuer{s.issuer, s.newIssuer(t, s.ledger, s.Hierarchy)}
	same, other := s.meshRequest(t, "order-1"), s.meshRequest(t, "order-1")
	var mu sync.Mutex
	serials := map[pki.Serial]pki.OrderID{}
	winners := map[[32]byte]bool{}
	notReady := 0
	var group sync.WaitGroup
	for n := range 32 {
		request := same
		if n%4 == 3 {
			request = other
		}
		group.Go(func() {
			c, err := issuers[n%2].Issue(t.Context(), request)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				serials[c.Serial], winners[request.CSR.Hash] = c.OrderID, true
			case fault.Is(err, fault.OrderNotReady):
				notReady++
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(serials) != 1 || len(winners) != 1 || len(s.ledger.Issued()) != 1 {
		t.Errorf("%d serials for %d CSRs, %d recorded; want one of each", len(serials), len(winners), len(s.ledger.Issued()))
	}
	if notReady != 8 && notReady != 24 {
		t.Errorf("%d requests got OrderNotReady, want those of the other CSR", notReady)
	}
}

func TestIssueNames(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{PathLen: 1})
	for name, test := range map[string]struct {
		profile *pki.Profile
		csr     testca.Request
		order   []pki.Identifier
		check   func(*x509.Certificate) bool
	}{
		"dns with common name": {
			s.ServerProfile(),
			testca.Request{CommonName: "A.example.com", DNS: []string{"b.example.com", "*.example.com"}},
			[]pki.Identifier{{Type: "dns", Value: "a.example.com"}, {Type: "dns", Value: "b.example.com"}, {Type: "dns", Value: "*.example.com"}},
			func(c *x509.Certificate) bool {
				return c.Subject.CommonName == "a.example.com" && slices.Equal(c.DNSNames, []string{"*.example.com", "a.example.com", "b.example.com"})
			},
		},
		"addresses": {
			s.ServerProfile(),
			testca.Request{IPs: []string{"10.0.0.1", "fd00::1"}},
			[]pki.Identifier{{Type: "ip", Value: "10.0.0.1"}, {Type: "ip", Value: "fd00::1"}},
			func(c *x509.Certificate) bool {
				return len(c.IPAddresses) == 2 && c.IPAddresses[0].String() == "10.0.0.1" && c.IPAddresses[1].String() == "fd00::1"
			},
		},
		"istiod: common name, dns, uri": {
			s.MeshProfile(),
			testca.Request{CommonName: "istiod.istio-system.svc", DNS: []string{"istiod.istio-system.svc"}, URIs: []string{"spiffe://cluster.local/ns/istio-system/sa/istiod"}},
			[]pki.Identifier{{Type: "dns", Value: "istiod.istio-system.svc"}},
			func(c *x509.Certificate) bool {
				return c.Subject.CommonName == "" && len(c.URIs) == 1 && slices.Equal(c.DNSNames, []string{"istiod.istio-system.svc"})
			},
		},
		"client by API": {
			s.ClientProfile(),
			testca.Request{CommonName: "db.example.com"},
			[]pki.Identifier{{Type: "dns", Value: "db.example.com"}},
			func(c *x509.Certificate) bool {
				return slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
			},
		},
		"intermediate": {
			s.IntermediateProfile(),
			testca.Request{CommonName: "istiod CA", CA: true},
			nil,
			func(c *x509.Certificate) bool {
				return c.IsCA && c.MaxPathLenZero && c.Subject.CommonName == "istiod CA" && c.KeyUsage == x509.KeyUsageCertSign|x509.KeyUsageCRLSign &&
					len(c.ExtKeyUsage) == 0
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := issue.Request{Profile: test.profile, CSR: parse(t, testca.CSR(t, test.csr)), Identifiers: test.order}
			if test.profile.Method != pki.RESTAPI {
				request.Credential = testca.CredentialOf(test.profile)
			}
			got, err := s.issuer.Issue(t.Context(), request)
			if err != nil {
				t.Fatal(err)
			}
			if c := s.Verify(t, got.DER, testca.Now()); !test.check(c) {
				t.Errorf("certificate = %v %v %v %v", c.Subject, c.DNSNames, c.IPAddresses, c.URIs)
			}
		})
	}
}

func TestIssueIntermediateNeedsPathLength(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	_, err := s.issuer.Issue(t.Context(), issue.Request{
		Profile: s.IntermediateProfile(), CSR: parse(t, testca.CSR(t, testca.Request{CommonName: "istiod CA", CA: true})),
	})
	if !fault.Is(err, fault.Unauthorized) || !strings.Contains(err.Error(), "path length 0") {
		t.Errorf("Issue under a CA of path length 0: %v", err)
	}
}

// TestIssueKeys makes a certificate of each key type under a CA of each key type.
func TestIssueKeys(t *testing.T) {
	t.Parallel()
	keys := testKeys(t)
	for caName, caKey := range keys {
		s := newStage(t, testca.Options{RootKey: caKey, IssuingKey: caKey})
		for name, key := range keys {
			t.Run(caName+" signs "+name, func(t *testing.T) {
				t.Parallel()
				request := s.meshRequest(t, pki.OrderID(name))
				request.CSR = parse(t, testca.CSR(t, testca.Request{URIs: []string{testca.SPIFFE}, Key: key}))
				got, err := s.issuer.Issue(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				c := s.Verify(t, got.DER, testca.Now())
				_, isRSA := key.Public().(*rsa.PublicKey)
				if enciphers := c.KeyUsage&x509.KeyUsageKeyEncipherment != 0; enciphers != isRSA {
					t.Errorf("keyEncipherment = %t for a key of type %T", enciphers, key.Public())
				}
				if got.Signature != c.SignatureAlgorithm.String() {
					t.Errorf("row says %s, certificate %s", got.Signature, c.SignatureAlgorithm)
				}
			})
		}
	}
}

func testKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsa3072, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": testca.Key(t), "P-384": p384, "RSA-3072": rsa3072, "Ed25519": edwards}
}

func TestIssueWithinNameConstraints(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{Constraints: func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical = true
		c.PermittedURIDomains = []string{"other.local"}
	}})
	_, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "order-1"))
	if !fault.Is(err, fault.RejectedIdentifier) || !strings.Contains(fault.From(err).Public, "name constraints") {
		t.Errorf("Issue outside of the CA's name constraints: %v", err)
	}
	if len(s.ledger.Issued()) != 0 {
		t.Error("a certificate was recorded")
	}
}

func TestIssueLifetimes(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	now := testca.Now()
	request := s.meshRequest(t, "long")
	request.NotAfter = now.AddDate(1, 0, 0)
	got, err := s.issuer.Issue(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if got.Requested != 365*24*time.Hour || got.Granted != 168*time.Hour || !got.NotAfter.Equal(now.Add(168*time.Hour)) {
		t.Errorf("a year was asked for: requested %s, granted %s until %s", got.Requested, got.Granted, got.NotAfter)
	}
	// The CA began an hour ago; no leaf begins before it.
	request = s.meshRequest(t, "early")
	profile := *request.Profile
	profile.Rules.Validity.Backdate = pki.Duration(2 * time.Hour)
	request.Profile = &profile
	if got, err = s.issuer.Issue(t.Context(), request); err != nil || !got.NotBefore.Equal(s.IssuingCert.NotBefore) {
		t.Errorf("backdated by two hours: %v, %v, want the CA's notBefore", got, err)
	}
}

func TestIssueFollowsSettings(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	if _, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "before")); err != nil {
		t.Fatal(err)
	}
	changed := *s.Issuing
	changed.Settings = pki.CASettings{CRLURLs: []string{"http://a.example/1.crl", "http://b.example/1.crl"}}
	s.Issuing = &changed
	got, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "after"))
	if err != nil {
		t.Fatal(err)
	}
	c := s.Verify(t, got.DER, testca.Now())
	if !slices.Equal(c.CRLDistributionPoints, changed.Settings.CRLURLs) || len(c.OCSPServer)+len(c.IssuingCertificateURL) != 0 {
		t.Errorf("addresses = %v %v %v", c.CRLDistributionPoints, c.OCSPServer, c.IssuingCertificateURL)
	}
}

func TestChain(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	got, err := s.issuer.Issue(t.Context(), s.meshRequest(t, "order-1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, includeRoot := range []bool{false, true} {
		want := [][]byte{got.DER, s.IssuingCert.Raw}
		if includeRoot {
			want = append(want, s.RootCert.Raw)
		}
		if chain, err := s.issuer.Chain(got, includeRoot); err != nil || !slices.EqualFunc(chain, want, bytes.Equal) {
			t.Errorf("Chain(includeRoot=%t) has %d certificates, %v", includeRoot, len(chain), err)
		}
	}
	if _, err := s.issuer.Chain(&pki.Certificate{CAID: "gone"}, false); err == nil {
		t.Error("a chain without its CA")
	}
}

func TestNewRefusesAnIncompleteConfig(t *testing.T) {
	t.Parallel()
	if _, err := issue.New(issue.Config{}); err == nil {
		t.Error("an empty config was accepted")
	}
	s := newStage(t, testca.Options{})
	config := issue.Config{Store: s.ledger, Signers: s.Hierarchy, CA: s.CA, Denied: testca.NothingDenied, Now: testca.Now, Random: rand.Reader, Registerer: s.registry}
	if _, err := issue.New(config); err == nil {
		t.Error("two issuers registered the same metrics")
	}
	if _, err := s.issuer.Issue(t.Context(), issue.Request{}); err == nil {
		t.Error("an empty request was accepted")
	}
}
