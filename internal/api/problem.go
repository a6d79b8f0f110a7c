package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/telemetry"
)

// maxErrors bounds how many things are listed that are wrong: nobody mends more at once, and a body of thousands of
// unknown members must not be answered with more than it has.
const maxErrors = 50

// refusal is a problem document with the headers that go with it.
type refusal struct {
	*apiv1.Problem
	headers http.Header
}

// GetHeaders is what the framework asks of an error.
func (r *refusal) GetHeaders() http.Header { return r.headers }

// problem renders an error, which may be several joined ones, and logs what is our fault.
func (s *Server) problem(ctx context.Context, err error) *refusal {
	caller := auth.PrincipalOf(ctx)
	faults := flatten(err, nil)
	chief := faults[0]
	for _, f := range faults {
		// Worst first: what we did not foresee hides what we did.
		if f.Kind.Meaning().Status > chief.Kind.Meaning().Status && f.Kind.Meaning().Status >= http.StatusInternalServerError {
			chief = f
		}
	}
	meaning := chief.Kind.Meaning()
	if meaning.Status >= http.StatusInternalServerError {
		level := meaning.Level
		if errors.Is(err, context.Canceled) {
			level = slog.LevelDebug // clients go away as they like
		}
		s.config.Logger.Log(ctx, level, "request not served",
			slog.String(telemetry.KeyRequest, caller.Request), slog.Any(telemetry.KeyError, err))
		faults = []*fault.Error{chief}
	}
	problem := &apiv1.Problem{
		Type: problemType(chief.Kind), Title: chief.Kind.String(), Status: meaning.Status,
		Detail: chief.Public, Hint: chief.Hint, Request: caller.Request,
	}
	for _, f := range faults[:min(len(faults), maxErrors)] {
		problem.Errors = append(problem.Errors, problemErrors(f)...)
	}
	switch {
	case len(faults) > 1:
		problem.Detail = fmt.Sprintf("%d things are wrong; the first: %s", len(faults), chief.Public)
	case len(problem.Errors) == 1 && problem.Errors[0].Field() == "" && problem.Errors[0].Identifier == nil:
		problem.Errors = nil // it would only say the same again
	}
	return &refusal{Problem: problem, headers: headersOf(chief)}
}

func headersOf(f *fault.Error) http.Header {
	headers := http.Header{}
	if f.Kind == fault.Unauthenticated {
		headers.Set("WWW-Authenticate", `Bearer realm="certloom"`)
	}
	if f.RetryAfter > 0 {
		headers.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	return headers
}

// flatten returns the faults in an error's tree, at least one.
func flatten(err error, found []*fault.Error) []*fault.Error {
	if f, ok := err.(*fault.Error); ok { //nolint:errorlint // the tree is walked by hand, to find all and not the first
		return append(found, f)
	}
	switch wrapped := err.(type) { //nolint:errorlint // as above
	case interface{ Unwrap() []error }:
		for _, part := range wrapped.Unwrap() {
			found = flatten(part, found)
		}
		return found
	case interface{ Unwrap() error }:
		return flatten(wrapped.Unwrap(), found)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return append(found, fault.Wrap(err, fault.Unavailable, "the request ended before it was served"))
	}
	return append(found, fault.From(err))
}

func problemErrors(f *fault.Error) []apiv1.ProblemError {
	if len(f.Subproblems) > 0 {
		parts := make([]apiv1.ProblemError, 0, len(f.Subproblems))
		for _, sub := range f.Subproblems {
			parts = append(parts, apiv1.ProblemError{
				Detail:     sub.Public,
				Identifier: &apiv1.ProblemIdentifier{Type: string(sub.Identifier.Type), Value: sub.Identifier.Value},
			})
		}
		return parts
	}
	part := apiv1.ProblemError{Detail: f.Public, Hint: f.Hint}
	if strings.HasPrefix(f.Field, "/") {
		part.Pointer = f.Field
	} else {
		part.Parameter = f.Field
	}
	return []apiv1.ProblemError{part}
}

func problemType(kind fault.Kind) string {
	return "urn:certloom:problem:" + strings.ReplaceAll(strings.ToLower(kind.String()), " ", "-")
}

// writeProblem answers from outside a handler.
func (s *Server) writeProblem(ctx huma.Context, r *refusal) {
	s.logRefusal(ctx, r.Problem)
	for name, values := range r.headers {
		for _, value := range values {
			ctx.SetHeader(name, value)
		}
	}
	ctx.SetHeader("Content-Type", apiv1.ProblemType)
	ctx.SetStatus(r.Status)
	if err := json.NewEncoder(ctx.BodyWriter()).Encode(r.Problem); err != nil {
		s.config.Logger.DebugContext(ctx.Context(), "problem document not sent", telemetry.KeyError, err)
	}
}

// noRoute answers what no operation is for: 405 with the methods that the path has, or 404.
func (s *Server) noRoute(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); strings.HasPrefix(pattern, method+" ") {
			allowed = append(allowed, method)
		}
	}
	err := fault.New(fault.NotFound, "there is nothing at %.200q", r.URL.Path).
		WithHint("the operations are listed at %s/openapi.json", apiv1.Prefix)
	if len(allowed) > 0 && r.Method == http.MethodOptions {
		w.Header().Set("Allow", strings.Join(append(allowed, http.MethodOptions), ", "))
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		err = fault.New(fault.MethodNotAllowed, "method %.20q is not one of %s, which %.200q has",
			r.Method, strings.Join(allowed, ", "), r.URL.Path)
	}
	refused := s.problem(r.Context(), err)
	w.Header().Set("Content-Type", apiv1.ProblemType)
	w.WriteHeader(refused.Status)
	_ = json.NewEncoder(w).Encode(refused.Problem) // the client is gone: nobody is left to tell
}

// transform makes our problem documents of the framework's, which tell of bodies and parameters that do not have the
// form that the OpenAPI document gives them.
func (s *Server) transform(ctx huma.Context, _ string, v any) (any, error) {
	switch v := v.(type) {
	case *refusal:
		s.logRefusal(ctx, v.Problem)
	case *huma.ErrorModel:
		problem := s.schemaProblem(ctx, v)
		s.logRefusal(ctx, problem)
		return problem, nil
	case interface{ Following() string }:
		if next := v.Following(); next != "" {
			link(ctx, next)
		}
	}
	return v, nil
}

// schemaProblem is what the framework says of a request, in our words.
func (s *Server) schemaProblem(ctx huma.Context, model *huma.ErrorModel) *apiv1.Problem {
	kind := fault.Malformed
	switch model.Status {
	case http.StatusRequestEntityTooLarge:
		kind = fault.TooLarge
	case http.StatusUnsupportedMediaType:
		kind = fault.UnsupportedMediaType
	case http.StatusInternalServerError:
		kind = fault.Internal
	}
	status := model.Status
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	problem := &apiv1.Problem{
		Type: problemType(kind), Title: kind.String(), Status: status, Detail: model.Detail,
		Request: auth.PrincipalOf(ctx.Context()).Request,
	}
	if kind == fault.Internal {
		problem.Detail = fault.From(errors.New(model.Detail)).Public
		return problem
	}
	for _, detail := range model.Errors[:min(len(model.Errors), maxErrors)] {
		problem.Errors = append(problem.Errors, schemaError(detail))
	}
	switch len(model.Errors) {
	case 0:
	case 1:
		problem.Detail = problem.Errors[0].Detail
	default:
		problem.Detail = fmt.Sprintf("%d things are wrong; the first: %s", len(model.Errors), problem.Errors[0].Detail)
	}
	return problem
}

// schemaError says what is wrong with one member or parameter.
func schemaError(detail *huma.ErrorDetail) apiv1.ProblemError {
	place, path, _ := strings.Cut(detail.Location, ".")
	const longest = 200 // of a name that the client chose
	path = shortened(path, longest)
	part := apiv1.ProblemError{Detail: detail.Message}
	name := "body"
	if place == "body" {
		part.Pointer = pointer(path)
		if part.Pointer != "" {
			name = "member " + part.Pointer
		}
	} else {
		part.Parameter = path
		name = place + " parameter " + path
	}
	if choices, ok := strings.CutPrefix(detail.Message, `expected value to be one of "`); ok {
		part.Detail = fmt.Sprintf("%s: %.100q is not one of %s", name, fmt.Sprint(detail.Value), strings.TrimSuffix(choices, `"`))
		return part
	}
	part.Detail = name + ": " + detail.Message
	// Whole objects are not repeated, and neither is what may be a secret.
	switch value := detail.Value.(type) {
	case string:
		if value != "" && name != "body" && !strings.Contains(strings.ToLower(path), "password") && !strings.Contains(path, "Pem") {
			part.Detail += fmt.Sprintf(", not %.100q", value)
		}
	case bool, float64:
		part.Detail += fmt.Sprintf(", not %v", value)
	}
	return part
}

// shortened cuts a text that a client has written, and says so.
func shortened(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// pointer makes a JSON pointer of a framework's path, such as rules.keys[0].
func pointer(path string) string {
	if path == "" {
		return ""
	}
	return "/" + strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(path)
}
