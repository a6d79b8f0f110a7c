package acmeclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Problem is a problem document (RFC 7807, RFC 8555 section 6.7): the CA's answer to what it refuses.
type Problem struct {
	Type        string       `json:"type"`
	Detail      string       `json:"detail"`
	Status      int          `json:"status"` // of HTTP
	Instance    string       `json:"instance"`
	Subproblems []Subproblem `json:"subproblems"`
	Algorithms  []string     `json:"algorithms"` // of badSignatureAlgorithm

	RetryAfter time.Duration `json:"-"` // from the header, 0 when absent
	Location   string        `json:"-"` // from the header: the account that has the key, in a keyChange conflict
}

// Subproblem is the part of a problem that one identifier has.
type Subproblem struct {
	Type       string         `json:"type"`
	Detail     string         `json:"detail"`
	Identifier pki.Identifier `json:"identifier"`
}

const problemPrefix = "urn:ietf:params:acme:error:"

// Kind returns the ACME error type without its prefix, such as "badNonce", or "" for a problem of another namespace.
func (p *Problem) Kind() string {
	kind, ok := strings.CutPrefix(p.Type, problemPrefix)
	if !ok {
		return ""
	}
	return kind
}

// Error returns the kind, the status and the CA's sentence.
func (p *Problem) Error() string {
	kind := p.Kind()
	if kind == "" {
		kind = p.Type
	}
	text := fmt.Sprintf("%s (%d): %s", kind, p.Status, p.Detail)
	for _, sub := range p.Subproblems {
		text += fmt.Sprintf("; %s: %s", sub.Identifier, sub.Detail)
	}
	return text
}

// IsProblem reports whether err is a problem of the given kind, such as "alreadyRevoked".
func IsProblem(err error, kind string) bool {
	problem, ok := errors.AsType[*Problem](err)
	return ok && problem.Kind() == kind
}

// problem reads an answer of status 400 or above.
func problem(a *answer) *Problem {
	p := &Problem{}
	isProblem := strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json")
	if !isProblem || json.Unmarshal(a.body, p) != nil || p.Detail == "" && p.Type == "" {
		// A proxy's page, say. What it says is not for us.
		p = &Problem{Type: "about:blank", Detail: http.StatusText(a.status)}
	}
	p.Status = a.status
	p.RetryAfter = a.retryAfter()
	p.Location = a.header.Get("Location")
	return p
}
