package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// NewUser is what an administrator says of a person to be.
type NewUser struct {
	Name        string
	Password    string
	Role        pki.Role
	Sees        []string // of a namespace viewer, required; of others, none
	DisplayName string
	Email       string
}

// CreateUser stores a person who may sign in with a password. All problems come at once; Conflict when the name is taken.
func (a *Authenticator) CreateUser(ctx context.Context, request NewUser, by audit.By) (*pki.User, error) {
	var errs []error
	if err := pki.CheckName(request.Name); err != nil {
		errs = append(errs, fault.New(fault.Malformed, "user %v", err).WithField("/name"))
	}
	errs = append(errs, checkUser(request.Role, request.Sees, request.DisplayName, request.Email))
	hash, err := HashPassword(request.Password, a.config.Random)
	errs = append(errs, err)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	user := &pki.User{
		Name: request.Name, PasswordHash: hash, Role: request.Role, Sees: request.Sees, State: pki.Active,
		DisplayName: request.DisplayName, Email: request.Email, CreatedAt: a.config.Now().UTC(), Version: 1,
	}
	event := a.event(by, audit.UserCreate, user.Name, audit.Detail{Changes: userChanges(&pki.User{}, user)})
	if err := a.config.Store.CreateUser(ctx, user, event); err != nil {
		return nil, fmt.Errorf("create user: %w", err)
	}
	return user, nil
}

// ExternalUser is a person as an identity provider knows them. The caller has verified all of it.
type ExternalUser struct {
	Issuer, Subject string
	Name            string // for people: of the account, or the e-mail address
	DisplayName     string
	Email           string
	Role            pki.Role
	Sees            []string
}

// UpsertExternalUser stores a person of an identity provider, or what has changed of one. An administrator's
// suspension stays. Conflict when the name is another person's.
func (a *Authenticator) UpsertExternalUser(ctx context.Context, known ExternalUser, by audit.By) (*pki.User, error) {
	if known.Issuer == "" || known.Subject == "" || known.Name == "" {
		return nil, fault.New(fault.Malformed, "a user of an identity provider needs issuer, subject and name")
	}
	if len(known.Name) > maxText || !utf8.ValidString(known.Name) || strings.ContainsFunc(known.Name, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }) {
		return nil, fault.New(fault.Malformed, "name %.60q, which the identity provider gives, has more than %d bytes, white space, or what cannot be printed", known.Name, maxText)
	}
	if err := checkUser(known.Role, known.Sees, known.DisplayName, known.Email); err != nil {
		return nil, err
	}
	old, err := a.config.Store.UserBySubject(ctx, known.Issuer, known.Subject)
	if fault.Is(err, fault.NotFound) {
		user := &pki.User{
			Name: known.Name, Role: known.Role, Sees: known.Sees, State: pki.Active, Issuer: known.Issuer, Subject: known.Subject,
			DisplayName: known.DisplayName, Email: known.Email, CreatedAt: a.config.Now().UTC(), Version: 1,
		}
		event := a.event(by, audit.UserCreate, user.Name, audit.Detail{Changes: userChanges(&pki.User{}, user)})
		if err := a.config.Store.CreateUser(ctx, user, event); err != nil {
			return nil, fmt.Errorf("create user: %w", err)
		}
		return user, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find user: %w", err)
	}
	changed := *old
	changed.Role, changed.Sees, changed.DisplayName, changed.Email = known.Role, known.Sees, known.DisplayName, known.Email
	if old.Role == pki.RoleAdmin && old.State == pki.Active && changed.Role != pki.RoleAdmin {
		a.config.Logger.WarnContext(ctx, "the identity provider's groups take an administrator's role away", telemetry.KeyActor, old.Name)
	}
	return a.storeUser(ctx, old, &changed, pki.UserEffects{EvenLast: true}, by) // groups rule
}

// ChangeUser stores a changed person; password, if it is not "", replaces the one that a local user has. What the person has
// signed in for ends with another password and with a suspension; other rights count from the next request on.
func (a *Authenticator) ChangeUser(ctx context.Context, old, changed *pki.User, password string, by audit.By) (*pki.User, error) {
	if err := checkUser(changed.Role, changed.Sees, changed.DisplayName, changed.Email); err != nil {
		return nil, err
	}
	if changed.State != pki.Active && changed.State != pki.Suspended {
		return nil, fault.New(fault.Malformed, "state %.40q is not one of active, suspended", changed.State).WithField("/state")
	}
	if old.Issuer != "" && old.Role != changed.Role {
		return nil, fault.New(fault.Conflict, "user %q has the role that the identity provider's groups give; change those", old.Name).WithField("/role")
	}
	effects := pki.UserEffects{SignOut: changed.State != pki.Active}
	if password != "" {
		if err := a.hashInto(changed, password); err != nil {
			return nil, err
		}
		effects.SignOut, effects.Unlock = true, true
	}
	return a.storeUser(ctx, old, changed, effects, by)
}

// SetPassword gives a local user another password, ends all that the user has signed in for but what is to be kept, and unlocks
// the user.
func (a *Authenticator) SetPassword(ctx context.Context, user *pki.User, password string, keep pki.UserEffects, by audit.By) (*pki.User, error) {
	changed := *user
	if err := a.hashInto(&changed, password); err != nil {
		return nil, err
	}
	keep.SignOut, keep.Unlock = true, true
	return a.storeUser(ctx, user, &changed, keep, by)
}

func (a *Authenticator) hashInto(user *pki.User, password string) error {
	if user.Issuer != "" {
		return fault.New(fault.Conflict, "user %q signs in through an identity provider and has no password here", user.Name).WithField("/password")
	}
	hash, err := HashPassword(password, a.config.Random)
	if err != nil {
		return err
	}
	user.PasswordHash, user.Failures, user.LockedUntil = hash, 0, a.config.Now().UTC()
	return nil
}

// CheckOwnPassword reports whether a password is that of a user who has signed in already, as Malformed: whoever
// changes it must know it. Failures count as those to sign in do.
func (a *Authenticator) CheckOwnPassword(ctx context.Context, name, password string, by audit.By) (*pki.User, error) {
	user, _, err := a.provePassword(ctx, name, password, by)
	if fault.Is(err, fault.Unauthenticated) {
		return nil, fault.New(fault.Malformed, "the present password is wrong").WithField("/old")
	}
	return user, err
}

// UnlockUser forgets failures to sign in.
func (a *Authenticator) UnlockUser(ctx context.Context, user *pki.User, by audit.By) (*pki.User, error) {
	changed := *user
	changed.Failures, changed.LockedUntil = 0, a.config.Now().UTC()
	return a.storeUser(ctx, user, &changed, pki.UserEffects{Unlock: true}, by)
}

func (a *Authenticator) storeUser(ctx context.Context, old, changed *pki.User, effects pki.UserEffects, by audit.By) (*pki.User, error) {
	changes := userChanges(old, changed)
	if len(changes) == 0 {
		return old, nil
	}
	event := a.event(by, audit.UserUpdate, old.Name, audit.Detail{Changes: changes})
	if err := a.config.Store.UpdateUser(ctx, changed, effects, event); err != nil {
		return nil, fmt.Errorf("update user: %w", err)
	}
	changed.Version++
	return changed, nil
}

// DeleteUser removes a person with all sessions.
func (a *Authenticator) DeleteUser(ctx context.Context, name string, by audit.By) error {
	if err := a.config.Store.DeleteUser(ctx, name, a.event(by, audit.UserDelete, name, audit.Detail{})); err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// Users returns all people, by name.
func (a *Authenticator) Users(ctx context.Context) ([]pki.User, error) {
	users, err := a.config.Store.Users(ctx)
	if err != nil {
		return nil, fmt.Errorf("list users: %w", err)
	}
	return users, nil
}

// User returns one person, or NotFound.
func (a *Authenticator) User(ctx context.Context, name string) (*pki.User, error) {
	return a.config.Store.User(ctx, name)
}

// userChanges lists what is different, without secrets.
func userChanges(old, changed *pki.User) []audit.Change {
	var changes []audit.Change
	for _, c := range []audit.Change{
		{Field: "/role", Old: string(old.Role), New: string(changed.Role)},
		{Field: "/sees", Old: strings.Join(old.Sees, " "), New: strings.Join(changed.Sees, " ")},
		{Field: "/state", Old: string(old.State), New: string(changed.State)},
		{Field: "/displayName", Old: old.DisplayName, New: changed.DisplayName},
		{Field: "/email", Old: old.Email, New: changed.Email},
		{Field: "/issuer", Old: old.Issuer, New: changed.Issuer},
	} {
		if c.Old != c.New {
			changes = append(changes, c)
		}
	}
	if old.PasswordHash != changed.PasswordHash {
		changes = append(changes, audit.Change{Field: "/password"})
	}
	if old.Failures != changed.Failures || !old.LockedUntil.Equal(changed.LockedUntil) {
		changes = append(changes, audit.Change{Field: "/locked", New: "false"})
	}
	return changes
}

// maxText bounds names for people and e-mail addresses (RFC 5321 section 4.5.3.1 allows 254 characters).
const maxText = 254

func checkUser(role pki.Role, sees []string, displayName, email string) error {
	var errs []error
	if role == pki.RoleRequester || !Allows(role, Self) {
		errs = append(errs, fault.New(fault.Malformed, "role %.40q is not one of %s", role, roleNames(Roles()[:len(Roles())-1])).WithField("/role"))
	}
	errs = append(errs, checkSees(role, sees))
	for field, text := range map[string]string{"/displayName": displayName, "/email": email} {
		if len(text) > maxText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			errs = append(errs, fault.New(fault.Malformed, "%.60q is longer than %d bytes, or has control characters", text, maxText).WithField(field))
		}
	}
	if email != "" && !strings.Contains(email, "@") {
		errs = append(errs, fault.New(fault.Malformed, "%.60q is not an e-mail address", email).WithField("/email"))
	}
	return errors.Join(errs...)
}

func roleNames(roles []pki.Role) string {
	var names []string
	for _, role := range roles {
		names = append(names, string(role))
	}
	return strings.Join(names, ", ")
}

// Bounds of what a namespace viewer sees: each pattern is a range of the index on names.
const (
	maxSees    = 100
	maxPattern = 2048 // SPIFFE-ID section 2.3
)

// checkSees checks the patterns of a namespace viewer; others have none.
func checkSees(role pki.Role, sees []string) error {
	switch {
	case role != pki.RoleNamespaceViewer && len(sees) > 0:
		return fault.New(fault.Malformed, "role %.40s sees every identity; only role %s has patterns", role, pki.RoleNamespaceViewer).WithField("/sees")
	case role != pki.RoleNamespaceViewer:
		return nil
	case len(sees) == 0:
		return fault.New(fault.Malformed, "role %s needs the identities that it sees, such as spiffe://cluster.local/ns/shop/*", role).WithField("/sees")
	case len(sees) > maxSees:
		return fault.New(fault.Malformed, "there are %d patterns, more than %d", len(sees), maxSees).WithField("/sees")
	}
	var errs []error
	for i, pattern := range sees {
		beginning := strings.TrimSuffix(pattern, "*")
		if beginning == "" || strings.Contains(beginning, "*") || len(pattern) > maxPattern ||
			strings.ContainsFunc(pattern, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
			errs = append(errs, fault.New(fault.Malformed, "pattern %.100q is not the name of an identity, or the beginning of one with * at its end", pattern).
				WithField(fmt.Sprintf("/sees/%d", i)))
		}
	}
	return errors.Join(errs...)
}
