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

// Login exchanges a password, and a code of a user with a second factor, for a token that expires by itself and has the
// rights that the user has at each use. A wrong name and a wrong password get the same answer in the same time; attempts from
// one address are limited (RateLimited), those for one user are delayed (lockedFor), and refusals are audited.
func (a *Authenticator) Login(ctx context.Context, name, password, code string, by audit.By) (string, *pki.APIToken, error) {
	user, by, err := a.signIn(ctx, name, password, code, by)
	if err != nil {
		return "", nil, err
	}
	request := NewToken{Name: "login-" + name, Role: user.Role, Sees: user.Sees, ExpiresAt: a.config.Now().UTC().Add(a.config.LoginLifetime), user: user.Name}
	return a.makeToken(ctx, request, by)
}

// Who guesses the password of one user waits longer each time. Failures from a network that the user has signed in from
// count apart from all others, so that strangers cannot keep a user out of where the user usually is; whoever is signed in
// already, and tokens, are not concerned.
const (
	lockAfter   = 5
	lockFirst   = 30 * time.Second
	lockLongest = 15 * time.Minute
	// rememberNetwork is how long a network is the user's after the last time.
	rememberNetwork = 90 * 24 * time.Hour
)

// lockedFor is how long a user's password is wrong after a number of failures.
func lockedFor(failures int) time.Duration {
	if failures < lockAfter {
		return 0
	}
	return min(lockLongest, lockFirst<<min(failures-lockAfter, 10))
}

// Failures from one network, whoever was tried, on all replicas together. Many people may share an address.
const (
	addressFailures = 30
	addressWindow   = 10 * time.Minute
)

// signIn finds who a name and a password belong to, and a code if the user has a second factor, and counts what fails.
func (a *Authenticator) signIn(ctx context.Context, name, password, code string, by audit.By) (*pki.User, audit.By, error) {
	user, by, err := a.provePassword(ctx, name, password, by)
	if err != nil {
		return nil, by, err
	}
	if user.TOTP != nil {
		if code == "" {
			return nil, by, a.needCode(user, by)
		}
		if err := a.proveCode(ctx, user, code, by); err != nil {
			return nil, by, err
		}
	}
	return user, by, a.noteSignIn(ctx, user, by)
}

// noteSignIn ends the counts of failures.
func (a *Authenticator) noteSignIn(ctx context.Context, user *pki.User, by audit.By) error {
	now := a.config.Now().UTC()
	a.throttle.forget(by.Client.Address)
	if err := a.config.Store.NoteSignIn(ctx, user.Name, network(by.Client.Address).String(), now, now.Add(-rememberNetwork)); err != nil {
		return fmt.Errorf("note sign-in: %w", err)
	}
	return nil
}

// provePassword finds who a name and a password belong to. While a user is locked even the right password is refused, with
// the answer that a wrong one gets.
func (a *Authenticator) provePassword(ctx context.Context, name, password string, by audit.By) (*pki.User, audit.By, error) {
	by.Actor = audit.Actor{Kind: audit.Nobody}
	if err := a.admitAttempt(ctx, by); err != nil {
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
	locked, err := a.locked(ctx, user, by)
	switch {
	case err != nil:
		return nil, by, err
	case locked:
		return nil, by, a.refuseLogin(ctx, by, nil, wrongPassword())
	case !ok || user.State != pki.Active:
		return nil, by, a.refuseLogin(ctx, by, user, wrongPassword())
	}
	return user, by, nil
}

// admitAttempt limits attempts from an address: of this process by their number, of all replicas by those that failed.
func (a *Authenticator) admitAttempt(ctx context.Context, by audit.By) error {
	now := a.config.Now().UTC()
	wait := a.throttle.take(by.Client.Address, now)
	if wait == 0 {
		place, err := a.config.Store.SignInPlace(ctx, "", network(by.Client.Address).String(), now)
		if err != nil {
			return fmt.Errorf("look for failures: %w", err)
		}
		if place.Failures < addressFailures {
			return nil
		}
		wait = max(time.Second, place.Until.Sub(now).Round(time.Second))
	}
	err := fault.New(fault.RateLimited, "too many attempts to sign in from %s; try again in %s", by.Client.Address, wait)
	err.RetryAfter = wait
	return err
}

// locked reports whether a user may not sign in now from an address.
func (a *Authenticator) locked(ctx context.Context, user *pki.User, by audit.By) (bool, error) {
	if user == nil {
		return false, nil
	}
	now := a.config.Now().UTC()
	place, err := a.config.Store.SignInPlace(ctx, user.Name, network(by.Client.Address).String(), now)
	if err != nil {
		return false, fmt.Errorf("look for failures: %w", err)
	}
	return now.Before(place.LockedUntil), nil
}

func wrongPassword() *fault.Error {
	return fault.New(fault.Unauthenticated, "user name or password is wrong").WithHint("certloom dev writes both into dev.json in its data folder")
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

// refuseLogin counts a failure, of the user if there is one, records it, and returns what the caller is told. Its writes are
// the same whether there is such a user or not.
func (a *Authenticator) refuseLogin(ctx context.Context, by audit.By, user *pki.User, refused *fault.Error) error {
	now := a.config.Now().UTC()
	target, failed := by.Actor.ID, pki.FailedSignIn{Network: network(by.Client.Address).String(), At: now, Until: now.Add(addressWindow)}
	if target == "" {
		target = "unknown user"
	}
	if user != nil {
		failed.User = user.Name
	}
	event := a.event(by, audit.LoginRefuse, target, audit.Detail{Reason: refused.Public, Problem: refused.Kind.Meaning().ACME})
	event.Outcome = audit.Refused
	told := &event
	if !a.refusals.Allow(&event) {
		told = nil
	}
	if err := a.config.Store.NoteFailure(ctx, failed, lockedFor, told); err != nil {
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
