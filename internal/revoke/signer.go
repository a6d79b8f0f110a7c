package revoke

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha1" //nolint:gosec // a ResponderID names the key by SHA-1 (RFC 6960 section 4.2.1); nothing is signed with it
	"crypto/x509"
	"crypto/x509/pkix"
	encasn1 "encoding/asn1"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
)

// signerLifetime is how long a delegated signer's certificate is good, at least. It has no revocation (nocheck), so that it
// must be short; its key is renewed at half of it.
const signerLifetime = 24 * time.Hour

// ocspSigner signs the OCSP answers of one CA: with a key of its own that the CA has certified for that and nothing else
// (RFC 6960 section 4.2.2.2), or with the CA's own key.
type ocspSigner struct {
	ca          *pki.CA
	key         crypto.Signer
	certificate []byte // DER of the delegated signer's; nil when the key is the CA's
	keyHash     []byte // SHA-1 of its key, for the ResponderID
	renew       time.Time
	notAfter    time.Time
}

// usable reports whether the signer can sign for a CA now.
func (s *ocspSigner) usable(ca *pki.CA, now time.Time) bool {
	return s != nil && sameSigner(s.ca, ca) && now.Before(s.notAfter)
}

// signerSlot has the signer of one CA.
type signerSlot struct {
	mu      sync.Mutex // guards current; held while one is made, so that one makes it and the others wait
	current *ocspSigner
}

// signerOf returns the signer of a CA's answers. Delegated signers' keys are made here and never leave the memory of this
// process: each replica has its own, and whoever reads the database finds none. An old one signs while a new one cannot be
// made.
func (r *Revoker) signerOf(ctx context.Context, issuer *responder, now time.Time) (*ocspSigner, error) {
	slot := r.slotOf(issuer.ca.ID)
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.current.usable(issuer.ca, now) && now.Before(slot.current.renew) {
		return slot.current, nil
	}
	made, err := r.makeSigner(ctx, issuer, now)
	if err != nil {
		if slot.current.usable(issuer.ca, now.Add(r.config.OCSPLifetime)) {
			return slot.current, nil
		}
		return nil, err
	}
	slot.current = made
	return made, nil
}

func (r *Revoker) slotOf(id pki.CAID) *signerSlot {
	r.mu.Lock()
	defer r.mu.Unlock()
	slot := r.signers[id]
	if slot == nil {
		slot = new(signerSlot)
		r.signers[id] = slot
	}
	return slot
}

func (r *Revoker) makeSigner(ctx context.Context, issuer *responder, now time.Time) (*ocspSigner, error) {
	lifetime := max(signerLifetime, 4*r.config.OCSPLifetime)
	key, err := r.config.Signers.Signer(ctx, issuer.ca.KeyID)
	if err != nil {
		return nil, err
	}
	if r.config.OCSPByCA || !delegates(issuer.certificate, now.Add(lifetime)) {
		return &ocspSigner{ca: issuer.ca, key: key, renew: now.Add(lifetime), notAfter: now.Add(2 * lifetime)}, nil
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), r.config.Random)
	if err != nil {
		return nil, fmt.Errorf("make key of OCSP signer: %w", err)
	}
	serial, err := pki.NewSerial(now, r.config.Random)
	if err != nil {
		return nil, err
	}
	template := signerTemplate(issuer.certificate, serial, now, lifetime)
	der, err := x509.CreateCertificate(r.config.Random, template, issuer.certificate, own.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of OCSP signer: %w", err)
	}
	// Nothing that a CA key signed leaves before it is recorded.
	ev := r.event(&Request{Serial: serial, Actor: audit.Actor{Kind: audit.System}}, audit.OCSPSigner, audit.Done)
	ev.Target = issuer.ca.Name
	if err := r.config.Store.RecordEvent(ctx, ev); err != nil {
		return nil, fmt.Errorf("record OCSP signer: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(own.Public())
	if err != nil {
		return nil, fmt.Errorf("encode key of OCSP signer: %w", err)
	}
	bits, err := keyBits(public)
	if err != nil {
		return nil, err
	}
	hash := sha1.Sum(bits) //nolint:gosec // see the import
	r.metrics.signers.Inc()
	return &ocspSigner{
		ca: issuer.ca, key: own, certificate: der, keyHash: hash[:], renew: now.Add(lifetime / 2), notAfter: template.NotAfter,
	}, nil
}

// delegates reports whether a CA can have a delegated signer until then: not when it ends before, nor when its own
// certificate says what it may be used for and that is not OCSP, which some verifiers take for all below it.
func delegates(ca *x509.Certificate, until time.Time) bool {
	usages := ca.ExtKeyUsage
	return !until.After(ca.NotAfter) && (len(usages) == 0 && len(ca.UnknownExtKeyUsage) == 0 ||
		slices.Contains(usages, x509.ExtKeyUsageOCSPSigning) || slices.Contains(usages, x509.ExtKeyUsageAny))
}

func signerTemplate(ca *x509.Certificate, serial pki.Serial, now time.Time, lifetime time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: serial.Int(),
		Subject:      pkix.Name{Organization: ca.Subject.Organization, CommonName: "OCSP signer " + string(serial[:8])},
		NotBefore:    now.Add(-backdate).UTC().Truncate(time.Second),
		NotAfter:     now.Add(lifetime).UTC().Truncate(time.Second),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning},
		// id-pkix-ocsp-nocheck: who would vouch for the signer's status but itself (RFC 6960 section 4.2.2.2.1)?
		ExtraExtensions:       []pkix.Extension{{Id: encasn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, Value: encasn1.NullBytes}},
		BasicConstraintsValid: true,
	}
}
