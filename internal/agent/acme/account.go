package acme

import (
	"context"
	"errors"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// outdated reports whether the account was registered with another EAB credential than the one of now. A CA binds an
// account to its credential for good, so a new credential takes a new account.
func (r *record) outdated(binding *acmeclient.Binding) bool {
	return binding != nil && r.bindingID != "" && r.bindingID != binding.KeyID
}

// standing is what a CA says of an account.
type standing int

const (
	good    standing = iota
	unknown          // the CA has no account with that URL
	dead             // deactivated or revoked: for good
)

// enrol returns a session of the account in the Secret, which it registers when that has not been done, and replaces when it
// is dead or was registered with another credential.
func (i *Issuer) enrol(ctx context.Context) (*session, error) {
	r, err := i.record(ctx)
	if err != nil {
		return nil, err
	}
	client, err := i.newClient(r)
	if err != nil {
		return nil, err
	}
	s := &session{client: client, account: r}
	if r.url == "" || r.directory != i.config.DirectoryURL {
		return i.register(ctx, s)
	}
	binding, err := i.config.Binding()
	if err == nil && r.outdated(binding) {
		fresh, err := i.replace(ctx, r)
		if err == nil {
			return fresh, nil
		}
		i.config.Logger.WarnContext(ctx, "no ACME account for the new EAB credential, the old one stays in use", telemetry.KeyError, err)
	}
	switch state, err := i.ask(ctx, client, r.url); {
	case err != nil:
		return nil, err
	case state == unknown:
		return i.register(ctx, s)
	case state == dead:
		return i.replace(ctx, r)
	}
	return s, nil
}

// record returns what the Secret says. While the API server is gone, what it said last still holds.
func (i *Issuer) record(ctx context.Context) (*record, error) {
	soon, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()
	r, err := i.store.load(soon)
	if err == nil && r == nil {
		return i.store.create(soon)
	}
	if s := i.session.Load(); err != nil && s != nil && ctx.Err() == nil {
		i.config.Logger.WarnContext(ctx, "ACME account not read again, it stays as it is", telemetry.KeyError, err)
		held := *s.account // that of the session does not change
		return &held, nil
	}
	return r, err
}

// ask asks the CA for the account, and has the client use it.
func (i *Issuer) ask(ctx context.Context, client *acmeclient.Client, url string) (standing, error) {
	if err := client.UseAccount(url); err != nil {
		return unknown, err
	}
	account, err := client.Account(ctx)
	switch {
	case err == nil && account.Status != "" && account.Status != string(pki.StatusValid):
		return dead, nil
	case err == nil:
		i.updateContact(ctx, client, account)
		return good, nil
	case acmeclient.IsProblem(err, "accountDoesNotExist"):
		return unknown, nil
	case acmeclient.IsProblem(err, "unauthorized"): // RFC 8555 section 7.3.6
		return dead, nil
	case refused(err) && !acmeclient.IsProblem(err, "badNonce") && !acmeclient.IsProblem(err, "rateLimited"):
		return good, nil // a CA that does not show accounts; orders will tell
	default:
		return unknown, err
	}
}

func (i *Issuer) contact() []string {
	if i.config.Email == "" {
		return nil
	}
	return []string{"mailto:" + i.config.Email}
}

// updateContact tells the CA of another address. Certificates do not depend on it.
func (i *Issuer) updateContact(ctx context.Context, client *acmeclient.Client, account *acmeclient.Account) {
	if i.config.Email == "" || slices.Equal(account.Contact, i.contact()) {
		return
	}
	if _, err := client.UpdateContact(ctx, i.contact()); err != nil {
		i.config.Logger.WarnContext(ctx, "contact of the ACME account not updated", telemetry.KeyError, err)
	}
}

// register registers the key of the session, or finds the account that it has. A CA that takes an EAB credential once only
// would refuse the credential for an account that is there already, so that is asked for without it first.
func (i *Issuer) register(ctx context.Context, s *session) (*session, error) {
	account, err := s.client.Register(ctx, acmeclient.Registration{OnlyReturnExisting: true})
	if err != nil && !refused(err) {
		return nil, err
	}
	if err != nil {
		if account, err = i.newAccount(ctx, s.client); err != nil {
			return nil, err
		}
	}
	if account.Status != "" && account.Status != string(pki.StatusValid) {
		return i.replace(ctx, s.account)
	}
	return s, i.keep(ctx, s.account, account.URL)
}

// newAccount registers the client's key.
func (i *Issuer) newAccount(ctx context.Context, client *acmeclient.Client) (*acmeclient.Account, error) {
	directory, err := client.Directory(ctx)
	if err != nil {
		return nil, err
	}
	binding, err := i.config.Binding()
	if err != nil {
		return nil, err
	}
	account, err := client.Register(ctx, acmeclient.Registration{
		Contact: i.contact(), TermsAgreed: directory.Meta.TermsOfService != "", Binding: binding,
	})
	if acmeclient.IsProblem(err, "externalAccountRequired") && binding == nil {
		return nil, fmt.Errorf("an EAB credential is needed: --credential-file, or --acme-eab-key-id and --acme-eab-key-file: %w", err)
	}
	if err == nil && account.Created {
		i.metrics.registrations.Inc()
		i.config.Logger.InfoContext(ctx, "ACME account registered", telemetry.KeyAccount, account.URL)
	}
	return account, err
}

// keep writes the account's URL into the Secret, unless another replica has written the same.
func (i *Issuer) keep(ctx context.Context, r *record, url string) error {
	r.url, r.directory, r.bindingID = url, i.config.DirectoryURL, ""
	if binding, err := i.config.Binding(); err == nil && binding != nil {
		r.bindingID = binding.KeyID
	}
	err := i.store.save(ctx, r)
	if !apierrors.IsConflict(err) {
		return err
	}
	theirs, err := i.store.load(ctx)
	if err != nil {
		return err
	}
	if theirs == nil || !same(theirs.key, r.key) || theirs.url != r.url {
		return errElsewhere()
	}
	r.secret, r.bindingID = theirs.secret, theirs.bindingID
	return nil
}

// replace makes a new account with a new key. It is written once it is good, so that a credential that is wrong does not cost
// the account that works; of two replicas that do this at once, one takes its account back.
func (i *Issuer) replace(ctx context.Context, old *record) (*session, error) {
	r, err := i.store.newRecord()
	if err != nil {
		return nil, err
	}
	client, err := i.newClient(r)
	if err != nil {
		return nil, err
	}
	account, err := i.newAccount(ctx, client)
	if err != nil {
		return nil, err
	}
	r.secret = old.secret
	if err = i.keep(ctx, r, account.URL); err != nil {
		if _, undone := client.Deactivate(ctx); undone != nil {
			err = errors.Join(err, fmt.Errorf("deactivate the account that is not needed: %w", undone))
		}
		return nil, err
	}
	i.config.Logger.WarnContext(ctx, "ACME account replaced", "before", old.url, telemetry.KeyAccount, r.url)
	return &session{client: client, account: r}, nil
}
