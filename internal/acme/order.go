package acme

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/catalog"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// order is an order and what has become of it.
type order struct {
	*pki.Order

	path        string           // last element of its URL: its identifier, or the sealed order
	certificate *pki.Certificate // nil when there is none, or when nobody has looked for it
	proofs      []pki.Proof      // what has become of its authorizations, when somebody has looked
}

// findOrder returns an order of the account that signed. What has become of it is left to settle.
// Unknown orders and those of others get the same answer.
func (s *Server) findOrder(ctx context.Context, r *request, path string) (*order, error) {
	found, err := s.readOrder(ctx, path)
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && found.AccountID != r.account.ID:
		return nil, fault.New(fault.NotFound, "there is no order at this URL that this account may see")
	case err != nil:
		return nil, fmt.Errorf("read order: %w", err)
	}
	return found, nil
}

func (s *Server) readOrder(ctx context.Context, path string) (*order, error) {
	if !pki.ValidID(path) {
		sealed, err := s.unseal(path)
		if err != nil {
			return nil, fault.Wrap(err, fault.NotFound, "order cannot be opened")
		}
		return &order{Order: sealed, path: path}, nil
	}
	stored, err := s.Store.Order(ctx, pki.OrderID(path))
	if err == nil {
		return &order{Order: stored, path: path}, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	// The orders list names finalized sealed orders by their identifiers; all that is left of them is the certificate.
	certificate, err := s.certificates.ofOrder(ctx, pki.OrderID(path))
	if err != nil {
		return nil, err
	}
	return &order{Order: s.orderOf(certificate), path: path, certificate: certificate}, nil
}

// orderOf makes up an order from what its certificate says.
func (s *Server) orderOf(c *pki.Certificate) *pki.Order {
	o := &pki.Order{
		ID: c.OrderID, AccountID: c.AccountID, CredentialID: c.CredentialID, ProfileID: c.ProfileID, Replaces: c.Replaces,
		CreatedAt: c.IssuedAt, Expires: c.IssuedAt.Add(s.Options.OrderLifetime), Sealed: true,
	}
	for _, name := range c.Names.DNS {
		o.Identifiers = append(o.Identifiers, pki.Identifier{Type: pki.DNS, Value: name})
	}
	for _, address := range c.Names.IPs {
		o.Identifiers = append(o.Identifiers, pki.Identifier{Type: pki.IP, Value: address})
	}
	return o
}

// settle finds out what has become of an order.
func (s *Server) settle(ctx context.Context, o *order, now time.Time) error {
	if o.certificate != nil {
		return nil
	}
	if len(o.Challenges) > 0 {
		if err := s.readProofs(ctx, o); err != nil {
			return err
		}
		if o.status(now) == pki.StatusPending {
			return nil // it cannot have led to a certificate yet
		}
	}
	certificate, err := s.certificates.ofOrder(ctx, o.ID)
	switch {
	case err == nil:
		o.certificate = certificate
		return nil
	case !fault.Is(err, fault.NotFound):
		return fmt.Errorf("read certificate of order: %w", err)
	case len(o.Challenges) == 0 && len(o.Identifiers) > 0:
		return s.readProofs(ctx, o)
	}
	return nil
}

// status computes an order's status (RFC 8555 section 7.1.6). It never goes backwards: a certificate stays, and so
// does what makes an order invalid. There is no "processing": finalize answers when it is done.
func (o *order) status(now time.Time) pki.ACMEStatus {
	switch {
	case o.certificate != nil:
		return pki.StatusValid
	case now.After(o.Expires):
		return pki.StatusInvalid
	}
	status := pki.StatusReady
	for i := range o.Identifiers {
		switch o.authorization(i, now).status {
		case pki.StatusValid:
		case pki.StatusPending:
			status = pki.StatusPending
		default:
			return pki.StatusInvalid
		}
	}
	return status
}

// failure returns the order's error: that of the first validation that failed.
func (o *order) failure() *pki.Problem {
	var first *pki.Proof
	for i := range o.proofs {
		if p := &o.proofs[i]; p.Error != nil && (first == nil || p.At.Before(first.At)) {
			first = p
		}
	}
	if first == nil || o.certificate != nil {
		return nil
	}
	return first.Error
}

// orderView is the order object (RFC 8555 section 7.1.3). Lists are never null: several clients fail on it.
type orderView struct {
	Status         pki.ACMEStatus   `json:"status"`
	Expires        string           `json:"expires"`
	Identifiers    []pki.Identifier `json:"identifiers"`
	Profile        string           `json:"profile,omitempty"`
	NotBefore      string           `json:"notBefore,omitempty"`
	NotAfter       string           `json:"notAfter,omitempty"`
	Replaces       string           `json:"replaces,omitempty"`
	Error          *problem         `json:"error,omitempty"`
	Authorizations []string         `json:"authorizations"`
	Finalize       string           `json:"finalize"`
	Certificate    string           `json:"certificate,omitempty"`
}

// orderReply answers with an order. All answers with an order have its URL as Location: clients read it from
// newOrder, finalize and order reads alike.
func (s *Server) orderReply(status int, r *request, o *order) *reply {
	at := r.dir.url("/order/", o.path)
	snapshot := s.Catalog.Snapshot()
	view := orderView{
		Status:         o.status(r.now),
		Expires:        stamp(o.Expires),
		Identifiers:    o.Identifiers,
		Replaces:       o.Replaces,
		Error:          problemView(o.failure()),
		Authorizations: o.authorizationURLs(r.dir),
		Finalize:       at + "/finalize",
	}
	if view.Identifiers == nil {
		view.Identifiers = []pki.Identifier{}
	}
	if p, ok := snapshot.Profile(o.ProfileID); ok {
		view.Profile = p.Name
	}
	view.NotBefore, view.NotAfter = o.dates(snapshot)
	if o.certificate != nil {
		view.Certificate = r.dir.url("/certificate/", string(o.certificate.Serial))
	}
	answer := &reply{status: status, location: at, body: view}
	if view.Status == pki.StatusPending {
		answer.retryAfter = pollInterval
	}
	return answer
}

func (o *order) authorizationURLs(d directory) []string {
	urls := make([]string, 0, len(o.Identifiers))
	for i := range o.Identifiers {
		urls = append(urls, o.authorizationURL(d, i))
	}
	return urls
}

func (o *order) authorizationURL(d directory, index int) string {
	return d.url("/authz/", o.path, "/", strconv.Itoa(index))
}

// dates returns the dates that the client asked for, shortened to what the profile grants, and once there is
// a certificate what that has (RFC 8555 section 7.4: what is not granted as asked must be visible). The order itself
// keeps what was asked for: the inventory shows it beside what was granted.
func (o *order) dates(snapshot *catalog.Snapshot) (notBefore, notAfter string) {
	from, to := o.NotBefore, o.NotAfter
	if p, ok := snapshot.Profile(o.ProfileID); ok {
		if limit := o.CreatedAt.Add(time.Duration(p.Rules.Validity.Max)); to.After(limit) {
			to = limit
		}
	}
	if o.certificate != nil {
		from, to = o.certificate.NotBefore, o.certificate.NotAfter
	}
	if !o.NotBefore.IsZero() {
		notBefore = stamp(from)
	}
	if !o.NotAfter.IsZero() {
		notAfter = stamp(to)
	}
	return notBefore, notAfter
}

// problemView shows a stored problem.
func problemView(p *pki.Problem) *problem {
	if p == nil {
		return nil
	}
	return &problem{Type: p.Type, Detail: p.Detail, Status: p.Status}
}

// getOrder reads an order.
func (s *Server) getOrder(ctx context.Context, r *request) (*reply, error) {
	if err := r.postAsGet(); err != nil {
		return nil, err
	}
	o, err := s.findOrder(ctx, r, r.http.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if err := s.settle(ctx, o, r.now); err != nil {
		return nil, err
	}
	return s.orderReply(http.StatusOK, r, o), nil
}

// enrolled returns the profile and the credential that an account's orders are judged by, as they are now. The
// credential is nil for accounts without one.
func enrolled(snapshot *catalog.Snapshot, a *pki.Account, now time.Time) (*pki.Profile, *pki.Credential, error) {
	p, ok := snapshot.Profile(a.ProfileID)
	switch {
	case !ok || !overACME(p):
		return nil, nil, fault.New(fault.InvalidProfile, "the certificate profile of this account is no longer issued over ACME")
	case p.State != pki.Active:
		return nil, nil, fault.New(fault.InvalidProfile, "certificate profile %q is %s", p.Name, p.State)
	case a.CredentialID == "":
		return p, nil, nil
	}
	c, ok := snapshot.Credential(a.CredentialID)
	if !ok {
		return nil, nil, fault.New(fault.Unauthorized, "the EAB credential of this account is gone")
	}
	return p, c, usableCredential(c, now)
}

// usableCredential refuses a credential that is revoked or expired.
func usableCredential(c *pki.Credential, now time.Time) error {
	switch {
	case c.Usable(now):
		return nil
	case c.State != pki.Active:
		return fault.New(fault.Unauthorized, "EAB credential %q is %s", c.Name, c.State)
	default:
		return fault.New(fault.Unauthorized, "EAB credential %q expired at %s", c.Name, stamp(c.ExpiresAt))
	}
}

// dedupe returns each identifier once, in the order of the request.
func dedupe(ids []pki.Identifier) []pki.Identifier {
	seen := make(map[pki.Identifier]bool, len(ids))
	return slices.DeleteFunc(ids, func(id pki.Identifier) bool {
		again := seen[id]
		seen[id] = true
		return again
	})
}
