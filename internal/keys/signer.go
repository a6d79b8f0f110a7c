package keys

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// keyPurpose is the vault's purpose of private keys.
const keyPurpose = "ca-key"

// signer hides a private key behind the one thing that may be done with it. Without it, whoever has the signer could
// turn it into the key by a type assertion.
type signer struct {
	key crypto.Signer
}

// Public returns the public key.
func (s signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign signs a digest, or a message with Ed25519.
func (s signer) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.key.Sign(random, digest, opts)
}

// Dependable reports whether a signature need not be checked before it is used: the key is in this process, and an error
// of the processor does not give it away, as it does an RSA key that is used by way of its primes.
func (s signer) Dependable() bool {
	switch s.key.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
		return true
	default:
		return false
	}
}

// Algorithms returns the key algorithms that a CA may have, the default first.
func Algorithms() []pki.KeyAlgorithm {
	return []pki.KeyAlgorithm{pki.ECDSAP256, pki.ECDSAP384, pki.RSA3072, pki.RSA4096, pki.Ed25519}
}

// Generate makes a key pair. The key must be stored before anything that it signed is used.
func (v *Vault) Generate(alg pki.KeyAlgorithm, id pki.KeyID, now time.Time) (crypto.Signer, *pki.SealedKey, error) {
	var (
		key crypto.Signer
		err error
	)
	// The standard library takes randomness from the cryptographic module; the reader is a formality.
	switch alg {
	case pki.ECDSAP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case pki.ECDSAP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case pki.RSA3072:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case pki.RSA4096:
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case pki.Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		return nil, nil, fmt.Errorf("key algorithm %.40q is not one of %v", alg, Algorithms())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("generate %s key: %w", alg, err)
	}
	sealed, err := v.Import(key, id, now)
	if err != nil {
		return nil, nil, err
	}
	return signer{key}, sealed, nil
}

// Import seals a private key that exists already: one that ParsePrivateKey read, or a key of the standard library. Its
// algorithm must be one of Algorithms.
func (v *Vault) Import(key crypto.Signer, id pki.KeyID, now time.Time) (*pki.SealedKey, error) {
	if wrapped, ok := key.(signer); ok {
		key = wrapped.key
	}
	alg, err := Algorithm(key.Public())
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, errors.New("private key is not one of the standard library, so it cannot be imported")
	}
	defer clear(der)
	sealed, err := v.Seal(keyPurpose, string(id), der)
	if err != nil {
		return nil, err
	}
	return &pki.SealedKey{ID: id, Algorithm: alg, Sealed: sealed, CreatedAt: now}, nil
}

// Signer opens a sealed key.
func (v *Vault) Signer(sealed *pki.SealedKey) (crypto.Signer, error) {
	der, err := v.Unseal(keyPurpose, string(sealed.ID), sealed.Sealed)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	key, err := parsePKCS8(der)
	if err != nil {
		return nil, fmt.Errorf("private key %s: %w", sealed.ID, err)
	}
	// The algorithm is not bound by the seal; a row that says something else was changed by somebody.
	if alg, err := Algorithm(key.Public()); err != nil || alg != sealed.Algorithm {
		return nil, fmt.Errorf("private key %s is not of algorithm %s, as its row says", sealed.ID, sealed.Algorithm)
	}
	return signer{key}, nil
}

// Algorithm returns the algorithm of a public key, or an error that says what a CA's key may be.
func Algorithm(key crypto.PublicKey) (pki.KeyAlgorithm, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return pki.ECDSAP256, nil
		case elliptic.P384():
			return pki.ECDSAP384, nil
		}
		return "", notForCAs("key on curve %s", key.Curve.Params().Name)
	case *rsa.PublicKey:
		switch key.N.BitLen() {
		case 3072:
			return pki.RSA3072, nil
		case 4096:
			return pki.RSA4096, nil
		}
		return "", notForCAs("RSA key of %d bits", key.N.BitLen())
	case ed25519.PublicKey:
		return pki.Ed25519, nil
	default:
		return "", notForCAs("key of type %T", key)
	}
}

// notForCAs refuses a key of a kind that a CA may not have.
func notForCAs(format string, args ...any) error {
	names := make([]string, 0, len(Algorithms()))
	for _, algorithm := range Algorithms() {
		names = append(names, string(algorithm))
	}
	return fmt.Errorf("%s is not one of %s, which a CA may have", fmt.Sprintf(format, args...), strings.Join(names, ", "))
}

// Config is what a Signers needs.
type Config struct {
	Vault *Vault
	// Load reads a sealed key from storage; its errors are returned as they are.
	Load func(ctx context.Context, id pki.KeyID) (*pki.SealedKey, error)
}

// Signers opens keys by their name and keeps them open, since a key never changes. It is safe for concurrent use.
type Signers struct {
	vault *Vault
	load  func(ctx context.Context, id pki.KeyID) (*pki.SealedKey, error)

	mu   sync.RWMutex // guards open; never held while loading
	open map[pki.KeyID]crypto.Signer
}

// New returns a Signers that has opened nothing yet.
func New(c Config) (*Signers, error) {
	if c.Vault == nil || c.Load == nil {
		return nil, errors.New("keys: vault and load are required")
	}
	return &Signers{vault: c.Vault, load: c.Load, open: make(map[pki.KeyID]crypto.Signer)}, nil
}

// Signer returns the signer of a key. The first call for a key loads and opens it; two at once may both do so.
func (s *Signers) Signer(ctx context.Context, id pki.KeyID) (crypto.Signer, error) {
	s.mu.RLock()
	found := s.open[id]
	s.mu.RUnlock()
	if found != nil {
		return found, nil
	}
	sealed, err := s.load(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("load private key %s: %w", id, err)
	}
	opened, err := s.vault.Signer(sealed)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.open[id] = opened
	s.mu.Unlock()
	return opened, nil
}
