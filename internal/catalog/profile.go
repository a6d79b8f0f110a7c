package catalog

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// CreateProfile checks and stores a new profile. Identifier, version and times are set here; an empty State means
// Active. The errors are all problems at once, each a *fault.Error with the field's JSON pointer.
func (c *Catalog) CreateProfile(ctx context.Context, p pki.Profile, by audit.By) (*pki.Profile, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	now := c.config.Now().UTC()
	if p.ID, err = pki.NewID[pki.ProfileID](now, c.config.Random); err != nil {
		return nil, err
	}
	if p.State == "" {
		p.State = pki.Active
	}
	p.Version, p.CreatedAt, p.UpdatedAt = 1, now, now
	if err := checkProfile(snapshot, &p); err != nil {
		return nil, err
	}
	if _, taken := snapshot.ProfileByName(p.Name); taken {
		return nil, profileTaken(p.Name)
	}
	detail := audit.Detail{Profile: p.ID, Changes: compare(nil, profileFields(snapshot, &p))}
	if err := c.config.Store.CreateProfile(ctx, &p, c.event(by, audit.ProfileCreate, p.Name, detail)); err != nil {
		return nil, fmt.Errorf("create profile: %w", err)
	}
	c.reload(ctx)
	return &p, nil
}

func profileTaken(name string) error {
	return fault.New(fault.Conflict, "profile name %q is taken", name).WithField("/name").
		WithHint("choose another name, or change the profile: certloom profile update %s", name)
}

// UpdateProfile replaces a profile's issuing CA, enrollment method and rules. Its Version says what it replaces:
// Conflict if somebody else has changed the profile since. Name and template cannot be changed (the name is part of ACME
// addresses, the template bounds everything else), nor can the state, which SetProfileState changes.
func (c *Catalog) UpdateProfile(ctx context.Context, p pki.Profile, by audit.By) (*pki.Profile, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	old, ok := snapshot.Profile(p.ID)
	if !ok {
		return nil, noProfile(string(p.ID))
	}
	if p.Version != old.Version {
		return nil, fault.New(fault.Conflict, "profile %q has version %d, not %d: it was changed meanwhile", old.Name, old.Version, p.Version).
			WithField("/version").WithHint("look at it again (certloom profile get %s) and repeat the change", old.Name)
	}
	p.State, p.CreatedAt, p.UpdatedAt = old.State, old.CreatedAt, c.config.Now().UTC()
	if err := errors.Join(unchanged(old, &p), checkProfile(snapshot, &p)); err != nil {
		return nil, err
	}
	changes := compare(profileFields(snapshot, old), profileFields(snapshot, &p))
	if len(changes) == 0 {
		return old, nil
	}
	return c.storeProfile(ctx, p, by, audit.ProfileUpdate, changes)
}

// unchanged refuses to change what is fixed when a profile is created.
func unchanged(old, p *pki.Profile) error {
	var errs []error
	if p.Name != old.Name {
		errs = append(errs, fault.New(fault.Malformed, "profile name %q cannot be changed to %.80q: it is part of ACME addresses", old.Name, p.Name).
			WithField("/name").WithHint("clone the profile under the new name"))
	}
	if p.Template != old.Template {
		errs = append(errs, fault.New(fault.Malformed, "template %q of profile %q cannot be changed to %.80q", old.Template, old.Name, p.Template).
			WithField("/template").WithHint("create another profile"))
	}
	return errors.Join(errs...)
}

// storeProfile stores a changed profile and returns it with its new version.
func (c *Catalog) storeProfile(ctx context.Context, p pki.Profile, by audit.By, action audit.Action, changes []audit.Change) (*pki.Profile, error) {
	stored := p // the store reads the version that is replaced
	event := c.event(by, action, p.Name, audit.Detail{Profile: p.ID, Changes: changes})
	if err := c.config.Store.UpdateProfile(ctx, &stored, event); err != nil {
		return nil, fmt.Errorf("update profile: %w", err)
	}
	c.reload(ctx)
	p.Version++
	return &p, nil
}

// CloneProfile creates a profile with a new name and everything else of another one, active. Credentials are not
// cloned: each belongs to one client under one profile.
func (c *Catalog) CloneProfile(ctx context.Context, id pki.ProfileID, name string, by audit.By) (*pki.Profile, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	original, ok := snapshot.Profile(id)
	if !ok {
		return nil, noProfile(string(id))
	}
	clone := *original
	clone.Name, clone.State = name, pki.Active
	return c.CreateProfile(ctx, clone, by)
}

// SetProfileState suspends or activates a profile. Setting the state that it has changes nothing.
func (c *Catalog) SetProfileState(ctx context.Context, id pki.ProfileID, state pki.State, by audit.By) (*pki.Profile, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	old, ok := snapshot.Profile(id)
	if !ok {
		return nil, noProfile(string(id))
	}
	action, err := stateAction(state, audit.ProfileSuspend, audit.ProfileActivate)
	if err != nil || old.State == state {
		return old, err
	}
	p := *old
	p.State, p.UpdatedAt = state, c.config.Now().UTC()
	changes := []audit.Change{{Field: "/state", Old: string(old.State), New: string(state)}}
	return c.storeProfile(ctx, p, by, action, changes)
}

// stateAction returns the action that leads to a state, or Malformed for a state that cannot be set.
func stateAction(state pki.State, suspend, activate audit.Action) (audit.Action, error) {
	switch state {
	case pki.Suspended:
		return suspend, nil
	case pki.Active:
		return activate, nil
	default:
		return "", fault.New(fault.Malformed, "state %.40q is not one of active, suspended", state).WithField("/state")
	}
}

// DeleteProfile deletes a profile that nothing refers to; Conflict says what does.
func (c *Catalog) DeleteProfile(ctx context.Context, id pki.ProfileID, by audit.By) error {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return err
	}
	old, ok := snapshot.Profile(id)
	if !ok {
		return noProfile(string(id))
	}
	detail := audit.Detail{Profile: id, Changes: compare(profileFields(snapshot, old), nil)}
	if err := c.config.Store.DeleteProfile(ctx, id, c.event(by, audit.ProfileDelete, old.Name, detail)); err != nil {
		return fmt.Errorf("delete profile: %w", err)
	}
	c.reload(ctx)
	return nil
}

func noProfile(name string) error {
	return fault.New(fault.NotFound, "there is no profile %.80q", name).WithHint("list them: certloom profile list")
}

// checkProfile judges a profile by itself and together with its issuing CA.
func checkProfile(snapshot *Snapshot, p *pki.Profile) error {
	return errors.Join(policy.CheckProfile(p), checkIssuingCA(snapshot, p))
}

func checkIssuingCA(snapshot *Snapshot, p *pki.Profile) error {
	const at = "/issuingCa"
	if p.IssuingCA == "" {
		return nil // CheckProfile has said so
	}
	ca, ok := snapshot.CA(p.IssuingCA)
	switch {
	case !ok:
		return fault.New(fault.Malformed, "issuing CA %.80q does not exist", p.IssuingCA).WithField(at).
			WithHint("list the CAs: certloom ca list")
	case ca.Kind != pki.IssuingCA:
		return fault.New(fault.Malformed, "CA %q is a root; only issuing CAs sign certificates of profiles", ca.Name).WithField(at).
			WithHint("create an issuing CA under it: certloom ca create-issuing NAME --parent %s", ca.Name)
	case ca.State == pki.Pending:
		return fault.New(fault.Malformed, "CA %q is pending: it has no certificate yet", ca.Name).WithField(at).
			WithHint("install the certificate that its outside root made: certloom ca install %s --certificate FILE --chain FILE", ca.Name)
	case p.Template == pki.MeshIntermediate:
		return checkPathLength(ca)
	}
	return nil
}

// checkPathLength refuses CA certificates under a CA that may have none below it (RFC 5280 section 4.2.1.9).
func checkPathLength(ca *pki.CA) error {
	certificate, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		return fmt.Errorf("parse certificate of CA %q: %w", ca.Name, err)
	}
	if certificate.MaxPathLen == 0 && certificate.MaxPathLenZero {
		return fault.New(fault.Malformed, "CA %q has path length 0, so it cannot sign the CA certificates of template %s",
			ca.Name, pki.MeshIntermediate).WithField("/issuingCa").
			WithHint("create an issuing CA with --path-length 1 under a root of path length 2 or more")
	}
	return nil
}
