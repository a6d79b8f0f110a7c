package apiv1

import "time"

// Credential is an EAB credential. Its HMAC key is shown once, when it is made.
type Credential struct {
	KeyID       string    `json:"keyId"`
	Name        string    `json:"name" example:"cluster-east"`
	Profile     string    `json:"profile" example:"istio" doc:"Name of the profile."`
	State       string    `json:"state" enum:"active,expired,revoked" doc:"active, expired or revoked."`
	ExpiresAt   time.Time `json:"expiresAt,omitzero" doc:"Absent: never."`
	MaxAccounts int       `json:"maxAccounts" doc:"How many ACME accounts may be registered with it; 0: no limit."`
	Accounts    int       `json:"accounts" doc:"How many are."`
	Limit       *Names    `json:"limit,omitempty" doc:"Names that it may have, narrower than the profile's; absent: the profile's."`
	CreatedAt   time.Time `json:"createdAt"`
	RevokedAt   time.Time `json:"revokedAt,omitzero"`
	LastUsedAt  time.Time `json:"lastUsedAt,omitzero" doc:"To within a minute."`
}

// CreateCredential asks for a new credential.
type CreateCredential struct {
	Profile     string    `json:"profile" example:"istio" doc:"Name of the profile."`
	Name        string    `json:"name" example:"cluster-east" doc:"Unique within the profile: the client's, a cluster's, say."`
	ExpiresAt   time.Time `json:"expiresAt,omitzero" doc:"Absent: never."`
	MaxAccounts int       `json:"maxAccounts,omitempty" example:"3" doc:"0: no limit."`
	Limit       *Names    `json:"limit,omitempty" doc:"Must be narrower than what the profile allows."`
}

// NewCredential is what an ACME client or an agent needs of a new credential. The key cannot be asked for again.
type NewCredential struct {
	DirectoryURL string `json:"directoryUrl" format:"uri"`
	AgentURL     string `json:"agentUrl,omitempty" format:"uri" doc:"Where agents enrol; of a profile with enrollment method agent."`
	KeyID        string `json:"keyId"`
	HMACKey      string `json:"hmacKey" doc:"32 bytes, base64url without padding."`
}
