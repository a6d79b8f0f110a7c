package lint

import (
	"crypto"
	"errors"
	"io"
)

// Signer is a CA key that signs one certificate: the one that was decided. Give it to x509.CreateCertificate, which
// hands it the whole TBSCertificate, once. It is for one certificate and one goroutine.
type Signer struct {
	key    crypto.Signer
	issuer *Issuer
	want   *Want
	signed bool
}

// NewSigner returns the signer of one certificate.
func NewSigner(key crypto.Signer, issuer *Issuer, want *Want) (*Signer, error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(issuer.key) {
		return nil, errors.New("lint: private key is not that of the CA")
	}
	return &Signer{key: key, issuer: issuer, want: want}, nil
}

// Public returns the CA's public key.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign refuses: a digest does not show what is signed.
func (s *Signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("lint: only a whole certificate can be signed, not a digest")
}

// SignMessage judges a TBSCertificate and signs it, the first time only.
func (s *Signer) SignMessage(random io.Reader, tbs []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.signed {
		return nil, errors.New("lint: this signer has signed its certificate already")
	}
	if err := s.issuer.Check(tbs, s.want); err != nil {
		return nil, err
	}
	s.signed = true
	return crypto.SignMessage(s.key, random, tbs, opts)
}
