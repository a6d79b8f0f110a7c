package pki

import "time"

// CAKind tells a self-signed root from a CA that another one signed.
type CAKind string

// Kinds of CA. Only issuing CAs sign leaves.
const (
	RootCA    CAKind = "root"
	IssuingCA CAKind = "issuing"
)

// KeyAlgorithm is the algorithm and size of a key pair.
type KeyAlgorithm string

// Key algorithms. RSA2048 is accepted in CSRs only, never for a CA.
const (
	ECDSAP256 KeyAlgorithm = "ecdsa-p256"
	ECDSAP384 KeyAlgorithm = "ecdsa-p384"
	RSA2048   KeyAlgorithm = "rsa-2048"
	RSA3072   KeyAlgorithm = "rsa-3072"
	RSA4096   KeyAlgorithm = "rsa-4096"
	Ed25519   KeyAlgorithm = "ed25519"
)

// CA is a root or an issuing CA. Its key is not here: keys opens it by KeyID.
type CA struct {
	ID           CAID
	Name         string // unique; lower-case letters, digits and hyphens
	Kind         CAKind
	State        State // Pending, Active, Suspended, or Revoked by the CA above
	ParentID     CAID  // the CA that signed it, "" for a root and under an outside root
	KeyID        KeyID
	KeyAlgorithm KeyAlgorithm
	Certificate  []byte   // DER; nil while Pending
	Chain        [][]byte // DER of the CAs above, nearest first, the root last; empty for a root
	CSR          []byte   // DER of the request for an outside root, kept for a later renewal
	Settings     CASettings
	RevokedAt    time.Time // when the CA above revoked its certificate; zero: it did not
	Reason       RevocationReason
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// CASettings are what an administrator may change of a CA. The URLs go into the certificates that it signs.
type CASettings struct {
	CRLURLs    []string `json:"crlUrls,omitempty"`    // cRLDistributionPoints, RFC 5280 section 4.2.1.13
	OCSPURLs   []string `json:"ocspUrls,omitempty"`   // authorityInfoAccess id-ad-ocsp
	IssuerURLs []string `json:"issuerUrls,omitempty"` // authorityInfoAccess id-ad-caIssuers
}

// SealedKey is a private key as it lies in storage: encrypted, with what is needed to check the right opener.
type SealedKey struct {
	ID        KeyID
	Algorithm KeyAlgorithm
	Sealed    []byte // opened by keys only
	CreatedAt time.Time
}

// Credential is an EAB credential: what one client (a cluster, say) registers ACME accounts with.
type Credential struct {
	ID          CredentialID // the KID
	Name        string       // unique within the profile
	ProfileID   ProfileID
	State       State  // Active or Revoked
	SealedKey   []byte // the 32-byte HMAC key, opened by keys only
	ExpiresAt   time.Time
	MaxAccounts int        // 0: no limit
	Limit       *NameRules // narrower than the profile's, nil: the profile's
	CreatedAt   time.Time
	RevokedAt   time.Time
	LastUsedAt  time.Time // to within a minute
	Accounts    int       // accounts registered with it; filled in by listings
}

// Usable reports whether the credential may be used at the given time.
func (c *Credential) Usable(now time.Time) bool {
	return c.State == Active && (c.ExpiresAt.IsZero() || now.Before(c.ExpiresAt))
}

// Account is an ACME account (RFC 8555 section 7.1.2).
type Account struct {
	ID           AccountID
	Scope        ProfileID // the profile of a directory under /acme/p/, "" for /acme/directory
	Thumbprint   string    // RFC 7638, SHA-256, base64url; unique within Scope
	JWK          []byte    // canonical public JWK
	CredentialID CredentialID
	ProfileID    ProfileID // the profile that it orders under
	Status       ACMEStatus
	Contact      []string
	Binding      []byte // the external account binding as it was sent, to be shown again (RFC 8555 section 7.3.4)
	CreatedAt    time.Time
}

// Order is an ACME order (RFC 8555 section 7.1.3). It says what was asked for and never changes. Most orders exist
// only as sealed tokens; those that are too large for a URL have a row.
type Order struct {
	ID           OrderID
	AccountID    AccountID
	CredentialID CredentialID
	ProfileID    ProfileID
	Identifiers  []Identifier
	Challenges   []string  // types by which each name may be proved; none: the names are pre-authorized
	NotBefore    time.Time // as requested, zero when absent
	NotAfter     time.Time
	Replaces     string // ARI certificate identifier (RFC 9773 section 5)
	Expires      time.Time
	CreatedAt    time.Time
	Sealed       bool // it has no row
}

// Proof is what has become of one of an order's authorizations (RFC 8555 section 7.1.4). There is none as long as
// nothing has.
type Proof struct {
	OrderID     OrderID
	AccountID   AccountID
	Index       int        // of the identifier in the order
	Name        string     // the identifier's value, with "*."
	Type        string     // of the challenge: http-01, dns-01, tls-alpn-01; "" when none was tried
	Status      ACMEStatus // of the challenge: processing, valid or invalid; "" when none was tried
	At          time.Time  // since when it has that status
	Error       *Problem   // why it is invalid
	Deactivated bool       // by the client
	Expires     time.Time  // of the order
}

// Problem is a stored problem document (RFC 7807): what a client is shown of a failed validation.
type Problem struct {
	Type   string `json:"type"`
	Detail string `json:"detail"`
	Status int    `json:"status,omitempty"`
}

// Names are the subject alternative names of a certificate, sorted, each once.
type Names struct {
	URIs []string `json:"uris,omitempty"`
	DNS  []string `json:"dns,omitempty"`
	IPs  []string `json:"ips,omitempty"`
}

// Client is where a request came from, for the inventory and the audit log.
type Client struct {
	UserAgent string // cut to 200 bytes, control characters removed
	Address   string // IP address without port
}

// Workload is where a certificate went, as an agent saw it when it asked: the Pod, its cluster and node. The zero value
// is what is known of certificates that were asked for in another way.
type Workload struct {
	Cluster        string `json:"cluster,omitempty"`
	Namespace      string `json:"namespace,omitempty"`
	ServiceAccount string `json:"serviceAccount,omitempty"`
	Pod            string `json:"pod,omitempty"`
	PodUID         string `json:"podUid,omitempty"`
	Node           string `json:"node,omitempty"`
	// ImpersonatedBy is NAMESPACE/SERVICE_ACCOUNT/POD of the node proxy that asked in the workload's place, "" when the
	// workload asked itself.
	ImpersonatedBy string `json:"impersonatedBy,omitempty"`
	// Presented is the serial of the client certificate by which the workload was known, "" when it had a token.
	Presented Serial `json:"presented,omitempty"`
}

// Certificate is one row of the inventory.
type Certificate struct {
	Serial      Serial
	Fingerprint [32]byte // SHA-256 of DER
	DER         []byte
	Names       Names
	Identity    string // what the certificate is for: the SPIFFE ID, or the first DNS name or address
	CAID        CAID
	ProfileID   ProfileID
	OrderID     OrderID // "" when no ACME order led to it
	CSRHash     [32]byte
	SPKIHash    [32]byte // SHA-256 of the subject public key info
	AccountID   AccountID
	// CredentialID is the EAB credential that the request came with, "" for other enrollment methods.
	CredentialID CredentialID
	Client       Client
	Workload     Workload // of a certificate that an agent asked for
	NotBefore    time.Time
	NotAfter     time.Time
	RenewAt      time.Time     // half of its life, when a client should renew
	Requested    time.Duration // lifetime asked for, 0 when the client left it to the profile
	Granted      time.Duration
	KeyAlgorithm KeyAlgorithm
	Signature    string // signature algorithm, as x509.SignatureAlgorithm prints it
	Replaces     string // ARI certificate identifier of its predecessor
	IssuedAt     time.Time
	RevokedAt    time.Time
	Reason       RevocationReason
}

// Held reports whether the certificate is revoked for the time being: it can be released, or revoked for good.
func (c *Certificate) Held() bool { return !c.RevokedAt.IsZero() && c.Reason == CertificateHold }

// Status judges the certificate at the given time.
func (c *Certificate) Status(now time.Time) CertificateStatus {
	switch {
	case c.Held():
		return CertificateHeld
	case !c.RevokedAt.IsZero():
		return CertificateRevoked
	case now.After(c.NotAfter):
		return CertificateExpired
	case !now.Before(c.RenewAt):
		return CertificateRenewalDue
	default:
		return CertificateValid
	}
}

// Identity is one row of the inventory grouped by what certificates are for.
type Identity struct {
	Name           string // SPIFFE ID, DNS name or IP address
	TrustDomain    string // of a SPIFFE ID
	Namespace      string
	ServiceAccount string
	Cluster        string    // that the newest certificate went to, when an agent asked for it
	ProfileID      ProfileID // of the newest certificate
	Newest         Serial
	NotBefore      time.Time // of the newest certificate
	NotAfter       time.Time
	RevokedAt      time.Time // of the newest certificate
	Certificates   int64     // issued so far
	FirstIssuedAt  time.Time
	LastIssuedAt   time.Time
	RenewAt        time.Time // when it is expected to have a newer certificate
	LapsingAt      time.Time // when it should have one at last
	GoneAt         time.Time // since when nothing runs that needs it; zero: something does, or nobody knows
	Cursor         string    // in a list: where it goes on behind this identity
}

// Status judges the identity at the given time.
func (i *Identity) Status(now time.Time) IdentityStatus {
	switch {
	case !i.GoneAt.IsZero():
		return IdentityGone
	case !i.RevokedAt.IsZero() || now.After(i.NotAfter):
		return IdentityLapsed
	case !now.Before(i.LapsingAt):
		return IdentityLapsing
	case !now.Before(i.RenewAt):
		return IdentityRenewalDue
	default:
		return IdentityOK
	}
}

// RenewAt is when a client should renew: half of the certificate's life, as Istio's agents do.
func RenewAt(notBefore, notAfter time.Time) time.Time {
	return notBefore.Add(notAfter.Sub(notBefore) / 2)
}

// APIToken is a bearer token of the REST API. Its secret is kept as a SHA-256 hash: it has 256 random bits, so a
// slow hash would add nothing.
type APIToken struct {
	ID         TokenID
	Name       string
	Hash       [32]byte
	Role       Role
	ProfileID  ProfileID // of a RoleRequester: the only profile that it may request certificates under
	Sees       []string  // patterns of the identities that a RoleNamespaceViewer sees; nil: all
	State      State     // Active, Suspended or Revoked
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time
	User       string // who has signed in for it: Role, Sees and State follow that person's; "" for one that was made for a program
}

// Role is what a user, or the bearer of an API token, may do.
type Role string

// Roles.
const (
	RoleAdmin           Role = "admin"            // everything
	RoleOperator        Role = "operator"         // profiles, credentials, revocation; not CAs, users and tokens
	RoleAuditor         Role = "auditor"          // reads everything, changes nothing
	RoleNamespaceViewer Role = "namespace-viewer" // sees the identities that match its patterns, and their certificates
	RoleRequester       Role = "requester"        // requests certificates under the token's profile, nothing else; tokens only
)

// User is a person who signs in: with a password, or through an identity provider.
type User struct {
	Name         string // unique; local ones have lower-case letters, digits and hyphens
	PasswordHash string // argon2id in the PHC string format; "" for those of an identity provider
	Role         Role
	Sees         []string // patterns of the identities that a RoleNamespaceViewer sees; nil: all
	State        State    // Active or Suspended
	Issuer       string   // of the identity provider, "" for a local user
	Subject      string   // unique at the issuer
	DisplayName  string
	Email        string
	TOTP         []byte    // sealed secret of the second factor (RFC 6238), nil: none
	Failures     int       // to sign in from elsewhere than usual, since it last succeeded
	LockedUntil  time.Time // no password is right before
	LastSignInAt time.Time
	CreatedAt    time.Time
	Version      int64 // counts changes
}

// Session is a person who has signed in to the console, with one browser. Its secret is kept as an APIToken's is.
type Session struct {
	ID         SessionID
	Hash       [32]byte
	User       string // name
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time // to within a minute
	Client     Client
}

// SealKey is a key of the ring under which nonces and order tokens are sealed. Replicas share the ring.
type SealKey struct {
	ID        uint32
	Sealed    []byte // opened by keys only
	CreatedAt time.Time
}
