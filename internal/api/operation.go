package api

import (
	"cmp"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/telemetry"
)

const (
	bearerScheme = "token"
	// accessExtension shows in the OpenAPI document what access an operation asks of its caller's role.
	accessExtension = "x-certloom-access"
	// maxBody bounds bodies that nothing else is said of: the largest is a CA's chain or a CSR with a thousand names.
	maxBody = 256 << 10
)

// operation is what is said of an operation besides its types.
type operation struct {
	id      string
	method  string
	path    string
	tag     string
	summary string
	status  int         // of a success; 0: 200, or 204 without a body
	access  auth.Access // "": everybody, also without a token
	// asIs serves from the view of the catalog as it is. Others are served from one that is current: what was made
	// through one replica is there at once for the next request, whichever replica gets it.
	asIs bool
	// body bounds the body in bytes; 0: maxBody.
	body int64
	// produces are the media types of a success that is not an object in JSON. Of those, JSON is an array of items.
	produces []string
	items    reflect.Type
}

// Inputs are structs of parameters and a body; the framework finds the parameters of embedded ones only if those are
// exported.

// body is the part of an input that is JSON. Raw is what was sent: it tells what was left out from what is zero.
type body[T any] struct {
	RawBody []byte
	Body    T
}

// raw returns the body as it was sent. It must not be kept.
func (b *body[T]) raw() []byte { return b.RawBody }

func (b *body[T]) bodyType() reflect.Type { return reflect.TypeFor[T]() }

// withBody is an input that has a body.
type withBody interface {
	raw() []byte
	bodyType() reflect.Type
}

// output is an answer with a body.
type output[T any] struct {
	Body T
}

func answer[T any](value T) *output[T] { return &output[T]{Body: value} }

// register adds an operation. The handler's error becomes a problem document.
func register[I, O any](s *Server, op operation, handler func(context.Context, *I) (*O, error)) {
	described := huma.Operation{
		OperationID:   op.id,
		Method:        op.method,
		Path:          op.path,
		Summary:       op.summary,
		Tags:          []string{op.tag},
		DefaultStatus: op.status,
		MaxBodyBytes:  cmp.Or(op.body, maxBody),
		Metadata:      map[string]any{accessExtension: op.access},
		Responses:     map[string]*huma.Response{"4XX": s.problemResponse("Refused"), "5XX": s.problemResponse("Not possible now")},
	}
	if len(op.produces) > 0 {
		success := &huma.Response{Description: http.StatusText(http.StatusOK), Content: map[string]*huma.MediaType{}}
		for _, kind := range op.produces {
			schema := &huma.Schema{Type: huma.TypeString}
			if kind == "application/json" {
				schema = &huma.Schema{Type: huma.TypeArray, Items: s.api.OpenAPI().Components.Schemas.Schema(op.items, true, op.items.Name())}
			}
			success.Content[kind] = &huma.MediaType{Schema: schema}
		}
		described.Responses["200"] = success
	}
	described.Security = []map[string][]string{{}} // nothing is needed
	if op.access != "" {
		described.Security = []map[string][]string{{bearerScheme: {}}}
		described.Extensions = map[string]any{accessExtension: string(op.access)}
	}
	if streams[O]() {
		described.Metadata[streamExtension] = true
	}
	if repeatable(&described) {
		described.Parameters = append(described.Parameters, onceParameter())
	}
	s.operations = append(s.operations, shows[O](&described))
	registry := s.api.OpenAPI().Components.Schemas
	huma.Register(s.api, described, func(ctx context.Context, in *I) (*O, error) {
		if input, ok := any(in).(withBody); ok {
			if err := exactMembers(registry, input.bodyType(), input.raw()); err != nil {
				return nil, s.problem(ctx, err)
			}
		}
		if !op.asIs {
			if err := s.config.Catalog.Poll(ctx); err != nil {
				return nil, s.problem(ctx, err)
			}
		}
		out, err := paged(ctx, s, in, handler)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
}

// streams says whether answers of a type are written piece by piece.
func streams[O any]() bool {
	field, ok := reflect.TypeFor[O]().FieldByName("Body")
	return ok && field.Type.Kind() == reflect.Func
}

func (s *Server) problemResponse(description string) *huma.Response {
	schema := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[apiv1.Problem](), true, "Problem")
	return &huma.Response{
		Description: description,
		Content:     map[string]*huma.MediaType{apiv1.ProblemType: {Schema: schema}},
	}
}

// admit says who is calling, and lets through whoever has the access that the operation asks for.
func (s *Server) admit(ctx huma.Context, next func(huma.Context)) {
	request, _ := humago.Unwrap(ctx)
	begun := s.config.Now()
	caller := &auth.Principal{Client: s.config.Client(request), Request: s.requestID()}
	ctx.SetHeader("X-Request-Id", caller.Request)
	ctx.SetHeader("Cache-Control", "no-store")
	access, _ := ctx.Operation().Metadata[accessExtension].(auth.Access)
	if access != "" {
		known, err := s.authenticate(request, caller)
		if err == nil {
			known.Client, known.Request = caller.Client, caller.Request
			caller = known
			err = caller.Check(access)
		}
		if err != nil {
			ctx = huma.WithContext(ctx, auth.WithPrincipal(ctx.Context(), caller))
			s.writeProblem(ctx, s.problem(ctx.Context(), err))
			return
		}
	}
	ctx = huma.WithContext(ctx, auth.WithPrincipal(ctx.Context(), caller))
	next(ctx)
	if status := ctx.Status(); status < http.StatusBadRequest {
		s.log(ctx, slog.LevelDebug, status, slog.Duration(telemetry.KeyDuration, s.config.Now().Sub(begun)))
	}
}

// log writes the one line that a request has: served ones at debug, refused ones, with the reason, where the problem
// document is written. What is our fault has a line with its cause as well (problem).
func (s *Server) log(ctx huma.Context, level slog.Level, status int, more ...slog.Attr) {
	caller := auth.PrincipalOf(ctx.Context())
	attrs := append([]slog.Attr{
		slog.String(telemetry.KeyResource, ctx.Operation().OperationID),
		slog.Int(telemetry.KeyStatus, status),
		slog.String(telemetry.KeyRequest, caller.Request),
		slog.String(telemetry.KeyAddress, caller.Client.Address),
		slog.String(telemetry.KeyUserAgent, caller.Client.UserAgent),
	}, more...)
	if caller.Name != "" {
		attrs = append(attrs, slog.String(telemetry.KeyActor, caller.Name))
	}
	s.config.Logger.LogAttrs(ctx.Context(), level, "api request", attrs...)
}

// logRefusal is log for a problem document.
func (s *Server) logRefusal(ctx huma.Context, problem *apiv1.Problem) {
	if problem.Status < http.StatusInternalServerError {
		s.log(ctx, slog.LevelInfo, problem.Status, slog.String(telemetry.KeyError, problem.Detail))
	}
}

// authenticate returns the principal that this process has put into the context (the console's visitor), or the one of
// the bearer token (RFC 6750 section 2.1; nowhere else may it be). What comes from the network has no principal.
func (s *Server) authenticate(request *http.Request, caller *auth.Principal) (*auth.Principal, error) {
	if known := auth.PrincipalOf(request.Context()); known.Role != "" {
		who := *known
		return &who, nil
	}
	values := request.Header.Values("Authorization")
	if len(values) != 1 {
		return nil, fault.New(fault.Unauthenticated, "request has no Authorization header with a bearer token, or more than one").
			WithHint("sign in (certloom login), or name a token (--token-file, CERTLOOM_TOKEN_FILE)")
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, fault.New(fault.Unauthenticated, "authorization scheme %.20q is not Bearer", scheme)
	}
	return s.config.Auth.Token(request.Context(), token, caller.By())
}

// requestID is empty when there is no randomness, which is no reason to refuse a request that needs none.
func (s *Server) requestID() string {
	var raw [8]byte
	if _, err := io.ReadFull(s.config.Random, raw[:]); err != nil {
		return ""
	}
	return hex.EncodeToString(raw[:])
}

// peer is the other end of the connection.
func peer(r *http.Request) pki.Client {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = ""
	}
	return pki.Client{Address: host, UserAgent: printable(r.UserAgent())}
}

// maxUserAgent is what pki.Client says.
const maxUserAgent = 200

// printable cuts a user agent and removes its control characters.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r > '~' && r < 0xa0 {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
	if len(s) > maxUserAgent {
		s = strings.ToValidUTF8(s[:maxUserAgent], "")
	}
	return s
}
