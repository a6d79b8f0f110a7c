package pki

import "strconv"

// State is the life of something an administrator switches on and off.
type State string

// States of CAs, profiles, credentials and tokens. A record may use a part of them; its doc says which.
const (
	Pending   State = "pending"   // an issuing CA that waits for its certificate from an outside root
	Active    State = "active"    // in use
	Suspended State = "suspended" // refuses new work, may be activated again
	Revoked   State = "revoked"   // refuses work for good
)

// ACMEStatus is the status of an ACME object (RFC 8555 section 7.1.6).
type ACMEStatus string

// Statuses of RFC 8555 section 7.1.6.
const (
	StatusPending     ACMEStatus = "pending"
	StatusReady       ACMEStatus = "ready"
	StatusProcessing  ACMEStatus = "processing"
	StatusValid       ACMEStatus = "valid"
	StatusInvalid     ACMEStatus = "invalid"
	StatusDeactivated ACMEStatus = "deactivated"
	StatusExpired     ACMEStatus = "expired"
	StatusRevoked     ACMEStatus = "revoked"
)

// CertificateStatus is what the inventory says of a certificate now. It is computed from dates and revocation,
// never stored.
type CertificateStatus string

// Certificate statuses, by precedence from the last to the first.
const (
	CertificateValid      CertificateStatus = "valid"
	CertificateRenewalDue CertificateStatus = "renewal-due" // past RenewAt, the client should have a newer one soon
	CertificateExpired    CertificateStatus = "expired"
	CertificateHeld       CertificateStatus = "held" // revoked for as long as it is not released
	CertificateRevoked    CertificateStatus = "revoked"
)

// IdentityStatus is what the inventory says of an identity now, judged by its newest certificate.
type IdentityStatus string

// Identity statuses.
const (
	IdentityOK         IdentityStatus = "ok"
	IdentityRenewalDue IdentityStatus = "renewal-due" // it usually had a newer certificate by now
	IdentityLapsing    IdentityStatus = "lapsing"     // its client has stopped renewing: see Renewal
	IdentityLapsed     IdentityStatus = "lapsed"      // newest certificate expired or revoked
	IdentityGone       IdentityStatus = "gone"        // nothing runs that needs it: no reason for alarm
)

// RevocationReason is a CRLReason of RFC 5280 section 5.3.1.
type RevocationReason int

// Reasons that may be given for an end-entity certificate of ours.
const (
	Unspecified          RevocationReason = 0
	KeyCompromise        RevocationReason = 1
	CACompromise         RevocationReason = 2
	AffiliationChanged   RevocationReason = 3
	Superseded           RevocationReason = 4
	CessationOfOperation RevocationReason = 5
	CertificateHold      RevocationReason = 6
	PrivilegeWithdrawn   RevocationReason = 9
	AACompromise         RevocationReason = 10
)

// String returns the name of RFC 5280 section 5.3.1, or the number when it has none.
func (r RevocationReason) String() string {
	switch r {
	case Unspecified:
		return "unspecified"
	case KeyCompromise:
		return "keyCompromise"
	case CACompromise:
		return "cACompromise"
	case AffiliationChanged:
		return "affiliationChanged"
	case Superseded:
		return "superseded"
	case CessationOfOperation:
		return "cessationOfOperation"
	case CertificateHold:
		return "certificateHold"
	case PrivilegeWithdrawn:
		return "privilegeWithdrawn"
	case AACompromise:
		return "aACompromise"
	default:
		return strconv.Itoa(int(r))
	}
}
