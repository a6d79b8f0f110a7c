package api

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Records become wire types here, and what clients say becomes values of the vocabulary. Problems of the latter are
// collected, with the pointer of the member at fault.

// texts converts a list, so that an empty one is written as [].
func texts[T ~string](values []T) []string {
	out := make([]string, 0, len(values))
	for _, value := range values {
		out = append(out, string(value))
	}
	return out
}

func prefixTexts(prefixes []netip.Prefix) []string {
	out := make([]string, 0, len(prefixes))
	for _, prefix := range prefixes {
		out = append(out, prefix.String())
	}
	return out
}

func wireRules(r *pki.ProfileRules) apiv1.Rules {
	rules := apiv1.Rules{
		Validity: apiv1.Validity{
			Default: r.Validity.Default.String(), Max: r.Validity.Max.String(), Backdate: r.Validity.Backdate.String(),
			JitterPercent: r.Validity.JitterPercent,
		},
		Keys:        texts(r.Keys),
		Names:       wireNames(&r.Names),
		MaxNames:    r.MaxNames,
		Subject:     string(r.Subject),
		KeyUsage:    texts(r.KeyUsage),
		ExtKeyUsage: texts(r.ExtKeyUsage),
		IncludeRoot: r.IncludeRoot,
		Retention:   r.Retention.String(),
	}
	if r.Challenges != nil {
		rules.Challenges = &apiv1.Challenges{Types: texts(r.Challenges.Types), Networks: prefixTexts(r.Challenges.Networks)}
	}
	return rules
}

func wireNames(n *pki.NameRules) apiv1.Names {
	return apiv1.Names{
		SPIFFE: apiv1.SPIFFENames{TrustDomains: texts(n.SPIFFE.TrustDomains), Allow: texts(n.SPIFFE.Allow), Deny: texts(n.SPIFFE.Deny)},
		DNS:    apiv1.DNSNames{Allow: texts(n.DNS.Allow), Deny: texts(n.DNS.Deny), Wildcards: n.DNS.Wildcards},
		IP:     apiv1.IPNames{Allow: prefixTexts(n.IP.Allow), Deny: prefixTexts(n.IP.Deny)},
	}
}

// findings collects what is wrong with what a client said.
type findings []error

func (f *findings) add(field, format string, args ...any) {
	*f = append(*f, fault.New(fault.Malformed, format, args...).WithField(field))
}

func (f *findings) err() error { return errors.Join(*f...) }

func (f *findings) duration(field, value string) pki.Duration {
	if value == "0" || value == "0s" {
		return 0
	}
	d, err := pki.ParseDuration(value)
	if err != nil {
		f.add(field, "%v", err)
	}
	return d
}

// prefixes reads address ranges; an address alone is the range that has only it.
func (f *findings) prefixes(field string, values []string) []netip.Prefix {
	var out []netip.Prefix
	for i, value := range values {
		prefix, err := netip.ParsePrefix(value)
		if addr, addrErr := netip.ParseAddr(value); addrErr == nil && addr.Zone() == "" {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			f.add(fmt.Sprintf("%s/%d", field, i), "address range %.60q is neither like 10.0.0.0/8 nor an address", value)
			prefix = netip.Prefix{} // keeps the places of the others
		}
		out = append(out, prefix)
	}
	return out
}

func (f *findings) names(field string, n *apiv1.Names) pki.NameRules {
	return pki.NameRules{
		SPIFFE: pki.SPIFFERules{TrustDomains: n.SPIFFE.TrustDomains, Allow: n.SPIFFE.Allow, Deny: n.SPIFFE.Deny},
		DNS:    pki.DNSRules{Allow: n.DNS.Allow, Deny: n.DNS.Deny, Wildcards: n.DNS.Wildcards},
		IP:     pki.IPRules{Allow: f.prefixes(field+"/ip/allow", n.IP.Allow), Deny: f.prefixes(field+"/ip/deny", n.IP.Deny)},
	}
}

func (f *findings) rules(r *apiv1.Rules) pki.ProfileRules {
	const at = "/rules"
	rules := pki.ProfileRules{
		Validity: pki.Validity{
			Default:       f.duration(at+"/validity/default", r.Validity.Default),
			Max:           f.duration(at+"/validity/max", r.Validity.Max),
			Backdate:      f.duration(at+"/validity/backdate", r.Validity.Backdate),
			JitterPercent: r.Validity.JitterPercent,
		},
		Names:       f.names(at+"/names", &r.Names),
		MaxNames:    r.MaxNames,
		Subject:     pki.SubjectRule(r.Subject),
		KeyUsage:    r.KeyUsage,
		ExtKeyUsage: r.ExtKeyUsage,
		IncludeRoot: r.IncludeRoot,
	}
	if r.Retention != "" {
		rules.Retention = f.duration(at+"/retention", r.Retention)
	}
	for _, key := range r.Keys {
		rules.Keys = append(rules.Keys, pki.KeyAlgorithm(key))
	}
	if r.Challenges != nil {
		rules.Challenges = &pki.Challenges{
			Types: r.Challenges.Types, Networks: f.prefixes(at+"/challenges/networks", r.Challenges.Networks),
		}
	}
	return rules
}

// utc keeps a zero time zero, so that it is left out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return t.UTC()
}

// stateAt adds "expired" to the states of what may expire.
func stateAt(state pki.State, expires, now time.Time) string {
	if state == pki.Active && !expires.IsZero() && !now.Before(expires) {
		return "expired"
	}
	return string(state)
}

// toPEM writes certificates one after another.
func toPEM(ders ...[]byte) string {
	var b strings.Builder
	for _, der := range ders {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.String()
}

// reasons are the names of revocation reasons that a certificate of ours may be revoked with (RFC 5280 section 5.3.1).
// The others are about CAs, holds and attribute certificates.
func reasons() map[string]pki.RevocationReason {
	return map[string]pki.RevocationReason{
		"unspecified":          pki.Unspecified,
		"keyCompromise":        pki.KeyCompromise,
		"affiliationChanged":   pki.AffiliationChanged,
		"superseded":           pki.Superseded,
		"cessationOfOperation": pki.CessationOfOperation,
		"privilegeWithdrawn":   pki.PrivilegeWithdrawn,
	}
}

func wireCertificate(view *catalog.Snapshot, c *pki.Certificate, now time.Time) apiv1.Certificate {
	out := apiv1.Certificate{
		Serial:             string(c.Serial),
		Status:             string(c.Status(now)),
		Identity:           c.Identity,
		Names:              apiv1.CertificateNames{URIs: c.Names.URIs, DNS: c.Names.DNS, IPs: c.Names.IPs},
		Profile:            profileName(view, c.ProfileID),
		IssuingCA:          caName(view, c.CAID),
		Fingerprint:        hex.EncodeToString(c.Fingerprint[:]),
		NotBefore:          utc(c.NotBefore),
		NotAfter:           utc(c.NotAfter),
		RenewAt:            utc(c.RenewAt),
		IssuedAt:           utc(c.IssuedAt),
		Granted:            pki.Duration(c.Granted).String(),
		KeyAlgorithm:       string(c.KeyAlgorithm),
		SignatureAlgorithm: c.Signature,
		Credential:         string(c.CredentialID),
		Account:            string(c.AccountID),
		Order:              string(c.OrderID),
		Replaces:           c.Replaces,
		UserAgent:          c.Client.UserAgent,
		Address:            c.Client.Address,
	}
	if c.Requested > 0 {
		out.Requested = pki.Duration(c.Requested).String()
	}
	if c.Workload != (pki.Workload{}) {
		out.Workload = new(wireWorkload(&c.Workload))
	}
	if credential, ok := view.Credential(c.CredentialID); ok {
		out.CredentialName = credential.Name
	}
	if !c.RevokedAt.IsZero() {
		out.RevokedAt, out.RevocationReason = c.RevokedAt.UTC(), c.Reason.String()
	}
	return out
}

func profileName(view *catalog.Snapshot, id pki.ProfileID) string {
	if p, ok := view.Profile(id); ok {
		return p.Name
	}
	return string(id)
}

func caName(view *catalog.Snapshot, id pki.CAID) string {
	if ca, ok := view.CA(id); ok {
		return ca.Name
	}
	return string(id)
}

// wireCA shows a CA; full adds the certificates themselves.
func wireCA(view *catalog.Snapshot, ca *pki.CA, full bool) (apiv1.CA, error) {
	out := apiv1.CA{
		ID: string(ca.ID), Name: ca.Name, Kind: string(ca.Kind), State: string(ca.State),
		KeyAlgorithm: string(ca.KeyAlgorithm), Settings: wireSettings(ca.Settings),
		CreatedAt: utc(ca.CreatedAt), UpdatedAt: utc(ca.UpdatedAt),
	}
	if ca.ParentID != "" {
		out.Parent = caName(view, ca.ParentID)
	}
	if !ca.RevokedAt.IsZero() {
		out.RevokedAt, out.RevocationReason = ca.RevokedAt.UTC(), ca.Reason.String()
	}
	if ca.Certificate == nil {
		return out, nil
	}
	certificate, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		return apiv1.CA{}, fmt.Errorf("parse certificate of CA %q: %w", ca.Name, err)
	}
	fingerprint := sha256.Sum256(ca.Certificate)
	out.Subject, out.Issuer = certificate.Subject.String(), certificate.Issuer.String()
	out.Serial = string(pki.SerialFromInt(certificate.SerialNumber))
	out.Fingerprint = hex.EncodeToString(fingerprint[:])
	out.NotBefore, out.NotAfter = certificate.NotBefore.UTC(), certificate.NotAfter.UTC()
	if certificate.MaxPathLen > 0 || certificate.MaxPathLenZero {
		out.PathLength = &certificate.MaxPathLen
	}
	if len(certificate.PermittedURIDomains)+len(certificate.PermittedDNSDomains) > 0 {
		out.Constraints = &apiv1.Constraints{
			TrustDomains: texts(certificate.PermittedURIDomains), DNS: texts(certificate.PermittedDNSDomains),
		}
	}
	if full {
		out.PEM, out.ChainPEM = toPEM(ca.Certificate), toPEM(ca.Chain...)
		if out.Details, err = details(ca.Certificate); err != nil {
			return apiv1.CA{}, err
		}
	}
	return out, nil
}

func wireSettings(s pki.CASettings) apiv1.CASettings {
	return apiv1.CASettings{CRLURLs: texts(s.CRLURLs), OCSPURLs: texts(s.OCSPURLs), IssuerURLs: texts(s.IssuerURLs)}
}

func settingsOf(s *apiv1.CASettings) pki.CASettings {
	return pki.CASettings{CRLURLs: s.CRLURLs, OCSPURLs: s.OCSPURLs, IssuerURLs: s.IssuerURLs}
}

func wireWorkload(w *pki.Workload) apiv1.Workload {
	return apiv1.Workload{
		Cluster: w.Cluster, Namespace: w.Namespace, ServiceAccount: w.ServiceAccount, Pod: w.Pod, PodUID: w.PodUID, Node: w.Node,
		ImpersonatedBy: w.ImpersonatedBy, Presented: string(w.Presented),
	}
}
