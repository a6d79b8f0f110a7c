package pki

import "time"

// Level is how secure a certificate is.
type Level string

// Levels, the best first.
const (
	VerySecure Level = "very-secure"
	Secure     Level = "secure"
	AtRisk     Level = "at-risk"
	NotSecure  Level = "not-secure"
)

// Levels returns all levels, the best first.
func Levels() []Level { return []Level{VerySecure, Secure, AtRisk, NotSecure} }

// RatingCode names a rule of a rating. Texts of other languages hang on it.
type RatingCode string

// Rules.
const (
	WeakKey       RatingCode = "weak-key"        // no longer fit, or faulty: RSA below 2048 bits, the ROCA flaw
	SmallKey      RatingCode = "small-key"       // fit until about 2030: RSA below 3072 bits
	UnusualKey    RatingCode = "unusual-key"     // of a kind or size that few clients know
	WeakSignature RatingCode = "weak-signature"  // MD2, MD5 or SHA-1: somebody may have a second certificate of it
	LongLifetime  RatingCode = "long-lifetime"   // more than 398 days
	VeryLong      RatingCode = "very-long"       // more than 825 days
	NoNames       RatingCode = "no-names"        // a server certificate without SAN: clients look nowhere else
	Wildcard      RatingCode = "wildcard"        // one key for many names
	SelfSigned    RatingCode = "self-signed"     // nobody vouches for it
	ServerIsCA    RatingCode = "server-is-ca"    // a certificate for servers that can sign others
	NoKeyUsage    RatingCode = "no-ext-keyusage" // good for every purpose
	WeakExponent  RatingCode = "weak-exponent"   // RSA with an exponent below 65537
)

// Finding is one rule that a certificate breaks.
type Finding struct {
	Code  RatingCode `json:"code"`
	Level Level      `json:"level"` // no better than this
	Text  string     `json:"text"`  // one sentence with the value and the rule
}

// Rating is what the rules say of a certificate.
type Rating struct {
	Level    Level     `json:"level"` // the worst of the findings
	Findings []Finding `json:"findings"`
}

// Imported is a certificate of another CA in the inventory.
type Imported struct {
	Fingerprint  [32]byte // SHA-256 of DER
	Name         string   // the first of its names, or its common name: what it is sorted by
	Subject      string   // RFC 4514
	Issuer       string
	Serial       string // hexadecimal
	Names        Names
	IsCA         bool
	NotBefore    time.Time
	NotAfter     time.Time
	KeyAlgorithm string // "RSA 2048", "ECDSA P-256"
	Signature    string
	Rating       Rating
	DER          []byte
	Uploaded     bool // by somebody; otherwise a scan found it
	CreatedAt    time.Time
	Endpoints    []Endpoint // where it is now; of a single one only
	Cursor       string     // of a list: where the next page begins
}

// Endpoint kinds.
const (
	EndpointTLS        = "tls"        // HOST:PORT
	EndpointKubernetes = "kubernetes" // CLUSTER/NAMESPACE/SECRET
)

// Endpoint is a place at which a certificate was seen.
type Endpoint struct {
	Kind        string
	Place       string
	FirstSeenAt time.Time // this certificate
	LastSeenAt  time.Time
}

// ImportedFilter selects imported certificates. Members that are zero do not select.
type ImportedFilter struct {
	Text          string // in name, subject, issuer or a place
	Level         Level
	Expired       *bool
	ExpiresBefore time.Time
	After         string // cursor
	Limit         int
}
