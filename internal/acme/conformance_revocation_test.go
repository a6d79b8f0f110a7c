package acme_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certloom/certloom/internal/acme"
	"github.com/certloom/certloom/internal/acme/acmetest"
	"github.com/certloom/certloom/internal/pki"
)

// revoke asks for the revocation of DER, with a reason as it is written, "" for none.
func revoke(t testing.TB, c *acmetest.Client, der []byte, reason string) *acmetest.Response {
	t.Helper()
	if reason != "" {
		reason = `,"reason":` + reason
	}
	return c.PostRaw(t, c.Prefix+"/revoke-cert", []byte(`{"certificate":"`+acmetest.Base64(der)+`"`+reason+`}`))
}

// signedBy returns a client without an account that signs with a key.
func (s *suite) signedBy(t testing.TB, key crypto.Signer) *acmetest.Client {
	t.Helper()
	c := s.client(t)
	c.Key = key
	return c
}

// mesh gets a certificate with a key of the test.
func (s *suite) mesh(t testing.TB, c *acmetest.Client, id string) (*acmetest.Order, *x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := mustECDSA(t, acmetest.NewKey(t))
	valid := ok(t, c.Finalize(t, meshOrder(t, c), csrOf(t, key, meshRequest(id))), http.StatusOK).Order(t)
	return valid, leaf(t, ok(t, c.Read(t, valid.Certificate), http.StatusOK).Body), key
}

// validated gets a certificate for a DNS name by http-01.
func (s *suite) validated(t testing.TB, c *acmetest.Client, names ...string) *acmetest.Order {
	t.Helper()
	var identifiers string
	for i, name := range names {
		if i > 0 {
			identifiers += ","
		}
		identifiers += dnsID(name)
	}
	made := ok(t, order(t, c, `{"identifiers":[`+identifiers+`]}`), http.StatusCreated).Order(t)
	for _, at := range made.Authorizations {
		a := readAuthz(t, c, at)
		token := a.of(t, "http-01").Token
		s.lab.prove(a.Identifier.Value, token, keyAuthorization(t, c, token))
		if got := s.answer(t, c, a, "http-01"); got.Status != "valid" {
			t.Fatalf("authorization %+v", got)
		}
	}
	return made
}

func revocationRows() []row {
	const id = "spiffe://cluster.local/ns/demo/sa/rev"
	return []row{
		{"REV-1", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, _ := s.mesh(t, c, id)
			if answer := ok(t, revoke(t, c, certificate.Raw, "4"), http.StatusOK); len(answer.Body) != 0 {
				t.Errorf("body %q", answer.Body)
			}
			if got := certificateRow(t, s, valid); got.RevokedAt.IsZero() || got.Reason != pki.Superseded {
				t.Errorf("revoked at %s for %d", got.RevokedAt, got.Reason)
			}
		}},
		{"REV-2", func(t *testing.T, s *suite) {
			valid, certificate, key := s.mesh(t, s.account(t, "istio"), id)
			ok(t, revoke(t, s.signedBy(t, key), certificate.Raw, "1"), http.StatusOK)
			if got := certificateRow(t, s, valid); got.RevokedAt.IsZero() || got.Reason != pki.KeyCompromise {
				t.Errorf("revoked at %s for %d", got.RevokedAt, got.Reason)
			}
		}},
		{"REV-3", revokedByAuthorization},
		{"REV-4", func(t *testing.T, s *suite) {
			valid, certificate, _ := s.mesh(t, s.account(t, "istio"), id)
			for _, stranger := range []*acmetest.Client{s.account(t, "server"), s.scoped(t), s.client(t)} {
				refused(t, revoke(t, stranger, certificate.Raw, ""), http.StatusForbidden, "unauthorized")
			}
			if got := certificateRow(t, s, valid); !got.RevokedAt.IsZero() {
				t.Error("a stranger revoked the certificate")
			}
		}},
		{"REV-5", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, key := s.mesh(t, c, id)
			ok(t, revoke(t, c, certificate.Raw, "4"), http.StatusOK)
			for _, again := range []*acmetest.Client{c, s.signedBy(t, key)} {
				refused(t, revoke(t, again, certificate.Raw, "1"), http.StatusBadRequest, "alreadyRevoked")
			}
			if got := certificateRow(t, s, valid); got.Reason != pki.Superseded {
				t.Errorf("the reason became %d", got.Reason)
			}
		}},
		{"REV-6", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, _ := s.mesh(t, c, id)
			for _, reason := range []string{"7", "11", "-1", "2.5", `"1"`, "1e0", "0.5", "999999999999999999999", "2", "6", "8", "10", "true", "[]", "{}"} {
				problem := refused(t, revoke(t, c, certificate.Raw, reason), http.StatusBadRequest, "badRevocationReason", "malformed")
				if problem.Type == "malformed" || problem.Detail == "" {
					t.Errorf("reason %s: %+v", reason, problem)
				}
			}
			if got := certificateRow(t, s, valid); !got.RevokedAt.IsZero() {
				t.Error("revoked for a reason that was refused")
			}
			for reason, want := range map[string]pki.RevocationReason{"": 0, "null": 0, "0": 0, "1": 1, "3": 3, "4": 4, "5": 5, "9": 9} {
				valid, certificate, _ := s.mesh(t, c, id)
				ok(t, revoke(t, c, certificate.Raw, reason), http.StatusOK)
				if got := certificateRow(t, s, valid); got.Reason != want {
					t.Errorf("reason %q became %d", reason, got.Reason)
				}
			}
		}},
		{"REV-7", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, _ := s.mesh(t, c, id)
			good := acmetest.Base64(certificate.Raw)
			text := acmetest.Base64(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
			for _, member := range []string{`{}`, `{"certificate":null}`, `{"certificate":7}`, `{"certificate":""}`, `{"certificate":"` + text + `"}`, `{"certificate":"` + good + `="}`, `{"certificate":"` + good + `\n"}`, `{"certificate":"*"}`} {
				refused(t, c.PostRaw(t, c.Prefix+"/revoke-cert", []byte(member)), http.StatusBadRequest, "malformed")
			}
			answer := revoke(t, c, append(append([]byte(nil), certificate.Raw...), 0), "")
			refused(t, answer, answer.Status, "malformed")
			if got := certificateRow(t, s, valid); answer.Status < 400 || answer.Status >= 500 || !got.RevokedAt.IsZero() {
				t.Errorf("trailing bytes: %d", answer.Status)
			}
		}},
		{"REV-8", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, key := s.mesh(t, c, id)
			// The same serial, names and key, by another CA.
			template := &x509.Certificate{SerialNumber: certificate.SerialNumber, URIs: certificate.URIs, NotBefore: certificate.NotBefore, NotAfter: certificate.NotAfter}
			forged, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			flipped := append([]byte(nil), certificate.Raw...)
			flipped[len(flipped)-1] ^= 1
			for _, der := range [][]byte{forged, flipped, apartRoot(t)} {
				for _, by := range []*acmetest.Client{c, s.signedBy(t, key)} {
					refused(t, revoke(t, by, der, ""), http.StatusNotFound, "malformed", "unauthorized")
				}
			}
			if got := certificateRow(t, s, valid); !got.RevokedAt.IsZero() {
				t.Error("a forged certificate revoked the real one")
			}
		}},
		{"REV-9", func(t *testing.T, _ *suite) {
			s := apart(t, acmetest.Options{})
			c := s.account(t, "istio")
			valid, certificate, key := s.mesh(t, c, id)
			s.Advance(t, 8*24*time.Hour)
			for _, by := range []*acmetest.Client{c, s.signedBy(t, key)} {
				answer := revoke(t, by, certificate.Raw, "1")
				refused(t, answer, answer.Status, "unauthorized", "malformed")
				if answer.Status < 400 || answer.Status >= 500 {
					t.Errorf("status %d", answer.Status)
				}
			}
			if got := certificateRow(t, s, valid); !got.RevokedAt.IsZero() {
				t.Error("an expired certificate was revoked")
			}
		}},
		{"REV-10", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			ca, err := s.Signers.Signer(t.Context(), s.Issuing.KeyID)
			if err != nil {
				t.Fatal(err)
			}
			for _, der := range [][]byte{s.Root.Certificate, s.Issuing.Certificate} {
				for _, by := range []*acmetest.Client{c, s.signedBy(t, ca)} {
					refused(t, revoke(t, by, der, ""), http.StatusNotFound, "malformed", "unauthorized")
				}
			}
		}},
		{"REV-11", revocationIsVisible},
		{"REV-12", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			_, certificate, key := s.mesh(t, c, id)
			senders := []*acmetest.Client{c, on(c, s.Replica(t, acme.Options{})), s.signedBy(t, key)}
			var done, already atomic.Int32
			var wait sync.WaitGroup
			for i := range 12 {
				wait.Go(func() {
					switch answer := revoke(t, senders[i%len(senders)], certificate.Raw, ""); answer.Status {
					case http.StatusOK:
						done.Add(1)
					case http.StatusBadRequest:
						already.Add(1)
					default:
						t.Errorf("status %d: %s", answer.Status, answer.Body)
					}
				})
			}
			wait.Wait()
			if done.Load() != 1 || already.Load() != 11 {
				t.Errorf("%d revocations, %d refusals", done.Load(), already.Load())
			}
			if n := s.listed(t, certificate.SerialNumber); n != 1 {
				t.Errorf("%d entries of the CRL", n)
			}
		}},
		{"REV-13", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, key := s.mesh(t, c, id)
			ok(t, c.PostRaw(t, c.KID, []byte(`{"status":"deactivated"}`)), http.StatusOK)
			refused(t, revoke(t, c, certificate.Raw, ""), http.StatusUnauthorized, "unauthorized")
			ok(t, revoke(t, s.signedBy(t, key), certificate.Raw, ""), http.StatusOK)
			if got := certificateRow(t, s, valid); got.RevokedAt.IsZero() {
				t.Error("not revoked")
			}
		}},
		{"REV-14", func(t *testing.T, s *suite) {
			c := s.account(t, "istio")
			valid, certificate, _ := s.mesh(t, c, id)
			nobody := *c
			nobody.KID = ""
			answer := revoke(t, &nobody, certificate.Raw, "")
			refused(t, answer, answer.Status, "unauthorized", "malformed")
			if got := certificateRow(t, s, valid); answer.Status < 400 || answer.Status >= 500 || !got.RevokedAt.IsZero() {
				t.Errorf("status %d", answer.Status)
			}
		}},
	}
}

// apartRoot returns a certificate of nobody we know.
func apartRoot(t *testing.T) []byte {
	t.Helper()
	key := mustECDSA(t, acmetest.NewKey(t))
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// revokedByAuthorization revokes certificates of other accounts: with authorizations for all of its names, for a part,
// and with the same EAB credential.
func revokedByAuthorization(t *testing.T, s *suite) {
	owner, other, partial := s.scoped(t), s.scoped(t), s.scoped(t)
	both := []string{"a.rev3.test", "b.rev3.test"}
	made := s.validated(t, owner, both...)
	valid := ok(t, owner.Finalize(t, made, acmetest.ServerCSR(t, both...)), http.StatusOK).Order(t)
	certificate := leaf(t, owner.Read(t, valid.Certificate).Body)
	refused(t, revoke(t, other, certificate.Raw, ""), http.StatusForbidden, "unauthorized")
	s.validated(t, partial, both[0])
	refused(t, revoke(t, partial, certificate.Raw, ""), http.StatusForbidden, "unauthorized")
	s.validated(t, other, both...)
	ok(t, revoke(t, other, certificate.Raw, ""), http.StatusOK)

	const id = "spiffe://cluster.local/ns/demo/sa/rev3"
	first, second := s.account(t, "istio"), s.account(t, "istio") // of one credential
	_, meshCertificate, _ := s.mesh(t, first, id)
	stranger := s.client(t)
	stranger.Register(t, s.credentialOf(t, s.Profiles["istio"], "rev3"))
	refused(t, revoke(t, stranger, meshCertificate.Raw, ""), http.StatusForbidden, "unauthorized")
	ok(t, revoke(t, second, meshCertificate.Raw, ""), http.StatusOK)
	// Authorizations for the DNS names do not cover a SPIFFE ID beside them.
	named := ok(t, order(t, first, names("rev3.svc")), http.StatusCreated).Order(t)
	template := meshRequest(id)
	template.DNSNames = []string{"rev3.svc"}
	done := ok(t, first.Finalize(t, named, csrOf(t, acmetest.NewKey(t), template)), http.StatusOK).Order(t)
	s.validated(t, other, "rev3.svc")
	refused(t, revoke(t, other, leaf(t, first.Read(t, done.Certificate).Body).Raw, ""), http.StatusForbidden, "unauthorized")
}

// listed returns how often the issuing CA's CRL names a serial.
func (s *suite) listed(t testing.TB, serial *big.Int) int {
	t.Helper()
	der, _, err := s.Revoker.CRL(t.Context(), s.Issuing.ID)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, entry := range list.RevokedCertificateEntries {
		if entry.SerialNumber.Cmp(serial) == 0 {
			count++
		}
	}
	return count
}

func revocationIsVisible(t *testing.T, s *suite) {
	c := s.account(t, "istio")
	_, certificate, _ := s.mesh(t, c, "spiffe://cluster.local/ns/demo/sa/rev11")
	parent, err := x509.ParseCertificate(s.Issuing.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	ask := func() int {
		question, err := ocsp.CreateRequest(certificate, parent, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, _, err := s.Revoker.OCSP(t.Context(), question)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := ocsp.ParseResponseForCert(answer, certificate, parent)
		if err != nil {
			t.Fatal(err)
		}
		return parsed.Status
	}
	if got := ask(); got != ocsp.Good || s.listed(t, certificate.SerialNumber) != 0 {
		t.Errorf("before: OCSP status %d", got)
	}
	ok(t, revoke(t, c, certificate.Raw, "5"), http.StatusOK)
	if got := ask(); got != ocsp.Revoked || s.listed(t, certificate.SerialNumber) != 1 {
		t.Errorf("after: OCSP status %d, %d entries of the CRL", got, s.listed(t, certificate.SerialNumber))
	}
	for _, reader := range []*acmetest.Client{c, on(c, s.Replica(t, acme.Options{}))} {
		if start, end := s.window(t, reader, certificate); end.After(s.Clock.Now()) {
			t.Errorf("renewal window of a revoked certificate is %s to %s", start, end)
		}
	}
	if events, err := s.Store.Events(t.Context(), pki.EventFilter{Action: "certificate.revoke", Target: fmt.Sprintf("%x", certificate.SerialNumber), Limit: 10}); err != nil || len(events) != 1 {
		t.Errorf("events %+v (%v)", events, err)
	}
}
