package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// authorizationView is the authorization object (RFC 8555 section 7.1.4).
type authorizationView struct {
	Identifier pki.Identifier  `json:"identifier"`
	Status     pki.ACMEStatus  `json:"status"`
	Expires    string          `json:"expires"`
	Challenges []challengeView `json:"challenges"`
	Wildcard   bool            `json:"wildcard,omitempty"`
}

// challengeView is the challenge object (RFC 8555 section 7.1.5).
type challengeView struct {
	Type      string         `json:"type"`
	URL       string         `json:"url"`
	Status    pki.ACMEStatus `json:"status"`
	Token     string         `json:"token"`
	Validated string         `json:"validated,omitempty"`
	Error     *problem       `json:"error,omitempty"`
}

// pollInterval is what a client is told to wait before it asks again.
const pollInterval = time.Second

// tokenLen is the length of challenge tokens before base64url; RFC 8555 section 8.1 asks for 16 bytes.
const tokenLen = 32

// addAuthorizations gives an order with a row one authorization for each identifier: pending with the profile's
// challenges, or valid with one valid challenge where names are pre-authorized.
func (s *Server) addAuthorizations(p *pki.Profile, o *pki.Order) error {
	for _, id := range o.Identifiers {
		authzID, err := newID[pki.AuthzID](s, o.CreatedAt)
		if err != nil {
			return err
		}
		a := pki.Authorization{ID: authzID, OrderID: o.ID, AccountID: o.AccountID, Status: pki.StatusPending, Expires: o.Expires}
		a.Identifier, a.Wildcard = withoutWildcard(id)
		types := []string{preAuthorizedType(a.Wildcard)}
		if p.Rules.Challenges != nil {
			types = offered(p.Rules.Challenges.Types, &a)
		} else {
			a.Status = pki.StatusValid
		}
		for _, kind := range types {
			c, err := s.newChallenge(kind, &a, o.CreatedAt)
			if err != nil {
				return err
			}
			a.Challenges = append(a.Challenges, c)
		}
		o.Authorizations = append(o.Authorizations, a)
	}
	return nil
}

func (s *Server) newChallenge(kind string, a *pki.Authorization, now time.Time) (pki.Challenge, error) {
	id, err := newID[pki.ChallengeID](s, now)
	if err != nil {
		return pki.Challenge{}, err
	}
	token := make([]byte, tokenLen)
	if _, err := io.ReadFull(s.Random, token); err != nil {
		return pki.Challenge{}, fmt.Errorf("read randomness: %w", err)
	}
	c := pki.Challenge{ID: id, AuthzID: a.ID, Type: kind, Token: base64.RawURLEncoding.EncodeToString(token), Status: a.Status}
	if c.Status == pki.StatusValid {
		c.ValidatedAt = now
	}
	return c, nil
}

// withoutWildcard splits "*." off an identifier (RFC 8555 section 7.1.4).
func withoutWildcard(id pki.Identifier) (pki.Identifier, bool) {
	base, wildcard := strings.CutPrefix(id.Value, "*.")
	return pki.Identifier{Type: id.Type, Value: base}, wildcard
}

// preAuthorizedType is the type of the one challenge that a pre-authorized name shows: one that every client knows.
func preAuthorizedType(wildcard bool) string {
	if wildcard {
		return challenge.DNS01
	}
	return challenge.HTTP01
}

// offered returns those of a profile's challenge types that can prove an identifier: a wildcard by dns-01 only, an
// address never by dns-01 (RFC 8738 section 7).
func offered(types []string, a *pki.Authorization) []string {
	return slices.DeleteFunc(slices.Clone(types), func(kind string) bool {
		return a.Wildcard && kind != challenge.DNS01 || a.Identifier.Type == pki.IP && kind == challenge.DNS01
	})
}

// authorizationStatus computes the status of an authorization with a row (RFC 8555 section 7.1.6).
func authorizationStatus(a *pki.Authorization, now time.Time) pki.ACMEStatus {
	if now.After(a.Expires) {
		switch a.Status {
		case pki.StatusPending, pki.StatusProcessing:
			return pki.StatusInvalid
		case pki.StatusValid:
			return pki.StatusExpired
		default:
		}
	}
	return a.Status
}

// findAuthorization returns an authorization of the account that signed.
func (s *Server) findAuthorization(ctx context.Context, r *request, id string) (*pki.Authorization, error) {
	missing := fault.New(fault.NotFound, "there is no authorization at this URL that this account may see")
	if !pki.ValidID(id) {
		return nil, missing
	}
	a, err := s.Store.Authorization(ctx, pki.AuthzID(id))
	switch {
	case fault.Is(err, fault.NotFound) || err == nil && a.AccountID != r.account.ID:
		return nil, missing
	case err != nil:
		return nil, fmt.Errorf("read authorization: %w", err)
	}
	return a, nil
}

// storedAuthorization reads or deactivates an authorization with a row.
func (s *Server) storedAuthorization(ctx context.Context, r *request) (*reply, error) {
	a, err := s.findAuthorization(ctx, r, r.http.PathValue("id"))
	if err != nil {
		return nil, err
	}
	status := authorizationStatus(a, r.now)
	if len(r.payload) > 0 {
		if err := wantsDeactivation(r); err != nil {
			return nil, err
		}
		if status != pki.StatusPending && status != pki.StatusValid && status != pki.StatusDeactivated {
			return nil, fault.New(fault.Malformed, "authorization is %s; only a pending or valid one can be deactivated", status)
		}
		if status != pki.StatusDeactivated {
			event := s.event(r, audit.AuthorizationDrop, a.Identifier.Value, audit.Detail{Order: a.OrderID})
			if err := s.Store.DeactivateAuthorization(ctx, a.ID, event); err != nil {
				return nil, fmt.Errorf("deactivate authorization: %w", err)
			}
			a.Status = pki.StatusDeactivated
		}
	} else if status == pki.StatusPending {
		s.takeOver(ctx, r, a)
	}
	return s.authorizationReply(r, a), nil
}

func (s *Server) authorizationReply(r *request, a *pki.Authorization) *reply {
	view := authorizationView{
		Identifier: a.Identifier, Wildcard: a.Wildcard, Status: authorizationStatus(a, r.now), Expires: stamp(a.Expires),
		Challenges: make([]challengeView, 0, len(a.Challenges)),
	}
	for i := range a.Challenges {
		view.Challenges = append(view.Challenges, viewChallenge(r.dir, string(a.ID), string(a.Challenges[i].ID), &a.Challenges[i]))
	}
	answer := &reply{status: http.StatusOK, body: view}
	if view.Status == pki.StatusPending {
		answer.retryAfter = pollInterval
	}
	return answer
}

func viewChallenge(d directory, authz, id string, c *pki.Challenge) challengeView {
	view := challengeView{
		Type: c.Type, URL: d.url("/challenge/", authz, "/", id), Status: c.Status, Token: c.Token, Error: problemView(c.Error),
	}
	if !c.ValidatedAt.IsZero() {
		view.Validated = stamp(c.ValidatedAt)
	}
	return view
}

// wantsDeactivation refuses a payload that asks for anything but deactivation (RFC 8555 section 7.5.2).
func wantsDeactivation(r *request) error {
	var change struct {
		Status string `json:"status"`
	}
	if err := r.decode(&change); err != nil {
		return err
	}
	if change.Status != string(pki.StatusDeactivated) {
		return fault.New(fault.Malformed, "status %.40q is not %q, the only one that an authorization can be given", change.Status, pki.StatusDeactivated)
	}
	return nil
}

// sealedAuthorization reads or deactivates an authorization of an order without a row. It is valid from the beginning;
// only its deactivation is stored, for the one order that it belongs to.
func (s *Server) sealedAuthorization(ctx context.Context, r *request) (*reply, error) {
	o, index, err := s.findSealed(ctx, r, r.http.PathValue("order"), r.http.PathValue("index"))
	if err != nil {
		return nil, err
	}
	if o.dropped, err = s.Store.SealedDeactivations(ctx, o.ID); err != nil {
		return nil, fmt.Errorf("read deactivated authorizations: %w", err)
	}
	if len(r.payload) > 0 {
		if err := wantsDeactivation(r); err != nil {
			return nil, err
		}
		if !slices.Contains(o.dropped, index) {
			event := s.event(r, audit.AuthorizationDrop, o.Identifiers[index].Value, audit.Detail{Order: o.ID})
			if err := s.Store.DeactivateSealedAuthorization(ctx, o.ID, index, o.Expires, event); err != nil {
				return nil, fmt.Errorf("deactivate authorization: %w", err)
			}
			o.dropped = append(o.dropped, index)
		}
	}
	id, wildcard := withoutWildcard(o.Identifiers[index])
	return &reply{status: http.StatusOK, body: authorizationView{
		Identifier: id, Wildcard: wildcard, Status: o.sealedStatus(index, r.now), Expires: stamp(o.Expires),
		Challenges: []challengeView{o.sealedChallenge(r.dir, index)},
	}}, nil
}

// findSealed returns an order without a row of the account that signed, and the index of one of its identifiers.
func (s *Server) findSealed(ctx context.Context, r *request, path, index string) (*order, int, error) {
	o, err := s.findOrder(ctx, r, path)
	if err != nil {
		return nil, 0, err
	}
	i, err := strconv.Atoi(index)
	if err != nil || !o.Sealed || i < 0 || i >= len(o.Identifiers) || strconv.Itoa(i) != index {
		return nil, 0, fault.New(fault.NotFound, "there is no authorization at this URL that this account may see")
	}
	return o, i, nil
}

func (o *order) sealedStatus(index int, now time.Time) pki.ACMEStatus {
	switch {
	case slices.Contains(o.dropped, index):
		return pki.StatusDeactivated
	case now.After(o.Expires):
		return pki.StatusExpired
	default:
		return pki.StatusValid
	}
}

// sealedChallenge makes up the challenge of a pre-authorized name. Its token is always the same and as hard to guess as
// the order's identifier, of which it is a hash.
func (o *order) sealedChallenge(d directory, index int) challengeView {
	_, wildcard := withoutWildcard(o.Identifiers[index])
	token := sha256.Sum256([]byte("challenge " + string(o.ID) + " " + strconv.Itoa(index)))
	return viewChallenge(d, o.path, strconv.Itoa(index), &pki.Challenge{
		Type: preAuthorizedType(wildcard), Status: pki.StatusValid, ValidatedAt: o.CreatedAt,
		Token: base64.RawURLEncoding.EncodeToString(token[:]),
	})
}
