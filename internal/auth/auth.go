// Package auth owns the question who is calling the REST API: bearer tokens and passwords become a Principal, and
// a Principal's role says what it may do.
//
// It must never keep a secret: tokens are stored as SHA-256 hashes (they have 256 random bits, so a slow hash would add
// nothing), passwords as argon2id hashes, and neither is ever logged or part of an error. It trusts the store to find
// a token by its hash, and the surface to say where a request came from.
package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// TokenStore keeps API tokens. Every method is durable when it returns and safe for concurrent use; TokenByHash answers
// NotFound for a hash that it does not know, and finds revoked tokens as well.
type TokenStore interface {
	CreateToken(ctx context.Context, token *pki.APIToken, event audit.Event) error
	RevokeToken(ctx context.Context, id pki.TokenID, event audit.Event) error
	Tokens(ctx context.Context) ([]pki.APIToken, error)
	TokenByHash(ctx context.Context, hash [32]byte) (*pki.APIToken, error)
	TouchToken(ctx context.Context, id pki.TokenID, at time.Time) error
}

// UserStore keeps the people who sign in. What it does is durable when it returns; User and UserBySubject answer
// NotFound. UpdateUser compares and swaps on the version, and refuses, as DeleteUser does, what would leave no active
// administrator (Conflict).
type UserStore interface {
	CreateUser(ctx context.Context, user *pki.User, event audit.Event) error
	UpdateUser(ctx context.Context, user *pki.User, effects pki.UserEffects, event audit.Event) error
	DeleteUser(ctx context.Context, name string, event audit.Event) error
	Users(ctx context.Context) ([]pki.User, error)
	User(ctx context.Context, name string) (*pki.User, error)
	UserBySubject(ctx context.Context, issuer, subject string) (*pki.User, error)
}

// SignInStore keeps what is known of attempts to sign in, for all replicas. NoteFailure counts atomically: none of several
// attempts at once is lost.
type SignInStore interface {
	SignInPlace(ctx context.Context, user, network string, now time.Time) (pki.SignInPlace, error)
	NoteFailure(ctx context.Context, failed pki.FailedSignIn, lockedFor func(failures int) time.Duration, event *audit.Event) error
	NoteSignIn(ctx context.Context, user, network string, at, forget time.Time) error
}

// FactorStore keeps second factors. UseStep and UseRecoveryCode are true once for each step and code, on all replicas.
type FactorStore interface {
	SetSecondFactor(ctx context.Context, user string, version int64, factor pki.SecondFactor, event audit.Event) error
	SetRecoveryCodes(ctx context.Context, user string, hashes [][32]byte, event audit.Event) error
	UseStep(ctx context.Context, user string, step int64) (bool, error)
	UseRecoveryCode(ctx context.Context, user string, hash [32]byte, event audit.Event) (bool, error)
	RecoveryCodes(ctx context.Context, user string) (int, error)
}

// Vault seals secrets of second factors, and what people carry between two steps of signing in.
type Vault interface {
	Seal(purpose, id string, plain []byte) ([]byte, error)
	Unseal(purpose, id string, sealed []byte) ([]byte, error)
}

// SessionStore keeps sessions. SessionByHash answers NotFound; ending one that is not there is no error.
type SessionStore interface {
	CreateSession(ctx context.Context, session *pki.Session, event audit.Event) error
	EndSession(ctx context.Context, id pki.SessionID, event audit.Event) error
	Sessions(ctx context.Context, user string) ([]pki.Session, error)
	SessionByHash(ctx context.Context, hash [32]byte) (*pki.Session, error)
	TouchSession(ctx context.Context, id pki.SessionID, at time.Time) error
}

// EventStore records events that belong to no change: refused logins.
type EventStore interface {
	RecordEvent(ctx context.Context, event audit.Event) error
}

// Store is all of them.
type Store interface {
	TokenStore
	UserStore
	SignInStore
	FactorStore
	SessionStore
	EventStore
}

// Config is what an Authenticator needs.
type Config struct {
	Store         Store            // required
	Vault         Vault            // required
	Now           func() time.Time // required
	Random        io.Reader        // required; crypto/rand.Reader outside tests
	Logger        *slog.Logger     // nil: nothing is logged
	LoginLifetime time.Duration    // of tokens that a login makes, and of sessions; 0: 12 hours
	SessionIdle   time.Duration    // after which a session that nobody used ends; 0: an hour
	SecondFactor  bool             // local users must have one: without, they may only set one up
	Issuer        string           // what authenticator apps call this server; "": Certloom
	Replica       string           // name of this process in audit events; may be empty
}

// defaultLoginLifetime is a working day: a token that a login made lies in a file of the person's.
const defaultLoginLifetime = 12 * time.Hour

// Authenticator is safe for concurrent use.
type Authenticator struct {
	config   Config
	throttle *throttle
	refusals *audit.Limiter // which ones are recorded
	hashing  chan struct{}  // bounds how many passwords are hashed at once: each takes 19 MiB
}

const (
	// maxHashing is how many passwords are hashed at once.
	maxHashing = 2
	// hashWait is how long one more waits for its turn. Strangers can make any number wait.
	hashWait = 3 * time.Second
)

// New checks the configuration.
func New(config Config) (*Authenticator, error) {
	if config.Store == nil || config.Vault == nil || config.Now == nil || config.Random == nil {
		return nil, errors.New("auth: Store, Vault, Now and Random are required")
	}
	if config.Issuer == "" {
		config.Issuer = "Certloom"
	}
	if config.LoginLifetime < 0 {
		return nil, fmt.Errorf("auth: LoginLifetime %s is negative", config.LoginLifetime)
	}
	if config.LoginLifetime == 0 {
		config.LoginLifetime = defaultLoginLifetime
	}
	if config.SessionIdle == 0 {
		config.SessionIdle = defaultSessionIdle
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	throttle, err := newThrottle()
	if err != nil {
		return nil, err
	}
	refusals, err := audit.NewLimiter()
	if err != nil {
		return nil, fmt.Errorf("auth: %w", err)
	}
	return &Authenticator{config: config, throttle: throttle, refusals: refusals, hashing: make(chan struct{}, maxHashing)}, nil
}

// Principal is who is calling, and from where. Without a TokenID and a SessionID it is somebody who has not been
// authenticated; such a principal has no role, so it may do nothing that asks for one.
type Principal struct {
	TokenID   pki.TokenID
	SessionID pki.SessionID
	User      string // who has signed in; "" for tokens
	Name      string // of the token, or of the user
	Role      pki.Role
	ProfileID pki.ProfileID // of a requester: the only profile that it may request certificates under
	Sees      []string      // patterns of the identities that it sees (pki.CertificateFilter); nil: all
	Client    pki.Client    // set by the surface
	Request   string        // request ID, set by the surface
	Enrol     bool          // must set up a second factor, and may do nothing else
}

// By is the principal in audit events.
func (p *Principal) By() audit.By {
	actor := audit.Actor{Kind: audit.Nobody}
	switch {
	case p.User != "":
		actor = audit.Actor{Kind: audit.User, ID: p.User, Name: p.User}
	case p.TokenID != "":
		actor = audit.Actor{Kind: audit.Token, ID: string(p.TokenID), Name: p.Name}
	}
	return audit.By{Actor: actor, Client: p.Client, Request: p.Request}
}

// Access is what an operation asks of its caller.
type Access string

// Kinds of access.
const (
	Inventory  Access = "inventory"   // shows certificates and identities: those that the caller sees
	Read       Access = "read"        // shows the rest that is no secret: profiles, credentials, CAs, events, status
	ReadAccess Access = "read-access" // shows users, tokens and sessions
	Request    Access = "request"     // asks for a certificate; a requester under its profile only
	Operate    Access = "operate"     // changes profiles, credentials and connectors, and revokes certificates
	Administer Access = "administer"  // changes CAs, users, tokens, and the sessions of others
	Self       Access = "self"        // concerns the caller only
)

// Accesses are all kinds of access.
func Accesses() []Access {
	return []Access{Inventory, Read, ReadAccess, Request, Operate, Administer, Self}
}

// Roles are all roles.
func Roles() []pki.Role {
	return []pki.Role{pki.RoleAdmin, pki.RoleOperator, pki.RoleAuditor, pki.RoleNamespaceViewer, pki.RoleRequester}
}

// allowed is what a role has besides what concerns the caller only. docs/reference/roles.md shows it by operation.
func allowed(role pki.Role) []Access {
	switch role {
	case pki.RoleAdmin:
		return Accesses()
	case pki.RoleOperator:
		return []Access{Inventory, Read, Request, Operate}
	case pki.RoleAuditor:
		return []Access{Inventory, Read, ReadAccess}
	case pki.RoleNamespaceViewer:
		return []Access{Inventory}
	case pki.RoleRequester:
		return []Access{Request}
	default:
		return nil
	}
}

// Allows reports whether a role has a kind of access. A requester's profile is checked by RequestUnder; what a namespace
// viewer sees, by the query of what it asks for.
func Allows(role pki.Role, access Access) bool {
	return slices.Contains(allowed(role), access) || (access == Self && slices.Contains(Roles(), role))
}

// Check refuses a principal whose role does not have the access, as Unauthorized.
func (p *Principal) Check(access Access) error {
	if p.Enrol && access != Self {
		return fault.New(fault.Unauthorized, "user %q must set up a second factor first", p.User).
			WithHint("in the console, under your name: Second factor")
	}
	if Allows(p.Role, access) {
		return nil
	}
	var roles []string
	for _, role := range Roles() {
		if Allows(role, access) {
			roles = append(roles, string(role))
		}
	}
	what, hint := "token", "use another token (--token-file), or have an administrator make one: certloom token create NAME --role "+roles[len(roles)-1]
	if p.User != "" {
		what, hint = "user", "ask an administrator for the role"
	}
	return fault.New(fault.Unauthorized, "%s %q has role %s; this needs role %s", what, p.Name, p.Role, strings.Join(roles, " or ")).WithHint("%s", hint)
}

// RequestUnder refuses a requester that asks for a certificate under a profile other than its own.
func (p *Principal) RequestUnder(profile *pki.Profile) error {
	if p.Role == pki.RoleRequester && p.ProfileID != profile.ID {
		return fault.New(fault.Unauthorized, "token %q may not request certificates under profile %q", p.Name, profile.Name).
			WithField("/profile")
	}
	return p.Check(Request)
}

type principalKey struct{}

// WithPrincipal returns a context that carries the caller.
func WithPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p) //nolint:forbidigo // this is the Principal
}

// PrincipalOf returns the caller; one that may do nothing if the context has none.
func PrincipalOf(ctx context.Context) *Principal {
	if p, ok := ctx.Value(principalKey{}).(*Principal); ok {
		return p
	}
	return &Principal{}
}

func (a *Authenticator) event(by audit.By, action audit.Action, target string, detail audit.Detail) audit.Event {
	return audit.Event{
		Time: a.config.Now().UTC(), Actor: by.Actor, Action: action, Target: target, Client: by.Client,
		Request: by.Request, Replica: a.config.Replica, Outcome: audit.Done, Detail: detail,
	}
}
