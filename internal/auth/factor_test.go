package auth_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base32"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// safe is a vault with a key of its own.
type safe struct{ aead cipher.AEAD }

func newSafe(t testing.TB) *safe {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return &safe{aead}
}

func (s *safe) Seal(purpose, id string, plain []byte) ([]byte, error) {
	return s.aead.Seal(nil, nil, plain, []byte(purpose+"\x00"+id)), nil
}

func (s *safe) Unseal(purpose, id string, sealed []byte) ([]byte, error) {
	return s.aead.Open(nil, nil, sealed, []byte(purpose+"\x00"+id))
}

// codeOf is what an authenticator app shows, as another program has it.
func codeOf(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	code, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return code
}

// enrol sets up a second factor of a user and returns its secret and recovery codes.
func (d *door) enrol(t *testing.T, name string) (secret string, recovery []string) {
	t.Helper()
	made, err := d.BeginSecondFactor(t.Context(), name, password, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	recovery, err = d.ConfirmSecondFactor(t.Context(), name, made.Ticket, codeOf(t, made.Secret, d.now), audit.By{})
	if err != nil || len(recovery) != 10 {
		t.Fatal(recovery, err)
	}
	return made.Secret, recovery
}

// The vectors of RFC 6238 appendix B for SHA-1, of which six digits count here.
func TestCodesOfRFC6238(t *testing.T) {
	t.Parallel()
	secret := base32.StdEncoding.EncodeToString([]byte("12345678901234567890"))
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1111111111: "050471", 1234567890: "005924", 2000000000: "279037", 20000000000: "353130"} {
		if got := codeOf(t, secret, time.Unix(at, 0)); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
		if step, err := auth.StepOf([]byte("12345678901234567890"), want, time.Unix(at, 0)); err != nil || step != at/30 {
			t.Errorf("at %d: step %d, %v", at, step, err)
		}
	}
}

func TestSecondFactor(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.person(t, "ann", pki.RoleAdmin)
	secret, recovery := d.enrol(t, "ann")
	d.now = d.now.Add(time.Minute)
	signIn := func(code string) error {
		_, _, err := d.SignIn(t.Context(), "ann", password, code, from("192.0.2.1"))
		return err
	}
	_, needed := auth.Ticket(signIn(""))
	if !needed {
		t.Fatal("no code was needed")
	}
	if _, _, err := d.SignIn(t.Context(), "ann", "wrong wrong wrong", codeOf(t, secret, d.now), from("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a wrong password: %v", err)
	}
	code := codeOf(t, secret, d.now)
	if err := signIn(code[:3] + " " + code[3:]); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"refuses/again": code, "refuses/older": codeOf(t, secret, d.now.Add(-30*time.Second)), "refuses/too early": codeOf(t, secret, d.now.Add(2*time.Minute)),
		"refuses/wrong": "000000x", "refuses/recovery": "AAAAA-AAAAA",
	} {
		err := signIn(bad)
		if !fault.Is(err, fault.Unauthenticated) || fault.From(err).Field != "/code" {
			t.Errorf("%s: %v", name, err)
		}
		if ann, err := d.User(t.Context(), "ann"); err != nil || name == "" {
			t.Error(ann, err)
		} else if _, err := d.UnlockUser(t.Context(), ann, audit.By{}); err != nil {
			t.Error(err)
		}
	}
	if err := signIn(codeOf(t, secret, d.now.Add(30*time.Second))); err != nil {
		t.Errorf("of a clock that is ahead: %v", err)
	}
	if err := signIn(strings.ToLower(recovery[3])); err != nil {
		t.Errorf("a recovery code: %v", err)
	}
	if err := signIn(recovery[3]); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("a recovery code again: %v", err)
	}
	if n, err := d.RecoveryCodes(t.Context(), "ann"); err != nil || n != 9 {
		t.Errorf("%d recovery codes, %v", n, err)
	}
}

func TestSignInWithTicket(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(t *testing.T, d *door)
		from   string
		code   func(code string) string
		ok     bool
	}{
		"code":                   {ok: true},
		"refuses/wrong code":     {code: func(string) string { return "123" }},
		"refuses/late":           {change: func(_ *testing.T, d *door) { d.now = d.now.Add(6 * time.Minute) }},
		"refuses/other network":  {from: "198.51.100.7"},
		"refuses/suspended":      {change: func(_ *testing.T, d *door) { d.store.users["ann"].State = pki.Suspended }},
		"refuses/deleted":        {change: func(_ *testing.T, d *door) { delete(d.store.users, "ann") }},
		"refuses/other password": {change: func(_ *testing.T, d *door) { d.store.users["ann"].Version++ }},
		"refuses/locked": {change: func(_ *testing.T, d *door) {
			d.store.places[[2]string{"ann", "192.0.2.1/32"}] = &place{lockedUntil: d.now.Add(time.Minute)}
		}},
		"refuses/no second factor": {change: func(t *testing.T, d *door) {
			if err := d.ResetSecondFactor(t.Context(), "ann", audit.By{}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			d.person(t, "ann", pki.RoleAdmin)
			secret, _ := d.enrol(t, "ann")
			d.now = d.now.Add(time.Minute)
			_, _, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1"))
			ticket, _ := auth.Ticket(err)
			if test.change != nil {
				test.change(t, d)
			}
			code, address := codeOf(t, secret, d.now), "192.0.2.1"
			if test.code != nil {
				code = test.code(code)
			}
			if test.from != "" {
				address = test.from
			}
			session, _, err := d.SignInWithTicket(t.Context(), ticket, code, from(address))
			if (err == nil) != test.ok || (err != nil && !fault.Is(err, fault.Unauthenticated)) {
				t.Fatal(err)
			}
			if test.ok {
				if who, err := d.Session(t.Context(), session); err != nil || who.User != "ann" {
					t.Errorf("%+v, %v", who, err)
				}
			}
		})
	}
	d := newDoor(t)
	for _, ticket := range []string{"", "x", strings.Repeat("A", 5000)} {
		if _, _, err := d.SignInWithTicket(t.Context(), ticket, "123456", from("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
			t.Errorf("%.20q: %v", ticket, err)
		}
	}
}

// One code lets one of several in.
func TestCodeAtOnce(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.person(t, "ann", pki.RoleAdmin)
	secret, _ := d.enrol(t, "ann")
	d.now = d.now.Add(time.Minute)
	code := codeOf(t, secret, d.now)
	_, _, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1"))
	ticket, _ := auth.Ticket(err)
	var all sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for range 4 {
		all.Go(func() {
			if _, _, err := d.SignInWithTicket(t.Context(), ticket, code, from("192.0.2.1")); err == nil {
				mu.Lock()
				in++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if in != 1 {
		t.Errorf("%d were let in", in)
	}
}

func TestEnrolment(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.person(t, "ann", pki.RoleAdmin)
	d.person(t, "bob", pki.RoleAdmin)
	if _, err := d.BeginSecondFactor(t.Context(), "ann", "wrong wrong wrong", from("192.0.2.1")); !fault.Is(err, fault.Malformed) || fault.From(err).Field != "/password" {
		t.Errorf("without the password: %v", err)
	}
	made, err := d.BeginSecondFactor(t.Context(), "ann", password, from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(made.URI)
	if err != nil || uri.Scheme != "otpauth" || uri.Host != "totp" || uri.Query().Get("secret") != made.Secret || !strings.HasSuffix(uri.Path, ":ann") {
		t.Errorf("URI %s, %v", made.URI, err)
	}
	good := codeOf(t, made.Secret, d.now)
	for name, test := range map[string]struct {
		user, ticket, code, field string
	}{
		"refuses/other user": {"bob", made.Ticket, good, "/ticket"}, "refuses/forged": {"ann", "x" + made.Ticket, good, "/ticket"}, "refuses/code": {"ann", made.Ticket, "000", "/code"},
	} {
		if _, err := d.ConfirmSecondFactor(t.Context(), test.user, test.ticket, test.code, audit.By{}); !fault.Is(err, fault.Malformed) || fault.From(err).Field != test.field {
			t.Errorf("%s: %v", name, err)
		}
	}
	codes, err := d.ConfirmSecondFactor(t.Context(), "ann", made.Ticket, good, audit.By{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.ConfirmSecondFactor(t.Context(), "ann", made.Ticket, good, audit.By{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("confirmed again: %v", err)
	}
	if _, err := d.BeginSecondFactor(t.Context(), "ann", password, from("192.0.2.1")); !fault.Is(err, fault.Conflict) {
		t.Errorf("begun again: %v", err)
	}
	text := fmt.Sprintf("%+v%s", d.store.events, d.log.String())
	if strings.Contains(text, made.Secret) || strings.Contains(text, codes[0]) {
		t.Error("a secret is in the events or the log")
	}
	fresh, err := d.NewRecoveryCodes(t.Context(), "ann", password, codes[0], from("192.0.2.1"))
	if err != nil || len(fresh) != 10 {
		t.Fatal(fresh, err)
	}
	if err := d.DropSecondFactor(t.Context(), "ann", password, codes[1], from("192.0.2.1")); !fault.Is(err, fault.Malformed) || fault.From(err).Field != "/code" {
		t.Errorf("with a code of before: %v", err)
	}
	if err := d.DropSecondFactor(t.Context(), "ann", password, fresh[1], from("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1")); err != nil {
		t.Errorf("without a second factor: %v", err)
	}
}

// Who must have a second factor may do nothing before.
func TestSecondFactorRequired(t *testing.T) {
	t.Parallel()
	d := newDoorWith(t, func(c *auth.Config) { c.SecondFactor = true })
	d.person(t, "ann", pki.RoleAdmin)
	secret, _, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	bearer, _, err := d.Login(t.Context(), "ann", password, "", from("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	may := func(access auth.Access) error {
		who, err := d.Session(t.Context(), secret)
		token, tokenErr := d.Token(t.Context(), bearer, audit.By{})
		if err = errors.Join(err, tokenErr); err != nil {
			t.Fatal(err)
		}
		return errors.Join(who.Check(access), token.Check(access))
	}
	if err := may(auth.Read); !fault.Is(err, fault.Unauthorized) {
		t.Errorf("before: %v", err)
	}
	if err := may(auth.Self); err != nil {
		t.Error(err)
	}
	d.enrol(t, "ann")
	if err := may(auth.Read); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A token that somebody has signed in for has the rights that the user has now.
func TestLoginTokenFollowsItsUser(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.person(t, "admin", pki.RoleAdmin)
	ann := d.person(t, "ann", pki.RoleOperator)
	bearer, token, err := d.Login(t.Context(), "ann", password, "", from("192.0.2.1"))
	if err != nil || token.User != "ann" {
		t.Fatal(token, err)
	}
	who := func() (*auth.Principal, error) { return d.Token(t.Context(), bearer, from("192.0.2.1")) }
	if p, err := who(); err != nil || p.User != "ann" || p.Role != pki.RoleOperator || p.By().Actor.Kind != audit.User {
		t.Fatalf("%+v, %v", p, err)
	}
	changed := *ann
	changed.Version, changed.Role = d.store.users["ann"].Version, pki.RoleAuditor
	if ann, err = d.ChangeUser(t.Context(), ann, &changed, "", audit.By{}); err != nil {
		t.Fatal(err)
	}
	if p, err := who(); err != nil || p.Role != pki.RoleAuditor {
		t.Fatalf("%+v, %v", p, err)
	}
	if _, err := d.SetPassword(t.Context(), ann, "another good password", pki.UserEffects{KeepToken: token.ID}, audit.By{}); err != nil {
		t.Fatal(err)
	}
	if _, err := who(); err != nil {
		t.Errorf("of who has changed the password: %v", err)
	}
	d.store.users["ann"].State = pki.Suspended
	if _, err := who(); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("of a suspended user: %v", err)
	}
	last := d.store.events[len(d.store.events)-1]
	if last.Action != audit.TokenRefuse || last.Target != string(token.ID) || last.Client.Address != "192.0.2.1" {
		t.Errorf("event %+v", last)
	}
}

// Strangers cannot keep a user out of where the user usually is; parallel guesses all count.
func TestLockElsewhere(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	d.person(t, "ann", pki.RoleAdmin)
	try := func(with, address string) error {
		_, _, err := d.SignIn(t.Context(), "ann", with, "", from(address))
		return err
	}
	if err := try(password, "192.0.2.1"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() { _ = try("wrong wrong wrong", fmt.Sprintf("198.51.100.%d", i)) })
	}
	all.Wait()
	if n := d.store.users["ann"].Failures; n != 5 {
		t.Errorf("%d of 5 parallel guesses count", n)
	}
	if err := try(password, "203.0.113.9"); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("from elsewhere: %v", err)
	}
	if err := try(password, "192.0.2.1"); err != nil {
		t.Errorf("from where ann usually is: %v", err)
	}
}

// An address that fails too often waits, whoever is tried, also on another replica.
func TestAddressLimit(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for i := range 30 {
		if _, _, err := d.SignIn(t.Context(), fmt.Sprintf("user-%d", i), password, "", from("192.0.2.1")); !fault.Is(err, fault.Unauthenticated) {
			t.Fatal(i, err)
		}
		d.now = d.now.Add(7 * time.Second) // no faster than one process lets through
	}
	_, _, err := d.SignIn(t.Context(), "ann", password, "", from("192.0.2.1"))
	if !fault.Is(err, fault.RateLimited) || fault.From(err).RetryAfter <= 0 {
		t.Errorf("one more: %v", err)
	}
}
