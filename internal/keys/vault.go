package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/argon2"
)

// Parameters of argon2id for new vaults: the second recommendation of RFC 9106 section 4 (64 MiB, three passes, four
// lanes), a tenth of a second. The key of a CA is worth that of each start; the memory is free again afterwards.
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	saltLen      = 16
)

// Bounds on the parameters of a header: it comes from the database, and must not make a start take all memory.
const (
	maxArgonTime   = 100
	maxArgonMemory = 4 << 20 // KiB
	maxHeader      = 4096
)

const headerVersion = 1

// hkdfInfo separates the vault's key from anything else that is derived from the same key file.
const hkdfInfo = "certloom vault v1"

// header says how the vault's key comes from the secret, and holds a proof that it is the right one. Nothing in it
// is secret.
type header struct {
	Version int        `json:"version"`
	Kind    secretKind `json:"kind"`
	Salt    []byte     `json:"salt"`
	Time    uint32     `json:"time,omitempty"`   // argon2id
	Memory  uint32     `json:"memory,omitempty"` // KiB
	Threads uint8      `json:"threads,omitempty"`
	Check   []byte     `json:"check"` // a sealed constant
}

// checkPurpose and checkText are what a header's proof seals.
const (
	checkPurpose = "vault-check"
	checkText    = "certloom"
)

// Vault seals and opens secrets at rest under one key. It is safe for concurrent use.
type Vault struct {
	aead cipher.AEAD
}

// Create makes a vault under the secret. The header must be kept with what the vault seals: Open needs it.
func Create(secret Secret, random io.Reader) (v *Vault, header []byte, err error) {
	h, err := newHeader(secret, random)
	if err != nil {
		return nil, nil, err
	}
	if v, err = derive(secret, h); err != nil {
		return nil, nil, err
	}
	if h.Check, err = v.Seal(checkPurpose, "", []byte(checkText)); err != nil {
		return nil, nil, err
	}
	if header, err = json.Marshal(h); err != nil {
		return nil, nil, fmt.Errorf("encode vault header: %w", err)
	}
	return v, header, nil
}

func newHeader(secret Secret, random io.Reader) (*header, error) {
	h := &header{Version: headerVersion, Kind: secret.kind, Salt: make([]byte, saltLen)}
	if secret.kind == fromPassphrase {
		h.Time, h.Memory, h.Threads = argonTime, argonMemory, argonThreads
	}
	if _, err := io.ReadFull(random, h.Salt); err != nil {
		return nil, fmt.Errorf("read randomness: %w", err)
	}
	return h, nil
}

// Open opens the vault that Create made. A secret that is not the vault's is an error that names its file.
func Open(secret Secret, raw []byte) (*Vault, error) {
	h, err := parseHeader(raw)
	if err != nil {
		return nil, err
	}
	if h.Kind != secret.kind {
		return nil, fmt.Errorf("private keys are encrypted under a %s, but %s was given", h.Kind, secret)
	}
	v, err := derive(secret, h)
	if err != nil {
		return nil, err
	}
	if text, err := v.Unseal(checkPurpose, "", h.Check); err != nil || string(text) != checkText {
		return nil, fmt.Errorf("%s does not hold the %s that the private keys are encrypted under; "+
			"give the file that was used when this database was made", secret, secret.kind)
	}
	return v, nil
}

func parseHeader(raw []byte) (*header, error) {
	if len(raw) > maxHeader {
		return nil, fmt.Errorf("vault header has %d bytes, more than %d", len(raw), maxHeader)
	}
	var h header
	if err := json.Unmarshal(raw, &h); err != nil {
		return nil, fmt.Errorf("vault header: %w", err)
	}
	argon := h.Time > 0 && h.Time <= maxArgonTime && h.Memory > 0 && h.Memory <= maxArgonMemory && h.Threads > 0
	switch {
	case h.Version != headerVersion:
		return nil, fmt.Errorf("vault header has version %d; this program knows version %d", h.Version, headerVersion)
	case len(h.Salt) < saltLen:
		return nil, fmt.Errorf("vault header has a salt of %d bytes, less than %d", len(h.Salt), saltLen)
	case h.Kind == fromKey:
		return &h, nil
	case h.Kind != fromPassphrase:
		return nil, fmt.Errorf("vault header has kind %.40q, not one of passphrase, key", h.Kind)
	case !argon:
		return nil, errors.New("vault header has parameters of argon2id that are out of bounds")
	}
	return &h, nil
}

// derive makes the vault's key from the secret.
func derive(secret Secret, h *header) (*Vault, error) {
	var key []byte
	switch secret.kind {
	case fromPassphrase:
		key = argon2.IDKey(secret.bytes, h.Salt, h.Time, h.Memory, h.Threads, keyLen)
	case fromKey:
		var err error
		if key, err = hkdf.Key(sha256.New, secret.bytes, h.Salt, hkdfInfo, keyLen); err != nil {
			return nil, fmt.Errorf("derive vault key: %w", err)
		}
	default:
		return nil, errors.New("no passphrase or key was given")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("vault key: %w", err)
	}
	// The nonces are random, from the cryptographic module itself; a vault seals far less than 2^32 secrets.
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("vault key: %w", err)
	}
	return &Vault{aead: aead}, nil
}

// sealVersion begins everything that is sealed.
const sealVersion = 1

// Seal encrypts a secret for storage. Purpose says what kind of secret it is ("ca-key"), id which one; Unseal must be
// given the same.
func (v *Vault) Seal(purpose, id string, plain []byte) ([]byte, error) {
	aad, err := bind(purpose, id)
	if err != nil {
		return nil, err
	}
	return v.aead.Seal([]byte{sealVersion}, nil, plain, aad), nil
}

// Unseal decrypts what Seal made for the same purpose and id.
func (v *Vault) Unseal(purpose, id string, sealed []byte) ([]byte, error) {
	aad, err := bind(purpose, id)
	if err != nil {
		return nil, err
	}
	if len(sealed) == 0 || sealed[0] != sealVersion {
		return nil, fmt.Errorf("sealed %s %q is damaged: it does not begin with version %d", purpose, id, sealVersion)
	}
	plain, err := v.aead.Open(nil, nil, sealed[1:], aad)
	if err != nil {
		return nil, fmt.Errorf("sealed %s %q is damaged, or belongs to another name or vault", purpose, id)
	}
	return plain, nil
}

// bind returns the additional data of the AEAD. The length keeps purpose and id apart.
func bind(purpose, id string) ([]byte, error) {
	const maxPurpose = 255
	if purpose == "" || len(purpose) > maxPurpose {
		return nil, fmt.Errorf("purpose %.40q has %d bytes, not 1 to %d", purpose, len(purpose), maxPurpose)
	}
	aad := append([]byte{byte(len(purpose))}, purpose...)
	return append(aad, id...), nil
}
