package revoke_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
	"github.com/certloom/certloom/internal/testca"
)

// clock is a time that tests move.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return testca.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

type stage struct {
	*testca.Hierarchy
	clock
	ledger  *testca.Ledger
	revoker *revoke.Revoker
}

func newStage(t testing.TB, o testca.Options) *stage {
	t.Helper()
	s := &stage{Hierarchy: testca.NewWith(t, o), ledger: testca.NewLedger()}
	s.revoker = s.newRevoker(t)
	return s
}

// newRevoker is another replica.
func (s *stage) newRevoker(t testing.TB) *revoke.Revoker {
	t.Helper()
	revoker, err := revoke.New(revoke.Config{
		Store: s.ledger, Signers: s.Hierarchy, CA: s.CA, CAs: s.CAs, Now: s.now, Random: rand.Reader,
		Registerer: prometheus.NewRegistry(), Replica: "replica-1",
	})
	if err != nil {
		t.Fatal(err)
	}
	return revoker
}

// certificate records a certificate that is valid for a day.
func (s *stage) certificate(t testing.TB, n int) *pki.Certificate {
	t.Helper()
	serial := pki.Serial(fmt.Sprintf("6d%038x", n))
	template := &x509.Certificate{SerialNumber: serial.Int(), NotBefore: s.now(), NotAfter: s.now().Add(24 * time.Hour), DNSNames: []string{"a.example.com"}}
	leaf := s.Leaf(t, template, testca.Key(t).Public())
	c := &pki.Certificate{
		Serial: serial, DER: leaf.Raw, CAID: s.Issuing.ID, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		OrderID: pki.OrderID(serial), ProfileID: "profile", AccountID: "account", CredentialID: "credential",
	}
	if _, _, err := s.ledger.RecordCertificate(t.Context(), c, pki.SPIFFEID{}, audit.Event{}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (s *stage) revoke(t testing.TB, c *pki.Certificate, reason pki.RevocationReason) {
	t.Helper()
	if err := s.revoker.Revoke(t.Context(), revoke.Request{Serial: c.Serial, Reason: reason}); err != nil {
		t.Fatal(err)
	}
}

// crl reads and checks the CRL of a CA.
func (s *stage) crl(t testing.TB, ca *pki.CA, by *revoke.Revoker) *x509.RevocationList {
	t.Helper()
	der, next, err := by.CRL(t.Context(), ca.ID)
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil {
		t.Error(err)
	}
	if !list.NextUpdate.Equal(next) || !bytes.Equal(list.AuthorityKeyId, issuer.SubjectKeyId) {
		t.Errorf("next update %s and %s, issuer %x", list.NextUpdate, next, list.AuthorityKeyId)
	}
	return list
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	c := s.certificate(t, 1)
	request := revoke.Request{
		Serial: c.Serial, Reason: pki.KeyCompromise, Actor: audit.Actor{Kind: audit.Account, ID: "a"}, RequestID: "r", Client: pki.Client{Address: "10.0.0.1"},
	}
	if err := s.revoker.Revoke(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	events := s.ledger.Events()
	last := events[len(events)-1]
	if last.Action != audit.CertificateRevoke || last.Outcome != audit.Done || last.Target != string(c.Serial) || last.Detail.Account != "account" ||
		last.Detail.Changes[0].New != "keyCompromise" || last.Client.Address != "10.0.0.1" || last.Replica != "replica-1" {
		t.Errorf("event = %+v", last)
	}
	list := s.crl(t, s.Issuing, s.revoker)
	if len(list.RevokedCertificateEntries) != 1 || pki.SerialFromInt(list.RevokedCertificateEntries[0].SerialNumber) != c.Serial ||
		list.RevokedCertificateEntries[0].ReasonCode != 1 || !list.RevokedCertificateEntries[0].RevocationTime.Equal(testca.Now()) {
		t.Errorf("entries = %+v", list.RevokedCertificateEntries)
	}
	if err := s.revoker.Revoke(t.Context(), request); !fault.Is(err, fault.AlreadyRevoked) {
		t.Errorf("Revoke again: %v, want AlreadyRevoked", err)
	}
}

func TestRevokeRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		reason pki.RevocationReason
		serial pki.Serial
		age    time.Duration
		kind   fault.Kind
		says   string
	}{
		"refuses/ca-compromise":    {reason: pki.CACompromise, kind: fault.BadRevocationReason, says: "0 (unspecified), 1 (keyCompromise), 3 (affiliationChanged)"},
		"refuses/hold":             {reason: pki.CertificateHold, kind: fault.BadRevocationReason, says: "9 (privilegeWithdrawn)"},
		"refuses/unused-7":         {reason: 7, kind: fault.BadRevocationReason, says: "reason 7"},
		"refuses/remove-from-crl":  {reason: 8, kind: fault.BadRevocationReason, says: "reason 8"},
		"refuses/aa-compromise":    {reason: pki.AACompromise, kind: fault.BadRevocationReason, says: "reason 10"},
		"refuses/beyond":           {reason: 11, kind: fault.BadRevocationReason, says: "reason 11"},
		"refuses/negative":         {reason: -1, kind: fault.BadRevocationReason, says: "reason -1"},
		"refuses/unknown-serial":   {serial: "6d02", kind: fault.NotFound, says: "6d02"},
		"refuses/expired":          {age: 25 * time.Hour, kind: fault.Unauthorized, says: "expired"},
		"refuses/no-serial-at-all": {serial: " ", kind: fault.NotFound, says: "no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{})
			c := s.certificate(t, 1)
			s.advance(test.age)
			if test.serial == "" {
				test.serial = c.Serial
			}
			err := s.revoker.Revoke(t.Context(), revoke.Request{Serial: test.serial, Reason: test.reason})
			if !fault.Is(err, test.kind) || !strings.Contains(fault.From(err).Public, test.says) {
				t.Fatalf("Revoke: %v, want kind %q with %q", err, test.kind, test.says)
			}
			if len(s.crl(t, s.Issuing, s.revoker).RevokedCertificateEntries) != 0 {
				t.Error("something was revoked")
			}
			events := s.ledger.Events()
			if last := events[len(events)-1]; last.Action != audit.RevocationRefuse || last.Outcome != audit.Refused || last.Detail.Reason == "" {
				t.Errorf("event = %+v", last)
			}
		})
	}
}

func TestRevokeAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	c := s.certificate(t, 1)
	var done, already atomic.Int32
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			switch err := s.revoker.Revoke(t.Context(), revoke.Request{Serial: c.Serial}); {
			case err == nil:
				done.Add(1)
			case fault.Is(err, fault.AlreadyRevoked):
				already.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	group.Wait()
	if done.Load() != 1 || already.Load() != 15 || len(s.crl(t, s.Issuing, s.revoker).RevokedCertificateEntries) != 1 {
		t.Errorf("%d done, %d already; want 1 and 15", done.Load(), already.Load())
	}
}

func TestRevokeStorageFails(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Certificate", "RevokeCertificate"} {
		for _, persisted := range []bool{false, true} {
			s := newStage(t, testca.Options{})
			c := s.certificate(t, 1)
			broken := true
			s.ledger.Fail = func(called string) (bool, error) {
				if broken && called == method {
					return persisted, testca.ErrStorage
				}
				return false, nil
			}
			if err := s.revoker.Revoke(t.Context(), revoke.Request{Serial: c.Serial}); !errors.Is(err, testca.ErrStorage) {
				t.Errorf("%s: Revoke = %v, want the storage's error", method, err)
			}
			broken = false
			err := s.revoker.Revoke(t.Context(), revoke.Request{Serial: c.Serial})
			if kept := persisted && method == "RevokeCertificate"; (err == nil) == kept || (kept && !fault.Is(err, fault.AlreadyRevoked)) {
				t.Errorf("%s, persisted %t: Revoke again = %v", method, persisted, err)
			}
			if n := len(s.crl(t, s.Issuing, s.revoker).RevokedCertificateEntries); n != 1 {
				t.Errorf("%s, persisted %t: %d entries, want 1", method, persisted, n)
			}
		}
	}
}

func TestCRLIsKept(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	c := s.certificate(t, 1)
	other := s.newRevoker(t)
	first := s.crl(t, s.Issuing, s.revoker)
	if first.Number.Cmp(big.NewInt(1)) != 0 || !first.ThisUpdate.Equal(testca.Now().Add(-time.Minute)) || !first.NextUpdate.Equal(testca.Now().Add(24*time.Hour)) {
		t.Errorf("CRL %d, %s to %s", first.Number, first.ThisUpdate, first.NextUpdate)
	}
	s.advance(11 * time.Hour)
	if again := s.crl(t, s.Issuing, s.revoker); !bytes.Equal(again.Raw, first.Raw) {
		t.Error("a CRL was made although nothing had changed")
	}
	s.crl(t, s.Issuing, other)
	s.revoke(t, c, pki.Superseded)
	mine := s.crl(t, s.Issuing, s.revoker)
	if len(mine.RevokedCertificateEntries) != 1 {
		t.Error("the next CRL of this process does not have the revocation")
	}
	s.advance(time.Second)
	if theirs := s.crl(t, s.Issuing, other); len(theirs.RevokedCertificateEntries) != 1 || theirs.Number.Cmp(mine.Number) <= 0 {
		t.Errorf("another replica's CRL after a second has number %d and %d entries", theirs.Number, len(theirs.RevokedCertificateEntries))
	}
	s.advance(12 * time.Hour)
	if late := s.crl(t, s.Issuing, s.revoker); late.Number.Cmp(mine.Number) <= 0 || !late.NextUpdate.After(mine.NextUpdate) {
		t.Errorf("half of its life later the CRL has number %d, until %s", late.Number, late.NextUpdate)
	}
}

func TestCRLOfRootAndOthers(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	s.revoke(t, s.certificate(t, 1), pki.Unspecified)
	if list := s.crl(t, s.Root, s.revoker); len(list.RevokedCertificateEntries) != 0 {
		t.Errorf("the root's CRL has %d entries", len(list.RevokedCertificateEntries))
	}
	if entry := s.crl(t, s.Issuing, s.revoker).RevokedCertificateEntries[0]; entry.ReasonCode != 0 || len(entry.Extensions) != 0 {
		t.Errorf("an unspecified reason is written: %+v", entry)
	}
	suspended := *s.Issuing
	suspended.State = pki.Suspended
	s.Issuing = &suspended
	if list := s.crl(t, s.Issuing, s.revoker); len(list.RevokedCertificateEntries) != 1 {
		t.Error("a suspended CA has no CRL any more")
	}
	pending := *s.Issuing
	pending.Certificate = nil
	s.Issuing = &pending
	for _, id := range []pki.CAID{s.Issuing.ID, "gone"} {
		if _, _, err := s.revoker.CRL(t.Context(), id); !fault.Is(err, fault.NotFound) {
			t.Errorf("CRL of %s: %v, want NotFound", id, err)
		}
	}
}

// TestCRLWhileStorageFails: an old list is better than none, until its time is over.
func TestCRLWhileStorageFails(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	first := s.crl(t, s.Issuing, s.revoker)
	s.ledger.Fail = func(string) (bool, error) { return false, testca.ErrStorage }
	s.advance(23 * time.Hour)
	if kept := s.crl(t, s.Issuing, s.revoker); !bytes.Equal(kept.Raw, first.Raw) {
		t.Error("another CRL came out of failing storage")
	}
	s.advance(time.Hour)
	if _, _, err := s.revoker.CRL(t.Context(), s.Issuing.ID); !errors.Is(err, testca.ErrStorage) {
		t.Errorf("CRL after its time: %v, want the storage's error", err)
	}
	if _, _, err := s.newRevoker(t).CRL(t.Context(), s.Issuing.ID); !errors.Is(err, testca.ErrStorage) {
		t.Errorf("first CRL: %v, want the storage's error", err)
	}
	s.ledger.Fail = nil
	s.crl(t, s.Issuing, s.revoker)
}

func TestCRLAtOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	var certificates []*pki.Certificate
	for n := range 8 {
		certificates = append(certificates, s.certificate(t, n+1))
	}
	var group sync.WaitGroup
	for _, c := range certificates {
		group.Go(func() { s.revoke(t, c, pki.Superseded) })
		group.Go(func() { s.crl(t, s.Issuing, s.revoker) })
	}
	group.Wait()
	if n := len(s.crl(t, s.Issuing, s.revoker).RevokedCertificateEntries); n != 8 {
		t.Errorf("%d entries, want 8", n)
	}
}

// caKeys are CA keys of every type.
func caKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"P-256": testca.Key(t), "P-384": p384, "RSA-3072": rsaKey, "Ed25519": edwards}
}

func TestCRLOfEveryKey(t *testing.T) {
	t.Parallel()
	for name, key := range caKeys(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, testca.Options{IssuingKey: key})
			s.revoke(t, s.certificate(t, 1), pki.Superseded)
			s.crl(t, s.Issuing, s.revoker)
		})
	}
}

func TestCRLOfCAWithoutKeyUsage(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{Constraints: func(c *x509.Certificate) { c.KeyUsage = 0 }})
	if _, _, err := s.revoker.CRL(t.Context(), s.Issuing.ID); err != nil {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	if _, err := revoke.New(revoke.Config{}); err == nil {
		t.Error("an empty config was accepted")
	}
	s := newStage(t, testca.Options{})
	registry := prometheus.NewRegistry()
	config := revoke.Config{Store: s.ledger, Signers: s.Hierarchy, CA: s.CA, CAs: s.CAs, Now: s.now, Random: rand.Reader, Registerer: registry}
	short := config
	short.CRLLifetime = time.Second
	if _, err := revoke.New(short); err == nil {
		t.Error("CRLs of a second were accepted")
	}
	if _, err := revoke.New(config); err != nil {
		t.Fatal(err)
	}
	if _, err := revoke.New(config); err == nil {
		t.Error("two revokers registered the same metrics")
	}
	if !slices.Contains(revoke.Reasons(), pki.Unspecified) || revoke.CheckReason(pki.Superseded) != nil {
		t.Error("reasons")
	}
}

// A hold is on the CRL and in OCSP answers until it is released, or for good when it is revoked meanwhile.
func TestHold(t *testing.T) {
	t.Parallel()
	s := newStage(t, testca.Options{})
	other := s.newRevoker(t)
	c := s.certificate(t, 1)
	request := revoke.Request{Serial: c.Serial, Reason: pki.KeyCompromise}
	number := s.crl(t, s.Issuing, s.revoker).Number
	step := func(change func() error, entries, reason int) {
		t.Helper()
		if err := change(); err != nil {
			t.Fatal(err)
		}
		for _, by := range []*revoke.Revoker{s.revoker, other} {
			list := s.crl(t, s.Issuing, by)
			if len(list.RevokedCertificateEntries) != entries || entries == 1 && list.RevokedCertificateEntries[0].ReasonCode != reason {
				t.Errorf("entries = %+v", list.RevokedCertificateEntries)
			}
			if list.Number.Cmp(number) <= 0 {
				t.Errorf("number %s after %s", list.Number, number)
			}
			number = list.Number
			s.advance(time.Minute) // the other replica may believe for a second that nothing has changed
		}
	}
	refuse := func(err error, kind fault.Kind) {
		t.Helper()
		if !fault.Is(err, kind) {
			t.Errorf("err = %v, want %v", err, kind)
		}
	}
	refuse(s.revoker.Release(t.Context(), request), fault.Conflict)
	step(func() error { return s.revoker.Hold(t.Context(), request) }, 1, int(pki.CertificateHold))
	refuse(s.revoker.Hold(t.Context(), request), fault.AlreadyRevoked)
	step(func() error { return s.revoker.Release(t.Context(), request) }, 0, 0)
	step(func() error { return s.revoker.Hold(t.Context(), request) }, 1, int(pki.CertificateHold))
	step(func() error { return s.revoker.Revoke(t.Context(), request) }, 1, int(pki.KeyCompromise))
	refuse(s.revoker.Release(t.Context(), request), fault.Conflict)
	refuse(s.revoker.Revoke(t.Context(), request), fault.AlreadyRevoked)
	refuse(s.revoker.Release(t.Context(), revoke.Request{Serial: "6d"}), fault.NotFound)
	refuse(s.revoker.Revoke(t.Context(), revoke.Request{Serial: c.Serial, Reason: pki.CertificateHold}), fault.BadRevocationReason)
	var actions []audit.Action
	for _, ev := range s.ledger.Events() {
		if ev.Outcome == audit.Done && ev.Action != "" {
			actions = append(actions, ev.Action)
		}
	}
	want := []audit.Action{audit.CertificateHold, audit.CertificateRelease, audit.CertificateHold, audit.CertificateRevoke}
	if !slices.Equal(actions, want) {
		t.Errorf("events = %v, want %v", actions, want)
	}
}
