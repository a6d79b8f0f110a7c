package acme

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/telemetry"
)

// wrap makes the handler of a route: the headers that every answer has, the checks of the request, one log line.
func (s *Server) wrap(rt route) http.Handler {
	meter := s.metrics.meter(rt.resource)
	return http.HandlerFunc(func(w http.ResponseWriter, h *http.Request) {
		began := s.Now()
		r := &request{
			http: h, header: w.Header(), now: began.UTC(), client: clientOf(h),
			id: s.boot + "-" + strconv.FormatUint(s.serial.Add(1), 36),
		}
		ctx, cancel := context.WithTimeout(h.Context(), s.Options.RequestTimeout)
		defer cancel()
		answer, problem := s.handle(ctx, r, &rt)
		if problem != nil {
			s.refuse(w, problem)
		} else {
			answer.write(w)
		}
		took := s.Now().Sub(began)
		meter.note(problem, took)
		s.log(ctx, r, &rt, problem, took)
	})
}

// handle answers a request with a reply or a problem.
func (s *Server) handle(ctx context.Context, r *request, rt *route) (answer *reply, problem *fault.Error) {
	defer func() {
		if p := recover(); p != nil {
			answer, problem = nil, fault.From(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
		}
	}()
	var err error
	r.dir, err = s.directory(r.http)
	s.prepare(r, rt.resource == resourceDirectory && err == nil)
	if err == nil && rt.signer != byNobody {
		err = s.authenticate(ctx, r, rt)
	}
	if err == nil {
		answer, err = rt.serve(s, ctx, r)
	}
	if err != nil {
		return nil, trouble(ctx, err)
	}
	return answer, nil
}

// logPanic writes what work without a request died of.
func (s *Server) logPanic(ctx context.Context, panicked any) {
	s.Logger.ErrorContext(ctx, "panic in work that outlived its request", telemetry.KeyError, fmt.Sprintf("%v\n%s", panicked, debug.Stack()))
}

// prepare sets the headers that an answer has whatever becomes of the request. A POST always gets a nonce, so that a
// client that was refused can try again without asking for one (RFC 8555 section 6.5).
func (s *Server) prepare(r *request, isDirectory bool) {
	allowOrigins(r.header)
	if !isDirectory {
		r.header.Set(headerLink, link(r.dir.url("/directory"), "index"))
	}
	if r.http.Method == http.MethodPost {
		r.header.Set(headerNonce, s.Nonces.Issue())
		r.header.Set(headerCache, "no-store")
	}
}

// log writes the request's line. What went well is for debugging only: what it changed is in the audit log.
func (s *Server) log(ctx context.Context, r *request, rt *route, problem *fault.Error, took time.Duration) {
	level, status := slog.LevelDebug, "ok"
	if problem != nil {
		level, status = problem.Kind.Meaning().Level, problem.Kind.Meaning().ACME
		if errors.Is(problem, context.Canceled) {
			level = slog.LevelDebug // clients go away as they like
		}
	}
	if !s.Logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 9)
	attrs = append(attrs,
		slog.String(telemetry.KeyResource, rt.resource),
		slog.String(telemetry.KeyStatus, status),
		slog.Duration(telemetry.KeyDuration, took),
		slog.String(telemetry.KeyRequest, r.id),
		slog.String(telemetry.KeyAddress, r.client.Address),
		slog.String(telemetry.KeyUserAgent, r.client.UserAgent),
	)
	if r.account != nil {
		profile := string(r.account.ProfileID)
		if p, ok := s.Catalog.Snapshot().Profile(r.account.ProfileID); ok {
			profile = p.Name
		}
		attrs = append(attrs, slog.String(telemetry.KeyAccount, string(r.account.ID)), slog.String(telemetry.KeyProfile, profile))
	}
	if problem != nil {
		attrs = append(attrs, slog.String(telemetry.KeyError, problem.Error()))
	}
	s.Logger.LogAttrs(ctx, level, "acme request", attrs...)
}
