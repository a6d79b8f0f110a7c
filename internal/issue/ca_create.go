package issue

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/pki"
)

// CreateRoot makes a root: a key and a certificate that it signs itself. It is durable when it returns. Refusals are
// *fault.Error: Malformed for options, Conflict for a name that is taken.
func (a *Authority) CreateRoot(ctx context.Context, o Options, by audit.By) (*pki.CA, error) {
	s, err := a.specify(o, defaultRootPathLen)
	if err != nil {
		return nil, err
	}
	if s.Validity == 0 {
		s.Validity = defaultRootLife
	}
	key, sealed, err := a.generate(s)
	if err != nil {
		return nil, err
	}
	issuer, err := lint.NewRoot(key.Public())
	if err != nil {
		return nil, err
	}
	begin := s.now.Add(-caBackdate).Truncate(time.Second)
	want, err := a.decideCA(s, key.Public(), begin, s.now.Add(time.Duration(s.Validity)).Truncate(time.Second))
	if err != nil {
		return nil, err
	}
	der, err := a.signCA(want, key.Public(), issuer, nil, key, pki.CASettings{})
	if err != nil {
		return nil, err
	}
	ca := s.record(pki.RootCA, sealed)
	ca.Certificate = der
	return a.create(ctx, ca, sealed, audit.CACreate, by)
}

// IssuingOptions are what an issuing CA may be given.
type IssuingOptions struct {
	Options
	Parent   pki.CAID // the root, or issuing CA, of ours that signs it; "" with External
	External bool     // an outside root signs it: the CA is Pending, with a CSR, until InstallCertificate
}

// CreateIssuing makes an issuing CA. Under a CA of ours it is ready at once. Under an outside root the validity, the
// path length and the name constraints are that root's affair; the CSR asks for the path length only.
//
// An issuing CA never outlives the CA above it: a validity that was asked for and would is refused, the default is cut.
// Refusals are *fault.Error: Malformed for options, NotFound for the parent, Conflict for a name that is taken and
// for a parent that is suspended, pending, expired or allows no CA below it.
func (a *Authority) CreateIssuing(ctx context.Context, o IssuingOptions, by audit.By) (*pki.CA, error) {
	if (o.Parent == "") != o.External {
		return nil, fault.New(fault.Malformed, "an issuing CA has either a parent among our CAs or an outside root").WithField("/parent")
	}
	s, err := a.specify(o.Options, defaultIssuingPathLen)
	if err != nil {
		return nil, err
	}
	if o.External {
		return a.createPending(ctx, s, by)
	}
	parent, err := a.find(ctx, o.Parent)
	if err != nil {
		return nil, err
	}
	above, err := a.parent(ctx, parent, s)
	if err != nil {
		return nil, err
	}
	end, err := s.end(above.certificate, parent.Name)
	if err != nil {
		return nil, err
	}
	key, sealed, err := a.generate(s)
	if err != nil {
		return nil, err
	}
	begin := s.now.Add(-caBackdate).Truncate(time.Second)
	if begin.Before(above.certificate.NotBefore) {
		begin = above.certificate.NotBefore
	}
	want, err := a.decideCA(s, key.Public(), begin, end)
	if err != nil {
		return nil, err
	}
	der, err := a.signCA(want, key.Public(), above.issuer, above.certificate, above.key, parent.Settings)
	if err != nil {
		return nil, err
	}
	ca := s.record(pki.IssuingCA, sealed)
	ca.ParentID = parent.ID
	ca.Certificate = der
	ca.Chain = append([][]byte{parent.Certificate}, parent.Chain...)
	return a.create(ctx, ca, sealed, audit.CACreate, by)
}

// parent opens the CA that is to sign, if it may.
func (a *Authority) parent(ctx context.Context, ca *pki.CA, s *spec) (*authority, error) {
	if ca.State != pki.Active || ca.Certificate == nil {
		err := fault.New(fault.Conflict, "CA %q is %s, so it signs nothing", ca.Name, ca.State).WithField("/parent")
		if ca.State == pki.Suspended {
			return nil, err.WithHint("activate it: certloom ca activate %s", ca.Name)
		}
		return nil, err.WithHint("install the certificate that its outside root made: certloom ca install %s --certificate FILE --chain FILE", ca.Name)
	}
	chain, err := parseChain(append([][]byte{ca.Certificate}, ca.Chain...))
	if err != nil {
		return nil, fmt.Errorf("CA %q: %w", ca.Name, err)
	}
	issuer, err := lint.NewIssuer(chain[0], chain[1:], ca.Settings)
	if err != nil {
		return nil, fmt.Errorf("CA %q: %w", ca.Name, err)
	}
	switch depth := issuer.Depth(); {
	case depth == 0:
		return nil, fault.New(fault.Conflict, "CA %q has path length 0, so it can sign no CA", ca.Name).
			WithField("/parent").WithHint("name a root, or an issuing CA that was made with a --path-length above 0")
	case depth > 0 && s.pathLen >= depth:
		return nil, fault.New(fault.Conflict, "path length %d is not below %d, that of CA %q", s.pathLen, depth, ca.Name).
			WithField("/pathLength").WithHint("create a root with --path-length %d", s.pathLen+1)
	case chain[0].Subject.String() == (pkix.Name{CommonName: s.CommonName, Organization: organization(s.Organization)}).String():
		return nil, fault.New(fault.Conflict, "subject %q is that of CA %q already; verifiers would take one for the other", chain[0].Subject, ca.Name).
			WithField("/commonName")
	}
	key, err := a.config.Signers.Signer(ctx, ca.KeyID)
	if err != nil {
		return nil, err
	}
	return &authority{ca: ca, certificate: chain[0], issuer: issuer, key: key}, nil
}

// end returns the notAfter under a CA.
func (s *spec) end(above *x509.Certificate, name string) (time.Time, error) {
	if !above.NotAfter.After(s.now) {
		return time.Time{}, fault.New(fault.Conflict, "CA %q expired at %s", name, stamp(above.NotAfter)).WithField("/parent")
	}
	if s.Validity == 0 {
		end := s.now.Add(time.Duration(defaultIssuingLife)).Truncate(time.Second)
		if end.After(above.NotAfter) {
			end = above.NotAfter
		}
		return end, nil
	}
	end := s.now.Add(time.Duration(s.Validity)).Truncate(time.Second)
	if end.After(above.NotAfter) {
		return time.Time{}, fault.New(fault.Malformed, "validity %s ends at %s, after CA %q, which ends at %s", s.Validity, stamp(end), name, stamp(above.NotAfter)).
			WithField("/validity")
	}
	return end, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func (a *Authority) generate(s *spec) (crypto.Signer, *pki.SealedKey, error) {
	id, err := pki.NewID[pki.KeyID](s.now, a.config.Random)
	if err != nil {
		return nil, nil, err
	}
	return a.config.Vault.Generate(s.Key, id, s.now)
}

// record is the row of a CA that was made here.
func (s *spec) record(kind pki.CAKind, key *pki.SealedKey) *pki.CA {
	return &pki.CA{
		ID:           s.id,
		Name:         s.Name,
		Kind:         kind,
		State:        pki.Active,
		KeyID:        key.ID,
		KeyAlgorithm: key.Algorithm,
		Settings:     *s.Settings,
		CreatedAt:    s.now,
		UpdatedAt:    s.now,
	}
}

// caUsages are the key usages of every CA: certificates, CRLs, and OCSP answers.
func caUsages() []string { return []string{"digitalSignature", "keyCertSign", "cRLSign"} }

func (a *Authority) decideCA(s *spec, public crypto.PublicKey, begin, end time.Time) (*lint.Want, error) {
	serial, err := pki.NewSerial(s.now, a.config.Random)
	if err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return &lint.Want{
		Serial:       serial,
		NotBefore:    begin,
		NotAfter:     end,
		SPKI:         spki,
		Organization: s.Organization,
		CommonName:   s.CommonName,
		KeyUsage:     caUsages(),
		CA:           true,
		PathLen:      s.pathLen,
		PermittedDNS: s.Constraints.DNS,
		PermittedURI: s.Constraints.TrustDomains,
	}, nil
}

// signCA builds, lints and signs the certificate of a CA. Above is nil for a root.
func (a *Authority) signCA(
	w *lint.Want, public crypto.PublicKey, issuer *lint.Issuer, above *x509.Certificate, key crypto.Signer, settings pki.CASettings,
) ([]byte, error) {
	certificate, err := caTemplate(w, settings)
	if err != nil {
		return nil, err
	}
	if above == nil {
		above = certificate
	}
	linter, err := lint.NewSigner(key, issuer, w, a.config.Now)
	if err != nil {
		return nil, err
	}
	der, err := linter.Finish(x509.CreateCertificate(a.config.Random, certificate, above, public, linter))
	if err != nil {
		return nil, fmt.Errorf("sign certificate of CA: %w", err)
	}
	// There are few of these, and each must be right for years.
	signed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate of CA: %w", err)
	}
	signer := &x509.Certificate{PublicKey: key.Public()}
	if err := signer.CheckSignature(signed.SignatureAlgorithm, signed.RawTBSCertificate, signed.Signature); err != nil {
		return nil, fmt.Errorf("check certificate of CA: %w", err)
	}
	return der, nil
}

func caTemplate(w *lint.Want, settings pki.CASettings) (*x509.Certificate, error) {
	keyID, err := lint.KeyID(w.SPKI)
	if err != nil {
		return nil, err
	}
	usage, err := keyUsage(w.KeyUsage)
	if err != nil {
		return nil, err
	}
	return &x509.Certificate{
		SerialNumber:                w.Serial.Int(),
		Subject:                     pkix.Name{CommonName: w.CommonName, Organization: organization(w.Organization)},
		NotBefore:                   w.NotBefore,
		NotAfter:                    w.NotAfter,
		KeyUsage:                    usage,
		SubjectKeyId:                keyID,
		BasicConstraintsValid:       true,
		IsCA:                        true,
		MaxPathLen:                  w.PathLen,
		MaxPathLenZero:              w.PathLen == 0,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         w.PermittedDNS,
		PermittedURIDomains:         w.PermittedURI,
		CRLDistributionPoints:       settings.CRLURLs,
		OCSPServer:                  settings.OCSPURLs,
		IssuingCertificateURL:       settings.IssuerURLs,
	}, nil
}

func organization(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}
