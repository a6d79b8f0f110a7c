package revoke

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// Store is the storage that revocation needs. Implementations are safe for concurrent use.
type Store interface {
	Inventory
	Lists
}

// Inventory knows certificates. Changes are durable when a method returns.
type Inventory interface {
	// Certificate returns NotFound for a serial that is not there.
	Certificate(ctx context.Context, serial pki.Serial) (*pki.Certificate, error)
	// RevokeCertificate returns NotFound or AlreadyRevoked, and blocks the key for keyCompromise. A certificate that is
	// held is revoked for good by any reason but CertificateHold.
	RevokeCertificate(ctx context.Context, serial pki.Serial, reason pki.RevocationReason, at time.Time, ev audit.Event) error
	// ReleaseCertificate ends a hold; it returns NotFound or, for a certificate that is not held, Conflict.
	ReleaseCertificate(ctx context.Context, serial pki.Serial, ev audit.Event) error
	RecordEvent(ctx context.Context, ev audit.Event) error
}

// Lists is what CRLs are made of.
type Lists interface {
	// Revoked returns the revoked certificates of a CA that had not expired at the given time.
	Revoked(ctx context.Context, ca pki.CAID, since time.Time) ([]pki.RevokedEntry, error)
	// NextCRLNumber returns a number that is higher than every one before, on every replica.
	NextCRLNumber(ctx context.Context, ca pki.CAID) (int64, error)
	// RevocationVersion returns a number that changes with every revocation of the CA.
	RevocationVersion(ctx context.Context, ca pki.CAID) (int64, error)
}

// Signers opens the private keys of CAs.
type Signers interface {
	Signer(ctx context.Context, id pki.KeyID) (crypto.Signer, error)
}

// Config is what a Revoker needs. Store, Signers, CA, CAs, Now and Random are required.
type Config struct {
	Store   Store
	Signers Signers
	CA      func(pki.CAID) (*pki.CA, bool) // what it points to must never change
	CAs     func() []*pki.CA
	Now     func() time.Time
	Random  io.Reader // safe for concurrent use

	CRLLifetime  time.Duration // from a CRL to its next update; 0: 24 hours
	OCSPLifetime time.Duration // of an OCSP answer; 0: one hour
	OCSPByCA     bool          // CAs sign OCSP answers themselves, without delegated signers

	Registerer prometheus.Registerer
	Replica    string // names this process in audit events
}

// Defaults and bounds of lifetimes.
const (
	defaultCRLLifetime  = 24 * time.Hour
	defaultOCSPLifetime = time.Hour
	minLifetime         = time.Minute
)

// backdate is how far CRLs and OCSP answers are dated back, for verifiers whose clocks are behind.
const backdate = time.Minute

// ocspCache is how many OCSP answers are kept; each has less than a kilobyte.
const ocspCache = 8192

// Revoker revokes and publishes. It is safe for concurrent use.
type Revoker struct {
	config  Config
	metrics *metrics
	answers *lru.Cache[pki.Serial, answer]
	revoked atomic.Uint64 // counts the revocations of this process

	refusals *audit.Limiter // which ones are recorded

	signing chan struct{} // bounds how many answers are made at once
	waiting atomic.Int64  // how many requests want to

	mu         sync.Mutex // guards the maps; never held while working
	lists      map[pki.CAID]*list
	signers    map[pki.CAID]*signerSlot
	responders map[pki.CAID]*responder
}

// New returns a Revoker.
func New(c Config) (*Revoker, error) {
	if c.Store == nil || c.Signers == nil || c.CA == nil || c.CAs == nil || c.Now == nil || c.Random == nil {
		return nil, errors.New("revoke: store, signers, CA, CAs, now and random are required")
	}
	if c.CRLLifetime == 0 {
		c.CRLLifetime = defaultCRLLifetime
	}
	if c.OCSPLifetime == 0 {
		c.OCSPLifetime = defaultOCSPLifetime
	}
	if c.CRLLifetime < minLifetime || c.OCSPLifetime < minLifetime {
		return nil, fmt.Errorf("revoke: lifetimes of CRLs (%s) and OCSP answers (%s) must be at least %s", c.CRLLifetime, c.OCSPLifetime, minLifetime)
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	answers, err := lru.New[pki.Serial, answer](ocspCache)
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	refusals, err := audit.NewLimiter()
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}
	return &Revoker{
		config: c, metrics: m, answers: answers, refusals: refusals, signing: make(chan struct{}, maxSigning), lists: make(map[pki.CAID]*list),
		signers: make(map[pki.CAID]*signerSlot), responders: make(map[pki.CAID]*responder),
	}, nil
}

// Request asks for a revocation. Whoever makes it has checked that the client may revoke the certificate.
type Request struct {
	Serial    pki.Serial
	Reason    pki.RevocationReason
	Actor     audit.Actor
	Client    pki.Client
	RequestID string
}

// Revoke revokes a certificate. When it returns nil that is durable, and this process's next CRL and OCSP answer say
// so; other replicas follow within seconds. Refusals are *fault.Error and are audited, unless they are too many: BadRevocationReason, NotFound,
// Unauthorized for an expired certificate, which needs no revocation and would only make CRLs grow, AlreadyRevoked.
//
// A certificate that is held can be revoked; it counts as revoked since it is held.
func (r *Revoker) Revoke(ctx context.Context, q Request) error {
	if err := CheckReason(q.Reason); err != nil {
		return r.finish(ctx, &q, err)
	}
	return r.finish(ctx, &q, r.revoke(ctx, &q))
}

// finish counts what has become of a request, and records a refusal.
func (r *Revoker) finish(ctx context.Context, q *Request, err error) error {
	outcome := outcomeOf(err)
	r.metrics.revocations.WithLabelValues(outcome).Inc()
	if outcome != outcomeRefused {
		return err
	}
	if auditErr := r.recordRefusal(ctx, q, err); auditErr != nil {
		return fmt.Errorf("%w; record refusal: %w", err, auditErr)
	}
	return err
}

func (r *Revoker) revoke(ctx context.Context, q *Request) error {
	certificate, err := r.config.Store.Certificate(ctx, q.Serial)
	if err != nil {
		return fmt.Errorf("find certificate: %w", err)
	}
	now := r.config.Now()
	switch {
	case certificate.Held() && q.Reason == pki.CertificateHold:
		return fault.New(fault.AlreadyRevoked, "certificate %s is held since %s", q.Serial, certificate.RevokedAt.UTC().Format(time.RFC3339))
	case !certificate.RevokedAt.IsZero() && !certificate.Held():
		return fault.New(fault.AlreadyRevoked, "certificate %s was revoked at %s", q.Serial, certificate.RevokedAt.UTC().Format(time.RFC3339))
	case now.After(certificate.NotAfter):
		return fault.New(fault.Unauthorized, "certificate %s expired at %s; it needs no revocation",
			q.Serial, certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	action, change := audit.CertificateRevoke, audit.Change{Field: "reason", New: q.Reason.String()}
	if q.Reason == pki.CertificateHold {
		action = audit.CertificateHold
	}
	if certificate.Held() {
		change.Old = certificate.Reason.String()
	}
	ev := r.change(q, certificate, action, change)
	ev.Time = now
	if err := r.config.Store.RevokeCertificate(ctx, q.Serial, q.Reason, now, ev); err != nil {
		return fmt.Errorf("revoke certificate: %w", err)
	}
	r.changed(certificate)
	return nil
}

// changed makes this process say what is true of a certificate now.
func (r *Revoker) changed(certificate *pki.Certificate) {
	// First the count, then the answer: OCSP does it the other way round.
	r.revoked.Add(1)
	r.answers.Remove(certificate.Serial)
	r.listOf(certificate.CAID).expire()
}

// change is the event of something that was done to a certificate.
func (r *Revoker) change(q *Request, certificate *pki.Certificate, action audit.Action, change audit.Change) audit.Event {
	ev := r.event(q, action, audit.Done)
	ev.Detail.Profile, ev.Detail.Credential, ev.Detail.Account = certificate.ProfileID, certificate.CredentialID, certificate.AccountID
	ev.Detail.Names = &certificate.Names
	ev.Detail.Changes = []audit.Change{change}
	return ev
}

// Hold revokes a certificate until it is released (certificateHold of RFC 5280 section 5.3.1); the request's reason does
// not matter. Refusals are those of Revoke.
func (r *Revoker) Hold(ctx context.Context, q Request) error {
	q.Reason = pki.CertificateHold
	return r.finish(ctx, &q, r.revoke(ctx, &q))
}

// Release takes back a hold: the next CRL does not have the certificate, which is what removeFromCRL says in a delta CRL
// (RFC 5280 section 5.3.1), and OCSP calls it good. Refusals are NotFound and, for a certificate that is not held,
// Conflict: what was revoked for good stays revoked.
func (r *Revoker) Release(ctx context.Context, q Request) error {
	return r.finish(ctx, &q, r.release(ctx, &q))
}

func (r *Revoker) release(ctx context.Context, q *Request) error {
	certificate, err := r.config.Store.Certificate(ctx, q.Serial)
	if err != nil {
		return fmt.Errorf("find certificate: %w", err)
	}
	switch {
	case certificate.RevokedAt.IsZero():
		return fault.New(fault.Conflict, "certificate %s is not held", q.Serial)
	case !certificate.Held():
		return fault.New(fault.Conflict, "certificate %s was revoked for good at %s (%s)", q.Serial,
			certificate.RevokedAt.UTC().Format(time.RFC3339), certificate.Reason)
	}
	ev := r.change(q, certificate, audit.CertificateRelease, audit.Change{Field: "reason", Old: certificate.Reason.String()})
	if err := r.config.Store.ReleaseCertificate(ctx, q.Serial, ev); err != nil {
		return fmt.Errorf("release certificate: %w", err)
	}
	r.changed(certificate)
	return nil
}

// Reasons returns the reasons that may be given, those of RFC 5280 section 5.3.1 without the ones that say something of
// a CA, that can be taken back, or that only a delta CRL has.
func Reasons() []pki.RevocationReason {
	return []pki.RevocationReason{
		pki.Unspecified, pki.KeyCompromise, pki.AffiliationChanged, pki.Superseded, pki.CessationOfOperation, pki.PrivilegeWithdrawn,
	}
}

// CheckReason refuses a reason that may not be given, with the list of those that may (RFC 8555 section 7.6).
func CheckReason(reason pki.RevocationReason) error {
	permitted := make([]string, 0, len(Reasons()))
	for _, r := range Reasons() {
		if r == reason {
			return nil
		}
		permitted = append(permitted, fmt.Sprintf("%d (%s)", int(r), r))
	}
	return fault.New(fault.BadRevocationReason, "revocation reason %d is not one of %s", int(reason), strings.Join(permitted, ", "))
}

// recordTimeout bounds how long a refusal waits for its event.
const recordTimeout = 5 * time.Second

// recordRefusal stores the event of a refusal, also when the client has gone away meanwhile, unless there are too many
// of its source: whoever is refused again and again must not fill the database. All are counted.
func (r *Revoker) recordRefusal(ctx context.Context, q *Request, refusal error) error {
	ev := r.event(q, audit.RevocationRefuse, audit.Refused)
	why := fault.From(refusal)
	ev.Detail.Reason, ev.Detail.Problem = why.Public, why.Kind.Meaning().ACME
	if !r.refusals.Allow(&ev) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	return r.config.Store.RecordEvent(ctx, ev)
}

func (r *Revoker) event(q *Request, action audit.Action, outcome audit.Outcome) audit.Event {
	return audit.Event{
		Time:    r.config.Now(),
		Actor:   q.Actor,
		Action:  action,
		Target:  string(q.Serial),
		Client:  q.Client,
		Request: q.RequestID,
		Replica: r.config.Replica,
		Outcome: outcome,
		Detail:  audit.Detail{Serial: q.Serial},
	}
}
