// Package seal makes short tokens that only the replicas of one installation can make and read: nonces and order
// tokens. It owns their encryption and the ring of keys.
//
// It must never tell why a token was not accepted, and it must never return a part of a plaintext that was not
// authenticated. It trusts the keys that it is given (keys keeps them encrypted in the database) and nothing of a
// token: tokens come back from anybody.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// KeyLen is the length of a key: AES-256.
const KeyLen = 32

// ErrToken is what every token gets that cannot be opened, whatever the reason: a token that was altered, cut,
// made for another kind or other additional data, by a key that left the ring, or by somebody else.
var ErrToken = errors.New("token was not made by this installation")

// Layout of a token before base64url: version, key ID, nonce, ciphertext with tag.
const (
	version    = 1
	nonceLen   = 12
	tagLen     = 16
	headerLen  = 1 + 4
	overhead   = headerLen + nonceLen + tagLen
	maxToken   = 8 << 10 // longest token that is looked at; an address line holds no more
	maxKindLen = 255
)

// encoding is strict: a token has one spelling only.
var encoding = base64.RawURLEncoding.Strict()

// Ring seals with its current key and opens with all of its keys. It is safe for concurrent use.
//
// Nonces of AES-GCM are random; by NIST SP 800-38D section 8.3 a key should make fewer than 2^32 tokens, which is
// 49 days of 1,000 tokens a second. Add a new key before that and take the old one away when its tokens have expired.
type Ring struct {
	keys    atomic.Pointer[keySet]
	random  io.Reader
	scratch sync.Pool // of *scratch
}

type keySet struct {
	current uint32
	sealer  cipher.AEAD
	openers map[uint32]cipher.AEAD
	header  [headerLen]byte // of tokens that are made
}

// New returns a ring of the given keys, each of KeyLen bytes, that seals with the current one. Random gives nonces,
// and must be safe for concurrent use, as crypto/rand.Reader is.
func New(keys map[uint32][]byte, current uint32, random io.Reader) (*Ring, error) {
	if random == nil {
		return nil, errors.New("seal: no source of randomness")
	}
	r := &Ring{random: random}
	if err := r.Replace(keys, current); err != nil {
		return nil, err
	}
	return r, nil
}

// Replace sets all keys at once, as after a rotation. On error the ring stays as it was. Tokens of keys that are no
// longer there cannot be opened any more, so an old key must stay for as long as its tokens live.
func (r *Ring) Replace(keys map[uint32][]byte, current uint32) error {
	if _, ok := keys[current]; !ok {
		return fmt.Errorf("seal: current key %d is not among the %d keys", current, len(keys))
	}
	set := &keySet{current: current, openers: make(map[uint32]cipher.AEAD, len(keys))}
	for id, key := range keys {
		if len(key) != KeyLen {
			return fmt.Errorf("seal: key %d has %d bytes, not %d", id, len(key), KeyLen)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return fmt.Errorf("seal: key %d: %w", id, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return fmt.Errorf("seal: key %d: %w", id, err)
		}
		set.openers[id] = aead
	}
	set.sealer = set.openers[current]
	set.header[0] = version
	binary.BigEndian.PutUint32(set.header[1:], current)
	r.keys.Store(set)
	return nil
}

// Current returns the ID of the key that seals.
func (r *Ring) Current() uint32 { return r.keys.Load().current }

// Seal returns a token for plain, in unpadded base64url: 44 characters and four for each three bytes of plain. It can
// be opened only with the same kind ("nonce", "order") and the same additional data, such as the name of the
// installation. It panics if randomness fails, which crypto/rand.Reader never does, and if kind is longer than 255
// bytes, which is a mistake of the caller.
func (r *Ring) Seal(kind string, aad, plain []byte) string {
	set := r.keys.Load()
	s := r.borrow()
	defer r.scratch.Put(s)
	s.raw = append(s.raw[:0], set.header[:]...)
	s.raw = append(s.raw, make([]byte, nonceLen)...)
	if _, err := io.ReadFull(r.random, s.raw[headerLen:]); err != nil {
		panic(fmt.Sprintf("seal: read randomness: %v", err))
	}
	s.bind(kind, aad)
	s.raw = set.sealer.Seal(s.raw, s.raw[headerLen:headerLen+nonceLen], plain, s.bound)
	s.text = encoding.AppendEncode(s.text[:0], s.raw)
	return string(s.text)
}

// Open returns what was sealed, or ErrToken.
func (r *Ring) Open(kind string, aad []byte, token string) ([]byte, error) {
	if len(token) > maxToken {
		return nil, ErrToken
	}
	s := r.borrow()
	defer r.scratch.Put(s)
	s.text = append(s.text[:0], token...)
	var err error
	s.raw, err = encoding.AppendDecode(s.raw[:0], s.text)
	// Decoders of base64 skip line ends; the length tells.
	if err != nil || len(s.raw) < overhead || encoding.EncodedLen(len(s.raw)) != len(token) || s.raw[0] != version {
		return nil, ErrToken
	}
	opener, ok := r.keys.Load().openers[binary.BigEndian.Uint32(s.raw[1:headerLen])]
	if !ok {
		return nil, ErrToken
	}
	s.bind(kind, aad)
	nonce, sealed := s.raw[headerLen:headerLen+nonceLen], s.raw[headerLen+nonceLen:]
	plain, err := opener.Open(make([]byte, 0, len(sealed)-tagLen), nonce, sealed, s.bound)
	if err != nil {
		return nil, ErrToken
	}
	return plain, nil
}

// scratch is working memory of one call.
type scratch struct {
	raw   []byte // the token's bytes
	bound []byte // the additional data of the AEAD
	text  []byte // the token in base64url
}

func (r *Ring) borrow() *scratch {
	if s, ok := r.scratch.Get().(*scratch); ok {
		return s
	}
	return new(scratch)
}

// bind sets what a token is bound to: its header, the length of kind, kind, and the additional data. The length
// keeps kind "a" with data "bc" apart from kind "ab" with data "c".
func (s *scratch) bind(kind string, aad []byte) {
	if len(kind) > maxKindLen {
		panic("seal: kind is longer than 255 bytes")
	}
	s.bound = append(s.bound[:0], s.raw[:headerLen]...)
	s.bound = append(s.bound, byte(len(kind)))
	s.bound = append(s.bound, kind...)
	s.bound = append(s.bound, aad...)
}
