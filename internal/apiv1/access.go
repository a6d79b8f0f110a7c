package apiv1

import "time"

// Token is an API token. Its secret is shown once, when it is made.
type Token struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Role       string    `json:"role" enum:"admin,operator,auditor,namespace-viewer,requester" doc:"admin, operator, auditor, namespace-viewer or requester."`
	Profile    string    `json:"profile,omitempty" doc:"Of a requester."`
	Sees       []string  `json:"sees,omitempty" nullable:"false" doc:"Of a namespace viewer: identities, or the beginnings of their names with * at the end."`
	State      string    `json:"state" enum:"active,expired,revoked" doc:"active, expired or revoked."`
	CreatedAt  time.Time `json:"createdAt"`
	ExpiresAt  time.Time `json:"expiresAt,omitzero" doc:"Absent: never."`
	LastUsedAt time.Time `json:"lastUsedAt,omitzero" doc:"To within a minute."`
}

// CreateToken asks for a new token.
type CreateToken struct {
	Name      string    `json:"name" example:"dashboard"`
	Role      string    `json:"role" example:"auditor" doc:"admin, operator, auditor, namespace-viewer or requester (asks for certificates under its profile)."`
	Sees      []string  `json:"sees,omitempty" nullable:"false" doc:"Of a namespace viewer: identities, or the beginnings of their names with * at the end."`
	Profile   string    `json:"profile,omitempty" doc:"Of a requester: the only profile that it may ask for certificates under."`
	ExpiresAt time.Time `json:"expiresAt,omitzero" doc:"Absent: never."`
}

// NewToken is a new token with its secret, which cannot be asked for again.
type NewToken struct {
	Token
	Secret string `json:"secret"`
}

// Login exchanges a password for a token that expires by itself.
type Login struct {
	User     string `json:"user"`
	Password string `json:"password" writeOnly:"true"`
	Code     string `json:"code,omitempty" writeOnly:"true" maxLength:"64" doc:"Of the authenticator app, or a recovery code; of a user with a second factor."`
}

// SecondFactorBegin asks for a second factor of the caller's own.
type SecondFactorBegin struct {
	Password string `json:"password" writeOnly:"true"`
}

// SecondFactorEnrolment is a second factor (RFC 6238) that is being set up. Nothing is stored before it is confirmed.
type SecondFactorEnrolment struct {
	Secret string `json:"secret" doc:"In base32, to be typed into an authenticator app."`
	URI    string `json:"uri" format:"uri" doc:"otpauth URI, to be shown as a QR code."`
	Ticket string `json:"ticket" doc:"Goes with the first code."`
}

// SecondFactorConfirm stores a second factor.
type SecondFactorConfirm struct {
	Ticket string `json:"ticket" maxLength:"4096"`
	Code   string `json:"code" maxLength:"64" doc:"That the app shows now."`
}

// SecondFactorProof is what changing one's own second factor needs.
type SecondFactorProof struct {
	Password string `json:"password" writeOnly:"true"`
	Code     string `json:"code" writeOnly:"true" maxLength:"64" doc:"Of the authenticator app, or a recovery code."`
}

// RecoveryCodes are good in place of a code of the app, each once. They are shown once.
type RecoveryCodes struct {
	Codes []string `json:"codes" nullable:"false"`
}

// Caller is who a token belongs to.
type Caller struct {
	TokenID             string   `json:"tokenId,omitempty" doc:"Absent for somebody who has signed in to the console."`
	Name                string   `json:"name"`
	User                string   `json:"user,omitempty" doc:"Who has signed in; absent for a token."`
	Role                string   `json:"role" enum:"admin,operator,auditor,namespace-viewer,requester"`
	Profile             string   `json:"profile,omitempty"`
	Sees                []string `json:"sees,omitempty" nullable:"false" doc:"Identities that it sees; absent: all."`
	Source              string   `json:"source,omitempty" enum:"local,oidc" doc:"Where the user signs in: local, with a password, or oidc."`
	SecondFactor        bool     `json:"secondFactor,omitempty" doc:"The user has one."`
	RecoveryCodes       int      `json:"recoveryCodes,omitempty" doc:"How many are left."`
	MustSetSecondFactor bool     `json:"mustSetSecondFactor,omitempty" doc:"Nothing else is allowed before."`
}

// User is a person who signs in.
type User struct {
	Name         string    `json:"name"`
	DisplayName  string    `json:"displayName,omitempty"`
	Email        string    `json:"email,omitempty"`
	Role         string    `json:"role" enum:"admin,operator,auditor,namespace-viewer" doc:"admin, operator, auditor or namespace-viewer."`
	Sees         []string  `json:"sees,omitempty" nullable:"false" doc:"Of a namespace viewer: identities, or the beginnings of their names with * at the end."`
	State        string    `json:"state" enum:"active,suspended" doc:"active or suspended."`
	Source       string    `json:"source" enum:"local,oidc" doc:"local (a password) or oidc (an identity provider)."`
	Issuer       string    `json:"issuer,omitempty" doc:"Of the identity provider."`
	LockedUntil  time.Time `json:"lockedUntil,omitzero" doc:"After too many wrong passwords; absent: not locked."`
	LastSignInAt time.Time `json:"lastSignInAt,omitzero"`
	CreatedAt    time.Time `json:"createdAt"`
	Version      int64     `json:"version" doc:"Counts changes; a change may name the version that it changes."`
	SecondFactor bool      `json:"secondFactor" doc:"Signs in with a code of an authenticator app as well."`
}

// CreateUser asks for a user who signs in with a password.
type CreateUser struct {
	Name        string   `json:"name" example:"ann" doc:"1 to 63 lower-case letters, digits and hyphens."`
	Password    string   `json:"password" writeOnly:"true"`
	Role        string   `json:"role" example:"operator" doc:"admin, operator, auditor or namespace-viewer."`
	Sees        []string `json:"sees,omitempty" nullable:"false" doc:"Of a namespace viewer: identities, or the beginnings of their names with * at the end."`
	DisplayName string   `json:"displayName,omitempty" example:"Ann Example"`
	Email       string   `json:"email,omitempty" example:"ann@example.com"`
}

// UpdateUser changes a user: members that are left out stay.
type UpdateUser struct {
	Version     int64     `json:"version,omitempty" doc:"The version that is changed; absent: whichever there is."`
	Role        string    `json:"role,omitempty"`
	Sees        *[]string `json:"sees,omitempty"`
	State       string    `json:"state,omitempty" doc:"active or suspended."`
	DisplayName *string   `json:"displayName,omitempty"`
	Email       *string   `json:"email,omitempty"`
	Password    string    `json:"password,omitempty" writeOnly:"true" doc:"A new one; all of the user's sessions end."`
}

// ChangePassword changes the caller's own password.
type ChangePassword struct {
	Old string `json:"old" writeOnly:"true"`
	New string `json:"new" writeOnly:"true"`
}

// Session is a browser in which somebody has signed in to the console.
type Session struct {
	ID         string    `json:"id"`
	User       string    `json:"user"`
	CreatedAt  time.Time `json:"createdAt"`
	ExpiresAt  time.Time `json:"expiresAt" doc:"At the latest; it ends sooner when nobody uses it."`
	LastUsedAt time.Time `json:"lastUsedAt" doc:"To within a minute."`
	Address    string    `json:"address,omitempty"`
	UserAgent  string    `json:"userAgent,omitempty"`
	Current    bool      `json:"current" doc:"It is the one that asks."`
}

// Event is one event of the audit log.
type Event struct {
	ID        int64             `json:"id"`
	Time      time.Time         `json:"time"`
	Action    string            `json:"action" example:"profile.create" doc:"Such as profile.create."`
	Outcome   string            `json:"outcome" enum:"done,refused" doc:"done or refused."`
	Target    string            `json:"target,omitempty"`
	ActorKind string            `json:"actorKind" enum:"system,token,user,account,agent,nobody" doc:"system, token, user, account, agent or nobody."`
	ActorID   string            `json:"actorId,omitempty"`
	ActorName string            `json:"actorName,omitempty"`
	Address   string            `json:"address,omitempty"`
	UserAgent string            `json:"userAgent,omitempty"`
	Request   string            `json:"request,omitempty"`
	Replica   string            `json:"replica,omitempty"`
	Reason    string            `json:"reason,omitempty" doc:"Of a refusal."`
	Profile   string            `json:"profile,omitempty"`
	Serial    string            `json:"serial,omitempty"`
	Account   string            `json:"account,omitempty"`
	Order     string            `json:"order,omitempty"`
	KeyID     string            `json:"keyId,omitempty" doc:"Of the EAB credential."`
	CSRHash   string            `json:"csrHash,omitempty"`
	Names     *CertificateNames `json:"names,omitempty"`
	Workload  *Workload         `json:"workload,omitempty" doc:"Where a certificate went that an agent asked for."`
	Changes   []Change          `json:"changes,omitempty" nullable:"false"`
}

// Change is one changed field of a record.
type Change struct {
	Field string `json:"field" doc:"JSON pointer."`
	Old   string `json:"old,omitempty"`
	New   string `json:"new,omitempty"`
}

// EventQuery selects events, newest first. Members that are empty do not select.
type EventQuery struct {
	Action  string
	Target  string
	Actor   string
	Outcome string
	Since   time.Time
	After   string
	Limit   int
}

// Status is how the server is.
type Status struct {
	Version  string         `json:"version"`
	Time     time.Time      `json:"time" doc:"The server's clock."`
	Ready    bool           `json:"ready"`
	Problems []string       `json:"problems" nullable:"false" doc:"Why it is not ready."`
	Database StatusDatabase `json:"database"`
	Catalog  StatusCatalog  `json:"catalog"`
	CAs      []StatusCA     `json:"cas" nullable:"false"`
	Counts   StatusCounts   `json:"counts"`
}

// StatusDatabase is how the database is.
type StatusDatabase struct {
	Kind   string `json:"kind" enum:"sqlite,postgres" doc:"sqlite or postgres."`
	Answer string `json:"answer" doc:"How long it took to answer."`
	Bytes  int64  `json:"bytes" doc:"Its size with its indexes."`
	Free   int64  `json:"free" doc:"Part of bytes that deleted records have left for new ones (sqlite)."`
}

// StatusCatalog is how current the server's view of CAs, profiles and credentials is.
type StatusCatalog struct {
	Age string `json:"age"`
}

// StatusCA is when a CA expires.
type StatusCA struct {
	Name     string    `json:"name"`
	Kind     string    `json:"kind" enum:"root,issuing"`
	State    string    `json:"state" enum:"pending,active,suspended"`
	NotAfter time.Time `json:"notAfter,omitzero"`
}

// StatusCounts is how much there is.
type StatusCounts struct {
	Certificates int64 `json:"certificates"`
	Identities   int64 `json:"identities"`
	Accounts     int64 `json:"accounts"`
	Orders       int64 `json:"orders"`
	Revoked      int64 `json:"revoked"`
}
