package auth_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// drawer is a store in memory.
type drawer struct {
	mu       sync.Mutex
	tokens   map[[32]byte]*pki.APIToken
	users    map[string]*pki.User
	sessions map[[32]byte]*pki.Session
	places   map[[2]string]*place // of a user and a network; user "" is everybody
	recovery map[string][][32]byte
	steps    map[string]int64
	events   []audit.Event
	touch    int
	fails    error
}

func (d *drawer) lock() func() {
	d.mu.Lock()
	return d.mu.Unlock
}

func (d *drawer) CreateToken(_ context.Context, token *pki.APIToken, event audit.Event) error {
	defer d.lock()()
	stored := *token
	d.tokens[token.Hash], d.events = &stored, append(d.events, event)
	return d.fails
}

func (d *drawer) RevokeToken(_ context.Context, id pki.TokenID, event audit.Event) error {
	defer d.lock()()
	for _, token := range d.tokens {
		if token.ID == id {
			token.State = pki.Revoked
			d.events = append(d.events, event)
			return d.fails
		}
	}
	return fault.New(fault.NotFound, "no token")
}

func (d *drawer) Tokens(context.Context) ([]pki.APIToken, error) {
	defer d.lock()()
	var all []pki.APIToken
	for _, token := range d.tokens {
		all = append(all, *token)
	}
	return all, d.fails
}

func (d *drawer) TokenByHash(_ context.Context, hash [32]byte) (*pki.APIToken, error) {
	defer d.lock()()
	if d.fails != nil {
		return nil, d.fails
	}
	if token, ok := d.tokens[hash]; ok {
		found := *token
		if user := d.users[token.User]; user != nil {
			found.Role, found.Sees = user.Role, user.Sees
			if found.State == pki.Active {
				found.State = user.State
			}
		}
		return &found, nil
	}
	return nil, fault.New(fault.NotFound, "no token")
}

func (d *drawer) TouchToken(_ context.Context, id pki.TokenID, at time.Time) error {
	defer d.lock()()
	d.touch++
	for _, token := range d.tokens {
		if token.ID == id {
			token.LastUsedAt = at
		}
	}
	return d.fails
}

func (d *drawer) CreateUser(_ context.Context, user *pki.User, event audit.Event) error {
	defer d.lock()()
	if d.users[user.Name] != nil {
		return fault.New(fault.Conflict, "user %q exists", user.Name)
	}
	stored := *user
	d.users[user.Name], d.events = &stored, append(d.events, event)
	return d.fails
}

func (d *drawer) UpdateUser(_ context.Context, user *pki.User, effects pki.UserEffects, event audit.Event) error {
	defer d.lock()()
	old := d.users[user.Name]
	if old.Version != user.Version {
		return fault.New(fault.Conflict, "user %q was changed", user.Name)
	}
	stored := *user
	stored.Version++
	stored.Failures, stored.LockedUntil = old.Failures, old.LockedUntil
	d.users[user.Name], d.events = &stored, append(d.events, event)
	if effects.Unlock {
		stored.Failures, stored.LockedUntil = 0, time.Time{}
		for key, place := range d.places {
			if key[0] == user.Name {
				place.failures, place.lockedUntil = 0, time.Time{}
			}
		}
	}
	for hash, session := range d.sessions {
		if effects.SignOut && session.User == user.Name && session.ID != effects.KeepSession {
			delete(d.sessions, hash)
		}
	}
	for _, token := range d.tokens {
		if effects.SignOut && token.User == user.Name && token.ID != effects.KeepToken {
			token.State = pki.Revoked
		}
	}
	return d.fails
}

func (d *drawer) DeleteUser(_ context.Context, name string, event audit.Event) error {
	defer d.lock()()
	delete(d.users, name)
	d.events = append(d.events, event)
	return d.fails
}

func (d *drawer) Users(context.Context) ([]pki.User, error) {
	defer d.lock()()
	var all []pki.User
	for _, user := range d.users {
		all = append(all, *user)
	}
	return all, d.fails
}

func (d *drawer) User(_ context.Context, name string) (*pki.User, error) {
	defer d.lock()()
	if user := d.users[name]; user != nil {
		found := *user
		return &found, d.fails
	}
	return nil, fault.New(fault.NotFound, "no user")
}

func (d *drawer) UserBySubject(_ context.Context, issuer, subject string) (*pki.User, error) {
	defer d.lock()()
	for _, user := range d.users {
		if user.Issuer == issuer && user.Subject == subject {
			found := *user
			return &found, d.fails
		}
	}
	return nil, fault.New(fault.NotFound, "no user")
}

// place is what is known of a network.
type place struct {
	failures           int
	lockedUntil, until time.Time
}

func (d *drawer) SignInPlace(_ context.Context, user, network string, now time.Time) (pki.SignInPlace, error) {
	defer d.lock()()
	var found pki.SignInPlace
	if all := d.places[[2]string{"", network}]; all != nil && all.until.After(now) {
		found.Failures, found.Until = all.failures, all.until
	}
	if own := d.places[[2]string{user, network}]; own != nil && user != "" {
		found.Known, found.LockedUntil = true, own.lockedUntil
	} else if known := d.users[user]; known != nil {
		found.LockedUntil = known.LockedUntil
	}
	return found, d.fails
}

func (d *drawer) NoteFailure(_ context.Context, failed pki.FailedSignIn, lockedFor func(int) time.Duration, event *audit.Event) error {
	defer d.lock()()
	if event != nil {
		d.events = append(d.events, *event)
	}
	everybody := [2]string{"", failed.Network}
	if all := d.places[everybody]; all == nil || !all.until.After(failed.At) {
		d.places[everybody] = &place{until: failed.Until}
	}
	d.places[everybody].failures++
	if own := d.places[[2]string{failed.User, failed.Network}]; own != nil && failed.User != "" {
		own.failures++
		own.lockedUntil = failed.At.Add(lockedFor(own.failures))
	} else if user := d.users[failed.User]; user != nil {
		user.Failures++
		user.LockedUntil = failed.At.Add(lockedFor(user.Failures))
	}
	return d.fails
}

func (d *drawer) NoteSignIn(_ context.Context, name, network string, at, _ time.Time) error {
	defer d.lock()()
	d.users[name].Failures, d.users[name].LockedUntil, d.users[name].LastSignInAt = 0, time.Time{}, at
	d.places[[2]string{name, network}] = &place{}
	return d.fails
}

func (d *drawer) SetSecondFactor(_ context.Context, name string, _ int64, factor pki.SecondFactor, event audit.Event) error {
	defer d.lock()()
	user := d.users[name]
	if user == nil {
		return fault.New(fault.NotFound, "no user")
	}
	user.TOTP, d.recovery[name], d.events = factor.Sealed, factor.Recovery, append(d.events, event)
	user.Version++
	d.steps[name] = factor.Step
	return d.fails
}

func (d *drawer) SetRecoveryCodes(_ context.Context, name string, hashes [][32]byte, event audit.Event) error {
	defer d.lock()()
	d.recovery[name], d.events = hashes, append(d.events, event)
	return d.fails
}

func (d *drawer) UseStep(_ context.Context, name string, step int64) (bool, error) {
	defer d.lock()()
	if step <= d.steps[name] {
		return false, d.fails
	}
	d.steps[name] = step
	return true, d.fails
}

func (d *drawer) UseRecoveryCode(_ context.Context, name string, hash [32]byte, event audit.Event) (bool, error) {
	defer d.lock()()
	at := slices.Index(d.recovery[name], hash)
	if at < 0 {
		return false, d.fails
	}
	d.recovery[name], d.events = slices.Delete(d.recovery[name], at, at+1), append(d.events, event)
	return true, d.fails
}

func (d *drawer) RecoveryCodes(_ context.Context, name string) (int, error) {
	defer d.lock()()
	return len(d.recovery[name]), d.fails
}

func (d *drawer) CreateSession(_ context.Context, session *pki.Session, event audit.Event) error {
	defer d.lock()()
	stored := *session
	d.sessions[session.Hash], d.events = &stored, append(d.events, event)
	return d.fails
}

func (d *drawer) EndSession(_ context.Context, id pki.SessionID, event audit.Event) error {
	defer d.lock()()
	for hash, session := range d.sessions {
		if session.ID == id {
			delete(d.sessions, hash)
			d.events = append(d.events, event)
		}
	}
	return d.fails
}

func (d *drawer) Sessions(_ context.Context, user string) ([]pki.Session, error) {
	defer d.lock()()
	var all []pki.Session
	for _, session := range d.sessions {
		if user == "" || session.User == user {
			all = append(all, *session)
		}
	}
	return all, d.fails
}

func (d *drawer) SessionByHash(_ context.Context, hash [32]byte) (*pki.Session, error) {
	defer d.lock()()
	if session, ok := d.sessions[hash]; ok {
		found := *session
		return &found, d.fails
	}
	return nil, fault.New(fault.NotFound, "no session")
}

func (d *drawer) TouchSession(_ context.Context, id pki.SessionID, at time.Time) error {
	defer d.lock()()
	for _, session := range d.sessions {
		if session.ID == id {
			session.LastUsedAt = at
		}
	}
	return d.fails
}

func (d *drawer) RecordEvent(_ context.Context, event audit.Event) error {
	defer d.lock()()
	d.events = append(d.events, event)
	return d.fails
}
