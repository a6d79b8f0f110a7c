package auth_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// door is an Authenticator with what is around it.
type door struct {
	*auth.Authenticator
	store *drawer
	now   time.Time
	log   bytes.Buffer
}

func newDoor(t *testing.T) *door {
	t.Helper()
	return newDoorWith(t, func(*auth.Config) {})
}

func newDoorWith(t *testing.T, change func(*auth.Config)) *door {
	t.Helper()
	d := &door{
		store: &drawer{tokens: map[[32]byte]*pki.APIToken{}, users: map[string]*pki.User{}, sessions: map[[32]byte]*pki.Session{}, places: map[[2]string]*place{}, recovery: map[string][][32]byte{}, steps: map[string]int64{}},
		now:   time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC),
	}
	config := auth.Config{
		Store: d.store, Vault: newSafe(t), Now: func() time.Time { return d.now }, Random: rand.Reader, Logger: slog.New(slog.NewTextHandler(&d.log, nil)),
	}
	change(&config)
	a, err := auth.New(config)
	if err != nil {
		t.Fatal(err)
	}
	d.Authenticator = a
	return d
}

func from(address string) audit.By { return audit.By{Client: pki.Client{Address: address}} }

func (d *door) token(t *testing.T, request auth.NewToken) (string, *pki.APIToken) {
	t.Helper()
	secret, token, err := d.CreateToken(t.Context(), request, audit.By{})
	if err != nil {
		t.Fatal(err)
	}
	return secret, token
}

func TestTokens(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	secret, token := d.token(t, auth.NewToken{Name: "ci", Role: pki.RoleRequester, ProfileID: "p-1"})
	if len(secret) != 47 || !strings.HasPrefix(secret, "clt_") {
		t.Errorf("secret of %d characters", len(secret))
	}
	p, err := d.Token(t.Context(), secret, audit.By{})
	if err != nil || p.TokenID != token.ID || p.Name != "ci" || p.Role != pki.RoleRequester || p.ProfileID != "p-1" {
		t.Errorf("principal %+v, %v", p, err)
	}
	text, err := json.Marshal(d.store.events)
	if err != nil || strings.Contains(string(text)+d.log.String(), secret) {
		t.Errorf("the secret is in the events or the log: %v", err)
	}
	if by := p.By(); by.Actor.Kind != audit.Token || by.Actor.ID != string(token.ID) {
		t.Errorf("actor %+v", by.Actor)
	}
}

func TestRefusesTokens(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	secret, _ := d.token(t, auth.NewToken{Name: "short", Role: pki.RoleAdmin, ExpiresAt: d.now.Add(time.Hour)})
	revoked, token := d.token(t, auth.NewToken{Name: "revoked", Role: pki.RoleAdmin})
	if err := d.RevokeToken(t.Context(), token, audit.By{}); err != nil {
		t.Fatal(err)
	}
	d.now = d.now.Add(time.Hour - time.Second)
	if _, err := d.Token(t.Context(), secret, audit.By{}); err != nil {
		t.Errorf("a second before it expires: %v", err)
	}
	d.now = d.now.Add(time.Second)
	for name, bearer := range map[string]string{
		"refuses/expired":    secret,
		"refuses/revoked":    revoked,
		"refuses/empty":      "",
		"refuses/prefix":     "clt_",
		"refuses/cut":        secret[:46],
		"refuses/longer":     secret + "A",
		"refuses/no-prefix":  secret[4:],
		"refuses/upper-case": "CLT_" + secret[4:],
		"refuses/alphabet":   "clt_" + strings.Repeat("+", 43),
		"refuses/trailing":   "clt_" + strings.Repeat("A", 42) + "B", // bits that base64 leaves unused are set
		"refuses/unknown":    "clt_" + strings.Repeat("A", 43),
		"refuses/huge":       strings.Repeat("A", 1<<20),
	} {
		if _, err := d.Token(t.Context(), bearer, audit.By{}); !fault.Is(err, fault.Unauthenticated) || (len(bearer) > 4 && strings.Contains(err.Error(), bearer)) {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	d.store.fails = errors.New("the disk burns")
	if _, err := d.Token(t.Context(), "clt_"+strings.Repeat("A", 43), audit.By{}); fault.Is(err, fault.Unauthenticated) || err == nil {
		t.Errorf("a database that is away must not look like a wrong token: %v", err)
	}
}

func TestLastUseIsKeptToWithinAMinute(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	secret, _ := d.token(t, auth.NewToken{Name: "x", Role: pki.RoleAuditor})
	for range 10 {
		if _, err := d.Token(t.Context(), secret, audit.By{}); err != nil {
			t.Fatal(err)
		}
		d.now = d.now.Add(20 * time.Second)
	}
	if d.store.touch != 4 {
		t.Errorf("written %d times in 200 seconds, want 4", d.store.touch)
	}
}

func TestRefusesNewTokens(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for name, request := range map[string]auth.NewToken{
		"refuses/no-name":              {Role: pki.RoleAdmin},
		"refuses/role":                 {Name: "x", Role: "king"},
		"refuses/no-role":              {Name: "x"},
		"refuses/requester-of-nothing": {Name: "x", Role: pki.RoleRequester},
		"refuses/admin-of-one-profile": {Name: "x", Role: pki.RoleAdmin, ProfileID: "p"},
		"refuses/past":                 {Name: "x", Role: pki.RoleAdmin, ExpiresAt: d.now},
	} {
		if _, _, err := d.CreateToken(t.Context(), request, audit.By{}); !fault.Is(err, fault.Malformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(d.store.tokens) != 0 {
		t.Error("a refused token was stored")
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	const password = "correct horse battery"
	if _, err := d.CreateUser(t.Context(), auth.NewUser{Name: "ann", Password: password, Role: pki.RoleAdmin}, audit.By{}); err != nil {
		t.Fatal(err)
	}
	if phc := d.store.users["ann"].PasswordHash; !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Errorf("hash %q", phc)
	}
	secret, token, err := d.Login(t.Context(), "ann", password, "", from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	if token.Role != pki.RoleAdmin || !token.ExpiresAt.Equal(d.now.Add(12*time.Hour)) || token.Name != "login-ann" {
		t.Errorf("token %+v", token)
	}
	if _, err := d.Token(t.Context(), secret, audit.By{}); err != nil {
		t.Error(err)
	}
	for name, pair := range map[string][2]string{
		"refuses/password":    {"ann", "wrong wrong wrong"},
		"refuses/prefix":      {"ann", password[:12]},
		"refuses/empty":       {"ann", ""},
		"refuses/long":        {"ann", strings.Repeat(password, 1000)},
		"refuses/nobody":      {"bob", password},
		"refuses/steering":    {"ann\x1b[2J", password},
		"refuses/no-user":     {"", ""},
		"refuses/decoy-empty": {"bob", ""},
		"refuses/wrong field": {password, ""},
	} {
		_, _, err := d.Login(t.Context(), pair[0], pair[1], "", from("192.0.2.2"))
		if !fault.Is(err, fault.Unauthenticated) || fault.From(err).Public != "user name or password is wrong" {
			t.Errorf("%s: %v", name, err)
		}
	}
	last := d.store.events[len(d.store.events)-1]
	if last.Action != audit.LoginRefuse || last.Outcome != audit.Refused || last.Client.Address != "192.0.2.2" {
		t.Errorf("event %+v", last)
	}
	text, err := json.Marshal(d.store.events)
	if err != nil || strings.Contains(string(text), password) || strings.Contains(string(text), `\u001b`) {
		t.Errorf("events %s, %v", text, err)
	}
}

// Whoever cannot have a turn soon is told so, instead of hanging behind all who came before.
func TestLoginWhileOthersSignIn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		release := auth.Occupy(d.Authenticator)
		began := time.Now()
		_, _, err := d.Login(t.Context(), "ann", "correct horse battery", "", from("192.0.2.1"))
		if !fault.Is(err, fault.Unavailable) || fault.From(err).RetryAfter <= 0 || time.Since(began) > 5*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		release()
	})
}

func TestLoginIsThrottled(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	if _, err := d.CreateUser(t.Context(), auth.NewUser{Name: "ann", Password: "correct horse battery", Role: pki.RoleAdmin}, audit.By{}); err != nil {
		t.Fatal(err)
	}
	try := func(address, password string) error {
		name := "ann"
		if password != "correct horse battery" {
			name = "nobody" // whose failures lock nobody
		}
		_, _, err := d.Login(t.Context(), name, password, "", from(address))
		return err
	}
	// From addresses of one IPv6 network, which count as one.
	for i := range 10 {
		if err := try(fmt.Sprintf("2001:db8::%d", i), "wrong wrong wrong"); !fault.Is(err, fault.Unauthenticated) {
			t.Fatalf("attempt %d: %v", i, err)
		}
	}
	err := try("2001:db8::ffff", "correct horse battery")
	if !fault.Is(err, fault.RateLimited) || fault.From(err).RetryAfter != 6*time.Second {
		t.Errorf("attempt 11: %v", err)
	}
	if err := try("2001:db8:0:1::1", "correct horse battery"); err != nil {
		t.Errorf("from elsewhere, where nobody has tried: %v", err)
	}
	d.now = d.now.Add(6 * time.Second)
	if err := try("2001:db8::1", "correct horse battery"); err != nil {
		t.Errorf("after the wait: %v", err)
	}
	if err := try("2001:db8::1", "wrong wrong wrong"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("whoever has signed in starts anew: %v", err)
	}
}

func TestRefusesUsers(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for name, pair := range map[string][2]string{
		"refuses/name":     {"Ann", "correct horse battery"},
		"refuses/short":    {"ann", "hunter2"},
		"refuses/too-long": {"ann", strings.Repeat("x", 1025)},
	} {
		if _, err := d.CreateUser(t.Context(), auth.NewUser{Name: pair[0], Password: pair[1], Role: pki.RoleAdmin}, audit.By{}); !fault.Is(err, fault.Malformed) || strings.Contains(err.Error(), pair[1]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.store.users["eve"] = &pki.User{Name: "eve", PasswordHash: "$argon2id$v=19$m=4294967295,t=1,p=1$AAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
	if _, _, err := d.Login(t.Context(), "eve", "correct horse battery", "", from("")); err == nil || fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a stored hash that would take 4 TiB: %v", err)
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	want := map[pki.Role]map[auth.Access]bool{
		pki.RoleAdmin: {
			auth.Inventory: true, auth.Read: true, auth.ReadAccess: true, auth.Request: true, auth.Operate: true, auth.Administer: true, auth.Self: true,
		},
		pki.RoleOperator:        {auth.Inventory: true, auth.Read: true, auth.Request: true, auth.Operate: true, auth.Self: true},
		pki.RoleAuditor:         {auth.Inventory: true, auth.Read: true, auth.ReadAccess: true, auth.Self: true},
		pki.RoleNamespaceViewer: {auth.Inventory: true, auth.Self: true},
		pki.RoleRequester:       {auth.Request: true, auth.Self: true},
		"":                      {},
	}
	for role, allowed := range want {
		p := &auth.Principal{Role: role, ProfileID: "mine"}
		for _, access := range auth.Accesses() {
			if got := p.Check(access) == nil; got != allowed[access] {
				t.Errorf("role %q, access %s: %t", role, access, got)
			}
		}
		if got := p.RequestUnder(&pki.Profile{ID: "mine"}) == nil; got != allowed[auth.Request] {
			t.Errorf("role %q requests under its profile: %t", role, got)
		}
		if got := p.RequestUnder(&pki.Profile{ID: "other"}) == nil; got != (role == pki.RoleAdmin || role == pki.RoleOperator) {
			t.Errorf("role %q requests under another profile: %t", role, got)
		}
	}
	if p := auth.PrincipalOf(t.Context()); p.Check(auth.Self) == nil || p.By().Actor.Kind != audit.Nobody {
		t.Errorf("a context without a principal: %+v", p)
	}
}

// BenchmarkToken is what each request of the API pays to find out who calls, without the database.
func BenchmarkToken(b *testing.B) {
	d := &door{store: &drawer{tokens: map[[32]byte]*pki.APIToken{}}, now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)}
	a, err := auth.New(auth.Config{Store: d.store, Vault: newSafe(b), Now: func() time.Time { return d.now }, Random: rand.Reader})
	if err != nil {
		b.Fatal(err)
	}
	secret, _, err := a.CreateToken(b.Context(), auth.NewToken{Name: "x", Role: pki.RoleAdmin}, audit.By{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := a.Token(b.Context(), secret, audit.By{}); err != nil {
			b.Fatal(err)
		}
	}
}
