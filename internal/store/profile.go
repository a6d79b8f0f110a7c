package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// CreateProfile stores a profile, with version 1 whatever p says. A name that is taken is a Conflict.
func (s *Store) CreateProfile(ctx context.Context, p *pki.Profile, ev audit.Event) error {
	rules, err := encode(p.Rules)
	if err != nil {
		return fmt.Errorf("create profile: %w", err)
	}
	return s.write(ctx, "create profile", func(ctx context.Context, t *tx) error {
		if err := t.caExists(ctx, p.IssuingCA); err != nil {
			return err
		}
		n, err := t.change(ctx, `INSERT INTO profile (id, name, template, issuing_ca, method, state, rules, version,
				created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $9) ON CONFLICT DO NOTHING`,
			string(p.ID), p.Name, string(p.Template), string(p.IssuingCA), string(p.Method), string(p.State), rules,
			micros(p.CreatedAt), micros(p.UpdatedAt))
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		if n == 0 {
			return profileNameTaken(p.Name)
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

func profileNameTaken(name string) error {
	return fault.New(fault.Conflict, "a profile named %q exists", name).WithField("/name")
}

func (t *tx) caExists(ctx context.Context, id pki.CAID) error {
	n, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM ca WHERE id = $1`, string(id)))
	switch {
	case err != nil:
		return fmt.Errorf("look for the CA: %w", err)
	case n == 0:
		return fault.New(fault.Conflict, "there is no CA %.80q", id).WithField("/issuingCa")
	}
	return nil
}

// UpdateProfile replaces everything of a profile but its identifier and creation time. p.Version is the version that
// is replaced; the stored one is one higher. Another version in storage is a Conflict, and so is a taken name.
func (s *Store) UpdateProfile(ctx context.Context, p *pki.Profile, ev audit.Event) error {
	rules, err := encode(p.Rules)
	if err != nil {
		return fmt.Errorf("update profile: %w", err)
	}
	return s.write(ctx, "update profile", func(ctx context.Context, t *tx) error {
		if err := t.profileCanChange(ctx, p); err != nil {
			return err
		}
		_, err := t.change(ctx, `UPDATE profile SET name = $1, template = $2, issuing_ca = $3, method = $4, state = $5,
				rules = $6, version = version + 1, updated_at = $7 WHERE id = $8`,
			p.Name, string(p.Template), string(p.IssuingCA), string(p.Method), string(p.State), rules,
			micros(p.UpdatedAt), string(p.ID))
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

func (t *tx) profileCanChange(ctx context.Context, p *pki.Profile) error {
	version, err := scanned[int64](t.queryRow(ctx, `SELECT version FROM profile WHERE id = $1`+t.forUpdate(), string(p.ID)))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return profileNotFound(p.ID)
	case err != nil:
		return fmt.Errorf("read version: %w", err)
	case version != p.Version:
		return fault.New(fault.Conflict, "profile %q has version %d, not %d; read it again", p.Name, version, p.Version)
	}
	if err := t.caExists(ctx, p.IssuingCA); err != nil {
		return err
	}
	taken, err := scanned[int64](t.queryRow(ctx, `SELECT count(*) FROM profile WHERE name = $1 AND id <> $2`,
		p.Name, string(p.ID)))
	switch {
	case err != nil:
		return fmt.Errorf("look for the name: %w", err)
	case taken > 0:
		return profileNameTaken(p.Name)
	}
	return nil
}

func profileNotFound(id pki.ProfileID) error {
	return fault.New(fault.NotFound, "there is no profile %.80q", id)
}

// DeleteProfile deletes a profile that nothing refers to. What refers to it is listed, with counts, by the Conflict.
func (s *Store) DeleteProfile(ctx context.Context, id pki.ProfileID, ev audit.Event) error {
	return s.write(ctx, "delete profile", func(ctx context.Context, t *tx) error {
		var name string
		err := t.queryRow(ctx, `SELECT name FROM profile WHERE id = $1`+t.forUpdate(), string(id)).Scan(&name)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return profileNotFound(id)
		case err != nil:
			return fmt.Errorf("read: %w", err)
		}
		uses, err := t.profileUses(ctx, id)
		if err != nil {
			return err
		}
		if len(uses) > 0 {
			return fault.New(fault.Conflict, "profile %q is in use by %s", name, strings.Join(uses, ", ")).
				WithHint("suspend it instead: certloom profile suspend %s", name)
		}
		if _, err := t.change(ctx, `DELETE FROM profile WHERE id = $1`, string(id)); err != nil {
			return fmt.Errorf("delete: %w", err)
		}
		t.event(ev)
		return t.catalogChanged(ctx)
	})
}

// profileUses says what refers to a profile: "2 credentials", "1 account". A source of certificates counts also when
// its certificates are gone, since a writer may have it in its cache.
func (t *tx) profileUses(ctx context.Context, id pki.ProfileID) ([]string, error) {
	var credentials, accounts, tokens, connectors, sources, certificates int64
	err := t.queryRow(ctx, `SELECT
			(SELECT count(*) FROM credential WHERE profile_id = $1),
			(SELECT count(*) FROM account WHERE profile_id = $1),
			(SELECT count(*) FROM token WHERE profile_id = $1 AND state = 'active'),
			(SELECT count(*) FROM connector WHERE profile_id = $1),
			(SELECT count(*) FROM source WHERE profile_id = $1),
			(SELECT count(*) FROM certificate WHERE source_id IN (SELECT id FROM source WHERE profile_id = $1))`,
		string(id)).Scan(&credentials, &accounts, &tokens, &connectors, &sources, &certificates)
	if err != nil {
		return nil, fmt.Errorf("count uses: %w", err)
	}
	var uses []string
	for _, use := range []struct {
		n    int64
		noun string
	}{{credentials, "credential"}, {accounts, "account"}, {tokens, "API token"}, {connectors, "connector"}, {certificates, "certificate"}} {
		if use.n > 0 {
			uses = append(uses, plural(use.n, use.noun))
		}
	}
	if len(uses) == 0 && sources > 0 {
		uses = append(uses, "the record of past certificates")
	}
	return uses, nil
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// Profiles returns all profiles, ordered by name.
func (s *Store) Profiles(ctx context.Context) ([]pki.Profile, error) {
	rows, err := s.query(ctx, `SELECT id, name, template, issuing_ca, method, state, rules, version, created_at,
		updated_at FROM profile ORDER BY name`)
	all, err := collect(rows, err, func(r row) (pki.Profile, error) {
		var p pki.Profile
		var rules string
		var created, updated int64
		err := r.Scan(&p.ID, &p.Name, &p.Template, &p.IssuingCA, &p.Method, &p.State, &rules, &p.Version, &created, &updated)
		if err != nil {
			return pki.Profile{}, err
		}
		p.CreatedAt, p.UpdatedAt = fromMicros(created), fromMicros(updated)
		return p, decode("rules", rules, &p.Rules)
	})
	return all, s.readError("read profiles", err)
}
