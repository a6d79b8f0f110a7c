package jose

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"hash"

	"github.com/certloom/certloom/internal/fault"
)

// Binding is an external account binding (RFC 8555 section 7.3.4) whose form is good and that binds the right key.
// Nothing in it may be believed before Verify returned nil.
type Binding struct {
	KID string // names the EAB credential

	newHash func() hash.Hash
	parts   flattened
}

// ParseBinding reads the value of externalAccountBinding in a newAccount request whose url is url and whose account
// key is key. Refusals are Malformed *fault.Errors, but for an algorithm that is not a MAC, which is
// BadSignatureAlgorithm.
func ParseBinding(raw []byte, url string, key *Key) (*Binding, error) {
	const what = "externalAccountBinding"
	parts, payload, h, err := split(raw, what)
	if err != nil {
		return nil, err
	}
	b := &Binding{KID: h.kid.value, parts: parts}
	switch h.alg.value {
	case "HS256":
		b.newHash = sha256.New
	case "HS384":
		b.newHash = sha512.New384
	case "HS512":
		b.newHash = sha512.New
	default:
		err := fault.New(fault.BadSignatureAlgorithm, "externalAccountBinding has algorithm %.40q, which is not one of HS256, HS384, HS512", h.alg.value)
		err.Algorithms = []string{"HS256", "HS384", "HS512"}
		return nil, err
	}
	switch {
	case h.kid.value == "":
		return nil, fault.New(fault.Malformed, "externalAccountBinding has no \"kid\"; the key identifier that the CA handed out is wanted")
	case h.jwk != nil:
		return nil, fault.New(fault.Malformed, "externalAccountBinding has a \"jwk\" in its header")
	case h.nonce.set:
		return nil, fault.New(fault.Malformed, "externalAccountBinding has a nonce (RFC 8555 section 7.3.4)")
	case h.url.value != url:
		return nil, fault.New(fault.Malformed, "externalAccountBinding has url %.200q, not that of the request (RFC 8555 section 7.3.4)", h.url.value)
	}
	bound, err := ParseKey(payload)
	if err != nil {
		return nil, err
	}
	// Compared as keys: another order of members or an extra one makes no other key.
	if bound.Thumbprint != key.Thumbprint {
		return nil, fault.New(fault.Malformed, "externalAccountBinding's payload is not the account's key (RFC 8555 section 7.3.4)")
	}
	return b, nil
}

// Verify checks the MAC with the credential's HMAC key, in constant time. Without a key, as for a kid that is
// unknown, it does the same work and refuses with the same error, so that neither tells which kids exist. The
// key may be shorter than the hash: clients pick HS512 for keys of 32 bytes.
func (b *Binding) Verify(hmacKey []byte) error {
	known := len(hmacKey) > 0
	if !known {
		hmacKey = make([]byte, 32)
	}
	mac := hmac.New(b.newHash, hmacKey)
	b.parts.write(mac)
	if !hmac.Equal(mac.Sum(nil), b.parts.signature) || !known {
		return fault.New(fault.Unauthorized, "externalAccountBinding is refused: its kid is unknown or its MAC is wrong")
	}
	return nil
}
