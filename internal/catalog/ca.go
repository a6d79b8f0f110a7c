package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// SetCAState suspends or activates a CA. A suspended one signs no certificates, but still CRLs and OCSP answers. One
// that is pending has nothing to activate. Setting the state that it has changes nothing.
func (c *Catalog) SetCAState(ctx context.Context, id pki.CAID, state pki.State, by audit.By) (*pki.CA, error) {
	old, err := c.freshCA(ctx, id)
	if err != nil {
		return nil, err
	}
	action, err := stateAction(state, audit.CASuspend, audit.CAActivate)
	switch {
	case err != nil:
		return nil, err
	case old.State == state:
		return old, nil
	case old.State == pki.Revoked:
		return nil, fault.New(fault.Conflict, "CA %q was revoked at %s, for good", old.Name, old.RevokedAt.UTC().Format(time.RFC3339))
	case old.State == pki.Pending:
		return nil, fault.New(fault.Conflict, "CA %q is pending: it has no certificate yet", old.Name).
			WithHint("install the certificate that its outside root made: certloom ca install %s --certificate FILE --chain FILE", old.Name)
	}
	ca := *old
	ca.State = state
	changes := []audit.Change{{Field: "/state", Old: string(old.State), New: string(state)}}
	return c.storeCA(ctx, old, ca, by, action, changes)
}

// CAReasons returns the reasons that may be given for revoking a CA (RFC 5280 section 5.3.1).
func CAReasons() []pki.RevocationReason {
	return []pki.RevocationReason{
		pki.Unspecified, pki.CACompromise, pki.AffiliationChanged, pki.Superseded, pki.CessationOfOperation, pki.PrivilegeWithdrawn,
	}
}

// RevokeCA revokes the certificate of an issuing CA, for good: it is on the next CRL of the CA above, and it signs no more
// certificates, on this replica at once and on the others within a refresh. CRLs and OCSP answers of its own go on.
// A root, and a CA whose parent's key is not here, cannot be revoked here.
func (c *Catalog) RevokeCA(ctx context.Context, id pki.CAID, reason pki.RevocationReason, by audit.By) (*pki.CA, error) {
	old, err := c.freshCA(ctx, id)
	if err != nil {
		return nil, err
	}
	switch {
	case !slices.Contains(CAReasons(), reason):
		return nil, fault.New(fault.BadRevocationReason, "revocation reason %s is not one of %v", reason, CAReasons()).WithField("/reason")
	case old.State == pki.Revoked:
		return nil, fault.New(fault.AlreadyRevoked, "CA %q was revoked at %s", old.Name, old.RevokedAt.UTC().Format(time.RFC3339))
	case old.State == pki.Pending:
		return nil, fault.New(fault.Conflict, "CA %q is pending: it has no certificate yet", old.Name)
	case old.ParentID == "" && old.Kind == pki.RootCA:
		return nil, fault.New(fault.Conflict, "CA %q is a root, which nobody above can revoke", old.Name).
			WithHint("suspend it, and take it out of what clients trust")
	case old.ParentID == "":
		return nil, fault.New(fault.Conflict, "CA %q was signed by a CA whose key is not here", old.Name).
			WithHint("have its certificate revoked there, and suspend it here: certloom ca suspend %s", old.Name)
	}
	ca := *old
	ca.State, ca.RevokedAt, ca.Reason = pki.Revoked, c.config.Now().UTC().Truncate(time.Second), reason
	changes := []audit.Change{
		{Field: "/state", Old: string(old.State), New: string(pki.Revoked)}, {Field: "/reason", New: reason.String()},
	}
	return c.storeCA(ctx, old, ca, by, audit.CARevoke, changes)
}

// UpdateCASettings replaces the settings of a CA. They go into certificates that it signs from now on. All problems
// come at once.
func (c *Catalog) UpdateCASettings(ctx context.Context, id pki.CAID, settings pki.CASettings, by audit.By) (*pki.CA, error) {
	if err := CheckCASettings(settings, ""); err != nil {
		return nil, err
	}
	old, err := c.freshCA(ctx, id)
	if err != nil {
		return nil, err
	}
	changes := compare(settingsFields(old.Settings), settingsFields(settings))
	if len(changes) == 0 {
		return old, nil
	}
	ca := *old
	ca.Settings = settings
	return c.storeCA(ctx, old, ca, by, audit.CAUpdate, changes)
}

func (c *Catalog) freshCA(ctx context.Context, id pki.CAID) (*pki.CA, error) {
	snapshot, err := c.fresh(ctx)
	if err != nil {
		return nil, err
	}
	ca, ok := snapshot.CA(id)
	if !ok {
		return nil, fault.New(fault.NotFound, "there is no CA %.80q", id).WithHint("list them: certloom ca list")
	}
	return ca, nil
}

func (c *Catalog) storeCA(ctx context.Context, old *pki.CA, ca pki.CA, by audit.By, action audit.Action, changes []audit.Change) (*pki.CA, error) {
	ca.UpdatedAt = c.config.Now().UTC()
	// The store compares and swaps on the time, so it must move, also for two changes in the same tick of the clock.
	if !ca.UpdatedAt.After(old.UpdatedAt) {
		ca.UpdatedAt = old.UpdatedAt.Add(time.Millisecond)
	}
	event := c.event(by, action, ca.Name, audit.Detail{Changes: changes})
	if err := c.config.Store.UpdateCA(ctx, &ca, old.UpdatedAt, event); err != nil {
		return nil, fmt.Errorf("update CA: %w", err)
	}
	c.reload(ctx)
	return &ca, nil
}

// Bounds of a CA's settings: each address goes into every certificate.
const (
	maxURLs   = 5
	maxURLLen = 200
)

// CheckCASettings checks the addresses that a CA puts into certificates. It returns all problems, joined, each
// a *fault.Error of kind Malformed with the JSON pointer of the field at fault, which begins with the given prefix.
func CheckCASettings(settings pki.CASettings, prefix string) error {
	var errs []error
	check := func(field, what string, values []string) {
		if len(values) > maxURLs {
			errs = append(errs, fault.New(fault.Malformed, "list of %s addresses has %d entries, more than %d", what, len(values), maxURLs).WithField(field))
			return
		}
		for i, value := range values {
			if rule := judgeURL(value); rule != "" {
				errs = append(errs, fault.New(fault.Malformed, "%s address %.100q %s", what, value, rule).WithField(fmt.Sprintf("%s/%d", field, i)))
			}
		}
	}
	check(prefix+"/crlUrls", "CRL", settings.CRLURLs)
	check(prefix+"/ocspUrls", "OCSP", settings.OCSPURLs)
	check(prefix+"/issuerUrls", "issuer", settings.IssuerURLs)
	return errors.Join(errs...)
}

// judgeURL says why an address may not go into certificates, or "".
func judgeURL(value string) string {
	parsed, err := url.Parse(value)
	switch {
	case len(value) > maxURLLen:
		return fmt.Sprintf("has %d characters, more than %d", len(value), maxURLLen)
	case err != nil || parsed.Host == "" || !ascii(value):
		return "is not a URL in ASCII with a host"
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return "is not http or https"
	case parsed.User != nil || parsed.Fragment != "":
		return "has user information or a fragment"
	}
	return ""
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
