package acme_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
)

// meshRequest is the CSR of a mesh workload: one SPIFFE ID and no subject.
func meshRequest(id string) *x509.CertificateRequest {
	u, err := url.Parse(id)
	if err != nil {
		panic(err)
	}
	return &x509.CertificateRequest{URIs: []*url.URL{u}}
}

func csrOf(t testing.TB, key crypto.Signer, template *x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// leaf returns the first certificate of a PEM chain.
func leaf(t testing.TB, chain []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(chain)
	if block == nil {
		t.Fatalf("no PEM: %s", chain)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// certificateRow returns the inventory's record of an order's certificate.
func certificateRow(t testing.TB, s *suite, valid *acmetest.Order) *pki.Certificate {
	t.Helper()
	row, err := s.Store.Certificate(t.Context(), pki.Serial(valid.Certificate[strings.LastIndex(valid.Certificate, "/")+1:]))
	if err != nil {
		t.Fatal(err)
	}
	return row
}

func mustECDSA(t testing.TB, key crypto.Signer) *ecdsa.PrivateKey {
	t.Helper()
	private, isECDSA := key.(*ecdsa.PrivateKey)
	if !isECDSA {
		t.Fatalf("key is %T", key)
	}
	return private
}

// credentialOf makes a credential of a profile.
func (s *suite) credentialOf(t testing.TB, p *pki.Profile, name string) acmetest.Credential {
	t.Helper()
	return s.AddCredential(t, catalog.NewCredential{ProfileID: p.ID, Name: name})
}

// issuer stands before the real one: before is called before a certificate is made, after when it is stored.
type issuer struct {
	acme.Issuer
	before, after func() error
}

func (i *issuer) Issue(ctx context.Context, r issue.Request) (*pki.Certificate, error) {
	if i.before != nil {
		if err := i.before(); err != nil {
			return nil, err
		}
	}
	made, err := i.Issuer.Issue(ctx, r)
	if err == nil && i.after != nil {
		err = i.after()
	}
	return made, err
}

// withIssuer starts a server of the row's own with an issuer before the real one.
func withIssuer(t *testing.T, i *issuer) *suite {
	t.Helper()
	return apart(t, acmetest.Options{Issuer: func(real acme.Issuer) acme.Issuer { return &issuer{Issuer: real, before: i.before, after: i.after} }})
}

func meshOrder(t testing.TB, c *acmetest.Client) *acmetest.Order {
	t.Helper()
	return ok(t, order(t, c, `{"identifiers":null}`), http.StatusCreated).Order(t)
}

func finalizeRows() []row {
	const id = "spiffe://cluster.local/ns/demo/sa/web"
	return []row{
		{"FIN-1", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			made := c.NewOrder(t, "fin1.example.com")
			answer := ok(t, c.Finalize(t, made, acmetest.ServerCSR(t, "fin1.example.com")), http.StatusOK)
			if o := answer.Order(t); o.Status != "valid" || o.URL != made.URL || !strings.HasPrefix(o.Certificate, s.URL) || o.Finalize != made.Finalize || len(o.Authorizations) != 1 {
				t.Errorf("order %s at %s", answer.Body, o.URL)
			}
		}},
		{"FIN-2", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made, a := s.pending(t, c, dnsID("fin2.test"))
			csr := acmetest.ServerCSR(t, "fin2.test")
			refused(t, c.Finalize(t, made, csr), http.StatusForbidden, "orderNotReady")
			s.fails(t, c, a, "http-01", "unauthorized", "incorrectResponse")
			refused(t, c.Finalize(t, made, csr), http.StatusForbidden, "orderNotReady")
		}},
		{"FIN-3", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			made := meshOrder(t, c)
			csr := acmetest.WorkloadCSR(t, id)
			first := ok(t, c.Finalize(t, made, csr), http.StatusOK).Order(t)
			strict := on(c, s.Replica(t, acme.Options{StrictFinalize: true}))
			fresh := on(c, s.Replica(t, acme.Options{}))
			for _, again := range []*acmetest.Client{c, fresh, c} {
				if o := ok(t, again.Finalize(t, made, csr), http.StatusOK).Order(t); o.Certificate != first.Certificate || o.Status != "valid" || o.URL != made.URL {
					t.Errorf("repeated finalize: %+v", o)
				}
				refused(t, again.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusForbidden, "orderNotReady")
			}
			refused(t, strict.Finalize(t, made, csr), http.StatusForbidden, "orderNotReady")
		}},
		{"FIN-4", func(t *testing.T, _ *suite) {
			release, entered := make(chan struct{}), make(chan struct{})
			var once atomic.Bool
			s := withIssuer(t, &issuer{before: func() error {
				if once.CompareAndSwap(false, true) {
					close(entered)
					<-release
				}
				return nil
			}})
			c := s.account(t, "istio")
			replica := on(c, s.Replica(t, acme.Options{}))
			made, csr := meshOrder(t, c), acmetest.WorkloadCSR(t, id)
			slow := make(chan *acmetest.Response, 1)
			go func() { slow <- c.Finalize(t, made, csr) }()
			<-entered
			quick := ok(t, replica.Finalize(t, made, csr), http.StatusOK).Order(t)
			close(release)
			if o := ok(t, <-slow, http.StatusOK).Order(t); o.Certificate != quick.Certificate || o.Status != "valid" {
				t.Errorf("orders %+v and %+v", o, quick)
			}
		}},
		{"FIN-16", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			made := meshOrder(t, c)
			for _, payload := range []string{`{}`, `{"csr":null}`, `{"csr":7}`, `{"CSR2":"x"}`, ``, `[]`} {
				refused(t, c.PostRaw(t, made.Finalize, []byte(payload)), http.StatusBadRequest, "malformed")
			}
			payload := fmt.Sprintf(`{"csr":%q,"resource":"new-cert","x":[1]}`, acmetest.Base64(acmetest.WorkloadCSR(t, id)))
			ok(t, c.PostRaw(t, made.Finalize, []byte(payload)), http.StatusOK)
		}},
		{"FIN-17", func(t *testing.T, s *suite) {
			c := s.account(t, "server")
			made := c.NewOrder(t, "fin17.example.com")
			var many []string
			for i := range 10000 {
				many = append(many, fmt.Sprintf("%d.x.example.com", i))
			}
			large := acmetest.CSR(t, &x509.CertificateRequest{DNSNames: many})
			refused(t, c.Finalize(t, made, large[:100<<10]), http.StatusBadRequest, "malformed", "badCSR")
			refused(t, c.Finalize(t, made, make([]byte, 65<<10)), http.StatusBadRequest, "malformed", "badCSR")
			refused(t, c.Finalize(t, made, acmetest.CSR(t, &x509.CertificateRequest{DNSNames: many[:2000]})), http.StatusBadRequest, "malformed", "badCSR")
			if answer := c.Finalize(t, made, make([]byte, 1<<20)); answer.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("a CSR of 1 MiB: %d", answer.Status)
			}
			if got := statusOf(t, c, made.URL); got != "ready" {
				t.Errorf("order is %s", got)
			}
		}},
		{"FIN-18", withdrawnAuthorizations},
		{"FIN-19", func(t *testing.T, s *suite) {
			// The credential is EAB-13's, the profile ORD-10's; here the account, which another replica still remembers.
			c := s.account(t, "istio")
			replica := on(c, s.Replica(t, acme.Options{}))
			made := meshOrder(t, replica)
			ok(t, c.PostRaw(t, c.KID, []byte(`{"status":"deactivated"}`)), http.StatusOK)
			refused(t, replica.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusUnauthorized, "unauthorized")
			profile, other := s.profile(t, "fin19")
			credential := s.credentialOf(t, profile, "fin19-other")
			second := s.client(t)
			second.Register(t, credential)
			made = meshOrder(t, second)
			if _, err := s.Catalog.RevokeCredential(t.Context(), credential.ID, acmetest.By()); err != nil {
				t.Fatal(err)
			}
			refused(t, second.Finalize(t, made, acmetest.WorkloadCSR(t, id)), http.StatusForbidden, "unauthorized")
			obtained(t, s, other, id) // the profile's other credential is not touched
		}},
		{"FIN-20", parallelFinalizes},
		{"FIN-21", func(t *testing.T, _ *suite) {
			// The process dies before the certificate is stored, and after.
			for name, i := range map[string]*issuer{"before": {before: failOnce()}, "after": {after: failOnce()}} {
				t.Run(name, func(t *testing.T) {
					s := withIssuer(t, i)
					c := s.account(t, "istio")
					made, csr := meshOrder(t, c), acmetest.WorkloadCSR(t, id)
					if answer := c.Finalize(t, made, csr); answer.Status < 500 {
						t.Fatalf("status %d: %s", answer.Status, answer.Body)
					}
					restarted := on(c, s.Replica(t, acme.Options{}))
					if got := statusOf(t, restarted, made.URL); got != "ready" && got != "valid" {
						t.Errorf("order is %s after a restart", got)
					}
					valid := ok(t, restarted.Finalize(t, made, csr), http.StatusOK).Order(t)
					certificateRow(t, s, valid)
					if stats, err := s.Store.Stats(t.Context()); err != nil || stats.Certificates != 1 {
						t.Errorf("%d certificates of one order (%v)", stats.Certificates, err)
					}
				})
			}
		}},
		{"FIN-22", func(t *testing.T, _ *suite) {
			s := withIssuer(t, &issuer{before: failOnce()})
			c := s.account(t, "istio")
			made, csr := meshOrder(t, c), acmetest.WorkloadCSR(t, id)
			answer := c.Finalize(t, made, csr)
			refused(t, answer, http.StatusInternalServerError, "serverInternal")
			if got := statusOf(t, c, made.URL); got != "ready" {
				t.Errorf("order is %s after the signer failed", got)
			}
			ok(t, c.Finalize(t, made, csr), http.StatusOK)
		}},
		{"FIN-23", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			_, chain := obtained(t, s, c, id)
			checkMeshCertificate(t, s, leaf(t, chain), []string{id}, nil)
			made := ok(t, order(t, c, names("a.fin23.svc", "b.fin23.svc")), http.StatusCreated).Order(t)
			template := meshRequest("spiffe://cluster.local/ns/istio-system/sa/istiod")
			template.DNSNames = []string{"b.fin23.svc", "a.fin23.svc"}
			valid := ok(t, c.Finalize(t, made, csrOf(t, acmetest.NewKey(t), template)), http.StatusOK).Order(t)
			checkMeshCertificate(t, s, leaf(t, c.Read(t, valid.Certificate).Body), []string{"spiffe://cluster.local/ns/istio-system/sa/istiod"}, []string{"a.fin23.svc", "b.fin23.svc"})
		}},
		{"FIN-24", func(t *testing.T, s *suite) {
			c := s.scoped(t)
			made, a := s.pending(t, c, dnsID("fin24.test"))
			for _, at := range []string{made.URL, a.URL} {
				if got := ok(t, c.Read(t, at), http.StatusOK).Header.Get("Retry-After"); got == "" || strings.Trim(got, "0123456789") != "" {
					t.Errorf("Retry-After %q", got)
				}
			}
		}},
	}
}

// failOnce returns a function that fails the first time.
func failOnce() func() error {
	var failed atomic.Bool
	return func() error {
		if failed.CompareAndSwap(false, true) {
			return errors.New("HSM at /run/secret says no")
		}
		return nil
	}
}

func withdrawnAuthorizations(t *testing.T, _ *suite) {
	s := apart(t, acmetest.Options{})
	c := s.scoped(t)
	replica := on(c, s.Replica(t, acme.Options{}))
	var orders []*acmetest.Order
	var authorizations []*authzObject
	for _, name := range []string{"fin18a.test", "fin18b.test"} {
		made, a := s.pending(t, c, dnsID(name))
		token := a.of(t, "http-01").Token
		s.lab.prove(name, token, keyAuthorization(t, c, token))
		s.answer(t, c, a, "http-01")
		if got := statusOf(t, replica, made.URL); got != "ready" {
			t.Fatalf("order is %s", got)
		}
		orders, authorizations = append(orders, made), append(authorizations, a)
	}
	ok(t, c.PostRaw(t, authorizations[0].URL, []byte(`{"status":"deactivated"}`)), http.StatusOK)
	refused(t, replica.Finalize(t, orders[0], acmetest.ServerCSR(t, "fin18a.test")), http.StatusForbidden, "orderNotReady", "unauthorized")
	s.Advance(t, 25*time.Hour)
	refused(t, replica.Finalize(t, orders[1], acmetest.ServerCSR(t, "fin18b.test")), http.StatusForbidden, "orderNotReady", "unauthorized")
	for _, o := range orders {
		if got := statusOf(t, c, o.URL); got != "invalid" {
			t.Errorf("order is %s", got)
		}
	}
}

func parallelFinalizes(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	senders := []*acmetest.Client{c, on(c, s.Replica(t, acme.Options{})), on(c, s.Replica(t, acme.Options{}))}
	const id = "spiffe://cluster.local/ns/demo/sa/fin20"
	for _, different := range []bool{false, true} {
		made := meshOrder(t, c)
		same := acmetest.WorkloadCSR(t, id)
		var mu sync.Mutex
		certificates := map[string]int{}
		var refusals atomic.Int32
		var wait sync.WaitGroup
		for i := range 12 {
			csr := same
			if different {
				csr = acmetest.WorkloadCSR(t, id)
			}
			wait.Go(func() {
				switch answer := senders[i%len(senders)].Finalize(t, made, csr); answer.Status {
				case http.StatusOK:
					mu.Lock()
					defer mu.Unlock()
					certificates[answer.Order(t).Certificate]++
				case http.StatusForbidden:
					refusals.Add(1)
				default:
					t.Errorf("status %d: %s", answer.Status, answer.Body)
				}
			})
		}
		wait.Wait()
		if len(certificates) != 1 || !different && refusals.Load() != 0 || different && refusals.Load() != 11 {
			t.Errorf("different CSRs %t: certificates %v, %d refusals", different, certificates, refusals.Load())
		}
	}
	found, err := s.Store.Certificates(t.Context(), pki.CertificateFilter{Identity: id, Limit: 100}, s.Clock.Now())
	if err != nil || len(found) != 2 {
		t.Errorf("%d certificates of two orders (%v)", len(found), err)
	}
}

// checkMeshCertificate compares a certificate with all that it may contain.
func checkMeshCertificate(t *testing.T, s *suite, c *x509.Certificate, uris, dns []string) {
	t.Helper()
	var got []string
	for _, u := range c.URIs {
		got = append(got, u.String())
	}
	slices.Sort(c.DNSNames)
	if !slices.Equal(got, uris) || !slices.Equal(c.DNSNames, dns) || len(c.IPAddresses)+len(c.EmailAddresses) != 0 {
		t.Errorf("names %v %v %v %v, want %v %v", got, c.DNSNames, c.IPAddresses, c.EmailAddresses, uris, dns)
	}
	if !slices.Equal(c.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}) || c.KeyUsage != x509.KeyUsageDigitalSignature || c.IsCA {
		t.Errorf("usages %v %b, CA %t", c.ExtKeyUsage, c.KeyUsage, c.IsCA)
	}
	if len(c.Subject.Names) != 0 || len(c.UnknownExtKeyUsage) != 0 || len(c.UnhandledCriticalExtensions) != 0 {
		t.Errorf("subject %s, unknown parts %v %v", c.Subject, c.UnknownExtKeyUsage, c.UnhandledCriticalExtensions)
	}
	allowed := []string{
		"2.5.29.15", "2.5.29.37", "2.5.29.19", "2.5.29.14", "2.5.29.35", "2.5.29.17", "2.5.29.31", "1.3.6.1.5.5.7.1.1",
	}
	for _, extension := range c.Extensions {
		if !slices.Contains(allowed, extension.Id.String()) {
			t.Errorf("extension %s", extension.Id)
		}
	}
	v := s.Profiles["istio"].Rules.Validity
	if life := c.NotAfter.Sub(c.NotBefore); life > time.Duration(v.Default)+time.Duration(v.Backdate)+time.Second || life < time.Duration(v.Default)/2 {
		t.Errorf("lifetime %s", life)
	}
	if c.SerialNumber.BitLen() < 100 || len(c.SerialNumber.Bytes()) > 20 {
		t.Errorf("serial %x", c.SerialNumber)
	}
}
