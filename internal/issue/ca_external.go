package issue

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/keys"
	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/pki"
)

// createPending makes the key and the CSR of an issuing CA under an outside root.
func (a *Authority) createPending(ctx context.Context, s *spec, by audit.By) (*pki.CA, error) {
	if s.Validity != 0 || len(s.Constraints.DNS)+len(s.Constraints.TrustDomains) > 0 {
		return nil, fault.New(fault.Malformed, "validity and name constraints of a CA under an outside root are set by that root, not here").
			WithField("/validity")
	}
	key, sealed, err := a.generate(s)
	if err != nil {
		return nil, err
	}
	ca := s.record(pki.IssuingCA, sealed)
	ca.State = pki.Pending
	if ca.CSR, err = a.request(s, key); err != nil {
		return nil, err
	}
	return a.create(ctx, ca, sealed, audit.CACreate, by)
}

// request makes the CSR. It asks for what a CA needs, for roots that copy extensions.
func (a *Authority) request(s *spec, key crypto.Signer) ([]byte, error) {
	type basicConstraints struct {
		CA      bool
		PathLen int
	}
	constraints, err := asn1.Marshal(basicConstraints{CA: true, PathLen: s.pathLen})
	if err != nil {
		return nil, fmt.Errorf("encode basicConstraints: %w", err)
	}
	const usageBits, usageUnused = 0b1000_0110, 1 // digitalSignature, keyCertSign, cRLSign
	usage, err := asn1.Marshal(asn1.BitString{Bytes: []byte{usageBits}, BitLength: 8 - usageUnused})
	if err != nil {
		return nil, fmt.Errorf("encode keyUsage: %w", err)
	}
	der, err := x509.CreateCertificateRequest(a.config.Random, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: s.CommonName, Organization: organization(s.Organization)},
		ExtraExtensions: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 19}, Critical: true, Value: constraints},
			{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: usage},
		},
	}, key)
	if err != nil {
		return nil, fmt.Errorf("sign CSR of CA: %w", err)
	}
	return der, nil
}

// InstallCertificate gives an issuing CA under an outside root its certificate: the first one, which makes it Active,
// or a later one for the same key. The chain is in DER, the CA's own certificate first, the others in any order and
// with the outside root. It is durable when it returns.
//
// It is refused, Malformed, unless the first certificate has the key of the CA's CSR, is one of a CA that may sign
// leaves and CRLs now, and a chain of good signatures, dates and path lengths leads from it to a self-signed root in
// the chain. Conflict for a CA that needs no certificate from outside.
func (a *Authority) InstallCertificate(ctx context.Context, id pki.CAID, chain [][]byte, by audit.By) (*pki.CA, error) {
	old, err := a.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if len(old.CSR) == 0 {
		return nil, fault.New(fault.Conflict, "CA %q was not made for an outside root, so no certificate can be installed for it", old.Name)
	}
	request, err := x509.ParseCertificateRequest(old.CSR)
	if err != nil {
		return nil, fmt.Errorf("CSR of CA %q: %w", old.Name, err)
	}
	ordered, err := verifyChain(chain, request.RawSubjectPublicKeyInfo, a.config.Now())
	if err != nil {
		return nil, err
	}
	if len(ordered) == 1 {
		return nil, fault.New(fault.Malformed, "certificate is self-signed; an issuing CA needs one that another CA signed").WithField("/chain")
	}
	ca := *old
	ca.Certificate, ca.Chain = ordered[0], ordered[1:]
	if ca.State == pki.Pending {
		ca.State = pki.Active
	}
	ca.UpdatedAt = a.config.Now().UTC()
	if !ca.UpdatedAt.After(old.UpdatedAt) {
		ca.UpdatedAt = old.UpdatedAt.Add(time.Millisecond) // storage compares and swaps on it
	}
	if err := a.config.Store.UpdateCA(ctx, &ca, old.UpdatedAt, a.event(audit.CAInstall, &ca, by)); err != nil {
		return nil, fmt.Errorf("store certificate of CA: %w", err)
	}
	return &ca, nil
}

// ImportOptions are a CA that exists already.
type ImportOptions struct {
	Name     string   // required; unique
	Chain    [][]byte // DER: the CA's certificate first, then those above it in any order, with the root
	Key      []byte   // its private key in PEM: PKCS #8, SEC 1 or PKCS #1, not encrypted
	Settings *pki.CASettings
}

// Import takes over a CA that was made elsewhere, root or issuing. The same is checked as in InstallCertificate, and
// that the private key is the certificate's. It is durable when it returns; the key is encrypted as any other.
func (a *Authority) Import(ctx context.Context, o ImportOptions, by audit.By) (*pki.CA, error) {
	s, err := a.specify(Options{Name: o.Name, Settings: o.Settings}, 0)
	if err != nil {
		return nil, err
	}
	key, err := keys.ParsePrivateKey(o.Key)
	if err != nil {
		return nil, fault.Wrap(err, fault.Malformed, "%v", err).WithField("/key")
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	ordered, err := verifyChain(o.Chain, spki, s.now)
	if err != nil {
		return nil, err
	}
	parent, err := a.ours(ctx, ordered)
	if err != nil {
		return nil, err
	}
	keyID, err := pki.NewID[pki.KeyID](s.now, a.config.Random)
	if err != nil {
		return nil, err
	}
	sealed, err := a.config.Vault.Import(key, keyID, s.now)
	if err != nil {
		return nil, err
	}
	kind := pki.IssuingCA
	if len(ordered) == 1 {
		kind = pki.RootCA
	}
	ca := s.record(kind, sealed)
	ca.ParentID, ca.Certificate, ca.Chain = parent, ordered[0], ordered[1:]
	return a.create(ctx, ca, sealed, audit.CAImport, by)
}

// ours refuses a CA that is there already, and returns the CA of ours that signed it, if one did.
func (a *Authority) ours(ctx context.Context, chain [][]byte) (pki.CAID, error) {
	all, err := a.config.Store.CAs(ctx)
	if err != nil {
		return "", fmt.Errorf("list CAs: %w", err)
	}
	var parent pki.CAID
	for i := range all {
		if bytes.Equal(all[i].Certificate, chain[0]) {
			return "", fault.New(fault.Conflict, "this CA is here already, as %q", all[i].Name)
		}
		if len(chain) > 1 && bytes.Equal(all[i].Certificate, chain[1]) {
			parent = all[i].ID
		}
	}
	return parent, nil
}

// maxChain bounds what is looked at of a chain.
const (
	maxChain    = 10
	maxChainPEM = 256 << 10
)

// ParseChain reads certificates in PEM, as InstallCertificate and Import want them. Anything that is not a certificate
// is refused, a private key above all.
func ParseChain(text []byte) ([][]byte, error) {
	if len(text) > maxChainPEM {
		return nil, fault.New(fault.Malformed, "chain has %d bytes, more than %d", len(text), maxChainPEM).WithField("/chain")
	}
	var chain [][]byte
	block, rest := pem.Decode(text)
	for ; block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fault.New(fault.Malformed, "chain has a PEM block of type %.40q, which is not CERTIFICATE", block.Type).WithField("/chain")
		}
		chain = append(chain, block.Bytes)
	}
	switch {
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, fault.New(fault.Malformed, "chain has something after its last certificate that is no PEM").WithField("/chain")
	case len(chain) == 0:
		return nil, fault.New(fault.Malformed, "chain has no certificate in PEM").WithField("/chain")
	}
	return chain, nil
}

// verifyChain checks a CA's certificate and the chain above it, and returns the chain in order: the certificate, its
// issuers, the root.
func verifyChain(ders [][]byte, spki []byte, now time.Time) ([][]byte, error) {
	refuse := func(format string, args ...any) ([][]byte, error) {
		return nil, fault.New(fault.Malformed, format, args...).WithField("/chain")
	}
	if len(ders) == 0 || len(ders) > maxChain {
		return refuse("chain has %d certificates, not 1 to %d", len(ders), maxChain)
	}
	certificates := make([]*x509.Certificate, 0, len(ders))
	for i, der := range ders {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fault.Wrap(err, fault.Malformed, "certificate %d of the chain cannot be read", i+1).WithField("/chain")
		}
		certificates = append(certificates, certificate)
	}
	own := certificates[0]
	if !bytes.Equal(own.RawSubjectPublicKeyInfo, spki) {
		return refuse("first certificate of the chain, %q, does not have the key of this CA", own.Subject)
	}
	if _, err := keys.Algorithm(own.PublicKey); err != nil {
		return refuse("certificate %q: %v", own.Subject, err)
	}
	if err := lint.CheckCA(own); err != nil {
		return refuse("%q: %v", own.Subject, err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, certificate := range certificates {
		if selfSigned(certificate) {
			roots.AddCert(certificate)
		} else {
			between.AddCert(certificate)
		}
	}
	// A leaf below it must find no path length that is used up, so the CA is verified as a CA.
	chains, err := own.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return nil, fault.Wrap(err, fault.Malformed, "no valid chain leads from certificate %q to a self-signed root in the file: %v", own.Subject, err).
			WithField("/chain")
	}
	return inOrder(chains[0], len(ders))
}

// inOrder returns a verified chain in DER, if it can have one more certificate below it and uses all that was given.
func inOrder(chain []*x509.Certificate, given int) ([][]byte, error) {
	ordered := make([][]byte, 0, len(chain))
	for level, certificate := range chain {
		if limited := certificate.MaxPathLen > 0 || certificate.MaxPathLenZero; limited && certificate.MaxPathLen < level {
			return nil, fault.New(fault.Malformed, "CA %q has path length %d, but %d CAs are below it", certificate.Subject, certificate.MaxPathLen, level).
				WithField("/chain")
		}
		ordered = append(ordered, certificate.Raw)
	}
	if len(ordered) != given {
		return nil, fault.New(fault.Malformed, "chain has %d certificates, but only %d lead from the CA to its root", given, len(ordered)).
			WithField("/chain")
	}
	return ordered, nil
}

// selfSigned reports whether a certificate is a root. Nobody relies on the signature of a root, so one with an algorithm
// that is not accepted any more, as old roots have, will do.
func selfSigned(c *x509.Certificate) bool {
	if !bytes.Equal(c.RawSubject, c.RawIssuer) {
		return false
	}
	err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	if _, old := errors.AsType[x509.InsecureAlgorithmError](err); old {
		return len(c.AuthorityKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId)
	}
	return err == nil
}
