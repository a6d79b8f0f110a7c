package apiv1

import "time"

// CA is a root or an issuing CA.
type CA struct {
	ID           string       `json:"id" doc:"Part of its download, CRL and OCSP addresses."`
	Name         string       `json:"name" example:"issuing"`
	Kind         string       `json:"kind" enum:"root,issuing" doc:"root or issuing."`
	State        string       `json:"state" enum:"pending,active,suspended,revoked" doc:"pending (waits for a certificate from an outside root), active, suspended, or revoked by the CA above."`
	Parent       string       `json:"parent,omitempty" doc:"Name of the CA that signed it; absent for roots and under outside roots."`
	KeyAlgorithm string       `json:"keyAlgorithm" example:"ecdsa-p256"`
	Subject      string       `json:"subject,omitempty" example:"CN=issuing"`
	Issuer       string       `json:"issuer,omitempty"`
	Serial       string       `json:"serial,omitempty"`
	Fingerprint  string       `json:"fingerprint,omitempty" doc:"SHA-256 of the certificate, hexadecimal."`
	NotBefore    time.Time    `json:"notBefore,omitzero"`
	NotAfter     time.Time    `json:"notAfter,omitzero"`
	PathLength   *int         `json:"pathLength,omitempty" doc:"How many CAs may be below it; absent: no limit."`
	Constraints  *Constraints `json:"constraints,omitempty" doc:"Name constraints; absent: none."`
	Settings     CASettings   `json:"settings"`
	CreatedAt    time.Time    `json:"createdAt"`
	UpdatedAt    time.Time    `json:"updatedAt"`
	RevokedAt    time.Time    `json:"revokedAt,omitzero"`
	// RevocationReason is one of RFC 5280.
	RevocationReason string `json:"revocationReason,omitempty"`
	PEM              string `json:"pem,omitempty" doc:"The certificate, when one CA is asked for."`
	ChainPEM         string `json:"chainPem,omitempty" doc:"The certificates above it, nearest first, when one CA is asked for."`

	Details *CertificateDetails `json:"details,omitempty" doc:"When one CA is asked for."`
}

// RevokeCA revokes an issuing CA.
type RevokeCA struct {
	Reason string `json:"reason,omitempty" doc:"unspecified (default), cACompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn."`
}

// CASettings are the addresses that a CA puts into the certificates that it signs.
type CASettings struct {
	CRLURLs    []string `json:"crlUrls" required:"false" nullable:"false" doc:"CRL distribution points."`
	OCSPURLs   []string `json:"ocspUrls" required:"false" nullable:"false" doc:"OCSP responders."`
	IssuerURLs []string `json:"issuerUrls" required:"false" nullable:"false" doc:"Where the CA's own certificate can be had."`
}

// Constraints are a CA's name constraints: nothing outside of them is accepted below it.
type Constraints struct {
	TrustDomains []string `json:"trustDomains" required:"false" nullable:"false" doc:"The only trust domains of SPIFFE IDs; empty: any."`
	DNS          []string `json:"dns" required:"false" nullable:"false" doc:"The only domains of DNS names, each with everything below it; empty: any."`
}

// CreateCA asks for a new CA. An issuing CA without a parent is made for an outside root: it is pending until the
// certificate that the root makes of its CSR is installed.
type CreateCA struct {
	Name         string       `json:"name" example:"mesh" doc:"1 to 63 lower-case letters, digits and hyphens."`
	Kind         string       `json:"kind" enum:"root,issuing" example:"issuing"`
	Parent       string       `json:"parent,omitempty" example:"root" doc:"Name of the CA that signs an issuing CA; absent: an outside root will."`
	KeyAlgorithm string       `json:"keyAlgorithm,omitempty" example:"ecdsa-p256" doc:"ecdsa-p256 (default), ecdsa-p384, rsa-3072, rsa-4096 or ed25519."`
	CommonName   string       `json:"commonName,omitempty" doc:"Of the subject; absent: the name."`
	Organization string       `json:"organization,omitempty" doc:"Of the subject."`
	Validity     string       `json:"validity,omitempty" example:"5y" doc:"Such as 3650d or 10y; absent: 10y for a root, 5y for an issuing CA."`
	PathLength   *int         `json:"pathLength,omitempty" doc:"How many CAs may be below it; absent: 2 for a root, 0 for an issuing CA."`
	Constraints  *Constraints `json:"constraints,omitempty" doc:"Name constraints; absent: none."`
	Settings     *CASettings  `json:"settings,omitempty" doc:"Absent: this server's own addresses."`
}

// ImportCA brings an existing CA with its key.
type ImportCA struct {
	Name     string      `json:"name"`
	Chain    string      `json:"chain" doc:"PEM: the CA's certificate first, then those above it, with the root."`
	Key      string      `json:"key" writeOnly:"true" doc:"PEM: its private key, PKCS #8, PKCS #1 or SEC 1, not encrypted."`
	Settings *CASettings `json:"settings,omitempty" doc:"Absent: this server's own addresses."`
}

// InstallCertificate completes a pending CA, or renews the certificate of one that was.
type InstallCertificate struct {
	Chain string `json:"chain" doc:"PEM: the certificate that the outside root made of the CA's CSR first, then those above it, with the root."`
}

// CACSR is the request for an outside root.
type CACSR struct {
	Name string `json:"name"`
	PEM  string `json:"pem"`
}
