package jose

import (
	"github.com/certloom/certloom/internal/fault"
)

// maxMessage bounds what Parse looks at, whatever the caller let through.
const maxMessage = 1 << 20

// Header is the protected header of a request. Exactly one of KID and JWK is set.
type Header struct {
	Alg   string // one of Algorithms
	Nonce string // base64url, not redeemed
	URL   string // not compared with the request's
	KID   string // account URL, never empty when JWK is nil
	JWK   *Key   // checked by goodkey and fit for Alg
}

// Message is a request whose form is good. Nothing in it may be believed before Verify returned nil.
type Message struct {
	Header Header
	// Payload is what was signed, decoded. It is empty in a POST-as-GET (RFC 8555 section 6.3).
	Payload []byte

	parts flattened
}

// flattened is a JWS in flattened JSON serialization (RFC 7515 section 7.2.2).
type flattened struct {
	protected, payload []byte // as they were signed: base64url
	signature          []byte // decoded
}

// Parse reads a request: the form only, no signature is checked. It keeps body, which must not be changed while the
// message is in use.
//
// It refuses, with a *fault.Error whose sentence names the field, the value and the rule:
//   - BadSignatureAlgorithm, with Algorithms: "none", MACs and what is unknown, or an algorithm that is not the key's;
//   - BadPublicKey: a key that goodkey refuses;
//   - Unauthorized: no url (RFC 8555 section 6.4);
//   - BadNonce: no nonce (section 6.5.2);
//   - TooLarge, Malformed: everything else that is not a JWS as section 6.2 has it.
func Parse(body []byte) (*Message, error) {
	const what = "JWS"
	if len(body) > maxMessage {
		return nil, fault.New(fault.TooLarge, "JWS has %d bytes, more than %d", len(body), maxMessage)
	}
	parts, payload, h, err := split(body, what)
	if err != nil {
		return nil, err
	}
	if err := h.checkAlgorithm(what); err != nil {
		return nil, err
	}
	m := &Message{
		Header:  Header{Alg: h.alg.value, Nonce: h.nonce.value, URL: h.url.value, KID: h.kid.value},
		Payload: payload,
		parts:   parts,
	}
	switch {
	case h.jwk != nil && h.kid.set:
		return nil, fault.New(fault.Malformed, "JWS has both \"jwk\" and \"kid\"; exactly one is wanted (RFC 8555 section 6.2)")
	case h.jwk == nil && h.kid.value == "":
		return nil, fault.New(fault.Malformed, "JWS has neither \"jwk\" nor \"kid\"; exactly one is wanted (RFC 8555 section 6.2)")
	case !h.url.set:
		return nil, fault.New(fault.Unauthorized, "JWS has no \"url\" in its protected header (RFC 8555 section 6.4)")
	case !h.nonce.set:
		return nil, fault.New(fault.BadNonce, "JWS has an invalid anti-replay nonce: there is none")
	case !isBase64(h.nonce.value):
		return nil, fault.New(fault.Malformed, "JWS's nonce is not base64url (RFC 8555 section 6.5.2)")
	}
	// The key comes last, because checking one costs most.
	if h.jwk != nil {
		m.Header.JWK, err = h.key(what)
	}
	return m, err
}

// Verify checks that key signed the message. The error is the same for every key that did not, whatever its type, so
// that it says nothing about the account that a kid names.
func (m *Message) Verify(key *Key) error {
	if key.Algorithm != m.Header.Alg || !key.verify(&m.parts) {
		return fault.New(fault.Malformed, "JWS verification error: the signature was not made by the account's key")
	}
	return nil
}

// split takes a JWS apart: the parts as they were signed, the payload decoded, the protected header.
func split(raw []byte, what string) (parts flattened, payload []byte, h header, err error) {
	var room [8]member
	members, err := readObject(raw, room[:0])
	if err != nil {
		return parts, nil, h, fault.New(fault.Malformed, "%s %v", what, err)
	}
	var signature []byte
	for _, m := range members {
		switch string(m.name) {
		case "protected":
			parts.protected, err = readText(m, what)
		case "payload":
			parts.payload, err = readText(m, what)
		case "signature":
			signature, err = readText(m, what)
		case "signatures":
			err = fault.New(fault.Malformed, "%s has \"signatures\"; the flattened serialization with one signature is wanted (RFC 8555 section 6.2)", what)
		case "header":
			err = fault.New(fault.Malformed, "%s has an unprotected header (RFC 8555 section 6.2)", what)
		default:
			err = refuseVariant(m.name, what, "protected", "payload", "signature", "signatures", "header")
		}
		if err != nil {
			return parts, nil, h, err
		}
	}
	protected, err := decodeMember(parts.protected, "protected", what)
	if err != nil {
		return parts, nil, h, err
	}
	if payload, err = decodeMember(parts.payload, "payload", what); err != nil {
		return parts, nil, h, err
	}
	if parts.signature, err = decodeMember(signature, "signature", what); err != nil {
		return parts, nil, h, err
	}
	h, err = readHeader(protected, what)
	return parts, payload, h, err
}

// decodeMember decodes a base64url member; nil means that it is absent.
func decodeMember(text []byte, name, what string) ([]byte, error) {
	if text == nil {
		return nil, fault.New(fault.Malformed, "%s has no member %q", what, name)
	}
	raw, err := decode(text)
	if err != nil {
		return nil, fault.New(fault.Malformed, "%s's member %q %v", what, name, err)
	}
	return raw, nil
}
