package apiv1

import (
	"context"
	"net/http"
	"time"
)

// Imported is a certificate of another CA that somebody has uploaded or a scan has found.
type Imported struct {
	Fingerprint  string           `json:"fingerprint" doc:"SHA-256 in hexadecimal."`
	Name         string           `json:"name" doc:"The first of its names, or its common name."`
	Status       string           `json:"status" enum:"valid,expired"`
	Subject      string           `json:"subject"`
	Issuer       string           `json:"issuer"`
	Serial       string           `json:"serial" doc:"In hexadecimal."`
	Names        CertificateNames `json:"names"`
	IsCA         bool             `json:"isCa"`
	NotBefore    time.Time        `json:"notBefore"`
	NotAfter     time.Time        `json:"notAfter"`
	KeyAlgorithm string           `json:"keyAlgorithm" doc:"Such as RSA 2048."`
	Signature    string           `json:"signature"`
	Rating       Rating           `json:"rating"`
	Uploaded     bool             `json:"uploaded" doc:"Somebody has uploaded it; otherwise a scan found it."`
	CreatedAt    time.Time        `json:"createdAt"`
	Endpoints    []Endpoint       `json:"endpoints,omitempty" doc:"Where it is now; when one certificate is shown, not in lists."`
	PEM          string           `json:"pem,omitempty" doc:"When one certificate is shown, not in lists."`
}

// Rating says how secure a certificate is.
type Rating struct {
	Level    string    `json:"level" enum:"very-secure,secure,at-risk,not-secure" doc:"The worst of the findings."`
	Findings []Finding `json:"findings" nullable:"false"`
}

// Finding is one rule that a certificate breaks.
type Finding struct {
	Code  string `json:"code" doc:"Names the rule."`
	Level string `json:"level" enum:"very-secure,secure,at-risk,not-secure" doc:"The certificate is no better than this."`
	Text  string `json:"text" doc:"One sentence with the value and the rule."`
}

// Endpoint is a place at which a certificate was seen last.
type Endpoint struct {
	Kind        string    `json:"kind" enum:"tls,kubernetes"`
	Place       string    `json:"place" doc:"HOST:PORT, or CLUSTER/NAMESPACE/SECRET."`
	FirstSeenAt time.Time `json:"firstSeenAt"`
	LastSeenAt  time.Time `json:"lastSeenAt"`
}

// ImportCertificates asks to take the certificates of a file into the inventory.
type ImportCertificates struct {
	Data     []byte `json:"data" doc:"The file in base64: PEM, DER, PKCS #7 or PKCS #12, up to 4 MiB and 1,000 certificates."`
	Password string `json:"password,omitempty" maxLength:"1024" doc:"Opens a PKCS #12. Private keys in it are not kept."`
}

// ImportResult says what has become of a file.
type ImportResult struct {
	Imported int          `json:"imported"`
	Known    int          `json:"known"`
	Refused  int          `json:"refused"`
	Items    []ImportItem `json:"items" nullable:"false" doc:"Its parts, in their order; what could not be read comes last."`
}

// ImportItem is what has become of one certificate of a file.
type ImportItem struct {
	Where       string `json:"where,omitempty" doc:"Such as line 12, or certificate 3; absent: the whole file."`
	Result      string `json:"result" enum:"imported,known,refused"`
	Reason      string `json:"reason,omitempty" doc:"Why it was not imported."`
	Name        string `json:"name,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Level       string `json:"level,omitempty" doc:"Its security rating."`
}

// ImportedQuery selects imported certificates. Members that are empty do not select.
type ImportedQuery struct {
	Text          string // what a person types
	Status        string
	Level         string
	ExpiresWithin string // such as 30d
	After         string
	Limit         int
}

// ImportCertificates takes the certificates of a file into the inventory.
func (c *Client) ImportCertificates(ctx context.Context, in ImportCertificates) (*ImportResult, error) {
	return send[ImportResult](ctx, c, http.MethodPost, "/imported-certificates", in)
}

// ImportedCertificates lists certificates of other CAs, a page at a time.
func (c *Client) ImportedCertificates(ctx context.Context, q ImportedQuery) (*Page[Imported], error) {
	return get[Page[Imported]](ctx, c, "/imported-certificates", query{}.text("q", q.Text).text("status", q.Status).text("level", q.Level).
		text("expiresWithin", q.ExpiresWithin).text("after", q.After).number("limit", q.Limit))
}

// ImportedCertificate returns one, by its fingerprint.
func (c *Client) ImportedCertificate(ctx context.Context, fingerprint string) (*Imported, error) {
	return get[Imported](ctx, c, at("imported-certificates", fingerprint), nil)
}

// DeleteImported takes one out of the inventory.
func (c *Client) DeleteImported(ctx context.Context, fingerprint string) error {
	return c.call(ctx, http.MethodDelete, at("imported-certificates", fingerprint), nil, nil, nil)
}
