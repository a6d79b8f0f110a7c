package auth_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

const password = "correct horse battery"

// person makes a user with a password.
func (d *door) person(t *testing.T, name string, role pki.Role, sees ...string) *pki.User {
	t.Helper()
	user, err := d.CreateUser(t.Context(), auth.NewUser{Name: name, Password: password, Role: role, Sees: sees}, audit.By{})
	if err != nil {
		t.Fatal(err)
	}
	return user
}

func TestSession(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	ann := d.person(t, "ann", pki.RoleNamespaceViewer, "spiffe://cluster.local/ns/shop/*")
	secret, session, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	who, err := d.Session(t.Context(), secret)
	if err != nil || who.User != "ann" || who.Role != pki.RoleNamespaceViewer || len(who.Sees) != 1 || who.SessionID != session.ID || who.TokenID != "" {
		t.Fatalf("principal %+v, %v", who, err)
	}
	if actor := who.By().Actor; actor.Kind != audit.User || actor.ID != "ann" {
		t.Errorf("actor %+v", actor)
	}
	text, err := json.Marshal(d.store.events)
	if err != nil || strings.Contains(string(text)+d.log.String(), secret) || strings.Contains(string(text), password) {
		t.Errorf("a secret is in the events or the log: %v", err)
	}

	// What the user may do counts now, not when the session began.
	changed := *ann
	changed.Role, changed.Sees = pki.RoleAuditor, nil
	if _, err = d.ChangeUser(t.Context(), ann, &changed, "", audit.By{}); err != nil {
		t.Fatal(err)
	}
	if who, err = d.Session(t.Context(), secret); err != nil || who.Role != pki.RoleAuditor || who.Sees != nil {
		t.Errorf("principal %+v, %v", who, err)
	}
	d.now = d.now.Add(59 * time.Minute)
	if _, err := d.Session(t.Context(), secret); err != nil {
		t.Errorf("before it is idle for long: %v", err)
	}
	if live, err := d.Sessions(t.Context(), "ann"); err != nil || len(live) != 1 {
		t.Errorf("%d sessions, %v", len(live), err)
	}
	if err := d.EndSession(t.Context(), session.ID, "ann", who.By()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Session(t.Context(), secret); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("after its end: %v", err)
	}
}

func TestRefusesSessions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*testing.T, *door, *pki.User){
		"refuses/idle": func(_ *testing.T, d *door, _ *pki.User) { d.now = d.now.Add(time.Hour + time.Second) },
		"refuses/expired": func(t *testing.T, d *door, _ *pki.User) {
			for range 12 { // in use all the time
				d.now = d.now.Add(time.Hour)
				for _, session := range d.store.sessions {
					if err := d.store.TouchSession(t.Context(), session.ID, d.now); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
		"refuses/suspended-user": func(_ *testing.T, d *door, _ *pki.User) { d.store.users["ann"].State = pki.Suspended },
		"refuses/deleted-user":   func(_ *testing.T, d *door, _ *pki.User) { delete(d.store.users, "ann") },
		"refuses/other-password": func(t *testing.T, d *door, ann *pki.User) {
			if _, err := d.SetPassword(t.Context(), ann, "another good password", pki.UserEffects{}, audit.By{}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			d.person(t, "ann", pki.RoleAdmin)
			secret, _, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1"))
			if err != nil {
				t.Fatal(err)
			}
			ann, err := d.User(t.Context(), "ann")
			if err != nil {
				t.Fatal(err)
			}
			change(t, d, ann)
			if who, err := d.Session(t.Context(), secret); !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%+v, %v", who, err)
			}
		})
	}
	d := newDoor(t)
	for _, secret := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 1<<20), strings.Repeat("+", 43)} {
		if _, err := d.Session(t.Context(), secret); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%.50q: %v", secret, err)
		}
	}
	if event := d.store.events[len(d.store.events)-1]; event.Action != audit.SessionRefuse || event.Outcome != audit.Refused {
		t.Errorf("event %+v", event)
	}
}

func TestGuessingLocksAUser(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.person(t, "ann", pki.RoleAdmin)
	address := 0
	try := func(with string) error {
		address++ // each from elsewhere, so that only the user's lock counts
		_, _, err := d.SignIn(t.Context(), "ann", with, "", from("2001:db8:"+strings.Repeat("1", address%4+1)+":"+string(rune('a'+address%6))+"::1"))
		return err
	}
	for range 5 {
		if err := try("wrong wrong wrong"); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(err)
		}
	}
	locked := try(password)
	if !fault.Is(locked, fault.Unauthenticated) || locked.Error() != try("wrong").Error() {
		t.Errorf("the right password while locked: %v", locked)
	}
	d.now = d.now.Add(31 * time.Second)
	if err := try("wrong wrong wrong"); !fault.Is(err, fault.Unauthenticated) {
		t.Error(err)
	}
	d.now = d.now.Add(31 * time.Second)
	if err := try(password); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("the second lock is longer than the first: %v", err)
	}
	ann, err := d.User(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.UnlockUser(t.Context(), ann, audit.By{}); err != nil {
		t.Fatal(err)
	}
	if err := try(password); err != nil {
		t.Errorf("after an administrator's help: %v", err)
	}
	if ann, err := d.User(t.Context(), "ann"); err != nil || ann.Failures != 0 || ann.LastSignInAt.IsZero() {
		t.Errorf("user %+v, %v", ann, err)
	}
	for range 40 {
		_ = try("wrong wrong wrong")
		d.now = d.now.Add(time.Hour)
	}
	if ann, err := d.User(t.Context(), "ann"); err != nil || ann.LockedUntil.After(d.now) {
		t.Errorf("locked for longer than %v: %v, %v", d.now, ann.LockedUntil, err)
	}
}

func TestExternalUsers(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	known := auth.ExternalUser{Issuer: "https://idp.example", Subject: "1", Name: "eve@example.com", Role: pki.RoleOperator}
	user, err := d.UpsertExternalUser(t.Context(), known, audit.By{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.SignIn(t.Context(), user.Name, "", "", from("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("without a password: %v", err)
	}
	known.Role = pki.RoleAuditor
	if user, err = d.UpsertExternalUser(t.Context(), known, audit.By{}); err != nil || user.Role != pki.RoleAuditor {
		t.Errorf("%+v, %v", user, err)
	}
	d.store.users[user.Name].State = pki.Suspended
	if user, err = d.UpsertExternalUser(t.Context(), known, audit.By{}); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.StartSession(t.Context(), user, audit.By{}); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("a suspended user gets a session: %v", err)
	}
	changed := *user
	changed.Role = pki.RoleAdmin
	if _, err := d.ChangeUser(t.Context(), user, &changed, "", audit.By{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a role that the provider gives is changed here: %v", err)
	}
}

func TestRefusesBadUsers(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for name, request := range map[string]auth.NewUser{
		"refuses/role":            {Role: "king"},
		"refuses/old-role":        {Role: "viewer"},
		"refuses/requester":       {Role: pki.RoleRequester},
		"refuses/sees-nothing":    {Role: pki.RoleNamespaceViewer},
		"refuses/sees-everything": {Role: pki.RoleNamespaceViewer, Sees: []string{"*"}},
		"refuses/pattern":         {Role: pki.RoleNamespaceViewer, Sees: []string{"spiffe://*/ns/shop"}},
		"refuses/admin-sees":      {Role: pki.RoleAdmin, Sees: []string{"spiffe://a/*"}},
		"refuses/email":           {Role: pki.RoleAdmin, Email: "ann"},
		"refuses/name":            {Role: pki.RoleAdmin, DisplayName: "Ann\n"},
	} {
		request.Name, request.Password = "ann", password
		if _, err := d.CreateUser(t.Context(), request, audit.By{}); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(d.store.users) != 0 {
		t.Error("a refused user was stored")
	}
}
