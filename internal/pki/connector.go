package pki

import "time"

// ConnectorMode is how the workloads of a mesh get their certificates.
type ConnectorMode string

// The modes.
const (
	ModeCertManager ConnectorMode = "cert-manager" // through istio-csr and cert-manager, over ACME
	ModeAgent       ConnectorMode = "agent"        // through certloom-agent
)

// Dataplane is how the mesh carries traffic.
type Dataplane string

// The data planes of Istio.
const (
	Sidecar Dataplane = "sidecar"
	Ambient Dataplane = "ambient"
)

// ConnectorIstio is the kind of connectors to Istio.
const ConnectorIstio = "istio"

// Connector is a cluster that a package was made for.
type Connector struct {
	Name         string // of the cluster: what its mesh calls itself, and the inventory shows
	Kind         string // ConnectorIstio
	Mode         ConnectorMode
	ProfileID    ProfileID
	CredentialID CredentialID
	Settings     ConnectorSettings
	CreatedBy    string // name of who made it
	CreatedAt    time.Time
}

// ConnectorSettings is the rest of what a package was made of.
type ConnectorSettings struct {
	TrustDomain    string    `json:"trustDomain"`
	IstioNamespace string    `json:"istioNamespace"`
	Dataplane      Dataplane `json:"dataplane"`
	IssuerName     string    `json:"issuerName,omitempty"` // of cert-manager's Issuer
	Email          string    `json:"email,omitempty"`      // contact of the ACME account
	AgentImage     string    `json:"agentImage,omitempty"`
	// ServerCA are the roots, in PEM, of the server's own certificate where the server does not know them; "" otherwise.
	ServerCA string `json:"serverCa,omitempty"`
}

// Download is a one-time address of a connector's package, known by the hash of its secret.
type Download struct {
	Hash      [32]byte
	Connector string
	ExpiresAt time.Time
}

// ConnectorFacts is what storage knows of a connector's cluster: what has happened there so far. Times are zero for what
// has not. Identities count whose newest certificate is of the connector's credential.
type ConnectorFacts struct {
	RegisteredAt     time.Time // of the first ACME account, or the agent's first certificate
	FirstAt          time.Time // of the first certificate, of whatever it is for
	NewestAt         time.Time
	Certificates     int64
	Workloads        int64 // identities of workloads
	FirstWorkloadAt  time.Time
	NewestWorkloadAt time.Time
}
