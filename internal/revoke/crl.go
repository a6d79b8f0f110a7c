package revoke

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// versionAge is how long it is believed that no other replica has revoked anything.
const versionAge = time.Second

// minKeep is how long a certificate that has expired stays on CRLs at least.
const minKeep = 48 * time.Hour

// list is the CRL of one CA.
type list struct {
	mu      sync.Mutex // guards everything below but checked; held while a CRL is made, so that one makes it and the others wait
	ca      *pki.CA    // as it was signed
	der     []byte     // nil: none yet
	version int64      // of the revocations in it
	below   int        // how many CAs are in it
	made    time.Time
	next    time.Time

	// checked is when the version was last asked for, in Unix nanoseconds. It is outside of mu so that a revocation
	// does not wait for a signature.
	checked atomic.Int64
}

// expire makes the next reader ask for the version.
func (l *list) expire() { l.checked.Store(0) }

// fresh reports whether the version was asked for a moment ago; if not, the caller has to.
func (l *list) fresh(now time.Time) bool {
	if age := now.UnixNano() - l.checked.Load(); age >= 0 && age < int64(versionAge) {
		return true
	}
	l.checked.Store(now.UnixNano())
	return false
}

// usable reports whether the list is of that CA with so many below it that were revoked, and was made after a time.
func (l *list) usable(ca *pki.CA, below int, after time.Time) bool {
	return l.der != nil && sameSigner(l.ca, ca) && l.below == below && l.made.After(after)
}

func (r *Revoker) listOf(id pki.CAID) *list {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lists[id]
	if l == nil {
		l = new(list)
		r.lists[id] = l
	}
	return l
}

// CRL returns the CA's CRL in DER and when its next update is due. A CRL is kept until something was revoked, the CA
// has changed, or half of its life is over. A CA that is suspended still has one; NotFound for a CA that is not there
// or has no certificate yet.
//
// While storage cannot be asked, the CRL that is there is returned for as long as it is good: an old list is worth
// more to verifiers than none.
func (r *Revoker) CRL(ctx context.Context, id pki.CAID) (der []byte, nextUpdate time.Time, err error) {
	ca, ok := r.config.CA(id)
	if !ok || ca.Certificate == nil {
		return nil, time.Time{}, fault.New(fault.NotFound, "there is no CA %.60q with a certificate", id)
	}
	now := r.config.Now()
	// CAs come from the view in memory, which may be older than the version in storage; so they are compared themselves.
	below, err := r.revokedBelow(ca, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	l := r.listOf(id)
	l.mu.Lock()
	defer l.mu.Unlock()
	usable := l.usable(ca, len(below), now.Add(-r.config.CRLLifetime/2))
	if usable && l.fresh(now) {
		return l.der, l.next, nil
	}
	version, err := r.config.Store.RevocationVersion(ctx, id)
	if err == nil && usable && version == l.version {
		return l.der, l.next, nil
	}
	if err == nil {
		// The version was read before the entries, so that a revocation in between makes the next reader look again.
		err = r.sign(ctx, l, ca, below, version, now)
	}
	if err != nil {
		l.expire()
		if l.der != nil && now.Before(l.next) {
			return l.der, l.next, nil
		}
		return nil, time.Time{}, fmt.Errorf("CRL of CA %q: %w", ca.Name, err)
	}
	return l.der, l.next, nil
}

// sameSigner reports whether a CRL that the one CA has signed can be taken for the other's. What else is known of a CA is
// not in its CRL, and a new list for no reason would be carried to all who keep one.
func sameSigner(a, b *pki.CA) bool {
	return a == b || a.ID == b.ID && a.KeyID == b.KeyID && bytes.Equal(a.Certificate, b.Certificate)
}

// sign makes a new CRL. The caller holds l.mu.
func (r *Revoker) sign(ctx context.Context, l *list, ca *pki.CA, below []pki.RevokedEntry, version int64, now time.Time) error {
	issuer, err := parseIssuer(ca)
	if err != nil {
		return err
	}
	entries, err := r.config.Store.Revoked(ctx, ca.ID, now.Add(-r.keep()))
	if err != nil {
		return fmt.Errorf("revoked certificates: %w", err)
	}
	entries = append(entries, below...)
	number, err := r.config.Store.NextCRLNumber(ctx, ca.ID)
	if err != nil {
		return fmt.Errorf("CRL number: %w", err)
	}
	key, err := r.config.Signers.Signer(ctx, ca.KeyID)
	if err != nil {
		return err
	}
	now = now.UTC().Truncate(time.Second)
	template := &x509.RevocationList{
		Number:                    big.NewInt(number),
		ThisUpdate:                now.Add(-backdate),
		NextUpdate:                now.Add(r.config.CRLLifetime),
		RevokedCertificateEntries: make([]x509.RevocationListEntry, 0, len(entries)),
	}
	for _, entry := range entries {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber:   entry.Serial.Int(),
			RevocationTime: entry.At.UTC().Truncate(time.Second),
			ReasonCode:     int(entry.Reason),
		})
	}
	der, err := x509.CreateRevocationList(r.config.Random, template, issuer, key)
	if err != nil {
		return fmt.Errorf("sign CRL: %w", err)
	}
	l.ca, l.der, l.version, l.below, l.made, l.next = ca, der, version, len(below), now, template.NextUpdate
	r.metrics.lists.Inc()
	return nil
}

// revokedBelow returns the CAs that a CA has signed and that were revoked.
func (r *Revoker) revokedBelow(ca *pki.CA, now time.Time) ([]pki.RevokedEntry, error) {
	var entries []pki.RevokedEntry
	for _, below := range r.config.CAs() {
		if below.ParentID != ca.ID || below.RevokedAt.IsZero() || below.Certificate == nil {
			continue
		}
		found, err := r.responderOf(below)
		if err != nil {
			return nil, err
		}
		if found.certificate.NotAfter.Before(now.Add(-r.keep())) {
			continue
		}
		entries = append(entries, pki.RevokedEntry{
			Serial: pki.SerialFromInt(found.certificate.SerialNumber), At: below.RevokedAt, Reason: below.Reason, NotAfter: found.certificate.NotAfter,
		})
	}
	return entries, nil
}

// keep is how long a certificate that has expired stays on CRLs. RFC 5280 section 3.3 wants it on one that was made
// after that; verifiers fetch none more often than the old one ends.
func (r *Revoker) keep() time.Duration { return max(minKeep, r.config.CRLLifetime) }

// parseIssuer parses a CA's certificate for signing a CRL. One without a key usage extension may sign everything (RFC
// 5280 section 4.2.1.3), which the standard library wants to be told.
func parseIssuer(ca *pki.CA) (*x509.Certificate, error) {
	issuer, err := x509.ParseCertificate(ca.Certificate)
	if err != nil {
		return nil, fmt.Errorf("parse certificate of CA: %w", err)
	}
	if issuer.KeyUsage == 0 {
		issuer.KeyUsage = x509.KeyUsageCRLSign
	}
	return issuer, nil
}
