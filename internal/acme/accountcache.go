package acme

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/certloom/certloom/internal/acme/jose"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// How long a copy of an account is believed. Every request needs one, so this is also how long a key that was changed
// on another replica, or an account that was deactivated there, still passes the door here; finalize asks the store
// again. While the database does not answer, an older copy is better than none: a client that cannot be told who it
// is gives up its order for good (cert-manager signs with "jwk" then), and nothing is issued without the database.
const (
	accountFresh = 2 * time.Second
	accountStale = 10 * time.Minute
	accountSize  = 16 << 10
)

// knownAccount is an account and its parsed key. Neither is changed once it is here.
type knownAccount struct {
	account *pki.Account
	key     *jose.Key
	read    time.Time
}

// accountName is what a client knows of its account before it knows the URL.
type accountName struct {
	scope      pki.ProfileID
	thumbprint string
}

// accounts keeps copies of accounts for a moment. It is safe for concurrent use.
type accounts struct {
	store   AccountReader
	now     func() time.Time
	byID    *lru.Cache[pki.AccountID, *knownAccount]
	byName  *lru.Cache[accountName, pki.AccountID]
	flights singleflight.Group
	changes atomic.Uint64 // of accounts by this process: a read that began before a change is not kept
}

func newAccounts(store AccountReader, now func() time.Time) (*accounts, error) {
	byID, err := lru.New[pki.AccountID, *knownAccount](accountSize)
	if err != nil {
		return nil, fmt.Errorf("account cache: %w", err)
	}
	byName, err := lru.New[accountName, pki.AccountID](accountSize)
	if err != nil {
		return nil, fmt.Errorf("account cache: %w", err)
	}
	return &accounts{store: store, now: now, byID: byID, byName: byName}, nil
}

// get returns an account by its identifier, NotFound when there is none.
func (a *accounts) get(ctx context.Context, id pki.AccountID) (*knownAccount, error) {
	copied, ok := a.byID.Get(id)
	if ok && a.age(copied) < accountFresh {
		return copied, nil
	}
	fresh, err := a.load(ctx, string(id), func(ctx context.Context) (*pki.Account, error) { return a.store.Account(ctx, id) })
	if err != nil && !fault.Is(err, fault.NotFound) && ok && a.age(copied) < accountStale {
		return copied, nil
	}
	return fresh, err
}

// find returns the account of a key, NotFound when there is none.
func (a *accounts) find(ctx context.Context, scope pki.ProfileID, thumbprint string) (*knownAccount, error) {
	name := accountName{scope, thumbprint}
	if id, ok := a.byName.Get(name); ok {
		known, err := a.get(ctx, id)
		if err == nil && known.account.Thumbprint == thumbprint {
			return known, nil
		}
		a.byName.Remove(name)
	}
	return a.load(ctx, string(scope)+" "+thumbprint, func(ctx context.Context) (*pki.Account, error) {
		return a.store.AccountByThumbprint(ctx, scope, thumbprint)
	})
}

// load reads an account once for all who ask for it at the same time. Whoever asked first may leave; the others still
// want the answer.
func (a *accounts) load(ctx context.Context, flight string, read func(context.Context) (*pki.Account, error)) (*knownAccount, error) {
	value, err, _ := a.flights.Do(flight, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
		defer cancel()
		changes := a.changes.Load()
		found, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return a.keep(found, changes)
	})
	if err != nil {
		return nil, err
	}
	known, ok := value.(*knownAccount)
	if !ok {
		return nil, fmt.Errorf("read account: answer is %T", value)
	}
	return known, nil
}

// reload reads an account from the store, whatever is remembered and whoever else is reading it.
func (a *accounts) reload(ctx context.Context, id pki.AccountID) (*knownAccount, error) {
	changes := a.changes.Load()
	found, err := a.store.Account(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.keep(found, changes)
}

// loadTimeout bounds a read whose first caller may have left.
const loadTimeout = 10 * time.Second

// keep remembers an account that was read when this process had made the given number of changes.
func (a *accounts) keep(found *pki.Account, changes uint64) (*knownAccount, error) {
	parsed, err := jose.ParseKey(found.JWK)
	if err != nil {
		// %v hides the kind: it is our record that is bad, not the client's request.
		return nil, fmt.Errorf("parse key of account %s: %v", found.ID, err) //nolint:errorlint // see above
	}
	known := &knownAccount{account: found, key: parsed, read: a.now()}
	if a.changes.Load() == changes {
		a.byID.Add(found.ID, known)
		a.byName.Add(accountName{found.Scope, found.Thumbprint}, found.ID)
	}
	return known, nil
}

// forget drops an account that this process has changed.
func (a *accounts) forget(account *pki.Account) {
	a.changes.Add(1)
	a.byID.Remove(account.ID)
	a.byName.Remove(accountName{account.Scope, account.Thumbprint})
	// Whoever asks from now on must not be given the answer of a read that began before the change.
	a.flights.Forget(string(account.ID))
	a.flights.Forget(string(account.Scope) + " " + account.Thumbprint)
}

func (a *accounts) age(k *knownAccount) time.Duration { return a.now().Sub(k.read) }
