package jose

import (
	"github.com/certloom/certloom/internal/fault"
)

// KeyChange is what the inner half of a keyChange request asks for (RFC 8555 section 7.3.5), signed by the new key.
type KeyChange struct {
	Account string // account URL, not compared with the outer kid
	OldKey  *Key   // not compared with the account's key
	NewKey  *Key   // signed the inner JWS
}

// ParseInner reads the payload of a keyChange request whose url is url, and checks the signature of the new key.
// Refusals are the *fault.Errors of Parse.
func ParseInner(payload []byte, url string) (*KeyChange, error) {
	const what = "inner JWS"
	parts, payload, h, err := split(payload, what)
	if err != nil {
		return nil, err
	}
	if err := h.checkAlgorithm(what); err != nil {
		return nil, err
	}
	switch {
	case h.jwk == nil:
		return nil, fault.New(fault.Malformed, "inner JWS has no \"jwk\"; the new key is wanted (RFC 8555 section 7.3.5)")
	case h.kid.set:
		return nil, fault.New(fault.Malformed, "inner JWS has a \"kid\"; only the new key as \"jwk\" is wanted (RFC 8555 section 7.3.5)")
	case h.nonce.set:
		return nil, fault.New(fault.Malformed, "inner JWS has a nonce (RFC 8555 section 7.3.5)")
	case h.url.value != url:
		return nil, fault.New(fault.Malformed, "inner JWS has url %.200q, not that of the outer JWS (RFC 8555 section 7.3.5)", h.url.value)
	}
	key, err := h.key(what)
	if err != nil {
		return nil, err
	}
	if !key.verify(&parts) {
		return nil, fault.New(fault.Malformed, "inner JWS verification error: the signature was not made by the new key")
	}
	change := &KeyChange{NewKey: key}
	return change, change.read(payload)
}

// read reads the inner payload.
func (c *KeyChange) read(payload []byte) error {
	var room [8]member
	members, err := readObject(payload, room[:0])
	if err != nil {
		return fault.New(fault.Malformed, "inner payload %v", err)
	}
	for _, m := range members {
		switch string(m.name) {
		case "account":
			var account optional
			account, err = readOptional(m, "inner payload")
			c.Account = account.value
		case "oldKey":
			c.OldKey, err = ParseKey(m.value)
		default:
			err = refuseVariant(m.name, "inner payload", "account", "oldKey")
		}
		if err != nil {
			return err
		}
	}
	if c.Account == "" || c.OldKey == nil {
		return fault.New(fault.Malformed, "inner payload lacks \"account\" or \"oldKey\" (RFC 8555 section 7.3.5)")
	}
	return nil
}
