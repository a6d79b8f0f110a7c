package acme

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
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

// authorization is one of an order's authorizations (RFC 8555 section 7.1.4): made up of the order, and of what is
// stored of its proof.
type authorization struct {
	index      int // in the order
	identifier pki.Identifier
	wildcard   bool // the order asks for "*." before the identifier
	status     pki.ACMEStatus
	expires    time.Time
	challenges []challengeState
	proof      pki.Proof // zero when there is none
}

// challengeState is a challenge (RFC 8555 section 7.1.5).
type challengeState struct {
	kind        string
	token       string
	status      pki.ACMEStatus
	validatedAt time.Time
	problem     *pki.Problem
}

// authorization returns the authorization for one of the identifiers, as it is now. The order's proofs must have been
// read.
func (o *order) authorization(index int, now time.Time) *authorization {
	a := &authorization{index: index, status: pki.StatusPending, expires: o.Expires}
	a.identifier, a.wildcard = withoutWildcard(o.Identifiers[index])
	if at := slices.IndexFunc(o.proofs, func(p pki.Proof) bool { return p.Index == index }); at >= 0 {
		a.proof = o.proofs[at]
	}
	first, kinds := challengeState{status: pki.StatusPending}, offered(o.Challenges, a)
	if len(o.Challenges) == 0 { // pre-authorized, or known from its certificate only
		a.status = pki.StatusValid
		first, kinds = challengeState{status: pki.StatusValid, validatedAt: o.CreatedAt}, []string{preAuthorizedType(a)}
	}
	for _, kind := range kinds {
		c := first
		c.kind, c.token = kind, o.token(index, kind)
		if kind == a.proof.Type {
			c.status, c.problem = a.proof.Status, a.proof.Error
			if c.status == pki.StatusValid {
				c.validatedAt = a.proof.At
			}
		}
		a.challenges = append(a.challenges, c)
	}
	a.status = a.current(now)
	return a
}

// current computes the status (RFC 8555 section 7.1.6).
func (a *authorization) current(now time.Time) pki.ACMEStatus {
	status := a.status
	switch {
	case a.proof.Deactivated:
		return pki.StatusDeactivated
	case a.proof.Status == pki.StatusValid, a.proof.Status == pki.StatusInvalid:
		status = a.proof.Status
	}
	switch {
	case !now.After(a.expires):
		return status
	case status == pki.StatusValid:
		return pki.StatusExpired
	default:
		return pki.StatusInvalid
	}
}

// token returns the token of a challenge. It is always the same and as hard to guess as the order's identifier, of
// which it is a hash (RFC 8555 section 8.1 asks for 128 random bits).
func (o *order) token(index int, kind string) string {
	token := sha256.Sum256([]byte("challenge " + string(o.ID) + " " + strconv.Itoa(index) + " " + kind))
	return base64.RawURLEncoding.EncodeToString(token[:])
}

// withoutWildcard splits "*." off an identifier (RFC 8555 section 7.1.4).
func withoutWildcard(id pki.Identifier) (pki.Identifier, bool) {
	base, wildcard := strings.CutPrefix(id.Value, "*.")
	return pki.Identifier{Type: id.Type, Value: base}, wildcard
}

// preAuthorizedType is the type of the one challenge that a pre-authorized name shows: one that every client knows.
func preAuthorizedType(a *authorization) string {
	switch {
	case a.proof.Type != "":
		return a.proof.Type
	case a.wildcard:
		return challenge.DNS01
	default:
		return challenge.HTTP01
	}
}

// offered returns those of a profile's challenge types that can prove an identifier: a wildcard by dns-01 only, an
// address never by dns-01 (RFC 8738 section 7).
func offered(types []string, a *authorization) []string {
	return slices.DeleteFunc(slices.Clone(types), func(kind string) bool {
		return a.wildcard && kind != challenge.DNS01 || a.identifier.Type == pki.IP && kind == challenge.DNS01
	})
}

// findAuthorization returns an authorization of the account that signed, with its order.
func (s *Server) findAuthorization(ctx context.Context, r *request) (*order, *authorization, error) {
	o, err := s.findOrder(ctx, r, r.http.PathValue("order"))
	if err != nil {
		return nil, nil, err
	}
	index := r.http.PathValue("index")
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(o.Identifiers) || strconv.Itoa(i) != index {
		return nil, nil, fault.New(fault.NotFound, "there is no authorization at this URL that this account may see")
	}
	if err := s.readProofs(ctx, o); err != nil {
		return nil, nil, err
	}
	return o, o.authorization(i, r.now), nil
}

// readProofs finds out what has become of an order's authorizations.
func (s *Server) readProofs(ctx context.Context, o *order) error {
	proofs, err := s.Store.Proofs(ctx, o.ID)
	if err != nil {
		return fmt.Errorf("read proofs: %w", err)
	}
	o.proofs = proofs
	return nil
}

// newProof returns what is stored of an authorization, without a status.
func (o *order) newProof(a *authorization) pki.Proof {
	return pki.Proof{
		OrderID: o.ID, AccountID: o.AccountID, Index: a.index, Name: o.Identifiers[a.index].Value, Expires: o.Expires,
	}
}

// authorization reads or deactivates an authorization.
func (s *Server) authorization(ctx context.Context, r *request) (*reply, error) {
	o, a, err := s.findAuthorization(ctx, r)
	if err != nil {
		return nil, err
	}
	switch {
	case len(r.payload) > 0:
		if err := s.deactivate(ctx, r, o, a); err != nil {
			return nil, err
		}
	case a.status == pki.StatusPending:
		a = s.takeOver(ctx, r, o, a)
	}
	return authorizationReply(r, o, a), nil
}

func (s *Server) deactivate(ctx context.Context, r *request, o *order, a *authorization) error {
	if err := wantsDeactivation(r); err != nil {
		return err
	}
	switch a.status {
	case pki.StatusDeactivated:
		return nil
	case pki.StatusPending, pki.StatusValid:
	default:
		return fault.New(fault.Malformed, "authorization is %s; only a pending or valid one can be deactivated", a.status)
	}
	event := s.event(r, audit.AuthorizationDrop, a.identifier.Value, audit.Detail{Order: o.ID})
	if err := s.Store.DeactivateAuthorization(ctx, o.newProof(a), event); err != nil {
		return fmt.Errorf("deactivate authorization: %w", err)
	}
	a.status = pki.StatusDeactivated
	return nil
}

func authorizationReply(r *request, o *order, a *authorization) *reply {
	view := authorizationView{
		Identifier: a.identifier, Wildcard: a.wildcard, Status: a.status, Expires: stamp(a.expires),
		Challenges: make([]challengeView, 0, len(a.challenges)),
	}
	for i := range a.challenges {
		view.Challenges = append(view.Challenges, viewChallenge(r.dir, o, a, i))
	}
	answer := &reply{status: http.StatusOK, body: view}
	if view.Status == pki.StatusPending {
		answer.retryAfter = pollInterval
	}
	return answer
}

func viewChallenge(d directory, o *order, a *authorization, at int) challengeView {
	c := &a.challenges[at]
	view := challengeView{
		Type: c.kind, URL: d.url("/challenge/", o.path, "/", strconv.Itoa(a.index), "/", c.kind), Status: c.status, Token: c.token,
		Error: problemView(c.problem),
	}
	if !c.validatedAt.IsZero() {
		view.Validated = stamp(c.validatedAt)
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
