package auth_test

import (
	"context"
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

func (d *drawer) UpdateUser(_ context.Context, user *pki.User, end bool, event audit.Event) error {
	defer d.lock()()
	if d.users[user.Name].Version != user.Version {
		return fault.New(fault.Conflict, "user %q was changed", user.Name)
	}
	stored := *user
	stored.Version++
	d.users[user.Name], d.events = &stored, append(d.events, event)
	for hash, session := range d.sessions {
		if end && session.User == user.Name {
			delete(d.sessions, hash)
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

func (d *drawer) NoteSignIn(_ context.Context, name string, failures int, locked, at time.Time, event *audit.Event) error {
	defer d.lock()()
	if event != nil {
		d.events = append(d.events, *event)
	}
	d.users[name].Failures, d.users[name].LockedUntil, d.users[name].LastSignInAt = failures, locked, at
	return d.fails
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
