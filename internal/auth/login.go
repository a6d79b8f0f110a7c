package auth

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Login exchanges a password for a token that expires by itself and has the user's rights. A wrong name and a wrong
// password get the same answer in the same time; attempts from one address are limited (RateLimited), those for one
// user are delayed (signIn), and refusals are audited.
func (a *Authenticator) Login(ctx context.Context, name, password string, by audit.By) (string, *pki.APIToken, error) {
	user, by, err := a.signIn(ctx, name, password, by)
	if err != nil {
		return "", nil, err
	}
	request := NewToken{Name: "login-" + name, Role: user.Role, Sees: user.Sees, ExpiresAt: a.config.Now().UTC().Add(a.config.LoginLifetime)}
	return a.makeToken(ctx, request, by)
}

// Who guesses the password of one user waits longer each time, from whatever addresses. Strangers can so keep a
// user from signing in, for lockLongest at a time; whoever is signed in already, and tokens, are not concerned.
const (
	lockAfter   = 5
	lockFirst   = 30 * time.Second
	lockLongest = 15 * time.Minute
)

// lockedFor is how long a user's password is wrong after a number of failures.
func lockedFor(failures int) time.Duration {
	if failures < lockAfter {
		return 0
	}
	return min(lockLongest, lockFirst<<min(failures-lockAfter, 10))
}

// signIn finds who a name and a password belong to, and counts what fails. While a user is locked even the right
// password is refused, with the answer that a wrong one gets.
func (a *Authenticator) signIn(ctx context.Context, name, password string, by audit.By) (*pki.User, audit.By, error) {
	now := a.config.Now().UTC()
	by.Actor = audit.Actor{Kind: audit.Nobody}
	if wait := a.throttle.take(by.Client.Address, now); wait > 0 {
		err := fault.New(fault.RateLimited, "too many attempts to sign in from %s; try again in %s", by.Client.Address, wait)
		err.RetryAfter = wait
		return nil, by, err
	}
	user, ok, err := a.checkPassword(ctx, name, password)
	if err != nil {
		return nil, by, err
	}
	// The name of nobody is not written down: people type passwords there.
	if user != nil {
		by.Actor = audit.Actor{Kind: audit.User, ID: user.Name, Name: user.Name}
	}
	switch {
	case user != nil && now.Before(user.LockedUntil):
		return nil, by, a.refuseLogin(ctx, by, nil)
	case user != nil && !ok:
		failures := user.Failures + 1
		return nil, by, a.refuseLogin(ctx, by, func(event *audit.Event) error {
			return a.config.Store.NoteSignIn(ctx, user.Name, failures, now.Add(lockedFor(failures)), time.Time{}, event)
		})
	case !ok || user.State != pki.Active:
		return nil, by, a.refuseLogin(ctx, by, nil)
	}
	a.throttle.forget(by.Client.Address)
	if err := a.config.Store.NoteSignIn(ctx, user.Name, 0, time.Time{}, now, nil); err != nil {
		return nil, by, fmt.Errorf("note sign-in: %w", err)
	}
	return user, by, nil
}

// checkPassword reports whether the password is the user's, and who that is; nil when there is no such user.
func (a *Authenticator) checkPassword(ctx context.Context, name, password string) (*pki.User, bool, error) {
	phc := decoy
	user, err := a.config.Store.User(ctx, name)
	switch {
	case fault.Is(err, fault.NotFound):
		user = nil
	case err != nil:
		return nil, false, fmt.Errorf("find user: %w", err)
	case user.PasswordHash != "":
		phc = user.PasswordHash // those of an identity provider have none
	}
	tooLong := len(password) > maxPassword // longer than any that was stored
	if tooLong {
		password = password[:maxPassword]
	}
	waiting, cancel := context.WithTimeout(ctx, hashWait)
	defer cancel()
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-waiting.Done():
		busy := fault.Wrap(waiting.Err(), fault.Unavailable, "too many people are signing in; try again in a moment")
		busy.RetryAfter = hashWait
		return nil, false, busy
	}
	same, err := verifyPassword(password, phc)
	if err != nil {
		return nil, false, fmt.Errorf("verify password: %w", err)
	}
	return user, same && user != nil && user.PasswordHash != "" && !tooLong, nil
}

// refuseLogin records a refusal, with what else is to be stored with it, and returns what the caller is told.
func (a *Authenticator) refuseLogin(ctx context.Context, by audit.By, store func(*audit.Event) error) error {
	refused := fault.New(fault.Unauthenticated, "user name or password is wrong").WithHint("certloom dev writes both into dev.json in its data folder")
	target := by.Actor.ID
	if target == "" {
		target = "unknown user"
	}
	event := a.event(by, audit.LoginRefuse, target, audit.Detail{Reason: refused.Public, Problem: refused.Kind.Meaning().ACME})
	event.Outcome = audit.Refused
	told := &event
	if !a.refusals.Allow(&event) {
		told = nil
	}
	var err error
	switch {
	case store != nil:
		err = store(told)
	case told != nil:
		err = a.config.Store.RecordEvent(ctx, event)
	}
	if err != nil {
		a.config.Logger.ErrorContext(ctx, "refused login not recorded", telemetry.KeyError, err)
	}
	return refused
}

// Limits of login attempts from one address: guessing takes attempts by the million, a person who has forgotten which
// password it was a few.
const (
	loginBurst    = 10
	loginInterval = 6 * time.Second
	loginRemember = 10_000 // addresses
)

// throttle limits attempts by address.
type throttle struct {
	mu      sync.Mutex // guards lookups together with what they add
	buckets *lru.Cache[netip.Prefix, *rate.Limiter]
}

func newThrottle() (*throttle, error) {
	buckets, err := lru.New[netip.Prefix, *rate.Limiter](loginRemember)
	if err != nil {
		return nil, fmt.Errorf("make throttle: %w", err)
	}
	return &throttle{buckets: buckets}, nil
}

// take counts an attempt. It returns how long to wait, in whole seconds, if there were too many.
func (t *throttle) take(address string, now time.Time) time.Duration {
	key := network(address)
	t.mu.Lock()
	bucket, ok := t.buckets.Get(key)
	if !ok {
		bucket = rate.NewLimiter(rate.Every(loginInterval), loginBurst)
		t.buckets.Add(key, bucket)
	}
	t.mu.Unlock()
	if bucket.AllowN(now, 1) {
		return 0
	}
	missing := 1 - bucket.TokensAt(now)
	return time.Duration(math.Ceil(missing*loginInterval.Seconds())) * time.Second
}

// forget ends the count of an address from which somebody has signed in.
func (t *throttle) forget(address string) { t.buckets.Remove(network(address)) }

// network is what counts as one address: whoever has an IPv6 address has at least a /64 of them.
func network(address string) netip.Prefix {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap()
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	prefix, err := addr.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return prefix
}
