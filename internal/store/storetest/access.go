package storetest

import (
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
)

func user(name string, role pki.Role) *pki.User {
	return &pki.User{Name: name, PasswordHash: "$argon2id$...", Role: role, State: pki.Active, CreatedAt: Now(), Version: 1}
}

func testUsers(t *testing.T, s *store.Store) {
	ctx := t.Context()
	admin, ann := user("admin", pki.RoleAdmin), user("ann@example.com", pki.RoleNamespaceViewer)
	ann.Sees, ann.Issuer, ann.Subject, ann.PasswordHash = []string{"spiffe://cluster.local/ns/shop/*"}, "https://idp.example", "0815", ""
	for _, u := range []*pki.User{admin, ann} {
		check(t, s.CreateUser(ctx, u, Event(audit.UserCreate)))
	}
	refused(t, s.CreateUser(ctx, admin, Event(audit.UserCreate)), fault.Conflict)
	same := *ann
	same.Name = "other"
	refused(t, s.CreateUser(ctx, &same, Event(audit.UserCreate)), fault.Conflict)
	all, err := s.Users(ctx)
	check(t, err)
	equal(t, "users", []pki.User{*admin, *ann}, all)
	got, err := s.UserBySubject(ctx, "https://idp.example", "0815")
	check(t, err)
	equal(t, "user by subject", ann, got)
	for _, miss := range [][2]string{{"https://idp.example", "4711"}, {"", ""}} {
		_, err = s.UserBySubject(ctx, miss[0], miss[1])
		refused(t, err, fault.NotFound)
	}
	_, err = s.User(ctx, "nobody")
	refused(t, err, fault.NotFound)

	changed := *ann
	changed.Role, changed.Sees, changed.Email = pki.RoleOperator, nil, "ann@example.com"
	check(t, s.UpdateUser(ctx, &changed, pki.UserEffects{}, Event(audit.UserUpdate)))
	refused(t, s.UpdateUser(ctx, &changed, pki.UserEffects{}, Event(audit.UserUpdate)), fault.Conflict) // of the version before
	changed.Version++
	got, err = s.User(ctx, ann.Name)
	check(t, err)
	equal(t, "changed user", &changed, got)
	refused(t, s.UpdateUser(ctx, user("nobody", pki.RoleAdmin), pki.UserEffects{}, Event(audit.UserUpdate)), fault.NotFound)

	twice := func(failures int) time.Duration { return time.Duration(max(0, failures-1)) * time.Minute }
	fail := func(user, network string, ev *audit.Event) {
		check(t, s.NoteFailure(ctx, pki.FailedSignIn{User: user, Network: network, At: Now(), Until: Now().Add(10 * time.Minute)}, twice, ev))
	}
	place := func(user, network string, at time.Time) pki.SignInPlace {
		found, err := s.SignInPlace(ctx, user, network, at)
		check(t, err)
		return found
	}
	const home, elsewhere = "192.0.2.0/32", "198.51.100.7/32"
	check(t, s.NoteSignIn(ctx, "admin", home, Now(), Now().Add(-time.Hour)))
	parallel(8, func(int) bool { fail("admin", elsewhere, nil); return true })
	fail("", elsewhere, new(Event(audit.LoginRefuse)))
	equal(t, "events of refusals", 1, countEvents(t, s, audit.LoginRefuse))
	until := Now().Add(10 * time.Minute)
	equal(t, "elsewhere", pki.SignInPlace{LockedUntil: Now().Add(7 * time.Minute), Failures: 9, Until: until}, place("admin", elsewhere, Now()))
	equal(t, "at home", pki.SignInPlace{Known: true}, place("admin", home, Now()))
	equal(t, "later", pki.SignInPlace{LockedUntil: Now().Add(7 * time.Minute)}, place("admin", elsewhere, until))
	for range 2 {
		fail("admin", home, nil)
	}
	equal(t, "failures at home", pki.SignInPlace{Known: true, LockedUntil: Now().Add(time.Minute), Failures: 2, Until: until}, place("admin", home, Now()))
	got, err = s.User(ctx, "admin")
	check(t, err)
	if got.Failures != 8 || !got.LockedUntil.Equal(Now().Add(7*time.Minute)) || !got.LastSignInAt.Equal(Now()) {
		t.Errorf("after failures: %+v", got)
	}
	check(t, s.UpdateUser(ctx, got, pki.UserEffects{Unlock: true}, Event(audit.UserUpdate)))
	equal(t, "unlocked at home", time.Time{}, place("admin", home, Now()).LockedUntil)
	equal(t, "unlocked elsewhere", time.Time{}, place("admin", elsewhere, Now()).LockedUntil)
	check(t, s.NoteSignIn(ctx, "admin", elsewhere, Now().Add(2*time.Hour), Now().Add(time.Hour)))
	equal(t, "a network that is not used any more", false, place("admin", home, Now()).Known)
}

// testLastAdministrator finds that somebody can always administer the server.
func testLastAdministrator(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("admin", pki.RoleAdmin), Event(audit.UserCreate)))
	check(t, s.CreateUser(ctx, user("ann", pki.RoleAuditor), Event(audit.UserCreate)))
	demoted, suspended := user("admin", pki.RoleAuditor), user("admin", pki.RoleAdmin)
	suspended.State = pki.Suspended
	refused(t, s.UpdateUser(ctx, demoted, pki.UserEffects{}, Event(audit.UserUpdate)), fault.Conflict)
	refused(t, s.UpdateUser(ctx, suspended, pki.UserEffects{}, Event(audit.UserUpdate)), fault.Conflict)
	refused(t, s.DeleteUser(ctx, "admin", Event(audit.UserDelete)), fault.Conflict)
	check(t, s.UpdateUser(ctx, user("ann", pki.RoleAdmin), pki.UserEffects{}, Event(audit.UserUpdate)))
	check(t, s.DeleteUser(ctx, "admin", Event(audit.UserDelete)))
	refused(t, s.DeleteUser(ctx, "admin", Event(audit.UserDelete)), fault.NotFound)
	refused(t, s.DeleteUser(ctx, "ann", Event(audit.UserDelete)), fault.Conflict)
	equal(t, "events of deletion", 1, countEvents(t, s, audit.UserDelete))
}

func session(id, user string, hash byte) *pki.Session {
	return &pki.Session{
		ID: pki.SessionID(id), Hash: [32]byte{hash}, User: user, CreatedAt: Now(), ExpiresAt: Now().Add(time.Hour), LastUsedAt: Now(),
		Client: pki.Client{UserAgent: "Firefox", Address: "192.0.2.1"},
	}
}

func testSessions(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("ann", pki.RoleAdmin), Event(audit.UserCreate)))
	old := session("old", "ann", 1)
	old.ExpiresAt = Now().Add(-time.Second)
	for _, made := range []*pki.Session{old, session("a", "ann", 2), session("b", "ann", 3), session("c", "bob", 4)} {
		check(t, s.CreateSession(ctx, made, Event(audit.SessionCreate)))
	}
	_, err := s.SessionByHash(ctx, old.Hash)
	refused(t, err, fault.NotFound) // forgotten when the next one was made
	got, err := s.SessionByHash(ctx, [32]byte{2})
	check(t, err)
	equal(t, "session", session("a", "ann", 2), got)
	check(t, s.TouchSession(ctx, "a", Now().Add(time.Minute)))
	check(t, s.TouchSession(ctx, "a", Now()))
	used := session("a", "ann", 2)
	used.LastUsedAt = Now().Add(time.Minute)
	all, err := s.Sessions(ctx, "ann")
	check(t, err)
	equal(t, "sessions of one", []pki.Session{*used, *session("b", "ann", 3)}, all)
	all, err = s.Sessions(ctx, "")
	check(t, err)
	equal(t, "sessions of all", 3, len(all))
	for range 2 {
		check(t, s.EndSession(ctx, "b", Event(audit.SessionEnd)))
	}
	equal(t, "events of ends", 1, countEvents(t, s, audit.SessionEnd))
	check(t, s.UpdateUser(ctx, user("ann", pki.RoleAdmin), pki.UserEffects{SignOut: true}, Event(audit.UserUpdate)))
	all, err = s.Sessions(ctx, "")
	check(t, err)
	equal(t, "sessions after those of one were ended", []pki.Session{*session("c", "bob", 4)}, all)
}

// testSignInTokens finds that a token that a sign-in made has the rights that its user has now, and ends with them.
func testSignInTokens(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("admin", pki.RoleAdmin), Event(audit.UserCreate)))
	ann := user("ann", pki.RoleAuditor)
	check(t, s.CreateUser(ctx, ann, Event(audit.UserCreate)))
	made := func(name, of string, hash byte) *pki.APIToken {
		t.Helper()
		token := &pki.APIToken{
			ID: pki.TokenID(name), Name: name, Hash: [32]byte{hash}, User: of, Role: pki.RoleAuditor, State: pki.Active,
			CreatedAt: Now(), ExpiresAt: Now().Add(time.Hour),
		}
		check(t, s.CreateToken(ctx, token, Event(audit.TokenCreate)))
		return token
	}
	is := func(hash byte, role pki.Role, state pki.State, sees ...string) {
		t.Helper()
		got, err := s.TokenByHash(ctx, [32]byte{hash})
		check(t, err)
		equal(t, got.Name, pki.APIToken{Role: role, State: state, Sees: sees}, pki.APIToken{Role: got.Role, State: got.State, Sees: got.Sees})
	}
	a, b, other := made("a", "ann", 1), made("b", "ann", 2), made("other", "", 3)
	all, err := s.Tokens(ctx)
	check(t, err)
	equal(t, "tokens", []pki.APIToken{*a, *b, *other}, all)

	change := func(effects pki.UserEffects) {
		t.Helper()
		check(t, s.UpdateUser(ctx, ann, effects, Event(audit.UserUpdate)))
		ann.Version++
	}
	ann.Role, ann.Sees = pki.RoleNamespaceViewer, []string{"spiffe://cluster.local/ns/shop/*"}
	change(pki.UserEffects{})
	is(1, ann.Role, pki.Active, ann.Sees...)
	is(3, pki.RoleAuditor, pki.Active)
	ann.State = pki.Suspended // even if nobody ended them
	change(pki.UserEffects{})
	is(1, ann.Role, pki.Suspended, ann.Sees...)
	ann.State = pki.Active
	change(pki.UserEffects{SignOut: true, KeepToken: "a"})
	is(1, ann.Role, pki.Active, ann.Sees...)
	is(2, ann.Role, pki.Revoked, ann.Sees...)
	check(t, s.DeleteUser(ctx, "ann", Event(audit.UserDelete)))
	is(1, "", pki.Revoked)
	is(3, pki.RoleAuditor, pki.Active)
	check(t, s.CreateUser(ctx, user("ann", pki.RoleAdmin), Event(audit.UserCreate)))
	is(1, pki.RoleAdmin, pki.Revoked) // of somebody else with the same name

	late := &pki.APIToken{ID: "late", Name: "late", Hash: [32]byte{4}, User: "ann", State: pki.Active, CreatedAt: Now().Add(26 * time.Hour), ExpiresAt: Now().Add(38 * time.Hour)}
	check(t, s.CreateToken(ctx, late, Event(audit.TokenCreate)))
	_, err = s.TokenByHash(ctx, a.Hash)
	refused(t, err, fault.NotFound) // forgotten
	is(3, pki.RoleAuditor, pki.Active)
}

// testKeptSession finds that a change can leave one session.
func testKeptSession(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("ann", pki.RoleAdmin), Event(audit.UserCreate)))
	for i, id := range []string{"a", "b", "c"} {
		check(t, s.CreateSession(ctx, session(id, "ann", byte(i)), Event(audit.SessionCreate)))
	}
	check(t, s.UpdateUser(ctx, user("ann", pki.RoleAdmin), pki.UserEffects{SignOut: true, KeepSession: "b"}, Event(audit.UserUpdate)))
	all, err := s.Sessions(ctx, "ann")
	check(t, err)
	equal(t, "sessions", []pki.Session{*session("b", "ann", 1)}, all)
}

func testSecondFactor(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("ann", pki.RoleAdmin), Event(audit.UserCreate)))
	check(t, s.SetSecondFactor(ctx, "ann", 1, pki.SecondFactor{Sealed: []byte("sealed"), Step: 7, Recovery: [][32]byte{{1}, {2}}}, Event(audit.FactorSet)))
	refused(t, s.SetSecondFactor(ctx, "ann", 1, pki.SecondFactor{Sealed: []byte("other")}, Event(audit.FactorSet)), fault.Conflict)
	got, err := s.User(ctx, "ann")
	check(t, err)
	equal(t, "sealed", "sealed", string(got.TOTP))
	for _, step := range []struct {
		step int64
		want bool
	}{{7, false}, {8, true}, {8, false}, {6, false}, {9, true}} {
		ok, err := s.UseStep(ctx, "ann", step.step)
		check(t, err)
		equal(t, "step", step.want, ok)
	}
	equal(t, "of the same step at once", 1, parallel(8, func(int) bool {
		ok, err := s.UseStep(ctx, "ann", 10)
		check(t, err)
		return ok
	}))
	left := func(want int) {
		t.Helper()
		n, err := s.RecoveryCodes(ctx, "ann")
		check(t, err)
		equal(t, "recovery codes", want, n)
	}
	left(2)
	equal(t, "of the same code at once", 1, parallel(8, func(int) bool {
		ok, err := s.UseRecoveryCode(ctx, "ann", [32]byte{2}, Event(audit.RecoveryCodeUse))
		check(t, err)
		return ok
	}))
	left(1)
	check(t, s.SetRecoveryCodes(ctx, "ann", [][32]byte{{3}, {4}, {5}}, Event(audit.RecoveryCodesMake)))
	left(3)
	check(t, s.SetSecondFactor(ctx, "ann", 0, pki.SecondFactor{}, Event(audit.FactorReset)))
	left(0)
	refused(t, s.SetRecoveryCodes(ctx, "ann", [][32]byte{{3}}, Event(audit.RecoveryCodesMake)), fault.Conflict)
	equal(t, "events of codes that were used", 1, countEvents(t, s, audit.RecoveryCodeUse))
	got, err = s.User(ctx, "ann")
	check(t, err)
	equal(t, "none", true, got.TOTP == nil)
	refused(t, s.SetSecondFactor(ctx, "bob", 0, pki.SecondFactor{}, Event(audit.FactorReset)), fault.NotFound)
}
