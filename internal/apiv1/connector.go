package apiv1

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Connector is a cluster that a package was made for.
type Connector struct {
	Name           string    `json:"name" doc:"What the cluster's mesh calls itself, and the inventory shows."`
	Kind           string    `json:"kind" enum:"istio" doc:"istio."`
	Mode           string    `json:"mode" enum:"cert-manager,agent" doc:"cert-manager or agent."`
	Profile        string    `json:"profile"`
	Credential     string    `json:"credential" doc:"Name of the EAB credential."`
	KeyID          string    `json:"keyId" doc:"KID of the EAB credential."`
	TrustDomain    string    `json:"trustDomain"`
	IstioNamespace string    `json:"istioNamespace"`
	Dataplane      string    `json:"dataplane" enum:"sidecar,ambient" doc:"sidecar or ambient."`
	IssuerName     string    `json:"issuerName,omitempty" doc:"Of cert-manager's Issuer."`
	Email          string    `json:"email,omitempty" doc:"Contact of the ACME account."`
	AgentImage     string    `json:"agentImage,omitempty"`
	State          string    `json:"state" enum:"waiting,registered,issuing,quiet,revoked" doc:"waiting (nobody has registered), registered, issuing, quiet (nothing was issued for longer than certificates live) or revoked."`
	Workloads      int64     `json:"workloads" doc:"Identities of workloads that have their newest certificate by the credential."`
	Certificates   int64     `json:"certificates" doc:"Issued to them, and to the mesh itself."`
	LastIssuedAt   time.Time `json:"lastIssuedAt,omitzero"`
	CreatedBy      string    `json:"createdBy,omitempty"`
	CreatedAt      time.Time `json:"createdAt"`
}

// CreateConnector asks for a package. What is left out is what the profile says, or what Istio's own default is.
type CreateConnector struct {
	Name           string    `json:"name,omitempty" doc:"Of the cluster; absent: the credential's name."`
	Kind           string    `json:"kind,omitempty" doc:"istio, which is the default."`
	Mode           string    `json:"mode,omitempty" example:"cert-manager" doc:"cert-manager or agent; absent: what the profile's enrollment method is for."`
	Profile        string    `json:"profile" example:"istio" doc:"Name of the certificate profile."`
	Credential     string    `json:"credential" example:"east" doc:"Name of the EAB credential. It is made, unless hmacKey is given."`
	HMACKey        string    `json:"hmacKey,omitempty" writeOnly:"true" doc:"Of the credential, when it exists already: keys are shown once only."`
	ExpiresAt      time.Time `json:"expiresAt,omitzero" doc:"Of a credential that is made; absent: never."`
	TrustDomain    string    `json:"trustDomain,omitempty" example:"cluster.local" doc:"Absent: the profile's first."`
	IstioNamespace string    `json:"istioNamespace,omitempty" doc:"Absent: istio-system."`
	Dataplane      string    `json:"dataplane,omitempty" doc:"sidecar (default) or ambient."`
	IssuerName     string    `json:"issuerName,omitempty" doc:"Of cert-manager's Issuer; absent: certloom."`
	Email          string    `json:"email,omitempty" doc:"Contact of the ACME account; absent: none."`
	AgentImage     string    `json:"agentImage,omitempty" doc:"REGISTRY/PATH:TAG of an image with certloom-agent; absent: certloom-agent."`
	ServerCA       string    `json:"serverCa,omitempty" doc:"PEM: the root of this server's own certificate, where the server does not know it and the cluster does not trust it."`
}

// ConnectorFile is one file of a package.
type ConnectorFile struct {
	Name   string `json:"name"`
	Text   string `json:"text,omitempty"`
	Data   []byte `json:"data,omitempty" doc:"In base64, of a file that is no text."`
	Secret bool   `json:"secret" doc:"It has the credential's key."`
}

// ConnectorStep is one step from a package to a mesh with certificates.
type ConnectorStep struct {
	ID       string   `json:"id" enum:"cert-manager,apply,fetch,istio-csr,agent,istio,workloads" doc:"cert-manager, apply, fetch, istio-csr, agent, istio or workloads."`
	Title    string   `json:"title"`
	Commands []string `json:"commands" nullable:"false"`
	Checks   []string `json:"checks" nullable:"false" doc:"They fail, or wait, until the step has done what it is for."`
	Note     string   `json:"note,omitempty"`
}

// NewConnector is a connector with its package, which is shown once.
type NewConnector struct {
	Connector  Connector       `json:"connector"`
	Files      []ConnectorFile `json:"files" nullable:"false"`
	Steps      []ConnectorStep `json:"steps" nullable:"false" doc:"In the folder of the files."`
	ApplyURL   string          `json:"applyUrl" format:"uri" doc:"Everything for kubectl apply, once, without a token."`
	ZIPURL     string          `json:"zipUrl" format:"uri" doc:"The files as an archive, once, without a token."`
	URLsExpire time.Time       `json:"urlsExpireAt"`
	ApplySteps []ConnectorStep `json:"applySteps" nullable:"false" doc:"The steps without the files, with applyUrl."`
}

// ConnectorProgress is how far a cluster has come with one thing.
type ConnectorProgress struct {
	ID   string    `json:"id" enum:"credential,registered,certificate,workloads" doc:"credential, registered, certificate or workloads."`
	Done bool      `json:"done"`
	At   time.Time `json:"at,omitzero"`
}

// ConnectorStatus is how far a cluster has come.
type ConnectorStatus struct {
	Connector Connector           `json:"connector"`
	Progress  []ConnectorProgress `json:"progress" nullable:"false" doc:"In the order in which they happen."`
}

// Connectors lists the connectors by name.
func (c *Client) Connectors(ctx context.Context) (*Page[Connector], error) {
	return whole[Connector](ctx, c, "/connectors", query{})
}

// ConnectorPage lists them page by page.
func (c *Client) ConnectorPage(ctx context.Context, after string, limit int) (*Page[Connector], error) {
	return onePage[Connector](ctx, c, "/connectors", query{}, after, limit)
}

// Connector shows one.
func (c *Client) Connector(ctx context.Context, name string) (*Connector, error) {
	return get[Connector](ctx, c, at("connectors", name), nil)
}

// ConnectorStatus shows how far a connector's cluster has come.
func (c *Client) ConnectorStatus(ctx context.Context, name string) (*ConnectorStatus, error) {
	return get[ConnectorStatus](ctx, c, at("connectors", name, "status"), nil)
}

// CreateConnector makes a connector and its package.
func (c *Client) CreateConnector(ctx context.Context, in CreateConnector) (*NewConnector, error) {
	return send[NewConnector](ctx, c, http.MethodPost, "/connectors", in)
}

// DeleteConnector removes a connector, and revokes its credential if that is said.
func (c *Client) DeleteConnector(ctx context.Context, name string, revoke bool) error {
	q := query{}
	if revoke {
		q = q.text("revoke", "true")
	}
	return c.call(ctx, http.MethodDelete, at("connectors", name), url.Values(q), nil, nil)
}
