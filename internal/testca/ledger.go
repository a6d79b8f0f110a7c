package testca

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// ErrStorage is what a Ledger returns when it was told to fail.
var ErrStorage = errors.New("storage failed")

// Ledger is storage in memory for issuance and revocation. It keeps the promises of the real one but durability: one
// certificate for an order, revocation once, everything of a call or nothing. It is safe for concurrent use.
type Ledger struct {
	// Facts changes what FinalizeFacts tells; set it before use.
	Facts func(*pki.FinalizeFacts)
	// Fail, when not nil, is asked before each call, by the name of the method. An error of it is returned, after the
	// call's effect when persisted is true.
	Fail func(method string) (persisted bool, err error)

	mu      sync.Mutex // guards everything below
	byOrder map[pki.OrderID]*pki.Certificate
	serials map[pki.Serial]*pki.Certificate
	issued  []*pki.Certificate
	events  []audit.Event
	numbers map[pki.CAID]int64
	changes map[pki.CAID]int64
}

// NewLedger returns an empty Ledger.
func NewLedger() *Ledger {
	return &Ledger{
		byOrder: make(map[pki.OrderID]*pki.Certificate),
		serials: make(map[pki.Serial]*pki.Certificate),
		numbers: make(map[pki.CAID]int64),
		changes: make(map[pki.CAID]int64),
	}
}

// do runs a call's effect under the lock, with the failure that was asked for.
func (l *Ledger) do(method string, effect func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.Fail != nil {
		if persisted, err := l.Fail(method); err != nil {
			if persisted {
				return errors.Join(err, effect())
			}
			return err
		}
	}
	return effect()
}

// FinalizeFacts tells of the order's certificate, of an account that is valid, and whether the key is blocked.
func (l *Ledger) FinalizeFacts(
	_ context.Context, order pki.OrderID, _ pki.AccountID, _ pki.CredentialID, _ pki.ProfileID, _ string, spki [32]byte, _ time.Time,
) (*pki.FinalizeFacts, error) {
	facts := &pki.FinalizeFacts{AccountState: pki.StatusValid, CredentialUsable: true, ProfileActive: true}
	err := l.do("FinalizeFacts", func() error {
		facts.Certificate = clone(l.byOrder[order])
		for _, c := range l.issued {
			facts.BlockedKey = facts.BlockedKey || (c.SPKIHash == spki && !c.RevokedAt.IsZero() && c.Reason == pki.KeyCompromise)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if l.Facts != nil {
		l.Facts(facts)
	}
	return facts, nil
}

// RecordCertificate keeps a certificate, unless its order has one.
func (l *Ledger) RecordCertificate(
	_ context.Context, c *pki.Certificate, _ pki.SPIFFEID, ev audit.Event,
) (stored *pki.Certificate, won bool, err error) {
	err = l.do("RecordCertificate", func() error {
		if l.serials[c.Serial] != nil {
			return errors.New("serial is there already")
		}
		if winner := l.byOrder[c.OrderID]; winner != nil {
			stored = clone(winner)
			return nil
		}
		kept := clone(c)
		if c.OrderID != "" {
			l.byOrder[c.OrderID] = kept
		}
		l.serials[c.Serial] = kept
		l.issued = append(l.issued, kept)
		l.events = append(l.events, ev)
		stored, won = c, true
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return stored, won, nil
}

// RecordEvent keeps an event.
func (l *Ledger) RecordEvent(_ context.Context, ev audit.Event) error {
	return l.do("RecordEvent", func() error {
		l.events = append(l.events, ev)
		return nil
	})
}

// Certificate finds a certificate by its serial.
func (l *Ledger) Certificate(_ context.Context, serial pki.Serial) (*pki.Certificate, error) {
	var found *pki.Certificate
	err := l.do("Certificate", func() error {
		if found = clone(l.serials[serial]); found == nil {
			return fault.New(fault.NotFound, "there is no certificate with serial %q", serial)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// RevokeCertificate revokes a certificate once.
func (l *Ledger) RevokeCertificate(_ context.Context, serial pki.Serial, reason pki.RevocationReason, at time.Time, ev audit.Event) error {
	return l.do("RevokeCertificate", func() error {
		c := l.serials[serial]
		switch {
		case c == nil:
			return fault.New(fault.NotFound, "there is no certificate with serial %q", serial)
		case !c.RevokedAt.IsZero() && (!c.Held() || reason == pki.CertificateHold):
			return fault.New(fault.AlreadyRevoked, "certificate %s was revoked already", serial)
		case c.Held():
			at = c.RevokedAt
		}
		c.RevokedAt, c.Reason = at, reason
		l.changes[c.CAID]++
		l.events = append(l.events, ev)
		return nil
	})
}

// ReleaseCertificate ends a hold.
func (l *Ledger) ReleaseCertificate(_ context.Context, serial pki.Serial, ev audit.Event) error {
	return l.do("ReleaseCertificate", func() error {
		c := l.serials[serial]
		switch {
		case c == nil:
			return fault.New(fault.NotFound, "there is no certificate with serial %q", serial)
		case !c.Held():
			return fault.New(fault.Conflict, "certificate %s is not held", serial)
		}
		c.RevokedAt, c.Reason = time.Time{}, 0
		l.changes[c.CAID]++
		l.events = append(l.events, ev)
		return nil
	})
}

// Revoked lists the revoked certificates of a CA that had not expired at the given time.
func (l *Ledger) Revoked(_ context.Context, ca pki.CAID, since time.Time) ([]pki.RevokedEntry, error) {
	var entries []pki.RevokedEntry
	err := l.do("Revoked", func() error {
		for _, c := range l.issued {
			if c.CAID == ca && !c.RevokedAt.IsZero() && !c.NotAfter.Before(since) {
				entries = append(entries, pki.RevokedEntry{Serial: c.Serial, At: c.RevokedAt, Reason: c.Reason, NotAfter: c.NotAfter})
			}
		}
		return nil
	})
	return entries, err
}

// NextCRLNumber counts.
func (l *Ledger) NextCRLNumber(_ context.Context, ca pki.CAID) (number int64, err error) {
	err = l.do("NextCRLNumber", func() error {
		l.numbers[ca]++
		number = l.numbers[ca]
		return nil
	})
	return number, err
}

// RevocationVersion changes with each revocation of the CA.
func (l *Ledger) RevocationVersion(_ context.Context, ca pki.CAID) (version int64, err error) {
	err = l.do("RevocationVersion", func() error {
		version = l.changes[ca]
		return nil
	})
	return version, err
}

// Issued returns what was recorded, oldest first.
func (l *Ledger) Issued() []*pki.Certificate {
	l.mu.Lock()
	defer l.mu.Unlock()
	issued := make([]*pki.Certificate, 0, len(l.issued))
	for _, c := range l.issued {
		issued = append(issued, clone(c))
	}
	return issued
}

// clone keeps readers apart from a later revocation.
func clone(c *pki.Certificate) *pki.Certificate {
	if c == nil {
		return nil
	}
	copied := *c
	return &copied
}

// Events returns the audit log, oldest first.
func (l *Ledger) Events() []audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]audit.Event(nil), l.events...)
}
