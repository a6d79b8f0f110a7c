package issue

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/csr"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// Store is the storage that issuance needs. Implementations are safe for concurrent use.
type Store interface {
	// FinalizeFacts tells what is known now; an order, account or credential of "" is none.
	FinalizeFacts(ctx context.Context, order pki.OrderID, account pki.AccountID, credential pki.CredentialID,
		profile pki.ProfileID, thumbprint string, spkiHash [32]byte, now time.Time) (*pki.FinalizeFacts, error)
	// RecordCertificate stores a certificate, its identity and its event in one transaction and returns after it is
	// durable. An order has at most one certificate: who comes second gets the first one's, won is false, and nothing
	// is stored. After an error the certificate may be stored or not.
	RecordCertificate(ctx context.Context, c *pki.Certificate, id pki.SPIFFEID, ev audit.Event) (stored *pki.Certificate, won bool, err error)
	// RecordEvent stores an event of its own: a refusal.
	RecordEvent(ctx context.Context, ev audit.Event) error
}

// Signers opens the private keys of CAs.
type Signers interface {
	Signer(ctx context.Context, id pki.KeyID) (crypto.Signer, error)
}

// Config is what an Issuer needs. Everything but Registerer and Replica is required.
type Config struct {
	Store   Store
	Signers Signers
	CA      func(pki.CAID) (*pki.CA, bool) // the CA as it is configured now; what it points to must never change
	// Denied refuses what is on the deny list (Unauthorized), and everything while that is not known (Unavailable). It is
	// asked for each certificate, so that it must answer from memory.
	Denied     func(names *pki.Names, w *pki.Workload) error
	Now        func() time.Time
	Random     io.Reader // safe for concurrent use
	Registerer prometheus.Registerer
	Replica    string // names this process in audit events
}

// Issuer makes certificates. It is safe for concurrent use.
type Issuer struct {
	config  Config
	metrics *metrics
	cas     sync.Map // of pki.CAID to *authority, as parsed; replaced when the CA was changed

	refusals *audit.Limiter // which ones are recorded
}

// New returns an Issuer.
func New(c Config) (*Issuer, error) {
	if c.Store == nil || c.Signers == nil || c.CA == nil || c.Denied == nil || c.Now == nil || c.Random == nil {
		return nil, errors.New("issue: store, signers, CA, denied, now and random are required")
	}
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	refusals, err := audit.NewLimiter()
	if err != nil {
		return nil, fmt.Errorf("issue: %w", err)
	}
	return &Issuer{config: c, metrics: m, refusals: refusals}, nil
}

// Request asks for one certificate. What it points to must not change.
type Request struct {
	Profile     *pki.Profile
	Credential  *pki.Credential // nil when the enrollment method has none
	Account     *pki.Account    // nil when it is not ACME
	Order       pki.OrderID     // "" when it is not ACME: such a request is not idempotent
	Identifiers []pki.Identifier
	ByChallenge bool      // control of each identifier must have been proved in this order
	NotBefore   time.Time // zero when the client did not say
	NotAfter    time.Time
	Replaces    string // ARI certificate identifier of the predecessor; grants nothing
	CSR         *csr.Request
	Agent       bool // for the agent itself that has the credential; the CSR has no names then, and neither has the request
	Workload    pki.Workload
	Client      pki.Client
	Actor       audit.Actor
	RequestID   string
}

// Issue decides, signs and records; what it returns is durable. The steps are those of docs/design/issuance.md.
//
// A request that repeats an order's CSR gets the certificate that the order has; another CSR gets OrderNotReady, also
// when both come at once. Refusals are *fault.Error, are audited, and leave the order as it was: AccountDeactivated,
// Unauthorized (credential, profile, authorization), BadCSR, BadPublicKey, RejectedIdentifier, Malformed (dates).
// Unavailable means: come again. After any other error the certificate may have been recorded; asking again with the
// same order finds it.
func (i *Issuer) Issue(ctx context.Context, r Request) (*pki.Certificate, error) {
	if r.Profile == nil || r.CSR == nil {
		return nil, errors.New("issue: request has no profile or no CSR")
	}
	certificate, outcome, err := i.issue(ctx, &r)
	i.metrics.count(r.Profile.Name, outcome)
	if err == nil || outcome != refused {
		return certificate, err
	}
	if auditErr := i.recordRefusal(ctx, &r, err); auditErr != nil {
		// The refusal stands; its cause and this one go to the log together.
		return nil, fmt.Errorf("%w; record refusal: %w", err, auditErr)
	}
	return nil, err
}

func (i *Issuer) issue(ctx context.Context, r *Request) (*pki.Certificate, outcome, error) {
	now := i.config.Now()
	// 1. Authorize: what storage knows now decides, not what the surface saw.
	facts, err := i.facts(ctx, r, now)
	if err != nil {
		return nil, failure(err), fmt.Errorf("finalize facts: %w", err)
	}
	i.metrics.observe(stageFacts, now, i.config.Now())
	if existing, err := existing(facts, r); existing != nil || err != nil {
		return existing, outcomeOf(repeated, err), err
	}
	if err := authorize(facts, r); err != nil {
		return nil, refused, err
	}
	ca, err := i.authority(ctx, r.Profile)
	if err != nil {
		return nil, outcomeOf(failed, err), err
	}
	// 2. and 3. Policy.
	begin := i.config.Now()
	accepted, validity, err := permit(r)
	if err != nil {
		return nil, outcomeOf(refused, err), err
	}
	if err := i.config.Denied(&accepted.Names, &r.Workload); err != nil {
		return nil, outcomeOf(refused, err), err
	}
	span, err := policy.Lifetime(validity, now, notBefore(r, now), r.NotAfter, ca.certificate.NotAfter, i.config.Random)
	if err != nil {
		return nil, outcomeOf(refused, err), err
	}
	i.metrics.observe(stagePolicy, begin, i.config.Now())
	// 4. to 6. Build, lint, sign: the certificate exists in memory only.
	certificate, err := i.make(ca, r, accepted, span, now)
	if err != nil {
		return nil, outcomeOf(failed, err), err
	}
	// 7. Commit. 8. Only what storage returns leaves.
	return i.commit(ctx, r, certificate, accepted.SPIFFE)
}

// permit asks policy what the certificate may say and how long it may live.
func permit(r *Request) (*policy.Accepted, pki.Validity, error) {
	if r.Agent {
		accepted, err := policy.CheckAgent(r.Profile, r.Credential, r.CSR)
		return accepted, policy.AgentValidity(r.Profile.Rules.Validity), err
	}
	accepted, err := policy.CheckRequest(r.Profile, r.Credential, r.Identifiers, r.CSR)
	return accepted, r.Profile.Rules.Validity, err
}

// notBefore returns the notBefore to grant. That of an order was judged when the order was made; as much of it as has
// passed since then beyond the profile's backdating is cut off, and the order shows it (RFC 8555 section 7.4).
func notBefore(r *Request, now time.Time) time.Time {
	earliest := now.Add(-time.Duration(r.Profile.Rules.Validity.Backdate))
	if r.Order != "" && !r.NotBefore.IsZero() && r.NotBefore.Before(earliest) {
		return earliest
	}
	return r.NotBefore
}

func (i *Issuer) facts(ctx context.Context, r *Request, now time.Time) (*pki.FinalizeFacts, error) {
	var account pki.AccountID
	if r.Account != nil {
		account = r.Account.ID
	}
	var credential pki.CredentialID
	if r.Credential != nil {
		credential = r.Credential.ID
	}
	return i.config.Store.FinalizeFacts(ctx, r.Order, account, credential, r.Profile.ID, r.CSR.Thumbprint, r.CSR.SPKIHash, now)
}

// existing returns the certificate that the order has already, if it is one of this account and this CSR.
func existing(facts *pki.FinalizeFacts, r *Request) (*pki.Certificate, error) {
	switch {
	case r.Account != nil && facts.AccountState == pki.StatusDeactivated:
		return nil, fault.New(fault.AccountDeactivated, "account %q is deactivated", r.Account.ID)
	case facts.Certificate == nil || r.Order == "":
		return nil, nil
	default:
		return same(facts.Certificate, r)
	}
}

// same returns the certificate if it answers the request.
func same(c *pki.Certificate, r *Request) (*pki.Certificate, error) {
	if r.Account != nil && c.AccountID != r.Account.ID {
		return nil, fault.New(fault.Unauthorized, "order %q belongs to another account", r.Order)
	}
	if c.CSRHash != r.CSR.Hash {
		return nil, fault.New(fault.OrderNotReady, "order %q has its certificate already, for another CSR; make a new order", r.Order)
	}
	return c, nil
}

// authorize judges what storage knows.
func authorize(facts *pki.FinalizeFacts, r *Request) error {
	for _, judge := range [...]func(*pki.FinalizeFacts, *Request) error{checkClient, checkActive, checkOrder, checkKey} {
		if err := judge(facts, r); err != nil {
			return err
		}
	}
	return nil
}

// checkClient judges who asks.
func checkClient(facts *pki.FinalizeFacts, r *Request) error {
	switch {
	case r.Account != nil && facts.AccountState != pki.StatusValid:
		return fault.New(fault.Unauthorized, "account %q is not valid", r.Account.ID)
	case r.Credential != nil && !facts.CredentialUsable:
		return fault.New(fault.Unauthorized, "EAB credential %q of profile %q is revoked or has expired", r.Credential.Name, r.Profile.Name)
	}
	return nil
}

// checkActive judges the profile.
func checkActive(facts *pki.FinalizeFacts, r *Request) error {
	if facts.ProfileActive && r.Profile.State == pki.Active {
		return nil
	}
	return fault.New(fault.Unauthorized, "certificate profile %q is suspended", r.Profile.Name)
}

// checkOrder judges the authorizations.
func checkOrder(facts *pki.FinalizeFacts, r *Request) error {
	switch {
	case r.ByChallenge && len(facts.Proved) < len(r.Identifiers):
		return fault.New(fault.OrderNotReady, "order is not ready: control of %s has not been proved (RFC 8555 section 7.4)", unproved(facts.Proved, r.Identifiers))
	case len(facts.Deactivated) > 0:
		return fault.New(fault.Unauthorized, "the authorization for %s was deactivated; make a new order", deactivated(facts.Deactivated, r.Identifiers))
	}
	return nil
}

// checkKey judges whose key it is.
func checkKey(facts *pki.FinalizeFacts, r *Request) error {
	switch {
	case facts.AccountKey || (r.Account != nil && r.CSR.Thumbprint == r.Account.Thumbprint):
		return fault.New(fault.BadCSR, "CSR's key is the key of an ACME account; a certificate needs a key of its own (RFC 8555 section 11.1)")
	case facts.CAKey:
		return fault.New(fault.BadPublicKey, "CSR's key is the key of a CA")
	case facts.BlockedKey:
		return fault.New(fault.BadPublicKey, "CSR's key is blocked: a certificate of the same key was revoked for keyCompromise; make a new key")
	}
	return nil
}

// unproved returns the first identifier that is not among the proved ones.
func unproved(proved []int, ids []pki.Identifier) string {
	for i := range ids {
		if !slices.Contains(proved, i) {
			return ids[i].String()
		}
	}
	return "an identifier"
}

func deactivated(indexes []int, ids []pki.Identifier) string {
	if first := indexes[0]; first >= 0 && first < len(ids) {
		return ids[first].String()
	}
	return "an identifier of the order"
}

// commit stores the certificate and judges who won the order.
func (i *Issuer) commit(ctx context.Context, r *Request, c *pki.Certificate, id pki.SPIFFEID) (*pki.Certificate, outcome, error) {
	begin := i.config.Now()
	stored, won, err := i.config.Store.RecordCertificate(ctx, c, id, i.issueEvent(r, c))
	if err != nil {
		return nil, failure(err), fmt.Errorf("record certificate: %w", err)
	}
	i.metrics.observe(stageCommit, begin, i.config.Now())
	if won {
		return stored, issued, nil
	}
	// What was signed here is dropped: it never leaves, and the winner's certificate answers.
	winner, err := same(stored, r)
	return winner, outcomeOf(repeated, err), err
}
