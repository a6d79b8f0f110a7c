package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func testSettings(t *testing.T, s *store.Store) {
	_, err := s.Setting(t.Context(), "vault")
	refused(t, err, fault.NotFound)
	for range 2 {
		stored, err := s.PutSettingOnce(t.Context(), "vault", []byte("first"))
		check(t, err)
		equal(t, "setting", "first", string(stored))
	}
	stored, err := s.PutSettingOnce(t.Context(), "vault", []byte("second"))
	check(t, err)
	equal(t, "setting put again", "first", string(stored))
	stored, err = s.Setting(t.Context(), "vault")
	check(t, err)
	equal(t, "setting read", "first", string(stored))
}

func testSealKeys(t *testing.T, s *store.Store) {
	keys := []pki.SealKey{{ID: 1, Sealed: []byte("a"), CreatedAt: Now()}, {ID: 1<<32 - 1, Sealed: []byte("b"), CreatedAt: Now()}}
	for _, key := range keys {
		check(t, s.AddSealKey(t.Context(), key))
	}
	refused(t, s.AddSealKey(t.Context(), keys[0]), fault.Conflict)
	got, err := s.SealKeys(t.Context())
	check(t, err)
	equal(t, "ring", keys, got)
}

func testCAs(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	again := NewCA(t, f.CA.Name)
	refused(t, s.CreateCA(t.Context(), &again, &pki.SealedKey{ID: again.KeyID}, Event(audit.CACreate)), fault.Conflict)
	_, err := s.SealedKey(t.Context(), again.KeyID)
	refused(t, err, fault.NotFound)
	if err := s.CreateCA(t.Context(), &again, nil, Event(audit.CACreate)); err == nil {
		t.Error("a CA without a key was stored")
	}
	key, err := s.SealedKey(t.Context(), f.Key.ID)
	check(t, err)
	equal(t, "key", &f.Key, key)

	was := f.CA.UpdatedAt
	changed := f.CA
	changed.State, changed.UpdatedAt = pki.Suspended, Now().Add(time.Hour)
	changed.Settings.OCSPURLs = []string{"http://ocsp.example"}
	check(t, s.UpdateCA(t.Context(), &changed, was, Event(audit.CASuspend)))
	refused(t, s.UpdateCA(t.Context(), &f.CA, was, Event(audit.CAUpdate)), fault.Conflict)
	absent := NewCA(t, "absent")
	refused(t, s.UpdateCA(t.Context(), &absent, was, Event(audit.CAUpdate)), fault.NotFound)
	all, err := s.CAs(t.Context())
	check(t, err)
	equal(t, "CAs", []pki.CA{changed}, all)

	below := NewCA(t, "below")
	below.ParentID = f.CA.ID
	check(t, s.CreateCA(t.Context(), &below, &pki.SealedKey{ID: below.KeyID}, Event(audit.CACreate)))
	before, err := s.RevocationVersion(t.Context(), f.CA.ID)
	check(t, err)
	created := below.UpdatedAt
	below.State, below.RevokedAt, below.Reason, below.UpdatedAt = pki.Revoked, Now(), pki.CACompromise, Now().Add(time.Hour)
	check(t, s.UpdateCA(t.Context(), &below, created, Event(audit.CARevoke)))
	all, err = s.CAs(t.Context())
	check(t, err)
	at := slices.IndexFunc(all, func(ca pki.CA) bool { return ca.ID == below.ID })
	equal(t, "revoked CA", below, all[at])
	version, err := s.RevocationVersion(t.Context(), f.CA.ID)
	check(t, err)
	equal(t, "versions passed above", int64(1), version-before)

	other := NewCA(t, "other")
	other.Certificate, other.State = nil, pki.Pending
	check(t, s.CreateCA(t.Context(), &other, &pki.SealedKey{ID: other.KeyID}, Event(audit.CACreate)))
	other.Name = f.CA.Name
	refused(t, s.UpdateCA(t.Context(), &other, other.UpdatedAt, Event(audit.CAUpdate)), fault.Conflict)
	equal(t, "events of updates", 0, countEvents(t, s, audit.CAUpdate))
	testCRLNumbers(t, s, f)
}

func testCRLNumbers(t *testing.T, s *store.Store, f *Fixture) {
	t.Helper()
	for want := range int64(3) {
		number, err := s.NextCRLNumber(t.Context(), f.CA.ID)
		check(t, err)
		equal(t, "CRL number", want+1, number)
	}
	_, err := s.NextCRLNumber(t.Context(), "none")
	refused(t, err, fault.NotFound)
	_, err = s.RevocationVersion(t.Context(), "none")
	refused(t, err, fault.NotFound)
}

func testProfiles(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	same := f.NewProfile(t, f.Profile.Name)
	refused(t, s.CreateProfile(t.Context(), &same, Event(audit.ProfileCreate)), fault.Conflict)
	stray := f.NewProfile(t, "stray")
	stray.IssuingCA = "none"
	refused(t, s.CreateProfile(t.Context(), &stray, Event(audit.ProfileCreate)), fault.Conflict)

	changed := f.Profile
	changed.Name, changed.State, changed.UpdatedAt = "mesh", pki.Suspended, Now().Add(time.Minute)
	changed.Rules.MaxNames = 3
	check(t, s.UpdateProfile(t.Context(), &changed, Event(audit.ProfileUpdate)))
	refused(t, s.UpdateProfile(t.Context(), &changed, Event(audit.ProfileUpdate)), fault.Conflict)
	changed.Version = 2
	all, err := s.Profiles(t.Context())
	check(t, err)
	equal(t, "profiles", []pki.Profile{changed}, all)

	second := f.NewProfile(t, "a-second")
	check(t, s.CreateProfile(t.Context(), &second, Event(audit.ProfileCreate)))
	second.Name = changed.Name
	refused(t, s.UpdateProfile(t.Context(), &second, Event(audit.ProfileUpdate)), fault.Conflict)
	check(t, s.DeleteProfile(t.Context(), second.ID, Event(audit.ProfileDelete)))
	refused(t, s.DeleteProfile(t.Context(), second.ID, Event(audit.ProfileDelete)), fault.NotFound)
	refused(t, s.UpdateProfile(t.Context(), &second, Event(audit.ProfileUpdate)), fault.NotFound)
	equal(t, "events of deletion", 1, countEvents(t, s, audit.ProfileDelete))
	equal(t, "events of update", 1, countEvents(t, s, audit.ProfileUpdate))
}

func testProfileInUse(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	f.Record(t, f.NewCertificate(t, Workload("demo", "web").String(), Now()))
	f.Record(t, f.NewCertificate(t, Workload("demo", "db").String(), Now()))
	err := s.DeleteProfile(t.Context(), f.Profile.ID, Event(audit.ProfileDelete))
	refused(t, err, fault.Conflict)
	for _, use := range []string{"istio", "1 credential", "1 account", "2 certificates"} {
		if !strings.Contains(fault.From(err).Public, use) {
			t.Errorf("refusal %q does not say %q", fault.From(err).Public, use)
		}
	}
}

func testCredentials(t *testing.T, s *store.Store) {
	f := Seed(t, s)
	same := f.NewCredential(t, f.Credential.Name)
	refused(t, s.CreateCredential(t.Context(), &same, Event(audit.CredentialCreate)), fault.Conflict)
	stray := f.NewCredential(t, "stray")
	stray.ProfileID = "none"
	refused(t, s.CreateCredential(t.Context(), &stray, Event(audit.CredentialCreate)), fault.NotFound)
	plain := f.NewCredential(t, "plain")
	plain.Limit, plain.ExpiresAt, plain.CreatedAt = nil, time.Time{}, Now().Add(time.Second)
	check(t, s.CreateCredential(t.Context(), &plain, Event(audit.CredentialCreate)))

	check(t, s.TouchCredential(t.Context(), plain.ID, Now().Add(time.Hour)))
	check(t, s.TouchCredential(t.Context(), plain.ID, Now()))
	for range 2 {
		check(t, s.RevokeCredential(t.Context(), f.Credential.ID, Now(), Event(audit.CredentialRevoke)))
	}
	refused(t, s.RevokeCredential(t.Context(), "none", Now(), Event(audit.CredentialRevoke)), fault.NotFound)
	all, err := s.Credentials(t.Context())
	check(t, err)
	revoked := f.Credential
	revoked.State, revoked.RevokedAt, revoked.Accounts = pki.Revoked, Now(), 1
	plain.LastUsedAt = Now().Add(time.Hour)
	equal(t, "credentials", []pki.Credential{revoked, plain}, all)
	equal(t, "events of revocation", 1, countEvents(t, s, audit.CredentialRevoke))

	late := f.NewAccount(t, "late")
	_, _, err = s.CreateAccount(t.Context(), &late, 0, Event(audit.AccountCreate))
	refused(t, err, fault.Unauthorized)
}

func testTokens(t *testing.T, s *store.Store) {
	token := &pki.APIToken{
		ID: ID[pki.TokenID](t), Name: "ci", Hash: [32]byte{1, 2, 3}, Role: pki.RoleRequester, ProfileID: "profile",
		State: pki.Active, CreatedAt: Now(), ExpiresAt: Now().Add(time.Hour),
	}
	check(t, s.CreateToken(t.Context(), token, Event(audit.TokenCreate)))
	refused(t, s.CreateToken(t.Context(), token, Event(audit.TokenCreate)), fault.Conflict)
	got, err := s.TokenByHash(t.Context(), token.Hash)
	check(t, err)
	equal(t, "token", token, got)
	_, err = s.TokenByHash(t.Context(), [32]byte{9})
	refused(t, err, fault.NotFound)
	check(t, s.TouchToken(t.Context(), token.ID, Now()))
	for range 2 {
		check(t, s.RevokeToken(t.Context(), token.ID, Event(audit.TokenRevoke)))
	}
	refused(t, s.RevokeToken(t.Context(), "none", Event(audit.TokenRevoke)), fault.NotFound)
	token.State, token.LastUsedAt = pki.Revoked, Now()
	all, err := s.Tokens(t.Context())
	check(t, err)
	equal(t, "tokens", []pki.APIToken{*token}, all)
	equal(t, "events of revocation", 1, countEvents(t, s, audit.TokenRevoke))
}

func testCatalogVersion(t *testing.T, s *store.Store) {
	last, err := s.CatalogVersion(t.Context())
	check(t, err)
	moved := func(what string, want bool) {
		t.Helper()
		now, err := s.CatalogVersion(t.Context())
		check(t, err)
		if (now != last) != want {
			t.Errorf("after %s: catalog version %d, was %d", what, now, last)
		}
		last = now
	}
	f := Seed(t, s)
	moved("creation", true)
	check(t, s.UpdateCA(t.Context(), &f.CA, f.CA.UpdatedAt, Event(audit.CAUpdate)))
	moved("a change of a CA", true)
	check(t, s.UpdateProfile(t.Context(), &f.Profile, Event(audit.ProfileUpdate)))
	moved("a change of a profile", true)
	refused(t, s.UpdateProfile(t.Context(), &f.Profile, Event(audit.ProfileUpdate)), fault.Conflict)
	moved("a refused change", false)
	check(t, s.RevokeCredential(t.Context(), f.Credential.ID, Now(), Event(audit.CredentialRevoke)))
	moved("a revoked credential", true)
	f.Record(t, f.NewCertificate(t, "web.example.com", Now()))
	moved("a certificate", false)
}
