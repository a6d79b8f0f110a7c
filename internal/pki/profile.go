package pki

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Template is a base template: what kind of certificate a profile makes.
type Template string

// The base templates.
const (
	PrivateMTLS      Template = "private-mtls"      // client and server, SPIFFE IDs: mesh workloads
	PrivateServer    Template = "private-server"    // TLS servers
	PrivateClient    Template = "private-client"    // TLS clients
	MeshIntermediate Template = "mesh-intermediate" // a CA of path length 0 for a mesh's own CA (istiod's plugged-in CA)
)

// EnrollmentMethod is how certificates of a profile are asked for. A request that came another way is refused.
type EnrollmentMethod string

// The enrollment methods.
const (
	MTLSOverACME EnrollmentMethod = "mtls-over-acme" // ACME with EAB, pre-authorized, SPIFFE IDs and names
	ACMEClient   EnrollmentMethod = "acme"           // any ACME client, DNS and IP: pre-authorized or by challenge
	Agent        EnrollmentMethod = "agent"
	RESTAPI      EnrollmentMethod = "rest-api"
)

// Profile is a certificate profile: a template made concrete.
type Profile struct {
	ID        ProfileID
	Name      string // unique; lower-case letters, digits and hyphens
	Template  Template
	IssuingCA CAID
	Method    EnrollmentMethod
	State     State // Active or Suspended
	Rules     ProfileRules
	Version   int64 // counts changes; a change must name the version that it changes
	CreatedAt time.Time
	UpdatedAt time.Time
}

// ProfileRules is what a profile allows and grants. Empty lists allow nothing.
type ProfileRules struct {
	Validity    Validity       `json:"validity"`
	Keys        []KeyAlgorithm `json:"keys"` // that a CSR may have
	Names       NameRules      `json:"names"`
	MaxNames    int            `json:"maxNames"`    // DNS names, addresses and URIs together
	Subject     SubjectRule    `json:"subject"`     // what becomes of the CSR's common name
	KeyUsage    []string       `json:"keyUsage"`    // RFC 5280 section 4.2.1.3 names, digitalSignature and so on
	ExtKeyUsage []string       `json:"extKeyUsage"` // serverAuth, clientAuth
	IncludeRoot bool           `json:"includeRoot"` // append the root to the chain that clients get
	Challenges  *Challenges    `json:"challenges,omitempty"`
	// Retention is how long records of certificates are kept after they have expired; 0: as long as the server's settings say.
	Retention Duration `json:"retention,omitempty"`
}

// Challenges makes a profile validate names by ACME challenges; nil means that names are pre-authorized by the EAB
// credential.
type Challenges struct {
	Types    []string       `json:"types"`    // http-01, dns-01, tls-alpn-01
	Networks []netip.Prefix `json:"networks"` // addresses that validation may connect to
}

// Validity bounds the lifetime of certificates.
type Validity struct {
	Default  Duration `json:"default"`  // granted when the client asks for nothing
	Max      Duration `json:"max"`      // granted when it asks for more
	Backdate Duration `json:"backdate"` // how far notBefore lies in the past, for clocks that are behind
	// JitterPercent shortens each granted lifetime by a random part of up to this many percent, so that
	// a fleet that started together does not renew together. 0 to 50.
	JitterPercent int `json:"jitterPercent"`
}

// SubjectRule is what becomes of a CSR's subject.
type SubjectRule string

// Subject rules. A common name must be one of the DNS names or addresses under every rule.
const (
	SubjectEmpty      SubjectRule = "empty"       // the certificate's subject is empty
	SubjectCommonName SubjectRule = "common-name" // the CSR's common name is kept, if it fits in 64 characters
)

// NameRules says which names are allowed: a name must match an allow pattern and no deny pattern.
type NameRules struct {
	SPIFFE SPIFFERules `json:"spiffe"`
	DNS    DNSRules    `json:"dns"`
	IP     IPRules     `json:"ip"`
}

// SPIFFERules are patterns "NAMESPACE/SERVICE_ACCOUNT" in which "*" stands for any characters but "/".
type SPIFFERules struct {
	TrustDomains []string `json:"trustDomains,omitempty"`
	Allow        []string `json:"allow,omitempty"`
	Deny         []string `json:"deny,omitempty"`
}

// DNSRules are patterns over DNS names: "a.example" is that name, "*.example" has exactly one label before
// ".example", "**.example" one or more; "**" alone is any name.
type DNSRules struct {
	Allow     []string `json:"allow,omitempty"`
	Deny      []string `json:"deny,omitempty"`
	Wildcards bool     `json:"wildcards,omitempty"` // names "*.x" may be asked for where x's names are allowed
}

// IPRules are ranges of addresses.
type IPRules struct {
	Allow []netip.Prefix `json:"allow,omitempty"`
	Deny  []netip.Prefix `json:"deny,omitempty"`
}

// Duration is a time.Duration that is written like "90m", "24h" or "30d" in JSON and on the command line.
type Duration time.Duration

// ParseDuration reads a positive duration in the units of time.ParseDuration, or whole days ("30d") or years of
// 365 days ("10y"), up to 100 years.
func ParseDuration(s string) (Duration, error) {
	d, err := parseCalendar(s)
	if err != nil {
		d, err = time.ParseDuration(s)
	}
	if err != nil || d <= 0 || d > maxDuration {
		return 0, fmt.Errorf("duration %.40q is not a positive number with a unit (30s, 90m, 24h, 30d, 10y) up to 100y", s)
	}
	return Duration(d), nil
}

const (
	day         = 24 * time.Hour
	year        = 365 * day
	maxDuration = 100 * year
)

// parseCalendar reads whole days or years.
func parseCalendar(s string) (time.Duration, error) {
	unit := day
	digits, ok := strings.CutSuffix(s, "d")
	if !ok {
		unit = year
		digits, ok = strings.CutSuffix(s, "y")
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil || n > uint64(maxDuration/unit) {
		return 0, fmt.Errorf("%.40q is not a number of days or years", s)
	}
	return time.Duration(n) * unit, nil
}

// String writes whole days as "30d" and everything else as time.Duration does, without zero units.
func (d Duration) String() string {
	t := time.Duration(d)
	if t >= 48*time.Hour && t%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", t/(24*time.Hour))
	}
	s := t.String()
	if head, ok := strings.CutSuffix(s, "m0s"); ok {
		s = head + "m"
	}
	if head, ok := strings.CutSuffix(s, "h0m"); ok {
		s = head + "h"
	}
	return s
}

// MarshalJSON writes the string form.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads the string form; "0s" is allowed here.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return fmt.Errorf("duration %.40s: want a string like \"24h\"", raw)
	}
	if s == "0s" || s == "0" {
		*d = 0
		return nil
	}
	parsed, err := ParseDuration(s)
	if err != nil {
		return err
	}
	*d = parsed
	return nil
}
