package acme

import (
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/pki"
)

// sealKind keeps order tokens apart from what else the ring seals.
const sealKind = "order"

// maxPath bounds a sealed order in a URL. Longer ones get a row: proxies and logs cut long URLs.
const maxPath = 1000

// seal returns the last element of an order's URL, which is the whole order: encrypted, bound to this server's base URL,
// unguessable by the random part of its identifier. It returns "" for an order that cannot be sealed, mostly because it
// is too large.
func (s *Server) seal(o *pki.Order) string {
	if len(o.Challenges) > 0 && challengeBits(o.Challenges) == 0 {
		return "" // it would be opened as one that needs no proof
	}
	token := s.Ring.Seal(sealKind, []byte(s.BaseURL), encodeOrder(o))
	if len(token) > maxPath {
		return ""
	}
	return token
}

// unseal returns the order in a URL.
func (s *Server) unseal(token string) (*pki.Order, error) {
	plain, err := s.Ring.Open(sealKind, []byte(s.BaseURL), token)
	if err != nil {
		return nil, err
	}
	return decodeOrder(plain)
}

// Format of a sealed order: a version, then the fields in the order of encodeOrder. Identifiers of records are packed
// into the 22 bytes that they stand for.
const sealVersion = 2

// The two forms of an identifier.
const (
	asPacked = 0
	asText   = 1
)

var errSealed = errors.New("sealed order has a format that this version does not know")

func encodeOrder(o *pki.Order) []byte {
	b := make([]byte, 0, 256)
	b = append(b, sealVersion, challengeBits(o.Challenges))
	b = appendID(b, string(o.ID))
	b = appendID(b, string(o.AccountID))
	b = appendID(b, string(o.CredentialID))
	b = appendID(b, string(o.ProfileID))
	b = appendTime(b, o.CreatedAt)
	b = appendTime(b, o.Expires)
	b = appendTime(b, o.NotBefore)
	b = appendTime(b, o.NotAfter)
	b = appendText(b, o.Replaces)
	b = binary.AppendUvarint(b, uint64(len(o.Identifiers)))
	for _, id := range o.Identifiers {
		b = appendText(b, string(id.Type))
		b = appendText(b, id.Value)
	}
	return b
}

// challengeCount is how many types a sealed order can have.
const challengeCount = 3

// challengeTypes are those types, each a bit of a byte.
func challengeTypes() [challengeCount]string {
	return [...]string{challenge.HTTP01, challenge.DNS01, challenge.TLSALPN01}
}

func challengeBits(types []string) byte {
	var bits byte
	for i, kind := range challengeTypes() {
		if slices.Contains(types, kind) {
			bits |= 1 << i
		}
	}
	return bits
}

func decodeOrder(plain []byte) (*pki.Order, error) {
	if len(plain) < 2 || plain[0] != sealVersion || plain[1] >= 1<<challengeCount {
		return nil, errSealed
	}
	u := unpacker{rest: plain[2:]}
	o := &pki.Order{Sealed: true}
	for i, kind := range challengeTypes() {
		if plain[1]&(1<<i) != 0 {
			o.Challenges = append(o.Challenges, kind)
		}
	}
	o.ID = pki.OrderID(u.id())
	o.AccountID = pki.AccountID(u.id())
	o.CredentialID = pki.CredentialID(u.id())
	o.ProfileID = pki.ProfileID(u.id())
	o.CreatedAt = u.time()
	o.Expires = u.time()
	o.NotBefore = u.time()
	o.NotAfter = u.time()
	o.Replaces = u.text()
	count := u.number()
	if count > uint64(len(u.rest)) {
		return nil, errSealed
	}
	for range count {
		o.Identifiers = append(o.Identifiers, pki.Identifier{Type: pki.IdentifierType(u.text()), Value: u.text()})
	}
	if u.failed || len(u.rest) > 0 {
		return nil, errSealed
	}
	return o, nil
}

func appendID(b []byte, id string) []byte {
	if raw, ok := pki.PackID(id); ok {
		return append(append(b, asPacked), raw...)
	}
	return appendText(append(b, asText), id)
}

func appendText(b []byte, text string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// appendTime appends whole seconds; the zero time is 0.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendUvarint(b, 0)
	}
	return binary.AppendUvarint(b, uint64(max(t.Unix(), 0)))
}

// unpacker reads fields one after the other. After the first that cannot be read, all are zero.
type unpacker struct {
	rest   []byte
	failed bool
}

func (u *unpacker) take(n uint64) []byte {
	if u.failed || n > uint64(len(u.rest)) {
		u.failed, u.rest = true, nil
		return nil
	}
	taken := u.rest[:n]
	u.rest = u.rest[n:]
	return taken
}

func (u *unpacker) text() string { return string(u.take(u.number())) }

func (u *unpacker) id() string {
	form := u.take(1)
	switch {
	case len(form) == 0:
		return ""
	case form[0] == asText:
		return u.text()
	case form[0] == asPacked:
		if raw := u.take(packedLen); raw != nil {
			return pki.UnpackID(raw)
		}
		return ""
	}
	u.failed = true
	return ""
}

// packedLen is the length of an identifier of pki.NewID before encoding.
const packedLen = 22

func (u *unpacker) number() uint64 {
	n, size := binary.Uvarint(u.rest)
	if size <= 0 {
		u.failed, u.rest = true, nil
		return 0
	}
	u.rest = u.rest[size:]
	return n
}

func (u *unpacker) time() time.Time {
	n := u.number()
	if n == 0 || n > maxUnix {
		u.failed = u.failed || n > maxUnix
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}

// maxUnix is the last second that RFC 3339 can write.
const maxUnix = 253402300799
