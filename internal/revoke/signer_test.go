package revoke_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/testca"
)

// A delegated signer may do nothing but sign answers, for a short time, and another one takes its place at half of it.
func TestDelegatedSigner(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	c := s.certificate(t, 1)
	request := s.ask(t, c.DER, crypto.SHA1)
	ask := func() *x509.Certificate {
		t.Helper()
		response, next := s.answer(t, s.revoker, request)
		signer := response.Certificate
		if signer == nil {
			t.Fatal("the answer has no certificate of a signer")
		}
		if next.After(signer.NotAfter) || s.now().Before(signer.NotBefore) || !bytes.Equal(signer.AuthorityKeyId, s.IssuingCert.SubjectKeyId) {
			t.Errorf("signer good from %s to %s, answer until %s", signer.NotBefore, signer.NotAfter, next)
		}
		return signer
	}
	first := ask()
	noCheck := false
	for _, extension := range first.Extensions {
		noCheck = noCheck || extension.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5})
	}
	if len(first.ExtKeyUsage) != 1 || first.ExtKeyUsage[0] != x509.ExtKeyUsageOCSPSigning || first.KeyUsage != x509.KeyUsageDigitalSignature ||
		first.IsCA || !noCheck || len(first.DNSNames)+len(first.URIs) > 0 || first.NotAfter.Sub(first.NotBefore) > 25*time.Hour {
		t.Errorf("certificate of the signer: %+v", first)
	}
	events := s.ledger.Events()
	if last := events[len(events)-1]; last.Action != audit.OCSPSigner || last.Target != s.Issuing.Name || last.Detail.Serial != pki.SerialFromInt(first.SerialNumber) {
		t.Errorf("event = %+v", last)
	}
	s.advance(11 * time.Hour)
	if !ask().Equal(first) {
		t.Error("another signer before half of its life")
	}
	s.advance(2 * time.Hour)
	failing := true
	s.ledger.Fail = func(method string) (bool, error) {
		if failing && method == "RecordEvent" {
			return false, testca.ErrStorage
		}
		return false, nil
	}
	if !ask().Equal(first) {
		t.Error("another signer was not recorded")
	}
	failing = false
	s.advance(time.Minute)
	if ask().Equal(first) {
		t.Error("the same signer after half of its life")
	}
}

// A signer that could not be recorded signs nothing.
func TestSignerIsRecordedFirst(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request := s.ask(t, s.certificate(t, 1).DER, crypto.SHA1)
	s.ledger.Fail = func(method string) (bool, error) {
		if method == "RecordEvent" {
			return false, fault.New(fault.Unavailable, "database is down")
		}
		return false, nil
	}
	if der, _, err := s.revoker.OCSP(t.Context(), request); err != nil || !bytes.Equal(der, []byte{0x30, 3, 0x0a, 1, 3}) {
		t.Errorf("OCSP = %x, %v, want tryLater", der, err)
	}
}

func TestOCSPByCA(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	revoker, err := revoke.New(revoke.Config{
		Store: s.ledger, Signers: s.Hierarchy, CA: s.CA, CAs: s.CAs, Now: s.now, Random: rand.Reader, OCSPByCA: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	if response, _ := s.answer(t, revoker, s.ask(t, s.certificate(t, 1).DER, crypto.SHA1)); response.Certificate != nil || response.Status != ocsp.Good {
		t.Errorf("answer = %+v", response)
	}
}

// join makes one request of several.
func join(t testing.TB, requests ...[]byte) []byte {
	t.Helper()
	var all []byte
	for _, request := range requests {
		var outer, tbs, list cryptobyte.String
		input := cryptobyte.String(request)
		if !input.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
			t.Fatal("cannot read request")
		}
		all = append(all, list...)
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(all) })
		})
	})
	return b.BytesOrPanic()
}

func TestOCSPOfSeveral(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	good, bad := s.certificate(t, 1), s.certificate(t, 2)
	s.revoke(t, bad, pki.KeyCompromise)
	der, next, err := s.revoker.OCSP(t.Context(), join(t, s.ask(t, good.DER, crypto.SHA1), s.ask(t, bad.DER, crypto.SHA256)))
	if err != nil || !next.IsZero() {
		t.Fatalf("OCSP: until %s, %v", next, err)
	}
	for c, want := range map[*pki.Certificate]int{good: ocsp.Good, bad: ocsp.Revoked} {
		leaf, err := x509.ParseCertificate(c.DER)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := ocsp.ParseResponseForCert(der, leaf, s.IssuingCert); err != nil || response.Status != want {
			t.Errorf("answer for %s: %+v, %v", c.Serial, response, err)
		}
	}
	issuing, err := ocsp.CreateRequest(s.IssuingCert, s.RootCert, nil)
	if err != nil {
		t.Fatal(err)
	}
	one := s.ask(t, good.DER, crypto.SHA1)
	many := make([][]byte, 17)
	for i := range many {
		many[i] = one
	}
	for name, test := range map[string]struct {
		request []byte
		status  ocsp.ResponseStatus
	}{
		"refuses/several-issuers": {join(t, one, issuing), ocsp.Unauthorized},
		"refuses/too-many":        {join(t, many...), ocsp.Malformed},
		"refuses/none":            {join(t), ocsp.Malformed},
	} {
		der, _, err := s.revoker.OCSP(t.Context(), test.request)
		if err != nil {
			t.Fatal(err)
		}
		if refusal, ok := errors.AsType[ocsp.ResponseError](second(ocsp.ParseResponse(der, nil))); !ok || refusal.Status != test.status {
			t.Errorf("%s: %x", name, der)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// The root answers for the CAs below it.
func TestOCSPOfCA(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	request, err := ocsp.CreateRequest(s.IssuingCert, s.RootCert, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, _, err := s.revoker.OCSP(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := ocsp.ParseResponse(der, s.RootCert); err != nil || response.Status != ocsp.Good {
		t.Errorf("answer = %+v, %v", response, err)
	}
	revoked := *s.Issuing
	revoked.State, revoked.RevokedAt, revoked.Reason = pki.Revoked, s.now(), pki.CACompromise
	revoker, err := revoke.New(revoke.Config{
		Store: s.ledger, Signers: s.Hierarchy, CA: s.CA, CAs: func() []*pki.CA { return []*pki.CA{s.Root, &revoked} }, Now: s.now, Random: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	der, _, err = revoker.OCSP(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := ocsp.ParseResponse(der, s.RootCert); err != nil || response.Status != ocsp.Revoked || response.RevocationReason != ocsp.CACompromise {
		t.Errorf("answer = %+v, %v", response, err)
	}
	list := s.crl(t, s.Root, revoker)
	if len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].SerialNumber.Cmp(s.IssuingCert.SerialNumber) != 0 ||
		list.RevokedCertificateEntries[0].ReasonCode != int(pki.CACompromise) {
		t.Errorf("entries of the root's CRL: %+v", list.RevokedCertificateEntries)
	}
	if own := s.crl(t, s.Issuing, revoker); len(own.RevokedCertificateEntries) != 0 {
		t.Errorf("entries of its own CRL: %+v", own.RevokedCertificateEntries)
	}
}

func BenchmarkOCSP(b *testing.B) {
	s := newStage(b, testca.Options{})
	request := s.ask(b, s.certificate(b, 1).DER, crypto.SHA1)
	nonce := withNonce(b, request, append([]byte{4, 32}, bytes.Repeat([]byte{0xab}, 32)...))
	for name, asked := range map[string][]byte{"kept": request, "signed": nonce} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.revoker.OCSP(b.Context(), asked); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCRL makes the list of a CA with 100,000 revoked certificates.
func BenchmarkCRL(b *testing.B) {
	s := newStage(b, testca.Options{})
	c := s.certificate(b, 1)
	s.revoke(b, c, pki.Superseded)
	many := &manyRevoked{Ledger: s.ledger}
	for i := range 100_000 {
		serial, err := pki.NewSerial(testca.Now(), rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		many.entries = append(many.entries, pki.RevokedEntry{Serial: serial, At: testca.Now(), Reason: pki.RevocationReason(i % 2), NotAfter: testca.Now()})
	}
	revoker, err := revoke.New(revoke.Config{Store: many, Signers: s.Hierarchy, CA: s.CA, CAs: s.CAs, Now: s.now, Random: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.advance(13 * time.Hour)
		der, _, err := revoker.CRL(b.Context(), s.Issuing.ID)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(der)), "bytes")
	}
}

// manyRevoked is a ledger with a long list.
type manyRevoked struct {
	*testca.Ledger
	entries []pki.RevokedEntry
}

func (m *manyRevoked) Revoked(context.Context, pki.CAID, time.Time) ([]pki.RevokedEntry, error) {
	return m.entries, nil
}
