package apiv1

import "time"

// CertificateDetails is what a certificate says, read from its bytes and explained.
type CertificateDetails struct {
	Subject            string           `json:"subject" doc:"Empty when the names are in the subject alternative name alone."`
	Issuer             string           `json:"issuer"`
	NotBefore          time.Time        `json:"notBefore"`
	NotAfter           time.Time        `json:"notAfter"`
	KeyAlgorithm       string           `json:"keyAlgorithm"`
	SignatureAlgorithm string           `json:"signatureAlgorithm"`
	Names              CertificateNames `json:"names"`
	Extensions         []Extension      `json:"extensions" nullable:"false" doc:"In the order of the certificate."`
}

// Extension is an extension of a certificate (RFC 5280 section 4.2).
type Extension struct {
	Name     string   `json:"name" doc:"As RFC 5280 writes it, or the OID when it is not known here."`
	OID      string   `json:"oid"`
	Critical bool     `json:"critical" doc:"Who does not understand it must refuse the certificate."`
	Values   []string `json:"values" nullable:"false" doc:"What it says."`
	Sentence string   `json:"sentence" doc:"What it means."`
}
