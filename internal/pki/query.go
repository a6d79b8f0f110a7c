package pki

import "time"

// CertificateFilter selects certificates of the inventory. Zero fields do not select. Answers come newest first, in
// the opposite order of their recording.
type CertificateFilter struct {
	// Sees limits the answer to identities that a pattern names: exactly, or by their beginning when it ends with "*".
	// nil: every identity; a list without any pattern: none.
	Sees          []string
	Text          string // what a person types: parts of names, a Pod or cluster, a serial or fingerprint (docs/design/inventory.md)
	Identity      string // exact, or a prefix when it ends with "*"
	TrustDomain   string
	Namespace     string
	ProfileID     ProfileID
	CAID          CAID
	CredentialID  CredentialID
	AccountID     AccountID
	Cluster       string
	Pod           string // exact, or a prefix when it ends with "*"
	Status        CertificateStatus
	Fingerprint   []byte // 32 bytes
	IssuedAfter   time.Time
	ExpiresBefore time.Time
	Before        Serial // cursor: answers come after this serial in the order
	Limit         int    // 1 to 1000
}

// IdentityFilter selects identities. Answers are ordered by name; those that a text finds, by what it has found.
type IdentityFilter struct {
	Sees        []string // as in CertificateFilter
	Text        string   // as in CertificateFilter, but for Pods
	Name        string   // exact, or a prefix when it ends with "*"
	TrustDomain string
	Namespace   string
	ProfileID   ProfileID
	Status      IdentityStatus
	Cluster     string // of the newest certificate
	After       string // cursor: answers come after the identity with this Cursor
	Limit       int    // 1 to 1000
}

// EventFilter selects audit events, newest first.
type EventFilter struct {
	Action  string // exact, or a prefix when it ends with "*"
	Target  string
	Actor   string
	Since   time.Time
	Before  int64 // cursor: answers have smaller IDs
	Limit   int   // 1 to 1000
	Outcome string
}

// FinalizeFacts is what storage knows about an order and a CSR's key just before a certificate is made.
type FinalizeFacts struct {
	Certificate  *Certificate // the order's certificate, nil when it has none
	AccountKey   bool         // the CSR's key is the key of an ACME account (RFC 8555 section 11.1)
	BlockedKey   bool         // a certificate of the same key was revoked for keyCompromise
	CAKey        bool         // the CSR's key is the key of a CA of ours
	Deactivated  []int        // indexes of the order's deactivated authorizations
	Proved       []int        // indexes of those that were proved by challenge and are not deactivated
	AccountState ACMEStatus   // the account's status in storage now, "" when there is no such account
	// CredentialUsable is false when the credential is revoked, expired or not there; "" as credential is usable.
	CredentialUsable bool
	ProfileActive    bool // the profile is there and not suspended
}

// Stats counts what the database holds.
type Stats struct {
	Certificates int64
	Identities   int64
	Accounts     int64
	Orders       int64 // orders with a row
	Revoked      int64
}

// RevokedEntry is a revoked certificate as a CRL lists it (RFC 5280 section 5.1.2.6).
type RevokedEntry struct {
	Serial   Serial
	At       time.Time
	Reason   RevocationReason
	NotAfter time.Time // after which the entry may leave the list
}
