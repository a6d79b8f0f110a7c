package acme

import (
	"context"
	"fmt"
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
	o, a, err := s.findAuthorization(ctx, r)
	if err != nil {
		return nil, err
	}
	kind := r.http.PathValue("type")
	at := slices.IndexFunc(a.challenges, func(c challengeState) bool { return c.kind == kind })
	if at < 0 {
		return nil, fault.New(fault.NotFound, "there is no challenge at this URL that this account may see")
	}
	if len(r.payload) == 0 {
		if a.status == pki.StatusPending {
			a = s.takeOver(ctx, r, o, a)
		}
		return challengeReply(r, o, a, at), nil
	}
	var anything struct{}
	if err := r.decode(&anything); err != nil {
		return nil, err
	}
	switch a.challenges[at].status {
	case pki.StatusValid, pki.StatusInvalid:
		return challengeReply(r, o, a, at), nil
	default:
	}
	if a.status != pki.StatusPending {
		return nil, fault.New(fault.Malformed, "authorization is %s, so its challenges cannot be validated any more", a.status)
	}
	if a, err = s.startValidation(ctx, r, o, a, at); err != nil {
		return nil, err
	}
	return challengeReply(r, o, a, at), nil
}

func challengeReply(r *request, o *order, a *authorization, at int) *reply {
	answer := &reply{
		status: http.StatusOK,
		links:  []string{link(o.authorizationURL(r.dir, a.index), "up")}, // some clients cannot go on without it
		body:   viewChallenge(r.dir, o, a, at),
	}
	if a.challenges[at].status == pki.StatusProcessing {
		answer.retryAfter = pollInterval
	}
	return answer
}

// lease is how much longer than its timeout a validation is left alone by other processes: the time that it takes to
// store the result.
const lease = 10 * time.Second

// abandoned reports whether a validation was begun by a process that will not finish it.
func (s *Server) abandoned(a *authorization, now time.Time) bool {
	return a.proof.Status == pki.StatusProcessing && !now.Before(a.proof.At.Add(s.Options.ValidationTimeout+lease))
}

// validation is one validation of a challenge.
type validation struct {
	request  request
	order    pki.OrderID
	proof    pki.Proof // without a result
	question challenge.Request
}

// outcome is how a validation ended: as a proof that is stored, or with an error that kept it from being stored.
type outcome struct {
	proof pki.Proof
	err   error
}

// startValidation validates a challenge, detached from the request, and waits a moment for the outcome: a quick one
// spares the client a poll, and the database a note. It returns the authorization as it is then.
//
// Nothing is noted before the client is told "processing": whoever got no answer asks again, on any replica, and two
// validations at once do no harm. From then on the note has whoever hears of the challenge after the lease go on.
func (s *Server) startValidation(ctx context.Context, r *request, o *order, a *authorization, at int) (*authorization, error) {
	task, err := s.newValidation(r, o, a, at)
	if err != nil {
		return nil, err
	}
	if a.proof.Status == pki.StatusProcessing && a.proof.Type == task.proof.Type && !s.abandoned(a, r.now) {
		return a, nil // somebody is at it
	}
	ended := make(chan outcome, 1)
	name := fmt.Sprintf("%s/%d/%s", o.ID, a.index, task.proof.Type)
	started, err := s.detached.start(ctx, name, func(ctx context.Context) { ended <- s.validate(ctx, task) })
	if err != nil {
		return nil, err
	}
	if started {
		wait := time.NewTimer(s.Options.ValidationWait)
		defer wait.Stop()
		select {
		case done := <-ended:
			return s.decided(ctx, r, o, a, done)
		case <-wait.C:
		case <-ctx.Done():
		}
	}
	noted := task.proof
	noted.At = r.now
	if _, err := s.Store.StartProof(ctx, noted, s.Options.ValidationTimeout+lease); err != nil {
		return nil, fmt.Errorf("note validation: %w", err)
	}
	processing := *a
	processing.challenges = slices.Clone(a.challenges)
	processing.challenges[at].status = pki.StatusProcessing
	return &processing, nil
}

// decided returns the authorization after a validation has ended.
func (s *Server) decided(ctx context.Context, r *request, o *order, a *authorization, done outcome) (*authorization, error) {
	switch {
	case done.err == nil:
		o.proofs = append(slices.DeleteFunc(slices.Clone(o.proofs), func(p pki.Proof) bool { return p.Index == a.index }), done.proof)
	case fault.Is(done.err, fault.Conflict): // somebody was faster
		if err := s.readProofs(ctx, o); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("store proof: %w", done.err)
	}
	return o.authorization(a.index, r.now), nil
}

// newValidation makes the question, unless the profile has none such any more.
func (s *Server) newValidation(r *request, o *order, a *authorization, at int) (*validation, error) {
	snapshot, err := s.Catalog.Current()
	if err != nil {
		return nil, err
	}
	p, _, err := enrolled(snapshot, r.account, r.now)
	if err != nil {
		return nil, err
	}
	c := &a.challenges[at]
	if p.Rules.Challenges == nil || !slices.Contains(p.Rules.Challenges.Types, c.kind) {
		return nil, fault.New(fault.Malformed, "profile %q does not offer challenge %s any more", p.Name, c.kind)
	}
	proof := o.newProof(a)
	proof.Type = c.kind
	return &validation{
		request: *r, order: o.ID, proof: proof, question: challenge.Request{
			Type: c.kind, Identifier: a.identifier, Wildcard: a.wildcard, Token: c.token,
			KeyAuthorization: c.token + "." + r.key.Thumbprint, Networks: p.Rules.Challenges.Networks,
		},
	}, nil
}

// validate asks for the proof and stores what came of it.
func (s *Server) validate(ctx context.Context, v *validation) outcome {
	asking, cancel := context.WithTimeout(ctx, s.Options.ValidationTimeout)
	defer cancel()
	err := s.Validator.Validate(asking, v.question)
	if fault.Is(err, fault.Unavailable) {
		// Nobody was asked, so nothing is decided: the client comes again, or finds it abandoned after the lease.
		s.Logger.InfoContext(ctx, "validation put off", telemetry.KeyRequest, v.request.id, telemetry.KeyError, err)
		return outcome{err: err}
	}
	result := v.proof
	result.Status, result.At = pki.StatusValid, s.Now().UTC().Truncate(time.Second)
	event := s.event(&v.request, audit.AuthorizationValid, v.question.Identifier.Value, audit.Detail{Order: v.order})
	event.Time = s.Now().UTC()
	if err != nil {
		told := fault.From(err)
		meaning := told.Kind.Meaning()
		result.Status = pki.StatusInvalid
		result.Error = &pki.Problem{Type: namespace + meaning.ACME, Detail: printable(told.Public), Status: meaning.Status}
		event.Action, event.Outcome, event.Detail.Reason = audit.AuthorizationInvalid, audit.Refused, result.Error.Detail
	}
	storing, cancel := context.WithTimeout(ctx, lease)
	defer cancel()
	if err := s.Store.FinishProof(storing, result, event); err != nil {
		s.Logger.WarnContext(ctx, "result of a validation not stored", telemetry.KeyRequest, v.request.id, telemetry.KeyError, err)
		return outcome{err: err}
	}
	return outcome{proof: result}
}

// takeOver goes on with a validation that another process began and did not finish. Reading a challenge never starts
// one; this one has been started.
func (s *Server) takeOver(ctx context.Context, r *request, o *order, a *authorization) *authorization {
	at := slices.IndexFunc(a.challenges, func(c challengeState) bool { return c.kind == a.proof.Type })
	if at < 0 || !s.abandoned(a, r.now) {
		return a
	}
	after, err := s.startValidation(ctx, r, o, a, at)
	if err != nil {
		s.Logger.InfoContext(ctx, "validation not taken over", telemetry.KeyRequest, r.id, telemetry.KeyError, err)
		return a
	}
	return after
}
