package apiv1

import "time"

// Profile is a certificate profile.
type Profile struct {
	ID        string    `json:"id"`
	Name      string    `json:"name" example:"istio"`
	Template  string    `json:"template" enum:"private-mtls,private-server,private-client,mesh-intermediate" doc:"private-mtls, private-server, private-client or mesh-intermediate."`
	IssuingCA string    `json:"issuingCa" example:"issuing" doc:"Name of the issuing CA."`
	Method    string    `json:"method" enum:"mtls-over-acme,acme,agent,rest-api" doc:"Enrollment method: mtls-over-acme, acme, agent or rest-api."`
	State     string    `json:"state" enum:"active,suspended" doc:"active or suspended."`
	Rules     Rules     `json:"rules"`
	Version   int64     `json:"version" doc:"Counts changes; a change names the version that it changes."`
	CreatedAt time.Time `json:"createdAt"`
	UpdatedAt time.Time `json:"updatedAt"`
	// Directory is where ACME clients of the profile begin.
	Directory string `json:"directoryUrl,omitempty" format:"uri" doc:"ACME directory of clients of this profile."`
}

// CreateProfile asks for a new profile. Rules that are left out are the template's.
type CreateProfile struct {
	Name      string `json:"name" example:"istio" doc:"1 to 63 lower-case letters, digits and hyphens."`
	Template  string `json:"template" example:"private-mtls" doc:"private-mtls, private-server, private-client or mesh-intermediate."`
	IssuingCA string `json:"issuingCa" example:"issuing" doc:"Name of the issuing CA."`
	Method    string `json:"method,omitempty" doc:"Enrollment method; absent: the template's."`
	State     string `json:"state,omitempty" doc:"active (default) or suspended."`
	Rules     *Rules `json:"rules,omitempty"`
}

// UpdateProfile changes a profile: members that are left out stay, lists are replaced as a whole, and challenges that
// are null are removed.
type UpdateProfile struct {
	Version   int64  `json:"version" doc:"The version that is changed."`
	IssuingCA string `json:"issuingCa,omitempty"`
	Method    string `json:"method,omitempty"`
	Rules     *Rules `json:"rules,omitempty"`
}

// CloneProfile asks for a copy of a profile under another name, without its credentials.
type CloneProfile struct {
	Name string `json:"name" example:"istio-staging"`
}

// Rules is what a profile allows and grants.
type Rules struct {
	Validity    Validity    `json:"validity" required:"false"`
	Keys        []string    `json:"keys" required:"false" nullable:"false" doc:"Key algorithms of CSRs: ecdsa-p256, ecdsa-p384, rsa-2048, rsa-3072, rsa-4096, ed25519."`
	Names       Names       `json:"names" required:"false"`
	MaxNames    int         `json:"maxNames" required:"false" doc:"DNS names, addresses and URIs together."`
	Subject     string      `json:"subject" required:"false" doc:"What becomes of a CSR's common name: empty or common-name."`
	KeyUsage    []string    `json:"keyUsage" required:"false" nullable:"false"`
	ExtKeyUsage []string    `json:"extKeyUsage" required:"false" nullable:"false"`
	IncludeRoot bool        `json:"includeRoot" required:"false" doc:"Append the root to the chain that clients get."`
	Retention   string      `json:"retention" required:"false" example:"30d" doc:"How long records of certificates are kept after they have expired, such as 30d; 0s: as long as the server's settings say."`
	Challenges  *Challenges `json:"challenges,omitempty" doc:"Validate names by ACME challenges; absent: names are pre-authorized by the EAB credential."`
}

// Validity bounds the lifetime of certificates.
type Validity struct {
	Default       string `json:"default" required:"false" example:"24h" doc:"Granted when the client asks for nothing, such as 24h."`
	Max           string `json:"max" required:"false" example:"7d" doc:"Granted when it asks for more."`
	Backdate      string `json:"backdate" required:"false" example:"1m" doc:"How far notBefore lies in the past."`
	JitterPercent int    `json:"jitterPercent" required:"false" doc:"By how much a lifetime is shortened at random, at most."`
}

// Names says which names are allowed: a name must match an allow pattern and no deny pattern.
type Names struct {
	SPIFFE SPIFFENames `json:"spiffe" required:"false"`
	DNS    DNSNames    `json:"dns" required:"false"`
	IP     IPNames     `json:"ip" required:"false"`
}

// SPIFFENames are patterns NAMESPACE/SERVICE_ACCOUNT, "*" standing for any characters but "/".
type SPIFFENames struct {
	TrustDomains []string `json:"trustDomains" required:"false" nullable:"false"`
	Allow        []string `json:"allow" required:"false" nullable:"false"`
	Deny         []string `json:"deny" required:"false" nullable:"false"`
}

// DNSNames are patterns: a name, "*.NAME" (one label more), "**.NAME" (one or more labels more) or "**".
type DNSNames struct {
	Allow     []string `json:"allow" required:"false" nullable:"false"`
	Deny      []string `json:"deny" required:"false" nullable:"false"`
	Wildcards bool     `json:"wildcards" required:"false" doc:"Names \"*.x\" may be asked for where x's names are allowed."`
}

// IPNames are address ranges, such as 10.0.0.0/8.
type IPNames struct {
	Allow []string `json:"allow" required:"false" nullable:"false"`
	Deny  []string `json:"deny" required:"false" nullable:"false"`
}

// Challenges says how names are validated.
type Challenges struct {
	Types    []string `json:"types" required:"false" nullable:"false" doc:"http-01, dns-01, tls-alpn-01."`
	Networks []string `json:"networks" required:"false" nullable:"false" doc:"Address ranges that validation may connect to."`
}

// Template is a base template with what a profile made of it starts from.
type Template struct {
	Name   string `json:"name" enum:"private-mtls,private-server,private-client,mesh-intermediate"`
	Method string `json:"method" enum:"mtls-over-acme,acme,agent,rest-api" doc:"Enrollment method of profiles that name none."`
	Rules  Rules  `json:"rules"`
}
