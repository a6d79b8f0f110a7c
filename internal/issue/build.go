package issue

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/lint"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// authority is an issuing CA, parsed. It never changes.
type authority struct {
	ca          *pki.CA // as it was parsed
	certificate *x509.Certificate
	issuer      *lint.Issuer
	key         crypto.Signer
}

// signatureName names the algorithm that a CA with this key signs with, as x509.SignatureAlgorithm prints it.
func signatureName(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P384() {
			return x509.ECDSAWithSHA384.String()
		}
		return x509.ECDSAWithSHA256.String()
	case *rsa.PublicKey:
		return x509.SHA256WithRSA.String()
	default:
		return x509.PureEd25519.String()
	}
}

// authority returns the profile's issuing CA, ready to sign.
func (i *Issuer) authority(ctx context.Context, p *pki.Profile) (*authority, error) {
	ca, err := i.issuingCA(p)
	if err != nil {
		return nil, err
	}
	if cached, ok := i.cas.Load(ca.ID); ok {
		if a, ok := cached.(*authority); ok && a.ca == ca {
			return a, nil
		}
	}
	a, err := i.open(ctx, ca)
	if err != nil {
		return nil, fmt.Errorf("issuing CA %q: %w", ca.Name, err)
	}
	i.cas.Store(ca.ID, a)
	return a, nil
}

// issuingCA returns the profile's issuing CA, which may issue.
func (i *Issuer) issuingCA(p *pki.Profile) (*pki.CA, error) {
	ca, ok := i.config.CA(p.IssuingCA)
	switch {
	case !ok:
		return nil, fmt.Errorf("profile %q has issuing CA %q, which is not there", p.Name, p.IssuingCA)
	case ca.Kind != pki.IssuingCA || ca.Certificate == nil:
		return nil, fault.New(fault.Unavailable, "CA %q of profile %q cannot issue: it is a root, or has no certificate yet", ca.Name, p.Name)
	case ca.State != pki.Active:
		return nil, fault.New(fault.Unauthorized, "issuing CA %q of profile %q is %s", ca.Name, p.Name, ca.State).
			WithHint("activate it: certloom ca activate %s", ca.Name)
	}
	return ca, nil
}

func (i *Issuer) open(ctx context.Context, ca *pki.CA) (*authority, error) {
	a, err := keyless(ca)
	if err != nil {
		return nil, err
	}
	if a.key, err = i.config.Signers.Signer(ctx, ca.KeyID); err != nil {
		return nil, err
	}
	return a, nil
}

// keyless returns a CA that can say what it would sign.
func keyless(ca *pki.CA) (*authority, error) {
	chain, err := parseChain(append([][]byte{ca.Certificate}, ca.Chain...))
	if err != nil {
		return nil, err
	}
	issuer, err := lint.NewIssuer(chain[0], chain[1:], ca.Settings)
	if err != nil {
		return nil, err
	}
	return &authority{ca: ca, certificate: chain[0], issuer: issuer}, nil
}

// make builds, lints and signs. What it returns must be committed before anybody sees it.
func (i *Issuer) make(ca *authority, r *Request, accepted *policy.Accepted, span policy.Span, now time.Time) (*pki.Certificate, error) {
	begin := i.config.Now()
	want, err := i.want(ca, r, accepted, &span, now)
	if err != nil {
		return nil, err
	}
	// 4. Build.
	certificate, err := template(want, ca)
	if err != nil {
		return nil, err
	}
	// 5. and 6. The linter reads the very bytes that the key will sign, and signs nothing else.
	linter, err := lint.NewSigner(ca.key, ca.issuer, want, i.config.Now)
	if err != nil {
		return nil, err
	}
	der, err := linter.Finish(x509.CreateCertificate(i.config.Random, certificate, ca.certificate, r.CSR.PublicKey, linter))
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	judging, signing := linter.Took()
	i.metrics.took(stageSign, signing)
	i.metrics.took(stageLint, judging)
	i.metrics.took(stageBuild, i.config.Now().Sub(begin)-judging-signing)
	return record(r, accepted, span, want, ca, der, now), nil
}

// want is what the certificate must be, under a CA that may sign it. The span is cut to the CA's beginning.
func (i *Issuer) want(ca *authority, r *Request, accepted *policy.Accepted, span *policy.Span, now time.Time) (*lint.Want, error) {
	// A CA that is younger than the profile's backdating: nothing is valid before its issuer.
	if span.NotBefore.Before(ca.certificate.NotBefore) {
		span.NotBefore = ca.certificate.NotBefore
	}
	serial, err := pki.NewSerial(now, i.config.Random)
	if err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	want := decide(r, accepted, *span, serial)
	if want.CA && ca.issuer.Depth() == 0 {
		return nil, fault.New(fault.Unauthorized, "issuing CA %q has path length 0, so it can sign no CA for profile %q", ca.ca.Name, r.Profile.Name).
			WithHint("make an issuing CA of path length 1 under a root of path length 2")
	}
	return want, nil
}

// decide puts together what the certificate must be: names and subject from policy, everything else from the profile.
func decide(r *Request, accepted *policy.Accepted, span policy.Span, serial pki.Serial) *lint.Want {
	want := &lint.Want{
		Serial:      serial,
		NotBefore:   span.NotBefore,
		NotAfter:    span.NotAfter,
		SPKI:        r.CSR.SPKI,
		CommonName:  accepted.CommonName,
		Names:       accepted.Names,
		KeyUsage:    fittingUsages(r.Profile.Rules.KeyUsage, r.Profile.Rules.ExtKeyUsage, r.CSR.KeyAlgorithm),
		ExtKeyUsage: r.Profile.Rules.ExtKeyUsage,
	}
	if accepted.Agent { // it speaks to the server and to nobody else
		want.Agent, want.KeyUsage, want.ExtKeyUsage = true, []string{"digitalSignature"}, []string{"clientAuth"}
	}
	if r.Profile.Template == pki.MeshIntermediate {
		want.CA = true // its path length is 0: a mesh's own CA signs workloads only
	}
	return want
}

// fittingUsages leaves out the usages that a key cannot have: only RSA keys encipher keys, only ECDSA keys agree on
// them (RFC 3279 section 2.3, RFC 5480 section 3, RFC 8410 section 5). A profile may list them for the keys that can.
// Keys are enciphered for servers only; clients do nothing of the kind (RFC 5280 section 4.2.1.12).
func fittingUsages(usages, purposes []string, alg pki.KeyAlgorithm) []string {
	enciphers := (alg == pki.RSA2048 || alg == pki.RSA3072 || alg == pki.RSA4096) && slices.Contains(purposes, "serverAuth")
	agrees := alg == pki.ECDSAP256 || alg == pki.ECDSAP384
	fitting := make([]string, 0, len(usages))
	for _, usage := range usages {
		if (usage == "keyEncipherment" && !enciphers) || (usage == "keyAgreement" && !agrees) {
			continue
		}
		fitting = append(fitting, usage)
	}
	return fitting
}

// template is the certificate in the standard library's words.
func template(w *lint.Want, ca *authority) (*x509.Certificate, error) {
	keyID, err := lint.KeyID(w.SPKI)
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber:          w.Serial.Int(),
		Subject:               pkix.Name{CommonName: w.CommonName},
		NotBefore:             w.NotBefore,
		NotAfter:              w.NotAfter,
		SubjectKeyId:          keyID,
		BasicConstraintsValid: true,
		IsCA:                  w.CA,
		MaxPathLenZero:        w.CA,
		DNSNames:              w.Names.DNS,
		CRLDistributionPoints: ca.ca.Settings.CRLURLs,
		OCSPServer:            ca.ca.Settings.OCSPURLs,
		IssuingCertificateURL: ca.ca.Settings.IssuerURLs,
	}
	for _, name := range w.Names.IPs {
		addr, err := netip.ParseAddr(name)
		if err != nil {
			return nil, fmt.Errorf("accepted address: %w", err)
		}
		t.IPAddresses = append(t.IPAddresses, net.IP(addr.AsSlice()))
	}
	for _, name := range w.Names.URIs {
		uri, err := url.Parse(name)
		if err != nil {
			return nil, fmt.Errorf("accepted URI: %w", err)
		}
		t.URIs = append(t.URIs, uri)
	}
	if t.KeyUsage, err = keyUsage(w.KeyUsage); err != nil {
		return nil, err
	}
	for _, name := range w.ExtKeyUsage {
		switch name {
		case "serverAuth":
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		case "clientAuth":
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		default:
			return nil, fmt.Errorf("profile has extended key usage %q, which is not known", name)
		}
	}
	return t, nil
}

func keyUsage(names []string) (x509.KeyUsage, error) {
	var usage x509.KeyUsage
	for _, name := range names {
		switch name {
		case "digitalSignature":
			usage |= x509.KeyUsageDigitalSignature
		case "keyEncipherment":
			usage |= x509.KeyUsageKeyEncipherment
		case "keyAgreement":
			usage |= x509.KeyUsageKeyAgreement
		case "keyCertSign":
			usage |= x509.KeyUsageCertSign
		case "cRLSign":
			usage |= x509.KeyUsageCRLSign
		default:
			return 0, fmt.Errorf("profile has key usage %q, which is not known", name)
		}
	}
	return usage, nil
}

// record is the certificate's row.
func record(r *Request, accepted *policy.Accepted, span policy.Span, w *lint.Want, ca *authority, der []byte, now time.Time) *pki.Certificate {
	c := &pki.Certificate{
		Serial:       w.Serial,
		Fingerprint:  sha256.Sum256(der),
		DER:          der,
		Names:        accepted.Names,
		Identity:     accepted.Identity,
		CAID:         ca.ca.ID,
		ProfileID:    r.Profile.ID,
		OrderID:      r.Order,
		CSRHash:      r.CSR.Hash,
		SPKIHash:     r.CSR.SPKIHash,
		Client:       r.Client,
		Workload:     r.Workload,
		NotBefore:    w.NotBefore,
		NotAfter:     w.NotAfter,
		RenewAt:      pki.RenewAt(w.NotBefore, w.NotAfter),
		Requested:    span.Requested,
		Granted:      span.Granted,
		KeyAlgorithm: r.CSR.KeyAlgorithm,
		Signature:    signatureName(ca.key.Public()),
		Replaces:     r.Replaces,
		IssuedAt:     now,
	}
	if r.Account != nil {
		c.AccountID = r.Account.ID
	}
	if r.Credential != nil {
		c.CredentialID = r.Credential.ID
	}
	return c
}

// Chain returns the certificate and the CAs above it, leaf first: what a server sends in TLS. The root is there only
// if includeRoot is set.
func (i *Issuer) Chain(c *pki.Certificate, includeRoot bool) ([][]byte, error) {
	ca, ok := i.config.CA(c.CAID)
	if !ok || ca.Certificate == nil {
		return nil, fmt.Errorf("certificate %s was issued by CA %q, which is not there", c.Serial, c.CAID)
	}
	chain := append(make([][]byte, 0, len(ca.Chain)+2), c.DER, ca.Certificate)
	above := ca.Chain
	if !includeRoot && len(above) > 0 {
		above = above[:len(above)-1]
	}
	return append(chain, above...), nil
}

func parseChain(ders [][]byte) ([]*x509.Certificate, error) {
	chain := make([]*x509.Certificate, 0, len(ders))
	for _, der := range ders {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("parse certificate of CA: %w", err)
		}
		chain = append(chain, certificate)
	}
	return chain, nil
}
