package acme

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/certloom/certloom/internal/acme/challenge"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// challenge reads a challenge, or starts its validation when the payload is an object (RFC 8555 section 7.5.1). What
// else is in the object is ignored: old clients send their key authorization.
func (s *Server) challenge(ctx context.Context, r *request) (*reply, error) {
	authz, id := r.http.PathValue("authz"), r.http.PathValue("id")
	if !pki.ValidID(id) { // an index: the order has no rows
		return s.sealedChallenge(ctx, r, authz, id)
	}
	a, err := s.findAuthorization(ctx, r, authz)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(a.Challenges, func(c pki.Challenge) bool { return string(c.ID) == id })
	if at < 0 {
		return nil, fault.New(fault.NotFound, "there is no challenge at this URL that this account may see")
	}
	if len(r.payload) == 0 {
		if authorizationStatus(a, r.now) == pki.StatusPending {
			s.takeOver(ctx, r, a)
		}
		return challengeReply(r, a, at), nil
	}
	var anything struct{}
	if err := r.decode(&anything); err != nil {
		return nil, err
	}
	switch a.Challenges[at].Status {
	case pki.StatusValid, pki.StatusInvalid:
		return challengeReply(r, a, at), nil
	default:
	}
	if status := authorizationStatus(a, r.now); status != pki.StatusPending {
		return nil, fault.New(fault.Malformed, "authorization is %s, so its challenges cannot be validated any more", status)
	}
	if a, err = s.startValidation(ctx, r, a, at); err != nil {
		return nil, err
	}
	return challengeReply(r, a, at), nil
}

func challengeReply(r *request, a *pki.Authorization, at int) *reply {
	c := &a.Challenges[at]
	answer := &reply{
		status: http.StatusOK,
		links:  []string{link(r.dir.url("/authz/", string(a.ID)), "up")}, // some clients cannot go on without it
		body:   viewChallenge(r.dir, string(a.ID), string(c.ID), c),
	}
	if c.Status == pki.StatusProcessing {
		answer.retryAfter = pollInterval
	}
	return answer
}

// sealedChallenge reads the challenge of a pre-authorized name. There is nothing to start.
func (s *Server) sealedChallenge(ctx context.Context, r *request, path, index string) (*reply, error) {
	o, i, err := s.findSealed(ctx, r, path, index)
	if err != nil {
		return nil, err
	}
	if len(r.payload) > 0 {
		var anything struct{}
		if err := r.decode(&anything); err != nil {
			return nil, err
		}
	}
	return &reply{
		status: http.StatusOK, links: []string{link(r.dir.url("/authz/", path, "/", index), "up")}, body: o.sealedChallenge(r.dir, i),
	}, nil
}

// lease is how much longer than its timeout a validation is left alone by other processes: the time that it takes to
// store the result.
const lease = 10 * time.Second

// startValidation validates a challenge, detached from the request, and waits a moment for the outcome: a quick one
// spares the client a poll. It returns the authorization as it is then.
func (s *Server) startValidation(ctx context.Context, r *request, a *pki.Authorization, at int) (*pki.Authorization, error) {
	snapshot, err := s.Catalog.Current()
	if err != nil {
		return nil, err
	}
	p, _, err := enrolled(snapshot, r.account, r.now)
	if err != nil {
		return nil, err
	}
	if p.Rules.Challenges == nil || !slices.Contains(p.Rules.Challenges.Types, a.Challenges[at].Type) {
		return nil, fault.New(fault.Malformed, "profile %q does not offer challenge %s any more", p.Name, a.Challenges[at].Type)
	}
	task := validation{
		request: *r, authorization: a, challenge: a.Challenges[at].ID, question: challenge.Request{
			Type: a.Challenges[at].Type, Identifier: a.Identifier, Wildcard: a.Wildcard, Token: a.Challenges[at].Token,
			KeyAuthorization: a.Challenges[at].Token + "." + r.key.Thumbprint, Networks: p.Rules.Challenges.Networks,
		},
	}
	outcome := make(chan *pki.Authorization, 1)
	// A place is taken before the row is marked: a mark that nobody works on would block the client for the lease.
	started, err := s.detached.start(ctx, string(task.challenge),
		func(ctx context.Context) (bool, error) {
			return s.Store.StartChallenge(ctx, task.challenge, r.now, s.Options.ValidationTimeout+lease)
		},
		func(ctx context.Context) { outcome <- s.validate(ctx, &task) })
	if err != nil {
		return nil, err
	}
	processing := *a
	processing.Challenges = slices.Clone(a.Challenges)
	processing.Challenges[at].Status = pki.StatusProcessing
	if !started {
		return &processing, nil // somebody else is at it
	}
	wait := time.NewTimer(s.Options.ValidationWait)
	defer wait.Stop()
	select {
	case done := <-outcome:
		if done != nil {
			return done, nil
		}
	case <-wait.C:
	case <-ctx.Done():
	}
	return &processing, nil
}

// validation is one validation of a challenge.
type validation struct {
	request       request
	authorization *pki.Authorization
	challenge     pki.ChallengeID
	question      challenge.Request
}

// validate asks for the proof and stores what came of it. It returns nil when that could not be stored: then the
// challenge stays in processing until its lease ends and the client's next request starts over.
func (s *Server) validate(ctx context.Context, v *validation) *pki.Authorization {
	asking, cancel := context.WithTimeout(ctx, s.Options.ValidationTimeout)
	defer cancel()
	err := s.Validator.Validate(asking, v.question)
	now := s.Now().UTC()
	result := pki.Challenge{ID: v.challenge, AuthzID: v.authorization.ID, Type: v.question.Type, Status: pki.StatusValid, ValidatedAt: now}
	event := s.event(&v.request, audit.AuthorizationValid, v.authorization.Identifier.Value, audit.Detail{Order: v.authorization.OrderID})
	event.Time = now
	if err != nil {
		told := fault.From(err)
		meaning := told.Kind.Meaning()
		result.Status, result.ValidatedAt = pki.StatusInvalid, time.Time{}
		result.Error = &pki.Problem{Type: namespace + meaning.ACME, Detail: printable(told.Public), Status: meaning.Status}
		event.Action, event.Outcome, event.Detail.Reason = audit.AuthorizationInvalid, audit.Refused, result.Error.Detail
	}
	storing, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	stored, err := s.Store.FinishChallenge(storing, v.challenge, result, v.authorization.Expires, event)
	if err != nil {
		s.Logger.WarnContext(ctx, "result of a validation not stored", telemetry.KeyRequest, v.request.id, telemetry.KeyError, err)
		return nil
	}
	return stored
}

// takeOver goes on with a validation that another process began and did not finish. Reading a challenge never starts
// one; this one has been started.
func (s *Server) takeOver(ctx context.Context, r *request, a *pki.Authorization) {
	at := slices.IndexFunc(a.Challenges, func(c pki.Challenge) bool { return c.Status == pki.StatusProcessing })
	if at < 0 || s.detached.has(string(a.Challenges[at].ID)) {
		return
	}
	if _, err := s.startValidation(ctx, r, a, at); err != nil {
		s.Logger.InfoContext(ctx, "validation not taken over", telemetry.KeyRequest, r.id, telemetry.KeyError, err)
	}
}
