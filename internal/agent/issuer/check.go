package issuer

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Wanted is what a certificate was asked for.
type Wanted struct {
	SPKI  []byte    // the subject public key info of the CSR
	Names pki.Names // exactly these, each list sorted
}

// Check checks a chain (as Issue returns it) against what was wanted: the key, exactly the names, a path to one of the
// roots for clients and for servers, valid now. It returns the leaf. The error says what is wrong; nothing of such
// a chain may be used.
func (b *Bundle) Check(chain [][]byte, want Wanted, now time.Time) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("the CA returned no certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("read the CA's certificate: %w", err)
	}
	if !bytes.Equal(leaf.RawSubjectPublicKeyInfo, want.SPKI) {
		return nil, errors.New("the CA's certificate is for another key than the CSR's")
	}
	if err := checkNames(leaf, want.Names); err != nil {
		return nil, err
	}
	if leaf.IsCA {
		return nil, errors.New("the CA's certificate is that of a CA")
	}
	return leaf, b.checkPath(leaf, chain[1:], now)
}

func checkNames(leaf *x509.Certificate, want pki.Names) error {
	var got pki.Names
	for _, uri := range leaf.URIs {
		got.URIs = append(got.URIs, uri.String())
	}
	for _, ip := range leaf.IPAddresses {
		got.IPs = append(got.IPs, ip.String())
	}
	got.DNS = slices.Clone(leaf.DNSNames)
	slices.Sort(got.URIs)
	slices.Sort(got.IPs)
	slices.Sort(got.DNS)
	same := slices.Equal(got.URIs, want.URIs) && slices.Equal(got.DNS, want.DNS) && slices.Equal(got.IPs, want.IPs)
	if !same || len(leaf.EmailAddresses) > 0 {
		return fmt.Errorf("the CA's certificate is for %.300q, not for %.300q", append(append(got.URIs, got.DNS...), got.IPs...),
			append(append(slices.Clone(want.URIs), want.DNS...), want.IPs...))
	}
	return nil
}

// usages are what a mesh certificate must be good for: a workload is client and server.
func usages() []x509.ExtKeyUsage {
	return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
}

// checkPath checks the path to a root. Signatures cost most of an issuance in this process, so those above the leaf
// are verified once for each set of CA certificates and not for each leaf.
func (b *Bundle) checkPath(leaf *x509.Certificate, above [][]byte, now time.Time) error {
	key := pathKey(leaf, above)
	if known := b.paths.find(key, now); known != nil {
		// A chain that begins below a root does not say which root: two may have the same name.
		if err := checkLeaf(leaf, known.issuer, now); err == nil || len(above) > 0 {
			return err
		}
	}
	between := x509.NewCertPool()
	for _, der := range above {
		ca, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("read a CA certificate of the chain: %w", err)
		}
		between.AddCert(ca)
	}
	var path []*x509.Certificate
	for _, usage := range usages() {
		paths, err := leaf.Verify(x509.VerifyOptions{
			Roots: b.Pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return fmt.Errorf("the CA's chain does not lead to a root of the trust bundle: %w", err)
		}
		path = paths[0]
	}
	b.paths.note(key, path)
	return nil
}

// checkLeaf checks a leaf below an issuer whose own path is known to be good.
func checkLeaf(leaf, issuer *x509.Certificate, now time.Time) error {
	switch {
	case !bytes.Equal(leaf.RawIssuer, issuer.RawSubject):
		return fmt.Errorf("the CA's certificate names issuer %q, its chain begins with %q", leaf.Issuer, issuer.Subject)
	case now.Before(leaf.NotBefore) || now.After(leaf.NotAfter):
		return fmt.Errorf("the CA's certificate is valid from %s to %s, not now, at %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("the CA's certificate has unknown critical extension %s", leaf.UnhandledCriticalExtensions[0])
	}
	for _, usage := range usages() {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			return errors.New("the CA's certificate is not good for both clients and servers")
		}
	}
	if err := leaf.CheckSignatureFrom(issuer); err != nil {
		return fmt.Errorf("the CA's certificate is not signed by the first CA of its chain: %w", err)
	}
	return nil
}

// maxPaths is how many sets of CA certificates are remembered; a rotation has two.
const maxPaths = 16

// paths remembers which sets of CA certificates lead to a root.
type paths struct {
	mu    sync.RWMutex // guards known
	known map[[sha256.Size]byte]*path
}

type path struct {
	issuer *x509.Certificate
	until  time.Time // the first of the CAs expires
}

func pathKey(leaf *x509.Certificate, above [][]byte) [sha256.Size]byte {
	hash := sha256.New()
	if len(above) == 0 {
		_, _ = hash.Write(leaf.RawIssuer)
	}
	for _, der := range above {
		sum := sha256.Sum256(der)
		_, _ = hash.Write(sum[:]) // a hash never fails
	}
	return [sha256.Size]byte(hash.Sum(nil))
}

func (p *paths) find(key [sha256.Size]byte, now time.Time) *path {
	p.mu.RLock()
	defer p.mu.RUnlock()
	known := p.known[key]
	if known == nil || now.After(known.until) {
		return nil
	}
	return known
}

// note remembers a verified path, leaf first, unless what a CA of it may sign depends on more than checkLeaf looks at.
func (p *paths) note(key [sha256.Size]byte, verified []*x509.Certificate) {
	if len(verified) < 2 {
		return
	}
	until := verified[1].NotAfter
	for _, ca := range verified[1:] {
		if constrained(ca) {
			return
		}
		if ca.NotAfter.Before(until) {
			until = ca.NotAfter
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxPaths || p.known == nil {
		p.known = map[[sha256.Size]byte]*path{}
	}
	p.known[key] = &path{issuer: verified[1], until: until}
}

func constrained(ca *x509.Certificate) bool {
	return len(ca.PermittedDNSDomains)+len(ca.ExcludedDNSDomains)+len(ca.PermittedIPRanges)+len(ca.ExcludedIPRanges)+
		len(ca.PermittedEmailAddresses)+len(ca.ExcludedEmailAddresses)+len(ca.PermittedURIDomains)+len(ca.ExcludedURIDomains) > 0
}
