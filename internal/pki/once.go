package pki

import "time"

// Once is a request to which its client gave a key of its own, so that it is served once however often it is sent
// (draft-ietf-httpapi-idempotency-key-header).
type Once struct {
	ID        [32]byte // hash of the caller and the key
	Request   [32]byte // hash of what was asked for
	Claim     [16]byte // random: whose turn it is to serve it
	StartedAt time.Time
	ExpiresAt time.Time
	Answer    []byte // sealed; nil while it is served
}
