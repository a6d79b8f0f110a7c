package certmanager

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certloom/certloom/internal/agent/issuer"
)

// keepRoots is how long a root stays after a request told it last: what was issued under it must not stop to be trusted
// because the issuer has another CA since.
const keepRoots = 24 * time.Hour

// learned is the trust bundle that requests tell: status.ca is the CA of the signer, as far as the signer knows it.
type learned struct {
	now    func() time.Time
	bundle atomic.Pointer[issuer.Bundle] // nil before the first

	mu   sync.Mutex // guards seen
	seen map[string]time.Time
}

// note takes the CA of a chain into the bundle, if the chain leads to it: a status that names just any CA is not to
// be trusted by a whole mesh.
func (l *learned) note(text []byte, chain [][]byte) error {
	var roots [][]byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		roots = append(roots, block.Bytes)
	}
	if len(roots) == 0 {
		return errors.New("status.ca is not PEM")
	}
	if err := leads(chain, roots, l.now()); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.add(roots)
}

// leads checks that a chain leads to one of some roots.
func leads(chain, roots [][]byte, now time.Time) error {
	bundle, err := issuer.NewBundle(roots)
	if err != nil {
		return fmt.Errorf("status.ca: %w", err)
	}
	between := x509.NewCertPool()
	for _, der := range chain[1:] {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return fmt.Errorf("status.certificate: %w", err)
		}
		between.AddCert(certificate)
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("status.certificate: %w", err)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots: bundle.Pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("status.certificate does not lead to status.ca: %w", err)
	}
	return nil
}

// add notes that roots were told now, and makes another bundle if that makes a difference; l.mu is held.
func (l *learned) add(roots [][]byte) error {
	now := l.now()
	if l.seen == nil {
		l.seen = map[string]time.Time{}
	}
	for _, root := range roots {
		l.seen[string(root)] = now
	}
	all := make([][]byte, 0, len(l.seen))
	for root, last := range l.seen {
		if now.Sub(last) > keepRoots {
			delete(l.seen, root)
			continue
		}
		all = append(all, []byte(root))
	}
	bundle, err := issuer.NewBundle(all)
	if err != nil {
		return fmt.Errorf("status.ca: %w", err)
	}
	if before := l.bundle.Load(); before == nil || before.Version != bundle.Version {
		l.bundle.Store(bundle) // else what is known of it stays known
	}
	return nil
}
