package acme

import (
	"context"
	"time"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/issue"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/revoke"
)

// Catalog is what administrators configured.
type Catalog interface {
	// Snapshot returns the newest view, however old, to show things.
	Snapshot() *catalog.Snapshot
	// Current returns the view to decide with, or Unavailable when it is too old for that.
	Current() (*catalog.Snapshot, error)
	// CredentialKey returns the HMAC key of an EAB credential.
	CredentialKey(ctx context.Context, c *pki.Credential) ([]byte, error)
}

// Issuer makes certificates. Issue returns only what is recorded durably.
type Issuer interface {
	Issue(ctx context.Context, r issue.Request) (*pki.Certificate, error)
	Chain(c *pki.Certificate, includeRoot bool) ([][]byte, error)
}

// Revoker revokes certificates.
type Revoker interface {
	Revoke(ctx context.Context, r revoke.Request) error
}

// Nonces makes nonces and redeems each of them once (RFC 8555 section 6.5).
type Nonces interface {
	Issue() string
	// Redeem returns a *fault.Error of kind BadNonce for a nonce that is not ours or was redeemed before.
	Redeem(ctx context.Context, nonce string) error
}

// Ring seals short messages: base64url without padding. Open fails for what it did not seal for the same kind and
// additional data.
type Ring interface {
	Seal(kind string, aad, plain []byte) string
	Open(kind string, aad []byte, token string) ([]byte, error)
}

// Validator asks the client's server for the proof of a challenge.
type Validator interface {
	// Validate returns nil when the proof is good, else a *fault.Error that may be shown to the client.
	Validate(ctx context.Context, r challenge.Request) error
}

// Store is the storage that package store implements. Every change is durable when its method returns; errors are
// *fault.Error NotFound, Conflict or Unavailable, or what nobody foresaw.
type Store interface {
	AccountReader
	AccountWriter
	OrderReader
	OrderWriter
	AuthorizationWriter
	CertificateReader
	EventWriter
}

// AccountReader finds accounts.
type AccountReader interface {
	Account(ctx context.Context, id pki.AccountID) (*pki.Account, error)
	AccountByThumbprint(ctx context.Context, scope pki.ProfileID, thumbprint string) (*pki.Account, error)
	KeyCertified(ctx context.Context, spkiHash [32]byte) (bool, error)
}

// AccountWriter changes accounts.
type AccountWriter interface {
	CreateAccount(ctx context.Context, a *pki.Account, maxAccounts int, ev audit.Event) (*pki.Account, bool, error)
	UpdateAccountContact(ctx context.Context, id pki.AccountID, contact []string, ev audit.Event) error
	ChangeAccountKey(ctx context.Context, id pki.AccountID, oldThumbprint, newThumbprint string, newJWK []byte, ev audit.Event) error
	DeactivateAccount(ctx context.Context, id pki.AccountID, ev audit.Event) error
}

// OrderReader finds orders that have rows, and what has become of the authorizations of all orders.
type OrderReader interface {
	Order(ctx context.Context, id pki.OrderID) (*pki.Order, error)
	Proofs(ctx context.Context, order pki.OrderID) ([]pki.Proof, error)
	ProvedNames(ctx context.Context, account pki.AccountID, now time.Time, limit int) ([]string, error)
	AccountOrders(ctx context.Context, account pki.AccountID, before pki.OrderID, limit int) ([]pki.OrderID, error)
}

// OrderWriter makes and removes orders that have rows.
type OrderWriter interface {
	CreateOrder(ctx context.Context, o *pki.Order, ev audit.Event) error
	DeleteExpiredOrders(ctx context.Context, before time.Time, limit int) (int, error)
}

// AuthorizationWriter notes what becomes of authorizations.
type AuthorizationWriter interface {
	StartProof(ctx context.Context, p pki.Proof, lease time.Duration) (bool, error)
	FinishProof(ctx context.Context, p pki.Proof, ev audit.Event) error
	DeactivateAuthorization(ctx context.Context, p pki.Proof, ev audit.Event) error
}

// CertificateReader finds certificates.
type CertificateReader interface {
	Certificate(ctx context.Context, serial pki.Serial) (*pki.Certificate, error)
	CertificateByFingerprint(ctx context.Context, fingerprint []byte) (*pki.Certificate, error)
	CertificateOfOrder(ctx context.Context, order pki.OrderID) (*pki.Certificate, error)
	Replaced(ctx context.Context, ariID string) (bool, error)
}

// EventWriter records what is no change of something else.
type EventWriter interface {
	RecordEvent(ctx context.Context, ev audit.Event) error
	TouchCredential(ctx context.Context, id pki.CredentialID, at time.Time) error
}
