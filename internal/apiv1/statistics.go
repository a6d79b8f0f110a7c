package apiv1

import "time"

// Statistics are the figures of a dashboard. For who sees some identities only, they are those of these, and what is
// counted of everything together is absent.
type Statistics struct {
	At           time.Time          `json:"at" doc:"When the figures were taken: a few seconds ago where somebody looks."`
	Identities   IdentityStatistics `json:"identities"`
	LifetimeLeft []LifetimeClass    `json:"lifetimeLeft" nullable:"false" doc:"Identities that have not lapsed, by how much of their newest certificate's lifetime is left."`
	ExpiresIn    []ExpiryClass      `json:"expiresIn" nullable:"false" doc:"The same identities by when that certificate expires."`
	Lapsing      []Identity         `json:"lapsing" nullable:"false" doc:"Identities that lapse, the first to expire first: at most 10."`
	Clusters     []ClusterStatistic `json:"clusters" nullable:"false" doc:"Clusters that the identities' newest certificates went into."`
	Certificates *CertificateCounts `json:"certificates,omitempty"`
	Issued       *Issued            `json:"issued,omitempty"`
	Refused      *Refused           `json:"refused,omitempty"`
	CAs          []CAStatistics     `json:"cas,omitempty" nullable:"false"`
}

// IdentityStatistics counts identities by status.
type IdentityStatistics struct {
	Total      int64 `json:"total"`
	OK         int64 `json:"ok"`
	RenewalDue int64 `json:"renewalDue"`
	Lapsing    int64 `json:"lapsing"`
	Lapsed     int64 `json:"lapsed"`
	Gone       int64 `json:"gone" doc:"Nothing runs that needs them."`
}

// LifetimeClass counts identities with at most so much of a lifetime left, and more than the class before.
type LifetimeClass struct {
	Percent int64 `json:"percent" doc:"At most this is left."`
	Count   int64 `json:"count"`
}

// ExpiryClass counts identities of which the certificate expires within a time, and not within that of the class before.
type ExpiryClass struct {
	Within string `json:"within,omitempty" doc:"Such as 24h0m0s; absent: later than all other classes."`
	Count  int64  `json:"count"`
}

// ClusterStatistic is how a cluster is.
type ClusterStatistic struct {
	Name           string    `json:"name"`
	Identities     int64     `json:"identities"`
	Lapsing        int64     `json:"lapsing"`
	Lapsed         int64     `json:"lapsed"`
	IssuedLastHour *int64    `json:"issuedLastHour,omitempty" doc:"Certificates, to five minutes; absent for who sees some identities only."`
	LastIssuedAt   time.Time `json:"lastIssuedAt"`
}

// CertificateCounts counts certificates.
type CertificateCounts struct {
	Issued  int64 `json:"issued" doc:"So far."`
	Alive   int64 `json:"alive" doc:"Not expired, revoked ones among them; each may be counted for a thirty-second part of its lifetime too long."`
	Revoked int64 `json:"revoked" doc:"So far."`
}

// Issued is how many certificates were issued when.
type Issued struct {
	LastHour  int64  `json:"lastHour" doc:"In the last 60 minutes."`
	PerMinute Series `json:"perMinute" doc:"The last hour; the last minute is not over."`
	PerHour   Series `json:"perHour" doc:"The last day; the last hour is not over."`
}

// Series is a count for each step of time.
type Series struct {
	Start  time.Time `json:"start" doc:"Of the first step."`
	Step   string    `json:"step" doc:"Such as 1m0s."`
	Counts []int64   `json:"counts" nullable:"false"`
}

// Refused is what was refused, as far as it is in the audit log: a flood from one source is there in part.
type Refused struct {
	LastHour int64           `json:"lastHour"`
	LastDay  int64           `json:"lastDay"`
	ByReason []RefusedReason `json:"byReason" nullable:"false" doc:"The most frequent first."`
}

// RefusedReason counts what was refused for one reason.
type RefusedReason struct {
	Action   string `json:"action" doc:"Of the audit events, such as certificate.refuse."`
	Problem  string `json:"problem,omitempty" doc:"What was wrong, as a type of ACME problem (RFC 8555 section 6.7); absent where it was not recorded."`
	LastHour int64  `json:"lastHour"`
	LastDay  int64  `json:"lastDay"`
}

// CAStatistics is how a CA is.
type CAStatistics struct {
	Name      string    `json:"name"`
	Kind      string    `json:"kind" enum:"root,issuing" doc:"root or issuing."`
	State     string    `json:"state" enum:"pending,active,suspended"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero" doc:"Absent: it has no certificate yet."`
	Alive     int64     `json:"alive" doc:"Certificates of it that have not expired."`
}
