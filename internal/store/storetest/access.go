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
	check(t, s.UpdateUser(ctx, &changed, false, Event(audit.UserUpdate)))
	refused(t, s.UpdateUser(ctx, &changed, false, Event(audit.UserUpdate)), fault.Conflict) // of the version before
	changed.Version++
	got, err = s.User(ctx, ann.Name)
	check(t, err)
	equal(t, "changed user", &changed, got)
	refused(t, s.UpdateUser(ctx, user("nobody", pki.RoleAdmin), false, Event(audit.UserUpdate)), fault.NotFound)

	check(t, s.NoteSignIn(ctx, "admin", 5, Now().Add(time.Minute), time.Time{}, nil))
	check(t, s.NoteSignIn(ctx, "ann@example.com", 0, time.Time{}, Now(), new(Event(audit.LoginRefuse))))
	equal(t, "events of refusals", 1, countEvents(t, s, audit.LoginRefuse))
	got, err = s.User(ctx, "admin")
	check(t, err)
	if got.Failures != 5 || !got.LockedUntil.Equal(Now().Add(time.Minute)) || !got.LastSignInAt.IsZero() {
		t.Errorf("after failures: %+v", got)
	}
}

// testLastAdministrator finds that somebody can always administer the server.
func testLastAdministrator(t *testing.T, s *store.Store) {
	ctx := t.Context()
	check(t, s.CreateUser(ctx, user("admin", pki.RoleAdmin), Event(audit.UserCreate)))
	check(t, s.CreateUser(ctx, user("ann", pki.RoleAuditor), Event(audit.UserCreate)))
	demoted, suspended := user("admin", pki.RoleAuditor), user("admin", pki.RoleAdmin)
	suspended.State = pki.Suspended
	refused(t, s.UpdateUser(ctx, demoted, false, Event(audit.UserUpdate)), fault.Conflict)
	refused(t, s.UpdateUser(ctx, suspended, false, Event(audit.UserUpdate)), fault.Conflict)
	refused(t, s.DeleteUser(ctx, "admin", Event(audit.UserDelete)), fault.Conflict)
	check(t, s.UpdateUser(ctx, user("ann", pki.RoleAdmin), false, Event(audit.UserUpdate)))
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
	check(t, s.UpdateUser(ctx, user("ann", pki.RoleAdmin), true, Event(audit.UserUpdate)))
	all, err = s.Sessions(ctx, "")
	check(t, err)
	equal(t, "sessions after those of one were ended", []pki.Session{*session("c", "bob", 4)}, all)
}
