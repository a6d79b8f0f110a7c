package issuer

import "time"

// CRLs are the revocation lists of every CA that a chain to a root of the bundle can have, roots among them: Envoy refuses
// a chain of which one CA has no list once another has one, or of which a list has expired. Do not change one.
type CRLs struct {
	PEM        string // all of them
	Version    string // differs when a list differs
	NextUpdate time.Time
}

// CRLSource is implemented by issuers whose CA publishes revocation lists through them.
type CRLSource interface {
	// CRLs returns the lists that count now; nil before they are known, after they have expired, and when the CA has none.
	CRLs() *CRLs
}
