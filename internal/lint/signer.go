package lint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"errors"
	"io"
	"time"

	"golang.org/x/crypto/cryptobyte/asn1"
)

// Signer is a CA key that signs one certificate: the one that was decided. Give it to x509.CreateCertificate, which
// hands it the whole TBSCertificate, once, and what that returns to Finish. It is for one certificate and one goroutine.
type Signer struct {
	key    crypto.Signer
	issuer *Issuer
	want   *Want
	signed bool
	whole  []byte // the certificate, when CreateCertificate need not put it together

	now              func() time.Time
	judging, signing time.Duration
}

// NewSigner returns the signer of one certificate. The clock measures what Took returns.
func NewSigner(key crypto.Signer, issuer *Issuer, want *Want, now func() time.Time) (*Signer, error) {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(issuer.key) {
		return nil, errors.New("lint: private key is not that of the CA")
	}
	return &Signer{key: key, issuer: issuer, want: want, now: now}, nil
}

// Public returns the CA's public key.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public() }

// Sign refuses: a digest does not show what is signed.
func (s *Signer) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("lint: only a whole certificate can be signed, not a digest")
}

// errWhole ends x509.CreateCertificate when there is a certificate already.
var errWhole = errors.New("lint: certificate is signed; give this to Finish")

// SignMessage judges a TBSCertificate and signs it, the first time only.
//
// x509.CreateCertificate verifies the signature that it gets, which takes twice as long as making it. That is right for
// RSA, where one computing error gives the key away, and for keys outside of this process, which may do anything. For
// the others it would only find a processor that cannot count: there the certificate is put together here, and the
// error keeps CreateCertificate from going on.
func (s *Signer) SignMessage(random io.Reader, tbs []byte, opts crypto.SignerOpts) ([]byte, error) {
	if s.signed {
		return nil, errors.New("lint: this signer has signed its certificate already")
	}
	began := s.now()
	err := s.issuer.Check(tbs, s.want)
	judged := s.now()
	s.judging = judged.Sub(began)
	if err != nil {
		return nil, err
	}
	s.signed = true
	signature, err := crypto.SignMessage(s.key, random, tbs, opts)
	s.signing = s.now().Sub(judged)
	if err != nil || !dependable(s.key) {
		return signature, err
	}
	// RFC 5280 section 4.1: what was signed, its algorithm as in it, and the signature as a bit string without unused bits.
	s.whole = element(asn1.SEQUENCE, tbs, s.issuer.algorithm, element(asn1.BIT_STRING, []byte{0}, signature))
	return nil, errWhole
}

// Finish returns the certificate, or why there is none. It takes what x509.CreateCertificate returned.
func (s *Signer) Finish(der []byte, err error) ([]byte, error) {
	if s.whole != nil && errors.Is(err, errWhole) {
		return s.whole, nil
	}
	return der, err
}

// Took returns how long judging and signing took.
func (s *Signer) Took() (judging, signing time.Duration) { return s.judging, s.signing }

// dependable reports whether a key's signatures need no check: keys of this process of kinds that an error does not
// give away. A key that is wrapped says so itself.
func dependable(key crypto.Signer) bool {
	switch key := key.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
		return true
	case interface{ Dependable() bool }:
		return key.Dependable()
	default:
		return false
	}
}

// Draft stands in for a CA key where only an example of a certificate is wanted: what x509.CreateCertificate hands it
// is judged as Signer does, and kept. It has no key, so nothing that it makes is accepted anywhere.
type Draft struct {
	issuer *Issuer
	want   *Want
	der    []byte
}

// NewDraft returns the stand-in for one certificate.
func NewDraft(issuer *Issuer, want *Want) *Draft { return &Draft{issuer: issuer, want: want} }

// Public returns the CA's public key.
func (d *Draft) Public() crypto.PublicKey { return d.issuer.key }

// Sign refuses as Signer does.
func (d *Draft) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("lint: only a whole certificate can be judged, not a digest")
}

// SignMessage judges a TBSCertificate. It returns no signature, but an error that Finish knows.
func (d *Draft) SignMessage(_ io.Reader, tbs []byte, _ crypto.SignerOpts) ([]byte, error) {
	if err := d.issuer.Check(tbs, d.want); err != nil {
		return nil, err
	}
	// A signature of no bits, which no algorithm has.
	d.der = element(asn1.SEQUENCE, tbs, d.issuer.algorithm, element(asn1.BIT_STRING, []byte{0}))
	return nil, errWhole
}

// Finish returns the example, or why there is none. It takes the error that x509.CreateCertificate returned.
func (d *Draft) Finish(err error) ([]byte, error) {
	if d.der != nil && errors.Is(err, errWhole) {
		return d.der, nil
	}
	return nil, err
}
