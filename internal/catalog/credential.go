package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// KeyLen is the length of HMAC keys, in bytes: the output of SHA-256, as RFC 7518 section 3.2 asks of HS256.
const KeyLen = 32

// sealPurpose is what HMAC keys are sealed for.
const sealPurpose = "eab-credential"

// NewCredential is what an administrator says of a credential to be.
type NewCredential struct {
	ProfileID   pki.ProfileID
	Name        string         // unique within the profile
	ExpiresAt   time.Time      // zero: never
	MaxAccounts int            // 0: no limit
	Limit       *pki.NameRules // must be narrower than the profile's rules; nil: the profile's
}

// CreateCredential makes an EAB credential and returns it with its HMAC key, which nobody can ask for again. All problems
// of the request come at once.
func (c *Catalog) CreateCredential(ctx context.Context, request NewCredential, by audit.By) (*pki.Credential, []byte, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, nil, err
	}
	p, ok := snapshot.Profile(request.ProfileID)
	if !ok {
		return nil, nil, noProfile(string(request.ProfileID))
	}
	now := c.config.Now().UTC()
	if err := checkCredential(snapshot, p, &request, now); err != nil {
		return nil, nil, err
	}
	credential := &pki.Credential{
		Name: request.Name, ProfileID: p.ID, State: pki.Active, ExpiresAt: request.ExpiresAt.UTC(),
		MaxAccounts: request.MaxAccounts, Limit: request.Limit, CreatedAt: now,
	}
	// The KID goes through shells, YAML and URLs, so it is letters and digits only.
	if credential.ID, err = pki.NewID[pki.CredentialID](now, c.config.Random); err != nil {
		return nil, nil, err
	}
	key, err := newKey(c.config.Random)
	if err != nil {
		return nil, nil, err
	}
	if credential.SealedKey, err = c.config.Vault.Seal(sealPurpose, string(credential.ID), key); err != nil {
		return nil, nil, fmt.Errorf("seal HMAC key: %w", err)
	}
	detail := audit.Detail{Profile: p.ID, Credential: credential.ID, Changes: compare(nil, credentialFields(credential))}
	event := c.event(by, audit.CredentialCreate, p.Name+"/"+credential.Name, detail)
	if err := c.config.Store.CreateCredential(ctx, credential, event); err != nil {
		return nil, nil, fmt.Errorf("create credential: %w", err)
	}
	c.reload(ctx)
	return credential, key, nil
}

// newKey returns a key whose base64url form does not begin with a hyphen: people paste it behind flags, where it
// would be taken for one.
func newKey(random io.Reader) ([]byte, error) {
	const hyphen = 62 // its place in the alphabet of RFC 4648 section 5
	key := make([]byte, KeyLen)
	for {
		if _, err := io.ReadFull(random, key); err != nil {
			return nil, fmt.Errorf("read randomness: %w", err)
		}
		if key[0]>>2 != hyphen {
			return key, nil
		}
	}
}

func checkCredential(snapshot *Snapshot, p *pki.Profile, request *NewCredential, now time.Time) error {
	errs := []error{request.Check(now)}
	add := func(field string, err *fault.Error) { errs = append(errs, err.WithField(field)) }
	if p.Method == pki.RESTAPI {
		add("/profile", fault.New(fault.Malformed, "profile %q has enrollment method %s, whose clients have API tokens, not EAB credentials", p.Name, p.Method).
			WithHint("certloom token create NAME --role requester --profile %s", p.Name))
	}
	if request.Limit != nil {
		errs = append(errs, narrower(request.Limit, p))
	}
	for _, other := range snapshot.CredentialsOf(p.ID) {
		if other.Name == request.Name {
			errs = append(errs, fault.New(fault.Conflict, "profile %q has a credential %q already (%s)", p.Name, other.Name, other.State).
				WithField("/name").WithHint("choose another name; the names of revoked credentials stay taken, so that the audit log is clear"))
		}
	}
	return errors.Join(errs...)
}

// Check finds what is wrong with the request whatever its profile is; all of it at once.
func (request *NewCredential) Check(now time.Time) error {
	var errs []error
	add := func(field string, err *fault.Error) { errs = append(errs, err.WithField(field)) }
	if err := pki.CheckName(request.Name); err != nil {
		add("/name", fault.New(fault.Malformed, "credential %v", err))
	}
	if !request.ExpiresAt.IsZero() && !request.ExpiresAt.After(now) {
		add("/expiresAt", fault.New(fault.Malformed, "expiry %s is not in the future; it is %s now",
			request.ExpiresAt.UTC().Format(time.RFC3339), now.Format(time.RFC3339)))
	}
	if request.MaxAccounts < 0 || request.MaxAccounts > maxMaxAccounts {
		add("/maxAccounts", fault.New(fault.Malformed, "number of accounts %d is not within 0 (no limit) and %d", request.MaxAccounts, maxMaxAccounts))
	}
	if request.Limit != nil {
		errs = append(errs, policy.CheckNames(request.Limit, "/limit"))
	}
	return errors.Join(errs...)
}

// maxMaxAccounts bounds a limit that is meant to be one.
const maxMaxAccounts = 1_000_000

// RevokeCredential ends a credential for good, on this replica at once and on the others within a refresh. Revoking
// a revoked one changes nothing.
func (c *Catalog) RevokeCredential(ctx context.Context, id pki.CredentialID, by audit.By) (*pki.Credential, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	old, ok := snapshot.Credential(id)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no credential %.80q", id).WithHint("list them: certloom credential list")
	}
	if old.State == pki.Revoked {
		return old, nil
	}
	now := c.config.Now().UTC()
	detail := audit.Detail{
		Profile: old.ProfileID, Credential: id,
		Changes: []audit.Change{{Field: "/state", Old: string(old.State), New: string(pki.Revoked)}},
	}
	event := c.event(by, audit.CredentialRevoke, snapshot.profileName(old.ProfileID)+"/"+old.Name, detail)
	if err := c.config.Store.RevokeCredential(ctx, id, now, event); err != nil {
		return nil, fmt.Errorf("revoke credential: %w", err)
	}
	c.reload(ctx)
	revoked := *old
	revoked.State, revoked.RevokedAt = pki.Revoked, now
	return &revoked, nil
}

// CredentialKey returns a credential's HMAC key, to verify what its client sends. It must not be kept.
func (c *Catalog) CredentialKey(_ context.Context, credential *pki.Credential) ([]byte, error) {
	key, err := c.config.Vault.Unseal(sealPurpose, string(credential.ID), credential.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("unseal HMAC key of credential %q: %w", credential.ID, err)
	}
	return key, nil
}
