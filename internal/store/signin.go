package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// SignInPlace returns what is known of attempts from a network, to sign in as a user or, with "", as anybody.
func (s *Store) SignInPlace(ctx context.Context, user, network string, now time.Time) (pki.SignInPlace, error) {
	var place pki.SignInPlace
	var failures, until, known, locked int64
	err := s.queryRow(ctx, `SELECT
		coalesce((SELECT failures FROM sign_in_failure WHERE network = $2 AND until > $3), 0),
		coalesce((SELECT until FROM sign_in_failure WHERE network = $2 AND until > $3), 0),
		(SELECT count(*) FROM login_network WHERE login = $1 AND network = $2),
		coalesce((SELECT locked_until FROM login_network WHERE login = $1 AND network = $2), (SELECT locked_until FROM login WHERE name = $1), 0)`,
		user, network, micros(now)).Scan(&failures, &until, &known, &locked)
	place.Failures, place.Until, place.Known, place.LockedUntil = int(failures), fromMicros(until), known > 0, fromMicros(locked)
	return place, s.readError("read failures to sign in", err)
}

// NoteFailure counts an attempt to sign in that failed, and locks the user, from the network or from all that are not the
// user's, for as long as lockedFor says of so many failures. The event, if any, is stored with it.
func (s *Store) NoteFailure(ctx context.Context, failed pki.FailedSignIn, lockedFor func(failures int) time.Duration, ev *audit.Event) error {
	// There are no more rows than passwords can be hashed in the time for which they are kept.
	return s.write(ctx, "note failure to sign in", func(ctx context.Context, t *tx) error {
		if _, err := t.change(ctx, `DELETE FROM sign_in_failure WHERE until <= $1`, micros(failed.At)); err != nil {
			return fmt.Errorf("forget failures: %w", err)
		}
		_, err := t.change(ctx, `INSERT INTO sign_in_failure (network, failures, until) VALUES ($1, 1, $2)
			ON CONFLICT (network) DO UPDATE SET failures = sign_in_failure.failures + 1`, failed.Network, micros(failed.Until))
		if err != nil {
			return fmt.Errorf("count: %w", err)
		}
		if ev != nil {
			t.event(*ev)
		}
		if failed.User == "" {
			return nil
		}
		for _, row := range []struct {
			count, lock string
			args        []any
		}{
			{
				`UPDATE login_network SET failures = failures + 1 WHERE login = $1 AND network = $2 RETURNING failures`,
				`UPDATE login_network SET locked_until = $3 WHERE login = $1 AND network = $2`,
				[]any{failed.User, failed.Network},
			},
			{
				`UPDATE login SET failures = failures + 1 WHERE name = $1 RETURNING failures`,
				`UPDATE login SET locked_until = $2 WHERE name = $1`,
				[]any{failed.User},
			},
		} {
			failures, err := scanned[int64](t.queryRow(ctx, row.count, row.args...))
			if errors.Is(err, sql.ErrNoRows) {
				continue // not a network of the user's; or the user is gone
			}
			if err != nil {
				return fmt.Errorf("count of user: %w", err)
			}
			until := failed.At.Add(lockedFor(int(failures)))
			if _, err := t.change(ctx, row.lock, append(row.args, micros(until))...); err != nil {
				return fmt.Errorf("lock: %w", err)
			}
			return nil
		}
		return nil
	})
}

// NoteSignIn forgets a user's failures and remembers the network, in place of those from which the user has not signed in
// for some time.
func (s *Store) NoteSignIn(ctx context.Context, user, network string, at, forget time.Time) error {
	return s.write(ctx, "note sign-in", func(ctx context.Context, t *tx) error {
		_, err := t.change(ctx, `UPDATE login SET failures = 0, locked_until = 0,
			last_sign_in_at = CASE WHEN $1 > last_sign_in_at THEN $1 ELSE last_sign_in_at END WHERE name = $2`, micros(at), user)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if _, err := t.change(ctx, `DELETE FROM login_network WHERE login = $1 AND seen_at < $2`, user, micros(forget)); err != nil {
			return fmt.Errorf("forget networks: %w", err)
		}
		_, err = t.change(ctx, `INSERT INTO login_network (login, network, failures, locked_until, seen_at) VALUES ($1, $2, 0, 0, $3)
			ON CONFLICT (login, network) DO UPDATE SET failures = 0, locked_until = 0, seen_at = excluded.seen_at`, user, network, micros(at))
		if err != nil {
			return fmt.Errorf("remember network: %w", err)
		}
		return nil
	})
}

// SetSecondFactor stores a user's second factor in place of any before, with its recovery codes; nothing sealed takes it away.
// Conflict: the user is not of the version any more, if one is given.
func (s *Store) SetSecondFactor(ctx context.Context, user string, version int64, factor pki.SecondFactor, ev audit.Event) error {
	return s.write(ctx, "set second factor", func(ctx context.Context, t *tx) error {
		n, err := t.change(ctx, `UPDATE login SET totp = $1, totp_step = $2, version = version + 1 WHERE name = $3 AND (version = $4 OR $4 = 0)`,
			blob(factor.Sealed), factor.Step, user, version)
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n == 0 {
			if err := t.mustExist(ctx, `SELECT count(*) FROM login WHERE name = $1`, "user", user); err != nil {
				return err
			}
			return fault.New(fault.Conflict, "user %q was changed in the meantime; begin again", user)
		}
		if err := t.setRecoveryCodes(ctx, user, factor.Recovery); err != nil {
			return err
		}
		t.event(ev)
		return nil
	})
}

// SetRecoveryCodes puts recovery codes in place of those before.
func (s *Store) SetRecoveryCodes(ctx context.Context, user string, hashes [][32]byte, ev audit.Event) error {
	return s.write(ctx, "set recovery codes", func(ctx context.Context, t *tx) error {
		found, err := scanned[int64](t.queryRow(ctx, `SELECT length(totp) FROM login WHERE name = $1`+t.forUpdate(), user))
		if errors.Is(err, sql.ErrNoRows) || err == nil && found == 0 {
			return fault.New(fault.Conflict, "user %q has no second factor any more", user)
		}
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		t.event(ev)
		return t.setRecoveryCodes(ctx, user, hashes)
	})
}

func (t *tx) setRecoveryCodes(ctx context.Context, user string, hashes [][32]byte) error {
	if _, err := t.change(ctx, `DELETE FROM recovery_code WHERE login = $1`, user); err != nil {
		return fmt.Errorf("delete recovery codes: %w", err)
	}
	for _, hash := range hashes {
		if _, err := t.change(ctx, `INSERT INTO recovery_code (login, hash) VALUES ($1, $2)`, user, hash[:]); err != nil {
			return fmt.Errorf("insert recovery code: %w", err)
		}
	}
	return nil
}

// UseStep takes a step of time for a code of a user's. False: it, or a later one, was taken before, here or elsewhere.
func (s *Store) UseStep(ctx context.Context, user string, step int64) (bool, error) {
	return s.takes(ctx, nil, `UPDATE login SET totp_step = $2 WHERE name = $1 AND totp_step < $2`, user, step)
}

// UseRecoveryCode takes a recovery code of a user's, with its event. False: there is none of the hash any more.
func (s *Store) UseRecoveryCode(ctx context.Context, user string, hash [32]byte, ev audit.Event) (bool, error) {
	return s.takes(ctx, &ev, `DELETE FROM recovery_code WHERE login = $1 AND hash = $2`, user, hash[:])
}

// takes reports whether a change changed something.
func (s *Store) takes(ctx context.Context, ev *audit.Event, change string, args ...any) (bool, error) {
	n := int64(0)
	err := s.write(ctx, "take code", func(ctx context.Context, t *tx) (err error) {
		if n, err = t.change(ctx, change, args...); err != nil {
			return fmt.Errorf("update: %w", err)
		}
		if n > 0 && ev != nil {
			t.event(*ev)
		}
		return nil
	})
	return n > 0, err
}

// RecoveryCodes returns how many recovery codes a user has left.
func (s *Store) RecoveryCodes(ctx context.Context, user string) (int, error) {
	n, err := scanned[int64](s.queryRow(ctx, `SELECT count(*) FROM recovery_code WHERE login = $1`, user))
	return int(n), s.readError("count recovery codes", err)
}
