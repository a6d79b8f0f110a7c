package acme

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
)

// reply is what a handler answers. The headers that all answers have are not in it.
type reply struct {
	status     int
	location   string
	links      []string // complete values, one header line each: several clients read only the first link of a line
	retryAfter time.Duration
	body       any    // written as JSON, unless nil
	chain      []byte // written as a PEM chain, unless nil
	cache      string // Cache-Control of a GET
}

// Content types. Clients compare them as they are here.
const (
	typeJSON    = "application/json"
	typeProblem = "application/problem+json"
	typeChain   = "application/pem-certificate-chain"
	typeJOSE    = "application/jose+json"
)

// Header names in canonical form, so that they can be set without a look-up.
const (
	headerNonce      = "Replay-Nonce"
	headerLink       = "Link"
	headerCache      = "Cache-Control"
	headerLocation   = "Location"
	headerRetryAfter = "Retry-After"
	headerType       = "Content-Type"
	headerLength     = "Content-Length"
)

func link(url, relation string) string { return "<" + url + ">;rel=\"" + relation + "\"" }

func (p *reply) write(w http.ResponseWriter) {
	h := w.Header()
	if p.location != "" {
		h.Set(headerLocation, p.location)
	}
	for _, l := range p.links {
		h.Add(headerLink, l)
	}
	if p.retryAfter > 0 {
		h.Set(headerRetryAfter, seconds(p.retryAfter))
	}
	if p.cache != "" {
		h.Set(headerCache, p.cache)
	}
	switch {
	case p.chain != nil:
		send(w, p.status, typeChain, p.chain)
	case p.body != nil:
		send(w, p.status, typeJSON, encode(p.body))
	default:
		w.WriteHeader(p.status)
	}
}

func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set(headerType, contentType)
	h.Set(headerLength, strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// encode writes one of the views of this package as JSON, which cannot fail. HTML's characters are not escaped: some
// clients read JSON with regular expressions.
func encode(view any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(view); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// seconds rounds up, so that a request after that time is not too early (RFC 9110 section 10.2.3).
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// stamp writes a time as RFC 3339, in UTC and whole seconds.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// namespace is that of problem types (RFC 8555 section 6.7).
const namespace = "urn:ietf:params:acme:error:"

// problem is a problem document (RFC 7807, RFC 8555 section 6.7).
type problem struct {
	Type        string       `json:"type"`
	Detail      string       `json:"detail"`
	Status      int          `json:"status"`
	Instance    string       `json:"instance,omitempty"`
	Algorithms  []string     `json:"algorithms,omitempty"`
	Subproblems []subproblem `json:"subproblems,omitempty"`
}

// subproblem is a part of a compound problem (RFC 8555 section 6.7.1).
type subproblem struct {
	Type       string         `json:"type"`
	Detail     string         `json:"detail"`
	Identifier pki.Identifier `json:"identifier"`
}

// defaultRetry is what a client is told that came at a bad time, when nobody knows better.
const defaultRetry = 2 * time.Second

// refuse writes an error. It is the only place that makes problem documents.
func (s *Server) refuse(w http.ResponseWriter, e *fault.Error) {
	meaning := e.Kind.Meaning()
	p := problem{Type: namespace + meaning.ACME, Detail: printable(e.Public), Status: meaning.Status, Algorithms: e.Algorithms}
	if p.Detail == "" {
		p.Detail = meaning.Title
	}
	for _, sub := range e.Subproblems {
		p.Subproblems = append(p.Subproblems, subproblem{
			Type: namespace + sub.Kind.Meaning().ACME, Detail: printable(sub.Public), Identifier: sub.Identifier,
		})
	}
	if e.Kind == fault.Compound {
		p.Status = worst(e.Subproblems, p.Status)
	}
	h := w.Header()
	retry := e.RetryAfter
	if retry <= 0 && e.Kind == fault.Unavailable {
		retry = defaultRetry
	}
	if retry > 0 {
		h.Set(headerRetryAfter, seconds(retry))
	}
	if e.Location != "" {
		h.Set(headerLocation, e.Location)
	}
	if e.Kind == fault.UserActionRequired && s.Options.TermsOfService != "" {
		p.Instance = s.Options.TermsOfService
		h.Add(headerLink, link(s.Options.TermsOfService, "terms-of-service"))
	}
	h.Set(headerCache, "no-store")
	send(w, p.Status, typeProblem, encode(p))
}

// worst returns the highest HTTP status of the parts of a compound problem.
func worst(parts []fault.Subproblem, fallback int) int {
	status := 0
	for _, part := range parts {
		status = max(status, part.Kind.Meaning().Status)
	}
	if status == 0 {
		return fallback
	}
	return status
}

// printable takes control characters out of a sentence that may quote a request.
func printable(text string) string {
	control := func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }
	if strings.IndexFunc(text, control) < 0 {
		return text
	}
	return strings.Map(func(r rune) rune {
		if control(r) {
			return -1
		}
		return r
	}, text)
}
