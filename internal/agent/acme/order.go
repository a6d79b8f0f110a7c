package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/certloom/certloom/internal/acmeclient"
	"github.com/certloom/certloom/internal/agent/issuer"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Issue implements issuer.Issuer. It fails at once with fault.Unavailable while the CA cannot be reached or does not accept
// the account, and with fault.RateLimited when too many wait already or the CA has asked for quiet.
func (i *Issuer) Issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	if err := i.gate.admits(); err != nil {
		i.metrics.count(outcomeOf(err))
		return nil, err
	}
	leave, err := i.queue.Enter(ctx)
	if err != nil {
		i.metrics.count("queue_full")
		return nil, err
	}
	defer leave()
	chain, err := i.issue(ctx, r)
	i.metrics.count(outcomeOf(err))
	return chain, err
}

func outcomeOf(err error) string {
	if err == nil {
		return "issued"
	}
	switch fault.From(err).Kind {
	case fault.Unavailable, fault.Internal, fault.RateLimited:
		return "failed"
	default:
		return "refused"
	}
}

// patience is how long an order may take before a caller who did not wait for it is a witness against the CA. Callers choose
// their deadlines, and none of them may make the CA look dead to the others.
const patience = 3 * time.Second

func (i *Issuer) issue(ctx context.Context, r issuer.Request) ([][]byte, error) {
	if err := i.gate.admits(); err != nil {
		return nil, err // it has become known while we waited
	}
	s, began := i.session.Load(), i.config.Now()
	chain, err := i.obtain(ctx, s, r)
	if err != nil {
		hasty := ctx.Err() != nil && i.config.Now().Sub(began) < patience
		return nil, i.judge(ctx, s, err, hasty)
	}
	i.gate.worked()
	return chain, nil
}

// obtain makes one order, of which there is at most one certificate: what is sent again for a lost answer is the same
// request for the same order.
func (i *Issuer) obtain(ctx context.Context, s *session, r issuer.Request) ([][]byte, error) {
	identifiers, err := identifiersOf(r.CSR)
	if err != nil {
		return nil, err
	}
	order, err := i.newOrder(ctx, s, identifiers, r.Lifetime)
	if err != nil {
		return nil, err
	}
	if order.Status == pki.StatusPending {
		if err := authorized(ctx, s.client, order); err != nil {
			return nil, err
		}
	}
	if order, err = s.client.Finalize(ctx, order, r.CSR); err != nil {
		return nil, err
	}
	text, err := s.client.Certificate(ctx, order.Certificate)
	if err != nil {
		return nil, err
	}
	chain, err := issuer.ReadChain(text)
	if err != nil {
		return nil, fault.Wrap(err, fault.Internal, "the ACME CA's answer is no chain of certificates")
	}
	return chain, nil
}

// identifiersOf returns what an order for the CSR must name: DNS names and addresses. ACME has no identifier for a SPIFFE
// ID; a CSR with nothing else makes an order without identifiers, as cert-manager's do.
func identifiersOf(der []byte) ([]pki.Identifier, error) {
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fault.Wrap(err, fault.BadCSR, "CSR cannot be read")
	}
	var identifiers []pki.Identifier
	for _, name := range request.DNSNames {
		identifiers = append(identifiers, pki.Identifier{Type: pki.DNS, Value: name})
	}
	for _, ip := range request.IPAddresses {
		identifiers = append(identifiers, pki.Identifier{Type: pki.IP, Value: ip.String()})
	}
	return identifiers, nil
}

// newOrder asks for the lifetime as well (RFC 8555 section 7.4, notAfter), which a CA may refuse to be told. That it does
// is remembered when the same order without it is accepted.
func (i *Issuer) newOrder(ctx context.Context, s *session, identifiers []pki.Identifier, lifetime time.Duration) (*acmeclient.Order, error) {
	request := acmeclient.OrderRequest{Identifiers: identifiers, Profile: i.config.Profile}
	if i.ownLifetimes.Load() {
		return s.client.NewOrder(ctx, request)
	}
	request.NotAfter = i.config.Now().Add(lifetime).UTC().Truncate(time.Second)
	order, err := s.client.NewOrder(ctx, request)
	if !acmeclient.IsProblem(err, "malformed") {
		return order, err
	}
	request.NotAfter = time.Time{}
	order, again := s.client.NewOrder(ctx, request)
	if again == nil && !i.ownLifetimes.Swap(true) {
		i.config.Logger.WarnContext(ctx, "the ACME CA does not let orders say how long a certificate lives: its own lifetimes are used",
			telemetry.KeyError, err)
	}
	return order, again
}

// authorized returns nil when an order that is pending needs no proof, and otherwise for which name it needs one.
func authorized(ctx context.Context, client *acmeclient.Client, order *acmeclient.Order) error {
	for _, url := range order.Authorizations {
		authorization, err := client.Authorization(ctx, url)
		if err != nil {
			return err
		}
		if authorization.Status != pki.StatusValid {
			return fault.New(fault.Unauthorized, "the ACME CA wants a proof of control of %s, which the agent cannot give: the CA must authorize it beforehand",
				authorization.Identifier)
		}
	}
	return nil
}

// judge says what an error means for the caller, and notes what it means for everybody else.
func (i *Issuer) judge(ctx context.Context, s *session, err error, hasty bool) error {
	explained := explain(ctx, err)
	switch {
	case hasty, errors.Is(context.Cause(ctx), context.Canceled), s != i.session.Load():
		// The caller has left, or others have noticed already: it says nothing about the CA as it is now.
	case explained.Kind == fault.RateLimited && explained.RetryAfter > 0 && statusOf(err) == statusBusy:
		i.gate.pause(explained.RetryAfter)
	case explained.Kind == fault.Unavailable && !aboutAccount(err):
		i.gate.strike(explained)
	case aboutAccount(err):
		i.gate.worked()
		i.doubt()
	default:
		i.gate.worked()
	}
	return explained
}

// doubt has the account looked at.
func (i *Issuer) doubt() {
	select {
	case i.doubted <- struct{}{}:
	default: // it will be
	}
}
