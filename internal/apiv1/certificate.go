package apiv1

import (
	"context"
	"net/http"
	"time"
)

// Certificate is one certificate of the inventory.
type Certificate struct {
	Serial             string           `json:"serial" example:"3f1c5a7be2d0948b6a1f07c3d5e8924b1a6c0d7e" doc:"Hexadecimal."`
	Status             string           `json:"status" enum:"valid,renewal-due,expired,held,revoked" doc:"valid, renewal-due, expired, held (revoked until it is released) or revoked, now."`
	Identity           string           `json:"identity" example:"spiffe://cluster.local/ns/shop/sa/web" doc:"What it is for: the SPIFFE ID, or the first DNS name or address."`
	Names              CertificateNames `json:"names"`
	Profile            string           `json:"profile" example:"istio" doc:"Name of the profile, or its identifier when it was deleted."`
	IssuingCA          string           `json:"issuingCa" example:"issuing"`
	Fingerprint        string           `json:"fingerprint" doc:"SHA-256, hexadecimal."`
	NotBefore          time.Time        `json:"notBefore"`
	NotAfter           time.Time        `json:"notAfter"`
	RenewAt            time.Time        `json:"renewAt" doc:"When the client should have a newer one."`
	IssuedAt           time.Time        `json:"issuedAt"`
	Requested          string           `json:"requestedLifetime,omitempty" doc:"Absent: the client left it to the profile."`
	Granted            string           `json:"grantedLifetime" example:"24h"`
	KeyAlgorithm       string           `json:"keyAlgorithm" example:"ecdsa-p256"`
	SignatureAlgorithm string           `json:"signatureAlgorithm"`
	Credential         string           `json:"credential,omitempty" doc:"KID of the EAB credential that it was asked for with."`
	CredentialName     string           `json:"credentialName,omitempty"`
	Account            string           `json:"account,omitempty" doc:"ACME account."`
	Order              string           `json:"order,omitempty" doc:"ACME order."`
	Replaces           string           `json:"replaces,omitempty" doc:"ARI identifier of its predecessor (RFC 9773)."`
	UserAgent          string           `json:"userAgent,omitempty" doc:"As the client sent it."`
	Address            string           `json:"address,omitempty" doc:"The client's."`
	Workload           *Workload        `json:"workload,omitempty" doc:"Where it went, when an agent asked for it."`
	RevokedAt          time.Time        `json:"revokedAt,omitzero"`
	RevocationReason   string           `json:"revocationReason,omitempty"`
	PEM                string           `json:"pem,omitempty" doc:"When one certificate is asked for."`

	Details *CertificateDetails `json:"details,omitempty" doc:"When one certificate is asked for."`
}

// Workload is where a certificate went, as the agent that asked for it saw.
type Workload struct {
	Cluster        string `json:"cluster,omitempty" example:"east"`
	Namespace      string `json:"namespace,omitempty" example:"shop"`
	ServiceAccount string `json:"serviceAccount,omitempty" example:"web"`
	Pod            string `json:"pod,omitempty" example:"web-7d4b9c-x2x8q"`
	PodUID         string `json:"podUid,omitempty"`
	Node           string `json:"node,omitempty"`
	ImpersonatedBy string `json:"impersonatedBy,omitempty" doc:"NAMESPACE/SERVICE_ACCOUNT/POD of the node proxy that asked in its place."`
	Presented      string `json:"presented,omitempty" doc:"Serial of the client certificate by which the workload was known, absent when it had a token."`
}

// CertificateNames are subject alternative names.
type CertificateNames struct {
	URIs []string `json:"uris,omitempty" nullable:"false"`
	DNS  []string `json:"dns,omitempty" nullable:"false"`
	IPs  []string `json:"ips,omitempty" nullable:"false"`
}

// CreateCertificate asks for a certificate under a profile with enrollment method rest-api.
type CreateCertificate struct {
	Profile  string `json:"profile" example:"ci" doc:"Name of the profile."`
	CSR      string `json:"csr" doc:"PKCS #10 request, PEM. Names and key are taken from it, nothing else."`
	Validity string `json:"validity,omitempty" example:"12h" doc:"Lifetime, such as 12h; absent: the profile's."`
}

// NewCertificate is a new certificate with its chain.
type NewCertificate struct {
	Certificate Certificate `json:"certificate"`
	PEM         string      `json:"pem" doc:"The certificate."`
	ChainPEM    string      `json:"chainPem" doc:"The certificates above it, nearest first."`
}

// RevokeCertificate revokes a certificate.
type RevokeCertificate struct {
	Reason string `json:"reason,omitempty" example:"superseded" doc:"unspecified (default), keyCompromise, affiliationChanged, superseded, cessationOfOperation or privilegeWithdrawn."`
}

// RevokeCertificates revokes several certificates: those with the serials, or those that the filter selects.
type RevokeCertificates struct {
	Reason   string                `json:"reason,omitempty" doc:"As in the revocation of one."`
	Serials  []string              `json:"serials,omitempty" nullable:"false" doc:"1,000 at most."`
	Filter   *CertificateSelection `json:"filter,omitempty" doc:"Instead of serials: what is not expired and not revoked of the certificates with all of this."`
	Expected int                   `json:"expected,omitempty" doc:"With a filter: how many that are. With any other number nothing is revoked."`
	Batch    bool                  `json:"batch,omitempty" doc:"With a filter, instead of expected: revoke 1,000 of them, those that are held too, and say whether there are more. Ask again until there are none."`
}

// CertificateSelection selects certificates. Members that are empty do not select.
type CertificateSelection struct {
	Text        string `json:"q,omitempty"`
	Identity    string `json:"identity,omitempty" doc:"A prefix when it ends with *."`
	TrustDomain string `json:"trustDomain,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Profile     string `json:"profile,omitempty"`
	IssuingCA   string `json:"issuingCa,omitempty"`
	Credential  string `json:"credential,omitempty" doc:"KID."`
	Account     string `json:"account,omitempty"`
	Cluster     string `json:"cluster,omitempty"`
	Pod         string `json:"pod,omitempty" doc:"A prefix when it ends with *."`
}

// Revocations says what has become of each certificate that was to be revoked, in the order in which they were named.
type Revocations struct {
	Revoked int          `json:"revoked" doc:"How many were revoked by this call."`
	More    bool         `json:"more,omitempty" doc:"With batch: there may be more to revoke."`
	Items   []Revocation `json:"items" nullable:"false"`
}

// Revocation is what has become of one certificate.
type Revocation struct {
	Serial  string `json:"serial"`
	Outcome string `json:"outcome" enum:"revoked,already-revoked,expired,not-found,failed,not-tried" doc:"revoked, already-revoked, expired, not-found, failed (of this one it is not known whether it was revoked) or not-tried (after a failure)."`
	Detail  string `json:"detail,omitempty"`
}

// Outcomes of a revocation.
const (
	Revoked        = "revoked"
	AlreadyRevoked = "already-revoked"
	Expired        = "expired"
	NotThere       = "not-found"
	Failed         = "failed"
	NotTried       = "not-tried"
)

// CertificateQuery selects certificates. Members that are empty do not select.
type CertificateQuery struct {
	Text          string // what a person types
	Identity      string
	TrustDomain   string
	Namespace     string
	Profile       string
	IssuingCA     string
	Credential    string
	Account       string
	Cluster       string
	Pod           string
	Status        string
	Fingerprint   string
	IssuedAfter   time.Time
	ExpiresBefore time.Time
	After         string
	Limit         int
}

// Identity is what certificates are for, with its newest certificate.
type Identity struct {
	Name           string    `json:"name" example:"spiffe://cluster.local/ns/shop/sa/web" doc:"SPIFFE ID, DNS name or address."`
	Status         string    `json:"status" enum:"ok,renewal-due,lapsing,lapsed,gone" doc:"Now: ok, renewal-due (usually it had a newer certificate by now), lapsing (its client has stopped renewing), lapsed or gone (nothing runs that needs it)."`
	TrustDomain    string    `json:"trustDomain,omitempty" example:"cluster.local"`
	Namespace      string    `json:"namespace,omitempty" example:"shop"`
	ServiceAccount string    `json:"serviceAccount,omitempty" example:"web"`
	Cluster        string    `json:"cluster,omitempty" example:"east" doc:"That the newest certificate went to, when an agent asked for it."`
	Profile        string    `json:"profile" example:"istio" doc:"Of the newest certificate."`
	NewestSerial   string    `json:"newestSerial"`
	NotBefore      time.Time `json:"notBefore" doc:"Of the newest certificate."`
	NotAfter       time.Time `json:"notAfter"`
	RevokedAt      time.Time `json:"revokedAt,omitzero"`
	Certificates   int64     `json:"certificates" doc:"Issued so far."`
	FirstIssuedAt  time.Time `json:"firstIssuedAt"`
	LastIssuedAt   time.Time `json:"lastIssuedAt"`
	RenewAt        time.Time `json:"renewAt" doc:"When it is expected to have a newer certificate, as its history says."`
	LapsingAt      time.Time `json:"lapsingAt" doc:"When it should have one at last."`
	GoneAt         time.Time `json:"goneAt,omitzero" doc:"Since when nothing runs that needs it, as its agent or somebody says."`
	RolledUp       *RollUp   `json:"rolledUp,omitempty" doc:"Those of its certificates whose records were deleted after they had expired; when one identity is shown, not in lists."`
}

// IdentityNames names identities: of a request, those to be marked; of an answer, those that were.
type IdentityNames struct {
	Names []string `json:"names" nullable:"false" doc:"SPIFFE IDs, DNS names or addresses, up to 1,000."`
}

// RetireIdentities marks identities as gone.
func (c *Client) RetireIdentities(ctx context.Context, names []string) (*IdentityNames, error) {
	return send[IdentityNames](ctx, c, http.MethodPost, "/identities/retire", IdentityNames{Names: names})
}

// RestoreIdentities takes the mark away.
func (c *Client) RestoreIdentities(ctx context.Context, names []string) (*IdentityNames, error) {
	return send[IdentityNames](ctx, c, http.MethodPost, "/identities/restore", IdentityNames{Names: names})
}

// RollUp is what is left of certificates whose records were deleted.
type RollUp struct {
	Certificates  int64            `json:"certificates"`
	FirstIssuedAt time.Time        `json:"firstIssuedAt"`
	LastIssuedAt  time.Time        `json:"lastIssuedAt"`
	Algorithms    map[string]int64 `json:"algorithms" nullable:"false" doc:"How many had a key of each algorithm."`
}

// IdentityQuery selects identities. Members that are empty do not select.
type IdentityQuery struct {
	Text        string // what a person types
	Cluster     string
	Name        string
	TrustDomain string
	Namespace   string
	Profile     string
	Status      string
	After       string
	Limit       int
}
