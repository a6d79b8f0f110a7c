package agentsrv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/certloom/certloom/internal/agentapi"
	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

// Methods, as logs and metrics name them.
const (
	methodChallenge = "Challenge"
	methodEnrol     = "Enrol"
	methodRenew     = "Renew"
	methodIssue     = "Issue"
	methodBundle    = "Bundle"
	methodReport    = "Report"
)

// call is one call under way.
type call struct {
	method string
	id     string
	now    time.Time
	client pki.Client
	tls    *credentials.TLSInfo // nil without TLS, which Serve does not offer
	agent  *agent               // set by authenticate
}

// actor is who is known to call.
func (c *call) actor() audit.Actor {
	if c.agent == nil {
		return audit.Actor{Kind: audit.Nobody}
	}
	return audit.Actor{Kind: audit.Agent, ID: string(c.agent.credential.ID), Name: c.agent.credential.Name}
}

// Challenge implements agentapi.AgentServer.
func (s *Server) Challenge(ctx context.Context, _ *agentapi.ChallengeRequest) (*agentapi.ChallengeResponse, error) {
	return answer(ctx, s, methodChallenge, s.config.Timeout, func(context.Context, *call) (*agentapi.ChallengeResponse, error) {
		return &agentapi.ChallengeResponse{Nonce: s.config.Nonces.Issue()}, nil
	})
}

// Enrol implements agentapi.AgentServer.
func (s *Server) Enrol(ctx context.Context, in *agentapi.EnrolRequest) (*agentapi.EnrolResponse, error) {
	return answer(ctx, s, methodEnrol, s.config.Timeout, func(ctx context.Context, c *call) (*agentapi.EnrolResponse, error) {
		return s.enrol(ctx, c, in)
	})
}

// Renew implements agentapi.AgentServer.
func (s *Server) Renew(ctx context.Context, in *agentapi.RenewRequest) (*agentapi.EnrolResponse, error) {
	return answer(ctx, s, methodRenew, s.config.Timeout, func(ctx context.Context, c *call) (*agentapi.EnrolResponse, error) {
		if err := s.authenticate(ctx, c); err != nil {
			return nil, err
		}
		return s.certify(ctx, c, in.GetCsr())
	})
}

// Issue implements agentapi.AgentServer.
func (s *Server) Issue(ctx context.Context, in *agentapi.IssueRequest) (*agentapi.IssueResponse, error) {
	return answer(ctx, s, methodIssue, s.config.Timeout, func(ctx context.Context, c *call) (*agentapi.IssueResponse, error) {
		if err := s.authenticate(ctx, c); err != nil {
			return nil, err
		}
		return s.issue(ctx, c, in)
	})
}

// Bundle implements agentapi.AgentServer.
func (s *Server) Bundle(ctx context.Context, in *agentapi.BundleRequest) (*agentapi.BundleResponse, error) {
	return answer(ctx, s, methodBundle, maxWait+s.config.Timeout, func(ctx context.Context, c *call) (*agentapi.BundleResponse, error) {
		if err := s.authenticate(ctx, c); err != nil {
			return nil, err
		}
		return s.bundle(ctx, c, in)
	})
}

// Report implements agentapi.AgentServer.
func (s *Server) Report(ctx context.Context, in *agentapi.ReportRequest) (*agentapi.ReportResponse, error) {
	return answer(ctx, s, methodReport, s.config.Timeout, func(ctx context.Context, c *call) (*agentapi.ReportResponse, error) {
		if err := s.authenticate(ctx, c); err != nil {
			return nil, err
		}
		return &agentapi.ReportResponse{}, s.report(ctx, c, in)
	})
}

// answer runs a call: its deadline, its one log line, and what becomes of an error or a panic.
func answer[T any](ctx context.Context, s *Server, method string, timeout time.Duration, run func(context.Context, *call) (*T, error)) (*T, error) {
	began := s.config.Now()
	c := &call{method: method, id: s.requestID(), now: began.UTC()}
	c.client, c.tls = peerOf(ctx)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	out, err := guarded(ctx, c, run)
	took := s.config.Now().Sub(began)
	if err == nil {
		s.metrics.note(method, codes.OK, took)
		s.log(ctx, c, slog.LevelDebug, codes.OK, took, nil)
		return out, nil
	}
	problem := trouble(ctx, err)
	meaning := problem.Kind.Meaning()
	s.metrics.note(method, codes.Code(meaning.Code), took)
	s.log(ctx, c, meaning.Level, codes.Code(meaning.Code), took, problem)
	return nil, status.Error(codes.Code(meaning.Code), problem.Public)
}

// guarded turns a panic into an error.
func guarded[T any](ctx context.Context, c *call, run func(context.Context, *call) (T, error)) (out T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return run(ctx, c)
}

// trouble turns an error into the one that the agent is told. A call that ran out of time, or whose client has gone, is
// no fault of the server's insides.
func trouble(ctx context.Context, err error) *fault.Error {
	if _, known := errors.AsType[*fault.Error](err); !known &&
		(ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		return fault.Wrap(err, fault.Unavailable, "call took too long; try again")
	}
	return fault.From(err)
}

// log writes the call's line. What went well is for debugging only: what it changed is in the audit log.
func (s *Server) log(ctx context.Context, c *call, level slog.Level, code codes.Code, took time.Duration, problem error) {
	if !s.config.Logger.Enabled(ctx, level) {
		return
	}
	attrs := append(c.attributes(),
		slog.String(telemetry.KeyStatus, code.String()),
		slog.Duration(telemetry.KeyDuration, took),
		slog.String(telemetry.KeyUserAgent, c.client.UserAgent))
	if problem != nil {
		attrs = append(attrs, slog.String(telemetry.KeyError, problem.Error()))
	}
	s.config.Logger.LogAttrs(ctx, level, "agent call", attrs...)
}

// attributes are those of every log line about a call.
func (c *call) attributes() []slog.Attr {
	attrs := make([]slog.Attr, 0, 10)
	attrs = append(attrs,
		slog.String(telemetry.KeyResource, c.method),
		slog.String(telemetry.KeyRequest, c.id),
		slog.String(telemetry.KeyAddress, c.client.Address))
	if c.agent != nil {
		attrs = append(attrs,
			slog.String(telemetry.KeyActor, c.agent.credential.Name),
			slog.String(telemetry.KeyProfile, c.agent.profile.Name),
			slog.String(telemetry.KeyCluster, c.agent.cluster))
	}
	return attrs
}

// maxUserAgent is how much of a user agent is kept.
const maxUserAgent = 200

// peerOf tells where a call comes from.
func peerOf(ctx context.Context) (pki.Client, *credentials.TLSInfo) {
	var client pki.Client
	if agents := metadata.ValueFromIncomingContext(ctx, "user-agent"); len(agents) > 0 {
		client.UserAgent = printable(agents[0])
	}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return client, nil
	}
	if host, _, err := net.SplitHostPort(from.Addr.String()); err == nil {
		client.Address = host
	}
	if info, ok := from.AuthInfo.(credentials.TLSInfo); ok {
		return client, &info
	}
	return client, nil
}

// printable keeps what can be shown of a user agent.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, text)
	return text[:min(len(text), maxUserAgent)]
}

// refuse records that somebody was not let in. What is the server's own trouble is no refusal, and a flood is cut off by
// its source: whoever makes one must not be able to fill the disk. The log has the others.
func (s *Server) refuse(ctx context.Context, c *call, credential pki.CredentialID, err error) {
	problem := trouble(ctx, err)
	if problem.Kind == fault.Unavailable || problem.Kind == fault.Internal {
		return
	}
	s.record(ctx, c, audit.AgentRefuse, string(credential), audit.Detail{
		Credential: credential, Reason: problem.Public, Problem: problem.Kind.Meaning().ACME,
	})
}

// refuseCaller records that a client certificate which a workload has shown does not count: somebody may have stolen it.
func (s *Server) refuseCaller(ctx context.Context, c *call, names *pki.Names, w *pki.Workload, err error) {
	problem := trouble(ctx, err)
	if problem.Kind != fault.Unauthenticated {
		return
	}
	s.record(ctx, c, audit.CertificateRefuse, string(w.Presented), audit.Detail{
		Profile: c.agent.profile.ID, Credential: c.agent.credential.ID, Reason: problem.Public, Problem: problem.Kind.Meaning().ACME,
		Names: names, Workload: w,
	})
}

// record stores a refusal, unless its source has made too many.
func (s *Server) record(ctx context.Context, c *call, action audit.Action, target string, detail audit.Detail) {
	ev := audit.Event{
		Time: c.now, Actor: c.actor(), Action: action, Target: target, Client: c.client, Request: c.id,
		Replica: s.config.Replica, Outcome: audit.Refused, Detail: detail,
	}
	if !s.refusals.Allow(&ev) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := s.config.Store.RecordEvent(ctx, ev); err != nil {
		s.config.Logger.WarnContext(ctx, "refusal not recorded", telemetry.KeyRequest, c.id, telemetry.KeyError, err)
	}
}

// auditTimeout bounds the recording of a refusal.
const auditTimeout = 2 * time.Second
