package acme

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/policy"
)

// orderRequest is the payload of newOrder (RFC 8555 section 7.4, RFC 9773 section 5, ACME profiles section 4). Absent,
// null and empty identifiers are the same: clients write all three. Other members are ignored; a client that tries
// again may send the whole order that it knows.
type orderRequest struct {
	Identifiers []pki.Identifier `json:"identifiers"`
	NotBefore   string           `json:"notBefore"`
	NotAfter    string           `json:"notAfter"`
	Profile     string           `json:"profile"`
	Replaces    string           `json:"replaces"`
}

// maxIdentifiers bounds the work on an order whose profile will refuse it.
const maxIdentifiers = 1000

// newOrder makes an order.
func (s *Server) newOrder(ctx context.Context, r *request) (*reply, error) {
	var asked orderRequest
	if err := r.decode(&asked); err != nil {
		return nil, err
	}
	answer, err := s.placeOrder(ctx, r, &asked)
	if err != nil {
		s.auditRefusal(ctx, r, s.event(r, audit.OrderRefuse, string(r.account.ID), audit.Detail{Names: namesOf(asked.Identifiers)}), err)
	}
	return answer, err
}

func (s *Server) placeOrder(ctx context.Context, r *request, asked *orderRequest) (*reply, error) {
	snapshot, err := s.Catalog.Current()
	if err != nil {
		return nil, err
	}
	p, c, err := enrolled(snapshot, r.account, r.now)
	if err != nil {
		return nil, err
	}
	if p.Rules.Challenges == nil || asked.Replaces != "" {
		// Renewals are not limited: whoever renews does what we ask for (RFC 9773 section 6).
		return s.makeOrder(ctx, r, p, c, asked)
	}
	refund, err := s.quota.take(r.account.ID)
	if err != nil {
		return nil, err
	}
	answer, err := s.makeOrder(ctx, r, p, c, asked)
	if err != nil {
		refund()
	}
	return answer, err
}

func (s *Server) makeOrder(ctx context.Context, r *request, p *pki.Profile, c *pki.Credential, asked *orderRequest) (*reply, error) {
	o, err := s.acceptOrder(ctx, r, p, c, asked)
	if err != nil {
		return nil, err
	}
	return s.keepOrder(ctx, r, p, o)
}

// acceptOrder judges what is asked for and makes the order, which is nowhere yet.
func (s *Server) acceptOrder(
	ctx context.Context, r *request, p *pki.Profile, c *pki.Credential, asked *orderRequest,
) (*pki.Order, error) {
	ids, err := canonical(asked.Identifiers)
	if err != nil {
		return nil, err
	}
	if err := checkProfile(p, asked.Profile, ids); err != nil {
		return nil, err
	}
	if err := policy.CheckIdentifiers(p, c, ids); err != nil {
		return nil, err
	}
	id, err := newID[pki.OrderID](s, r.now)
	if err != nil {
		return nil, err
	}
	created := r.now.Truncate(time.Second)
	o := &pki.Order{
		ID: id, AccountID: r.account.ID, CredentialID: r.account.CredentialID, ProfileID: p.ID, Identifiers: ids,
		Replaces: asked.Replaces, CreatedAt: created, Expires: created.Add(s.Options.OrderLifetime),
	}
	if p.Rules.Challenges != nil {
		o.Challenges = p.Rules.Challenges.Types
	}
	if o.NotBefore, err = parseDate("notBefore", asked.NotBefore); err != nil {
		return nil, err
	}
	if o.NotAfter, err = parseDate("notAfter", asked.NotAfter); err != nil {
		return nil, err
	}
	if err := s.checkDates(p, o); err != nil {
		return nil, err
	}
	if asked.Replaces != "" {
		if err := s.checkReplaces(ctx, r.account, o); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// canonical returns the identifiers in canonical form, each once. Those that have none are left as they are: policy
// refuses them, all in one answer.
func canonical(ids []pki.Identifier) ([]pki.Identifier, error) {
	if len(ids) > maxIdentifiers {
		return nil, fault.New(fault.Malformed, "order has %d identifiers, more than %d", len(ids), maxIdentifiers)
	}
	normal := make([]pki.Identifier, 0, len(ids))
	for _, id := range ids {
		if better, err := pki.NormalizeIdentifier(id); err == nil {
			id = better
		}
		normal = append(normal, id)
	}
	return dedupe(normal), nil
}

// checkProfile refuses a profile that is not the account's, and one that has no names of a kind that is asked for
// (ACME profiles section 4). Without a profile in the order the account's is taken.
func checkProfile(p *pki.Profile, asked string, ids []pki.Identifier) error {
	if asked == "" {
		return nil
	}
	if asked != p.Name {
		return fault.New(fault.InvalidProfile, "profile %.80q is not one that this account may use; it may use %q", asked, p.Name)
	}
	for _, id := range ids {
		if id.Type == pki.IP && len(p.Rules.Names.IP.Allow) == 0 || id.Type == pki.DNS && len(p.Rules.Names.DNS.Allow) == 0 {
			return fault.New(fault.InvalidProfile, "profile %q issues no certificates for identifiers of type %q", p.Name, id.Type)
		}
	}
	return nil
}

// parseDate reads an RFC 3339 time with any offset; "" is the zero time.
func parseDate(field, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 || t.Unix() > maxUnix {
		return time.Time{}, fault.New(fault.Malformed, "%s %.60q is not a time of RFC 3339", field, text)
	}
	return t.UTC().Truncate(time.Second), nil
}

// checkDates refuses dates that could not be granted now (RFC 8555 section 7.4).
func (s *Server) checkDates(p *pki.Profile, o *pki.Order) error {
	if o.NotBefore.IsZero() && o.NotAfter.IsZero() {
		return nil
	}
	// What the issuing CA's own end does to the dates is for the moment of issuance.
	const far = 100 * 365 * 24 * time.Hour
	_, err := policy.Lifetime(p.Rules.Validity, o.CreatedAt, o.NotBefore, o.NotAfter, o.CreatedAt.Add(far), s.Random)
	return err
}

// checkReplaces refuses a predecessor that the account could not have had, or that was replaced already (RFC 9773
// section 5). Its sentences begin with the member's name: clients try again without it when they see that.
//
// Two orders may name one predecessor for as long as neither has led to a certificate. The RFC's stricter rule would
// make two workloads that share a key, and any client that lost an answer, wait for the first order to expire.
func (s *Server) checkReplaces(ctx context.Context, a *pki.Account, o *pki.Order) error {
	_, serial, err := pki.ParseARICertID(o.Replaces)
	if err != nil {
		return fault.New(fault.Malformed, "replaces: %v", err)
	}
	predecessor, err := s.Store.Certificate(ctx, serial)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return fmt.Errorf("read predecessor: %w", err)
	}
	if err != nil || ariID(predecessor) != o.Replaces || !mayReplace(a, predecessor) {
		return fault.New(fault.Malformed, "replaces: certificate %.120q is not one of this account", o.Replaces)
	}
	if len(o.Identifiers) > 0 && !shareName(predecessor.Names, o.Identifiers) {
		return fault.New(fault.Malformed, "replaces: certificate %.120q has no name in common with the order (RFC 9773 section 5)", o.Replaces)
	}
	replaced, err := s.Store.Replaced(ctx, o.Replaces)
	if err != nil {
		return fmt.Errorf("look up successor: %w", err)
	}
	if replaced {
		return fault.New(fault.AlreadyReplaced, "replaces: certificate %.120q was replaced already (RFC 9773 section 5)", o.Replaces)
	}
	return nil
}

// mayReplace reports whether a certificate was issued to the account, or to another one of the same client.
func mayReplace(a *pki.Account, c *pki.Certificate) bool {
	return c.AccountID == a.ID || c.CredentialID != "" && c.CredentialID == a.CredentialID
}

func shareName(names pki.Names, ids []pki.Identifier) bool {
	for _, id := range ids {
		list := names.DNS
		if id.Type == pki.IP {
			list = names.IPs
		}
		for _, name := range list {
			if name == id.Value {
				return true
			}
		}
	}
	return false
}

// keepOrder gives an accepted order its URL: one that holds the order itself, or where that would be too long, that of
// a row.
func (s *Server) keepOrder(ctx context.Context, r *request, p *pki.Profile, o *pki.Order) (*reply, error) {
	kind := orderSealed
	path := s.seal(o)
	if o.Sealed = path != ""; !o.Sealed {
		kind, path = orderStored, string(o.ID)
		detail := audit.Detail{Order: o.ID, Names: namesOf(o.Identifiers)}
		if err := s.Store.CreateOrder(ctx, o, s.event(r, audit.OrderCreate, string(o.ID), detail)); err != nil {
			return nil, fmt.Errorf("create order: %w", err)
		}
	}
	if p.Rules.Challenges != nil {
		kind = orderChallenge
	}
	s.metrics.orders.WithLabelValues(kind).Inc()
	return s.orderReply(http.StatusCreated, r, &order{Order: o, path: path}), nil
}

// namesOf returns identifiers as names, for audit events; nil for none. Values are cut: they may be of any length
// where they are refused.
func namesOf(ids []pki.Identifier) *pki.Names {
	if len(ids) == 0 {
		return nil
	}
	names := new(pki.Names)
	for _, id := range ids[:min(len(ids), maxAudited)] {
		value := cut(printable(id.Value), maxAuditedName)
		if id.Type == pki.IP {
			names.IPs = append(names.IPs, value)
		} else {
			names.DNS = append(names.DNS, value)
		}
	}
	return names
}

// Bounds on names in audit events.
const (
	maxAudited     = 100
	maxAuditedName = 253
)
