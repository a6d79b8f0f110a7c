package jose

import (
	"bytes"

	"github.com/certloom/certloom/internal/fault"
)

// Names of the signature algorithms that requests may have (RFC 7518 section 3.1, RFC 8037 section 3.1). ES512 is not
// among them: P-521 is refused for accounts as it is for certificates.
const (
	ES256 = "ES256"
	ES384 = "ES384"
	RS256 = "RS256"
	EdDSA = "EdDSA"
)

// Algorithms returns the signature algorithms that requests may have, the preferred one first.
func Algorithms() []string { return []string{ES256, ES384, EdDSA, RS256} }

// maxHeader bounds a protected header. One with an RSA key of 4096 bits has about 1,000 bytes.
const maxHeader = 8 << 10

// optional is a string member that may be absent, which is not the same as empty.
type optional struct {
	value string
	set   bool
}

// header is a protected header. What it does not name has been ignored: unknown members (RFC 7515 section 4), and jku,
// x5u, x5c and x5t, which offer keys that an ACME server must not use.
type header struct {
	alg, nonce, url, kid optional
	jwk                  []byte // as it is written, nil when absent
}

// readHeader reads the decoded protected header of what.
func readHeader(raw []byte, what string) (header, error) {
	var h header
	if len(raw) > maxHeader {
		return h, fault.New(fault.Malformed, "%s's protected header has %d bytes, more than %d", what, len(raw), maxHeader)
	}
	var room [8]member
	members, err := readObject(raw, room[:0])
	if err != nil {
		return h, fault.New(fault.Malformed, "%s's protected header %v", what, err)
	}
	for _, m := range members {
		if err := h.read(m, what); err != nil {
			return h, err
		}
	}
	return h, nil
}

func (h *header) read(m member, what string) error {
	var err error
	switch string(m.name) {
	case "alg":
		h.alg, err = readOptional(m, what)
	case "nonce":
		h.nonce, err = readOptional(m, what)
	case "url":
		h.url, err = readOptional(m, what)
	case "kid":
		h.kid, err = readOptional(m, what)
	case "jwk":
		h.jwk = m.value
	case "crit", "b64":
		return fault.New(fault.Malformed, "%s's protected header has member %q; no extensions are supported (RFC 8555 section 6.2)",
			what, m.name)
	default:
		return refuseVariant(m.name, what+"'s protected header", "alg", "nonce", "url", "kid", "jwk", "crit", "b64")
	}
	return err
}

// readText reads a member that must be a string. It returns nil with an error only.
func readText(m member, what string) ([]byte, error) {
	if m.value[0] != '"' {
		return nil, fault.New(fault.Malformed, "%s's member %q is not a string", what, m.name)
	}
	s := scanner{data: m.value}
	text, err := s.text()
	if err != nil {
		return nil, fault.New(fault.Malformed, "%s's member %q %v", what, m.name, err)
	}
	return text, nil
}

func readOptional(m member, what string) (optional, error) {
	text, err := readText(m, what)
	return optional{value: string(text), set: err == nil}, err
}

// refuseVariant refuses a name that is one of those that are known but for its case. Names are case-sensitive (RFC
// 7515 section 4), so it could be ignored, but whoever wrote it meant something by it.
func refuseVariant(name []byte, where string, known ...string) error {
	for _, k := range known {
		if bytes.EqualFold(name, []byte(k)) {
			return fault.New(fault.Malformed, "%s has member %q; its name is %q", where, name, k)
		}
	}
	return nil
}

// checkAlgorithm refuses algorithms that are not for requests: MACs, "none" and what is unknown.
func (h *header) checkAlgorithm(what string) error {
	switch h.alg.value {
	case ES256, ES384, RS256, EdDSA:
		return nil
	}
	err := fault.New(fault.BadSignatureAlgorithm, "%s has no signature algorithm; use one of ES256, ES384, EdDSA, RS256", what)
	if h.alg.set {
		err = fault.New(fault.BadSignatureAlgorithm, "%s has signature algorithm %.40q, which is not one of ES256, ES384, EdDSA, RS256",
			what, h.alg.value)
	}
	err.Algorithms = Algorithms()
	return err
}

// key reads the JWK and checks that the algorithm is the key's (RFC 7518 section 3.4).
func (h *header) key(what string) (*Key, error) {
	key, err := ParseKey(h.jwk)
	if err != nil {
		return nil, err
	}
	if key.Algorithm != h.alg.value {
		err := fault.New(fault.BadSignatureAlgorithm, "%s has signature algorithm %s, but its key is for %s", what, h.alg.value, key.Algorithm)
		err.Algorithms = Algorithms()
		return nil, err
	}
	return key, nil
}
