package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func testCertificates(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	id := Workload("demo", "web")
	c := f.NewCertificate(t, id.String(), Now())
	c.Replaces = "aki.serial"
	stored := f.Record(t, c)
	equal(t, "stored", c, stored)
	for name, find := range map[string]func() (*pki.Certificate, error){
		"serial":      func() (*pki.Certificate, error) { return s.Certificate(t.Context(), c.Serial) },
		"order":       func() (*pki.Certificate, error) { return s.CertificateOfOrder(t.Context(), c.OrderID) },
		"fingerprint": func() (*pki.Certificate, error) { return s.CertificateByFingerprint(t.Context(), c.Fingerprint[:]) },
	} {
		got, err := find()
		check(t, err)
		equal(t, "by "+name, c, got)
	}
	_, err := s.Certificate(t.Context(), "0badc0de")
	refused(t, err, fault.NotFound)
	_, err = s.Certificate(t.Context(), "not hexadecimal")
	refused(t, err, fault.NotFound)
	_, err = s.CertificateOfOrder(t.Context(), "")
	refused(t, err, fault.NotFound)
	_, err = s.CertificateByFingerprint(t.Context(), make([]byte, 32))
	refused(t, err, fault.NotFound)
	_, err = s.CertificateByFingerprint(t.Context(), []byte("short"))
	refused(t, err, fault.NotFound)

	for ari, want := range map[string]bool{"aki.serial": true, "other": false, "": false} {
		replaced, err := s.Replaced(t.Context(), ari)
		check(t, err)
		equal(t, fmt.Sprintf("%q replaced", ari), want, replaced)
	}
	for hash, want := range map[[32]byte]bool{c.SPKIHash: true, keyHash(t, &f.CA): true, {1}: false} {
		certified, err := s.KeyCertified(t.Context(), hash)
		check(t, err)
		equal(t, "key certified", want, certified)
	}
}

// testCertificateRace lets many finalize one order, with the same identity and with different ones.
func testCertificateRace(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	order := ID[pki.OrderID](t)
	var serials sync.Map
	won := parallel(32, func(i int) bool {
		id := Workload("demo", fmt.Sprintf("racer-%d", i%3))
		c := f.NewCertificate(t, id.String(), Now())
		c.OrderID = order
		stored, won, err := s.RecordCertificate(t.Context(), c, id, Event(audit.CertificateIssue))
		if err != nil {
			t.Error(err)
			return false
		}
		if won != (stored.Serial == c.Serial) {
			t.Errorf("won is %t, but stored is %s of %s", won, stored.Serial, c.Serial)
		}
		serials.Store(stored.Serial, true)
		return won
	})
	equal(t, "winners", 1, won)
	n := 0
	serials.Range(func(any, any) bool { n++; return true })
	equal(t, "different certificates returned", 1, n)
	equal(t, "events", 1, countEvents(t, s, audit.CertificateIssue))
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "certificates", int64(1), stats.Certificates)
	equal(t, "identities counted", int64(1), stats.Identities)
	identities, err := s.Identities(t.Context(), pki.IdentityFilter{}, Now())
	check(t, err)
	equal(t, "identities", 1, len(identities))
	equal(t, "certificates of the identity", int64(1), identities[0].Certificates)
}

// testManyCertificates stores many at once, of few identities and of few accounts, and looks whether every one is
// there and every identity knows its own.
func testManyCertificates(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	const workers, each, workloads = 16, 12, 7
	won := parallel(workers, func(worker int) bool {
		for i := range each {
			id := Workload("demo", fmt.Sprintf("w%d", (worker+i)%workloads))
			c := f.NewCertificate(t, id.String(), Now().Add(time.Duration(i)*time.Second))
			if (worker+i)%4 == 0 {
				c.CredentialID, c.AccountID = "", ""
			}
			if _, won, err := s.RecordCertificate(t.Context(), c, id, Event(audit.CertificateIssue)); err != nil || !won {
				t.Errorf("won %t, error %v", won, err)
				return false
			}
		}
		return true
	})
	equal(t, "workers that finished", workers, won)
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "stats", pki.Stats{Certificates: workers * each, Identities: workloads, Accounts: 1}, stats)
	identities, err := s.Identities(t.Context(), pki.IdentityFilter{Namespace: "demo"}, Now())
	check(t, err)
	equal(t, "identities", workloads, len(identities))
	total := 0
	for _, identity := range identities {
		mine, err := s.Certificates(t.Context(), pki.CertificateFilter{Identity: identity.Name, Limit: 1000}, Now())
		check(t, err)
		if len(mine) == 0 || int64(len(mine)) != identity.Certificates || mine[0].Serial != identity.Newest {
			t.Errorf("%s: %d certificates found, %d counted", identity.Name, len(mine), identity.Certificates)
		}
		total += len(mine)
	}
	equal(t, "certificates of all identities", workers*each, total)
	equal(t, "events", workers*each, countEvents(t, s, audit.CertificateIssue))
}

// testCertificateAgain makes the call again whose outcome was not known.
func testCertificateAgain(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	withOrder := f.NewCertificate(t, "a.example", Now())
	without := f.NewCertificate(t, "a.example", Now())
	without.OrderID = ""
	for name, c := range map[string]*pki.Certificate{"with an order": withOrder, "without": without} {
		f.Record(t, c)
		stored, won, err := s.RecordCertificate(t.Context(), c, pki.SPIFFEID{}, Event(audit.CertificateIssue))
		check(t, err)
		equal(t, name+": won", false, won)
		equal(t, name+": stored", c, stored)
	}
	thief := f.NewCertificate(t, "a.example", Now())
	thief.Serial = without.Serial
	if _, _, err := s.RecordCertificate(t.Context(), thief, pki.SPIFFEID{}, Event(audit.CertificateIssue)); err == nil {
		t.Error("two certificates have one serial")
	}
	stray := f.NewCertificate(t, "a.example", Now())
	stray.ProfileID = "none"
	if _, _, err := s.RecordCertificate(t.Context(), stray, pki.SPIFFEID{}, Event(audit.CertificateIssue)); err == nil {
		t.Error("a certificate of no profile was stored")
	}
	equal(t, "events", 2, countEvents(t, s, audit.CertificateIssue))
	identity, err := s.Identity(t.Context(), "a.example")
	check(t, err)
	equal(t, "certificates", int64(2), identity.Certificates)
}

func testFinalizeFacts(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	compromised := f.NewCertificate(t, "a.example", Now())
	f.Record(t, compromised)
	check(t, s.RevokeCertificate(t.Context(), compromised.Serial, pki.KeyCompromise, Now(), Event(audit.CertificateRevoke)))
	done := f.NewCertificate(t, "b.example", Now())
	f.Record(t, done)
	const sealed = pki.OrderID("sealed")
	for _, index := range []int{4, 1} {
		check(t, s.DeactivateAuthorization(t.Context(), pki.Proof{OrderID: sealed, Index: index}, Event(audit.AuthorizationDrop)))
	}
	for index, status := range []pki.ACMEStatus{pki.StatusValid, pki.StatusInvalid, pki.StatusValid, pki.StatusValid} {
		err := s.FinishProof(t.Context(), pki.Proof{OrderID: sealed, Index: 2 * index, Status: status}, Event(audit.AuthorizationValid))
		equal(t, "deactivated before", index == 2, err != nil)
	}
	usual := pki.FinalizeFacts{AccountState: pki.StatusValid, CredentialUsable: true, ProfileActive: true}
	ask := func(name string, order pki.OrderID, credential pki.CredentialID, profile pki.ProfileID, account pki.AccountID,
		thumbprint string, spki [32]byte, now time.Time, change func(*pki.FinalizeFacts),
	) {
		t.Helper()
		got, err := s.FinalizeFacts(t.Context(), order, account, credential, profile, thumbprint, spki, now)
		check(t, err)
		want := usual
		change(&want)
		equal(t, name, &want, got)
	}
	credential, profile, account := f.Credential.ID, f.Profile.ID, f.Account.ID
	ask("usual", "new", credential, profile, account, "", [32]byte{}, Now(), func(*pki.FinalizeFacts) {})
	ask("finalized", done.OrderID, credential, profile, account, "", [32]byte{}, Now(),
		func(w *pki.FinalizeFacts) { w.Certificate = done })
	ask("account's key", "new", credential, profile, account, f.Account.Thumbprint, [32]byte{}, Now(),
		func(w *pki.FinalizeFacts) { w.AccountKey = true })
	ask("blocked key", "new", credential, profile, account, "", compromised.SPKIHash, Now(),
		func(w *pki.FinalizeFacts) { w.BlockedKey = true })
	ask("CA's key", "new", credential, profile, account, "", keyHash(t, &f.CA), Now(),
		func(w *pki.FinalizeFacts) { w.CAKey = true })
	ask("deactivated", sealed, credential, profile, account, "", [32]byte{}, Now(),
		func(w *pki.FinalizeFacts) { w.Deactivated, w.Proved = []int{1, 4}, []int{0, 6} })
	ask("no account", "new", credential, profile, "none", "", [32]byte{}, Now(),
		func(w *pki.FinalizeFacts) { w.AccountState = "" })
	ask("no credential needed", "new", "", profile, account, "", [32]byte{}, Now(), func(*pki.FinalizeFacts) {})
	ask("unknown credential", "new", "none", profile, account, "", [32]byte{}, Now(),
		func(w *pki.FinalizeFacts) { w.CredentialUsable = false })
	ask("expired credential", "new", credential, profile, account, "", [32]byte{}, f.Credential.ExpiresAt,
		func(w *pki.FinalizeFacts) { w.CredentialUsable = false })
	ask("unknown profile", "new", credential, "none", account, "", [32]byte{}, Now(),
		func(w *pki.FinalizeFacts) { w.ProfileActive = false })

	check(t, s.RevokeCredential(t.Context(), credential, Now(), Event(audit.CredentialRevoke)))
	check(t, s.DeactivateAccount(t.Context(), account, Event(audit.AccountDeactivate)))
	suspended := f.Profile
	suspended.State = pki.Suspended
	check(t, s.UpdateProfile(t.Context(), &suspended, Event(audit.ProfileSuspend)))
	ask("all withdrawn", "new", credential, profile, account, "", [32]byte{}, Now(), func(w *pki.FinalizeFacts) {
		*w = pki.FinalizeFacts{AccountState: pki.StatusDeactivated}
	})
}

// testManyFacts has many ask at once, each something else: nobody may get another one's answer.
func testManyFacts(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	const orders = 5
	var done [orders]*pki.Certificate
	for i := range done {
		done[i] = f.NewCertificate(t, "a.example", Now())
		f.Record(t, done[i])
	}
	caKey := keyHash(t, &f.CA)
	parallel(150, func(i int) bool {
		order, thumbprint, spki, profile := pki.OrderID(fmt.Sprintf("new-%d", i)), "", [32]byte{byte(i)}, f.Profile.ID
		want := pki.FinalizeFacts{AccountState: pki.StatusValid, CredentialUsable: true, ProfileActive: true}
		switch i % 5 {
		case 0:
			want.Certificate = done[i%orders]
			order = want.Certificate.OrderID
		case 1:
			thumbprint, want.AccountKey = f.Account.Thumbprint, true
		case 2:
			spki, want.CAKey = caKey, true
		case 3:
			profile, want.ProfileActive = "none", false
		}
		got, err := s.FinalizeFacts(t.Context(), order, f.Account.ID, f.Credential.ID, profile, thumbprint, spki, Now())
		if err != nil {
			t.Error(err)
			return false
		}
		equal(t, fmt.Sprintf("facts %d", i), &want, got)
		return true
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.FinalizeFacts(ctx, "", "", "", "", "", [32]byte{}, Now()); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v", err)
	}
}

func testRevocation(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	recent := Now()
	older := f.NewCertificate(t, "a.example", recent)
	newest := f.NewCertificate(t, "a.example", recent)
	expired := f.NewCertificate(t, "b.example", recent.AddDate(0, 0, -3))
	for _, c := range []*pki.Certificate{older, newest, expired} {
		f.Record(t, c)
	}
	before, err := s.RevocationVersion(t.Context(), f.CA.ID)
	check(t, err)
	revoke := func(c *pki.Certificate, reason pki.RevocationReason) error {
		return s.RevokeCertificate(t.Context(), c.Serial, reason, Now(), Event(audit.CertificateRevoke))
	}
	check(t, revoke(older, pki.Superseded))
	refused(t, revoke(older, pki.KeyCompromise), fault.AlreadyRevoked)
	refused(t, revoke(f.NewCertificate(t, "c.example", recent), pki.Superseded), fault.NotFound)
	check(t, revoke(expired, pki.Superseded))
	got, err := s.Certificate(t.Context(), older.Serial)
	check(t, err)
	older.RevokedAt, older.Reason = Now(), pki.Superseded
	equal(t, "revoked certificate", older, got)
	list, err := s.Revoked(t.Context(), f.CA.ID, expired.NotAfter)
	check(t, err)
	equal(t, "entries since one of them expired", 2, len(list))
	list, err = s.Revoked(t.Context(), f.CA.ID, expired.NotAfter.Add(time.Second))
	check(t, err)
	equal(t, "list", []store.RevokedEntry{{Serial: older.Serial, At: Now(), Reason: pki.Superseded, NotAfter: older.NotAfter}}, list)
	list, err = s.Revoked(t.Context(), "none", time.Time{})
	check(t, err)
	equal(t, "list of no CA", 0, len(list))
	version, err := s.RevocationVersion(t.Context(), f.CA.ID)
	check(t, err)
	equal(t, "versions passed", int64(2), version-before)

	identity, err := s.Identity(t.Context(), "a.example")
	check(t, err)
	equal(t, "identity revoked with an older certificate", time.Time{}, identity.RevokedAt)
	check(t, revoke(newest, pki.KeyCompromise))
	identity, err = s.Identity(t.Context(), "a.example")
	check(t, err)
	equal(t, "identity revoked with its newest certificate", Now(), identity.RevokedAt)
	f.Record(t, f.NewCertificate(t, "a.example", recent))
	identity, err = s.Identity(t.Context(), "a.example")
	check(t, err)
	equal(t, "identity with a new certificate", time.Time{}, identity.RevokedAt)
	equal(t, "events", 3, countEvents(t, s, audit.CertificateRevoke))
}

func testHold(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	c := f.Record(t, f.NewCertificate(t, "a.example", Now()))
	revoke := func(reason pki.RevocationReason, after time.Duration) error {
		return s.RevokeCertificate(t.Context(), c.Serial, reason, Now().Add(after), Event(audit.CertificateRevoke))
	}
	release := func() error { return s.ReleaseCertificate(t.Context(), c.Serial, Event(audit.CertificateRelease)) }
	state := func(status pki.CertificateStatus, at time.Time, reason pki.RevocationReason, revoked int64) {
		t.Helper()
		got, err := s.Certificate(t.Context(), c.Serial)
		check(t, err)
		equal(t, "certificate", []any{status, at, reason}, []any{got.Status(Now()), got.RevokedAt, got.Reason})
		identity, err := s.Identity(t.Context(), "a.example")
		check(t, err)
		equal(t, "identity", at, identity.RevokedAt)
		list, err := s.Revoked(t.Context(), f.CA.ID, Now())
		check(t, err)
		equal(t, "entries", revoked, int64(len(list)))
		stats, err := s.Stats(t.Context())
		check(t, err)
		equal(t, "counted", revoked, stats.Revoked)
		found, err := s.Certificates(t.Context(), pki.CertificateFilter{Status: status, Limit: 10}, Now())
		check(t, err)
		equal(t, "found by its status", 1, len(found))
	}
	refused(t, release(), fault.Conflict)
	refused(t, s.ReleaseCertificate(t.Context(), f.NewCertificate(t, "b.example", Now()).Serial, Event(audit.CertificateRelease)), fault.NotFound)
	before, err := s.RevocationVersion(t.Context(), f.CA.ID)
	check(t, err)
	check(t, revoke(pki.CertificateHold, 0))
	refused(t, revoke(pki.CertificateHold, time.Minute), fault.AlreadyRevoked)
	state(pki.CertificateHeld, Now(), pki.CertificateHold, 1)
	check(t, release())
	state(pki.CertificateValid, time.Time{}, 0, 0)
	refused(t, release(), fault.Conflict)
	check(t, revoke(pki.CertificateHold, time.Minute))
	check(t, revoke(pki.KeyCompromise, time.Hour))
	state(pki.CertificateRevoked, Now().Add(time.Minute), pki.KeyCompromise, 1)
	refused(t, release(), fault.Conflict)
	refused(t, revoke(pki.Superseded, 0), fault.AlreadyRevoked)
	version, err := s.RevocationVersion(t.Context(), f.CA.ID)
	check(t, err)
	equal(t, "versions passed", int64(4), version-before)
	equal(t, "events", []int{3, 1}, []int{countEvents(t, s, audit.CertificateRevoke), countEvents(t, s, audit.CertificateRelease)})
}

func testRevocationRace(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	c := f.Record(t, f.NewCertificate(t, "a.example", Now()))
	won := parallel(16, func(i int) bool {
		err := s.RevokeCertificate(t.Context(), c.Serial, pki.Superseded, Now(), Event(audit.CertificateRevoke))
		if err != nil {
			refused(t, err, fault.AlreadyRevoked)
		}
		return err == nil
	})
	equal(t, "revocations", 1, won)
	equal(t, "events", 1, countEvents(t, s, audit.CertificateRevoke))
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "counted", int64(1), stats.Revoked)
}

func testStats(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	f.Record(t, f.NewCertificate(t, "a.example", Now()))
	f.Record(t, f.NewCertificate(t, "a.example", Now()))
	f.Record(t, f.NewCertificate(t, "b.example", Now()))
	check(t, s.CreateOrder(t.Context(), f.NewOrder(t, Now(), "c.example"), Event(audit.OrderCreate)))
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "stats", pki.Stats{Certificates: 3, Identities: 2, Accounts: 1, Orders: 1}, stats)
}

// What has expired is not counted any more, a thirty-second part of its lifetime later at most.
func testLive(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	other := NewCA(t, "other")
	check(t, s.CreateCA(t.Context(), &other, &pki.SealedKey{ID: other.KeyID}, Event(audit.CACreate)))
	lives := []time.Duration{time.Hour, time.Hour + time.Second, 2 * time.Hour, 24 * time.Hour, 400 * 24 * time.Hour}
	for i, life := range lives {
		c := f.NewCertificate(t, fmt.Sprintf("%d.example", i), Now())
		c.NotBefore, c.NotAfter = Now(), Now().Add(life)
		f.Record(t, c)
	}
	elsewhere := f.NewCertificate(t, "elsewhere.example", Now())
	elsewhere.CAID = other.ID
	f.Record(t, elsewhere)
	live := func(ca pki.CAID, after time.Duration) int64 {
		n, err := s.LiveCertificates(t.Context(), ca, Now().Add(after))
		check(t, err)
		return n
	}
	for after, want := range map[time.Duration]int64{
		0: 5, time.Hour: 5, 62 * time.Minute: 3, 124 * time.Minute: 2, 24 * time.Hour: 2, 24*time.Hour + 45*time.Minute: 1,
		400 * 24 * time.Hour: 1, 413 * 24 * time.Hour: 0,
	} {
		equal(t, "live after "+after.String(), want, live(f.CA.ID, after))
	}
	equal(t, "live of the other CA", int64(1), live(other.ID, 0))
	equal(t, "live of no CA", int64(0), live("nobody", 0))
	check(t, s.ForgetExpired(t.Context(), f.CA.ID, Now().Add(49*time.Hour)))
	equal(t, "live of what expired", int64(1), live(f.CA.ID, 0)) // of 400 days
	equal(t, "live later", int64(1), live(f.CA.ID, 48*time.Hour))
	equal(t, "live of the other CA", int64(1), live(other.ID, 0))
	stats, err := s.Stats(t.Context())
	check(t, err)
	equal(t, "certificates", int64(6), stats.Certificates)
}

func testReopen(t *testing.T, db Database) {
	s := db.Open(t)
	f := Seed(t, s)
	c := f.Record(t, f.NewCertificate(t, Workload("demo", "web").String(), Now()))
	check(t, s.Close())
	f.Store = db.Open(t)
	got, err := f.Store.Certificate(t.Context(), c.Serial)
	check(t, err)
	equal(t, "certificate", c, got)
	next := f.Record(t, f.NewCertificate(t, c.Identity, Now()))
	all, err := f.Store.Certificates(t.Context(), pki.CertificateFilter{Identity: c.Identity}, Now())
	check(t, err)
	equal(t, "certificates", []pki.Certificate{*next, *c}, all)
}

func testContext(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := f.NewCertificate(t, "a.example", Now())
	if _, _, err := s.RecordCertificate(ctx, c, pki.SPIFFEID{}, Event(audit.CertificateIssue)); err == nil {
		t.Error("a certificate was stored for a request that had ended")
	}
	if err := s.RecordEvent(ctx, Event(audit.OrderRefuse)); err == nil {
		t.Error("an event was stored for a request that had ended")
	}
	equal(t, "events", 0, countEvents(t, s, audit.CertificateIssue)+countEvents(t, s, audit.OrderRefuse))
}

func testClosed(t *testing.T, s *store.Store) {
	check(t, s.Ping(t.Context()))
	check(t, s.Close())
	refused(t, s.RecordEvent(t.Context(), Event(audit.OrderRefuse)), fault.Unavailable)
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a closed store is healthy")
	}
}
