// Package audit owns the typed audit event: who did what to which object, and what became of it. Events are rows,
// written in the transaction of the change that they tell of; refusals are written on their own.
//
// It must never hold secrets: an event has names, identifiers and hashes only.
package audit

import (
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Action is what was done: "object.verb". The set is closed; tests walk it.
type Action string

// Actions.
const (
	CACreate             Action = "ca.create"
	CAImport             Action = "ca.import"
	CAInstall            Action = "ca.install" // certificate from an outside root
	CAUpdate             Action = "ca.update"
	CASuspend            Action = "ca.suspend"
	CAActivate           Action = "ca.activate"
	CARevoke             Action = "ca.revoke"
	ProfileCreate        Action = "profile.create"
	ProfileUpdate        Action = "profile.update"
	ProfileSuspend       Action = "profile.suspend"
	ProfileActivate      Action = "profile.activate"
	ProfileDelete        Action = "profile.delete"
	CredentialCreate     Action = "credential.create"
	CredentialRevoke     Action = "credential.revoke"
	TokenCreate          Action = "token.create"
	TokenRevoke          Action = "token.revoke"
	TokenRefuse          Action = "token.refuse" // a bearer token that is unknown, or has ended
	ViewCreate           Action = "view.create"
	ViewUpdate           Action = "view.update"
	ViewDelete           Action = "view.delete"
	AccountCreate        Action = "account.create"
	AccountUpdate        Action = "account.update"
	AccountKeyChange     Action = "account.key-change"
	AccountDeactivate    Action = "account.deactivate"
	AccountRefuse        Action = "account.refuse"
	OrderCreate          Action = "order.create"
	OrderRefuse          Action = "order.refuse"
	AuthorizationValid   Action = "authorization.valid"
	AuthorizationInvalid Action = "authorization.invalid"
	AuthorizationDrop    Action = "authorization.deactivate"
	CertificateIssue     Action = "certificate.issue"
	CertificateRefuse    Action = "certificate.refuse"
	CertificateImport    Action = "certificate.import" // of another CA
	CertificateDelete    Action = "certificate.delete" // an imported one
	CertificateRevoke    Action = "certificate.revoke"
	CertificateHold      Action = "certificate.hold"
	CertificateRelease   Action = "certificate.release" // from a hold
	IdentityDeny         Action = "identity.deny"       // an identity or a Pod gets no certificates
	IdentityAllow        Action = "identity.allow"
	OCSPSigner           Action = "signer.create" // a CA has certified a key for OCSP answers
	RevocationRefuse     Action = "certificate.revoke-refuse"
	ConnectorCreate      Action = "connector.create"
	ConnectorDelete      Action = "connector.delete"
	ConnectorDownload    Action = "connector.download" // a package, from its one-time address
	ConnectorRefuse      Action = "connector.download-refuse"
	UserCreate           Action = "user.create"
	UserUpdate           Action = "user.update"
	UserDelete           Action = "user.delete"
	FactorSet            Action = "user.set-second-factor"
	FactorReset          Action = "user.reset-second-factor"
	RecoveryCodesMake    Action = "user.make-recovery-codes"
	RecoveryCodeUse      Action = "user.use-recovery-code"
	SessionCreate        Action = "session.create" // somebody has signed in to the console
	SessionEnd           Action = "session.end"
	SessionRefuse        Action = "session.refuse" // a session that is unknown or has ended, or a form from another site
	LoginRefuse          Action = "login.refuse"
	IdentityRetire       Action = "identity.retire" // nothing runs that needs it
	IdentityRestore      Action = "identity.restore"
	InventoryRollUp      Action = "inventory.roll-up" // records of expired certificates were deleted
	InventoryForget      Action = "inventory.forget"  // identities that lapsed long ago were deleted
	AlertRuleCreate      Action = "alert.create-rule"
	AlertRuleUpdate      Action = "alert.update-rule"
	AlertRuleDelete      Action = "alert.delete-rule"
	ChannelCreate        Action = "channel.create"
	ChannelUpdate        Action = "channel.update"
	ChannelDelete        Action = "channel.delete"
	ChannelTest          Action = "channel.test"
	DeliveryRetry        Action = "delivery.retry"
	AgentRefuse          Action = "agent.refuse" // an agent that was not enrolled, or may not ask any more
)

// ActorKind tells people from machines.
type ActorKind string

// Kinds of actor.
const (
	System  ActorKind = "system"  // the server itself, the dev set-up
	Token   ActorKind = "token"   // an API token; the actor's ID is the token's
	User    ActorKind = "user"    // a person who signs in; the actor's ID is the user's name
	Account ActorKind = "account" // an ACME account; the actor's ID is the account's
	Agent   ActorKind = "agent"   // an agent; the actor's ID is the KID of its credential
	Nobody  ActorKind = "nobody"  // whoever has proved nothing
)

// Actor is who acted.
type Actor struct {
	Kind ActorKind
	ID   string
	Name string // for people; may be empty
}

// By is who makes a change and where the request came from: the part of an event that the surface knows.
type By struct {
	Actor   Actor
	Client  pki.Client
	Request string // request ID; may be empty
}

// Event is one row of the audit log.
type Event struct {
	ID      int64 // set by the store, grows
	Time    time.Time
	Actor   Actor
	Action  Action
	Target  string // identifier or name of what was acted upon
	Client  pki.Client
	Request string // request ID, to find the log lines
	Replica string
	Outcome Outcome
	Detail  Detail
}

// Outcome is what became of it.
type Outcome string

// Outcomes.
const (
	Done    Outcome = "done"
	Refused Outcome = "refused"
)

// Detail is the rest of an event. Fields that do not apply are left out of the row.
type Detail struct {
	Reason     string           `json:"reason,omitempty"`  // of a refusal: the public sentence
	Problem    string           `json:"problem,omitempty"` // of a refusal: the ACME problem type of its kind
	Profile    pki.ProfileID    `json:"profile,omitempty"`
	Credential pki.CredentialID `json:"credential,omitempty"`
	Account    pki.AccountID    `json:"account,omitempty"`
	Order      pki.OrderID      `json:"order,omitempty"`
	CSRHash    string           `json:"csrHash,omitempty"` // SHA-256 in hexadecimal
	Names      *pki.Names       `json:"names,omitempty"`
	Serial     pki.Serial       `json:"serial,omitempty"`
	// Workload is where a certificate went that an agent asked for.
	Workload *pki.Workload `json:"workload,omitempty"`
	// Changes lists changed fields with their old and new values, for changes of settings.
	Changes []Change `json:"changes,omitempty"`
}

// Change is one changed field.
type Change struct {
	Field string `json:"field"`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}
