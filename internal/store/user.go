package store

import (
	"context"
	"fmt"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// CreateUser stores a person who may sign in. A name that is taken is a Conflict, as is a subject of an issuer.
func (s *Store) CreateUser(ctx context.Context, user *pki.User, ev audit.Event) error {
	sees, err := encodeSees(user.Sees)
	if err != nil {
		return err
	}
	return s.write(ctx, "create user", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `INSERT INTO login (name, password_hash, role, sees, state, issuer, subject, display_name, email, created_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
			user.Name, user.PasswordHash, string(user.Role), sees, string(user.State), user.Issuer, user.Subject, user.DisplayName, user.Email,
			micros(user.CreatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return fault.New(fault.Conflict, "a user named %q exists", user.Name).WithField("/name")
		}
		t.event(ev)
		return nil
	})
}

// UpdateUser stores a changed person, with the version that follows the one it has. Somebody else's change in between
// is a Conflict, and so is a change that leaves no active administrator. Failures to sign in
// are not taken from the record, since they are counted by others meanwhile.
func (s *Store) UpdateUser(ctx context.Context, user *pki.User, effects pki.UserEffects, ev audit.Event) error {
	sees, err := encodeSees(user.Sees)
	if err != nil {
		return err
	}
	return s.write(ctx, "update user", func(ctx context.Context, t *tx) error {
		if !effects.EvenLast && (user.Role != pki.RoleAdmin || user.State != pki.Active) {
			if err := t.keepsAdministrator(ctx, user.Name); err != nil {
				return err
			}
		}
		n, err := t.change(ctx, `UPDATE login SET password_hash = $1, role = $2, sees = $3, state = $4, display_name = $5, email = $6,
			version = version + 1 WHERE name = $7 AND version = $8`,
			user.PasswordHash, string(user.Role), sees, string(user.State), user.DisplayName, user.Email,
			user.Name, user.Version)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			if err := t.mustExist(ctx, `SELECT count(*) FROM login WHERE name = $1`, "user", user.Name); err != nil {
				return err
			}
			return fault.New(fault.Conflict, "user %q was changed by somebody else in the meantime; look at it again", user.Name)
		}
		t.event(ev)
		return t.affect(ctx, user.Name, effects)
	})
}

// affect does what else is to happen to a person.
func (t *tx) affect(ctx context.Context, user string, effects pki.UserEffects) error {
	if effects.Unlock {
		for _, query := range []string{
			`UPDATE login SET failures = 0, locked_until = 0 WHERE name = $1`, `UPDATE login_network SET failures = 0, locked_until = 0 WHERE login = $1`,
		} {
			if _, err := t.change(ctx, query, user); err != nil {
				return fmt.Errorf("forget failures: %w", err)
			}
		}
	}
	if !effects.SignOut {
		return nil
	}
	if _, err := t.change(ctx, `DELETE FROM session WHERE login = $1 AND id <> $2`, user, string(effects.KeepSession)); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	if _, err := t.change(ctx, `UPDATE token SET state = 'revoked' WHERE login = $1 AND id <> $2 AND state <> 'revoked'`, user, string(effects.KeepToken)); err != nil {
		return fmt.Errorf("end tokens: %w", err)
	}
	return nil
}

// keepsAdministrator refuses what would leave nobody who can administer the server, if a person no longer could.
func (t *tx) keepsAdministrator(ctx context.Context, name string) error {
	rows, err := t.query(ctx, `SELECT name FROM login WHERE role = 'admin' AND state = 'active' ORDER BY name`+t.forUpdate())
	administrators, err := collect(rows, err, scanned[string])
	if err != nil {
		return fmt.Errorf("read administrators: %w", err)
	}
	if len(administrators) == 1 && administrators[0] == name {
		return fault.New(fault.Conflict, "user %q is the last active administrator; make another one first", name)
	}
	return nil
}

// DeleteUser removes a person with all sessions. NotFound; Conflict for the last active administrator.
func (s *Store) DeleteUser(ctx context.Context, name string, ev audit.Event) error {
	return s.write(ctx, "delete user", func(ctx context.Context, t *tx) error {
		if err := t.keepsAdministrator(ctx, name); err != nil {
			return err
		}
		if err := t.mustExist(ctx, `SELECT count(*) FROM login WHERE name = $1`, "user", name); err != nil {
			return err
		}
		for _, query := range []string{
			`DELETE FROM session WHERE login = $1`, `UPDATE token SET state = 'revoked' WHERE login = $1`, `DELETE FROM recovery_code WHERE login = $1`,
			`DELETE FROM login_network WHERE login = $1`, `DELETE FROM login WHERE name = $1`,
		} {
			if _, err := t.change(ctx, query, name); err != nil {
				return fmt.Errorf("delete: %w", err)
			}
		}
		t.event(ev)
		return nil
	})
}

const userColumns = `SELECT name, password_hash, role, sees, state, issuer, subject, display_name, email, failures, locked_until,
	last_sign_in_at, created_at, version, totp FROM login `

func scanUser(r row) (pki.User, error) {
	var user pki.User
	var sees string
	var failures, locked, signedIn, created int64
	err := r.Scan(&user.Name, &user.PasswordHash, &user.Role, &sees, &user.State, &user.Issuer, &user.Subject, &user.DisplayName, &user.Email,
		&failures, &locked, &signedIn, &created, &user.Version, &user.TOTP)
	if err != nil {
		return user, err
	}
	if len(user.TOTP) == 0 {
		user.TOTP = nil
	}
	user.Failures = int(failures)
	user.LockedUntil, user.LastSignInAt, user.CreatedAt = fromMicros(locked), fromMicros(signedIn), fromMicros(created)
	user.Sees, err = decodeSees(sees)
	return user, err
}

// Users returns all people, by name.
func (s *Store) Users(ctx context.Context) ([]pki.User, error) {
	rows, err := s.query(ctx, userColumns+`ORDER BY name`)
	all, err := collect(rows, err, scanUser)
	return all, s.readError("read users", err)
}

// User returns a person by name, or NotFound.
func (s *Store) User(ctx context.Context, name string) (*pki.User, error) {
	return s.oneUser(ctx, name, `WHERE name = $1`, name)
}

// UserBySubject returns a person of an identity provider, or NotFound.
func (s *Store) UserBySubject(ctx context.Context, issuer, subject string) (*pki.User, error) {
	return s.oneUser(ctx, subject, `WHERE issuer = $1 AND subject = $2 AND subject <> ''`, issuer, subject)
}

func (s *Store) oneUser(ctx context.Context, name, where string, args ...any) (*pki.User, error) {
	user, err := scanUser(s.queryRow(ctx, userColumns+where, args...))
	return found(s, &user, err, "user", name)
}
