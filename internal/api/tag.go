package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/certloom/certloom/internal/auth"
	"github.com/certloom/certloom/internal/fault"
)

// Every answer that shows one record has an entity tag (RFC 9110 section 8.8.3), also that of a change: a hash of it
// before fields are selected. A client that has seen a record may ask for it only if it has changed (If-None-Match), and
// change it only if it has not (If-Match). No operation has to know of either: what the record of an operation is
// follows from its path, and what it looks like now is asked of the operation that shows it.
//
// The record is looked at before the operation begins, not in its transaction. Where two changes at the same moment
// must not both be made, the body has the record's version as well, which the database compares.

const (
	// tagExtension marks operations whose success shows one record.
	tagExtension = "x-certloom-tag"
	// recordExtension says how many elements an operation's path has below that of its record.
	recordExtension = "x-certloom-record"
)

// shown is an operation with what its success looks like.
type shown struct {
	op     *huma.Operation
	answer reflect.Type // nil: nothing, or not JSON
	single bool         // shows one record by its path
}

// shows notes what an operation shows.
func shows[O any](op *huma.Operation) shown {
	s := shown{op: op}
	if wrapped, ok := any(new(O)).(interface{ bodyType() reflect.Type }); ok {
		s.answer = wrapped.bodyType()
		paged, list := any(new(O)).(pagedOutput)
		list = list && paged.next() != nil
		s.single = op.Method == http.MethodGet && !list && strings.HasSuffix(op.Path, "}")
	}
	return s
}

func (o *output[T]) bodyType() reflect.Type { return reflect.TypeFor[T]() }

// relate finds out, when all operations are there, which of them show one record and which act on one.
func relate(operations []shown) {
	single, tagged := map[string]bool{}, map[reflect.Type]bool{}
	for _, o := range operations {
		if o.single {
			single[o.op.Path], tagged[o.answer] = true, true
		}
	}
	for _, o := range operations {
		if o.single || o.answer != nil && tagged[o.answer] && o.op.Method != http.MethodGet {
			o.op.Metadata[tagExtension] = true
		}
		if o.op.Method == http.MethodGet {
			continue
		}
		path := o.op.Path
		for depth := 0; path != ""; depth++ {
			if single[path] {
				o.op.Metadata[recordExtension] = depth
				break
			}
			path = path[:strings.LastIndexByte(path, '/')]
		}
	}
}

// document says what of this an operation has.
func documentTags(op *huma.Operation) {
	text := &huma.Schema{Type: huma.TypeString}
	if _, tagged := op.Metadata[tagExtension]; tagged {
		for status, response := range op.Responses {
			if !strings.HasPrefix(status, "2") {
				continue
			}
			if response.Headers == nil {
				response.Headers = map[string]*huma.Param{}
			}
			response.Headers["ETag"] = &huma.Param{Description: "Changes with the record.", Schema: text}
		}
		if op.Method == http.MethodGet {
			op.Parameters = append(op.Parameters, &huma.Param{
				Name: "If-None-Match", In: "header", Schema: text,
				Description: "Answer with 304 and nothing else if the record still has one of these tags.",
			})
			op.Responses["304"] = &huma.Response{Description: "The record has not changed."}
		}
	}
	if _, record := op.Metadata[recordExtension]; record {
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: "If-Match", In: "header", Schema: text,
			Description: "Refuse with 412 unless the record still has one of these tags.",
		})
	}
}

// tagOf is the entity tag of an answer.
func tagOf(body []byte) string {
	const length = 18 // bytes: more than anybody can find two answers for
	sum := sha256.Sum256(body)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:length]) + `"`
}

// hasTag says whether a list of tags, or "*", has a tag. Weak ones are compared as RFC 9110 section 8.8.3.2 says.
func hasTag(values []string, tag string, weak bool) bool {
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		part = strings.TrimSpace(part)
		if weak {
			part = strings.TrimPrefix(part, "W/")
		}
		if part == tag || part == "*" {
			return true
		}
	}
	return false
}

// match lets a change through if its record is as the client has seen it.
func (s *Server) match(ctx huma.Context, next func(huma.Context)) {
	request, _ := humago.Unwrap(ctx)
	wanted := request.Header.Values("If-Match")
	if len(wanted) == 0 || ctx.Operation().Method == http.MethodGet {
		next(ctx)
		return
	}
	if err := s.matches(ctx, request, wanted); err != nil {
		s.writeProblem(ctx, s.problem(ctx.Context(), err))
		return
	}
	next(ctx)
}

func (s *Server) matches(ctx huma.Context, request *http.Request, wanted []string) error {
	depth, ok := ctx.Operation().Metadata[recordExtension].(int)
	if !ok {
		return fault.New(fault.PreconditionFailed, "there is no record here that could match the tags in header If-Match").WithField("If-Match")
	}
	look := request.Clone(auth.WithPrincipal(request.Context(), auth.PrincipalOf(ctx.Context())))
	look.Method, look.Body, look.ContentLength = http.MethodGet, http.NoBody, 0
	elements := strings.Split(look.URL.EscapedPath(), "/")
	path := strings.Join(elements[:len(elements)-depth], "/")
	address, err := look.URL.Parse(path)
	if err != nil {
		return fault.Wrap(err, fault.Malformed, "path %.200q cannot be read", path)
	}
	look.URL = address
	look.Header = http.Header{}
	seen := &glance{header: http.Header{}}
	s.mux.ServeHTTP(seen, look)
	tag := seen.header.Get("ETag")
	switch {
	case seen.status == http.StatusOK && hasTag(wanted, tag, false):
		return nil
	case seen.status == http.StatusOK:
		return fault.New(fault.PreconditionFailed, "the record was changed: its tag is %s, which is not in header If-Match", tag).
			WithField("If-Match").WithHint("look at it again, and decide again")
	case seen.status == http.StatusNotFound:
		return nil // the operation says so better
	default:
		return fault.New(fault.PreconditionFailed, "the record cannot be compared with the tags in header If-Match").WithField("If-Match")
	}
}

// glance is a response of which only the status and the headers are of interest.
type glance struct {
	header http.Header
	status int
}

// Header is part of http.ResponseWriter.
func (g *glance) Header() http.Header { return g.header }

// WriteHeader is part of http.ResponseWriter.
func (g *glance) WriteHeader(status int) { g.status = status }

// Write is part of http.ResponseWriter.
func (g *glance) Write(p []byte) (int, error) { return len(p), nil }

// tag gives an answer its tag, and reports whether the client has it already.
func (c *requestContext) tag() (unchanged bool) {
	if _, tagged := c.Operation().Metadata[tagExtension]; !tagged || c.status < 200 || c.status > 299 {
		return false
	}
	tag := tagOf(bytes.TrimSpace(c.body.Bytes()))
	c.SetHeader("ETag", tag)
	if c.Method() != http.MethodGet && c.Method() != http.MethodHead {
		return false
	}
	request, _ := humago.Unwrap(c)
	values := request.Header.Values("If-None-Match")
	return len(values) > 0 && hasTag(slices.Clone(values), tag, true)
}
