package apiv1

import (
	"fmt"
	"strings"
)

// Problem is a problem document (RFC 9457): every answer that is not a success.
type Problem struct {
	Type   string         `json:"type" example:"urn:certloom:problem:malformed" doc:"Kind of problem, for programs; \"urn:certloom:problem:\" and short words."`
	Title  string         `json:"title" doc:"Kind of problem, for people."`
	Status int            `json:"status" example:"400" doc:"HTTP status."`
	Detail string         `json:"detail" doc:"What is wrong: field, value and rule."`
	Hint   string         `json:"hint,omitempty" doc:"What to do next."`
	Errors []ProblemError `json:"errors,omitempty" doc:"All that is wrong, when it is more than one thing or a field is at fault."`
	// Request identifies the request in the server's log and in the audit log.
	Request string `json:"request,omitempty" doc:"Identifies the request in the server's logs."`
}

// ProblemError is one thing that is wrong.
type ProblemError struct {
	Pointer    string             `json:"pointer,omitempty" example:"/rules/validity/default" doc:"JSON pointer (RFC 6901) of the member of the body at fault."`
	Parameter  string             `json:"parameter,omitempty" doc:"Parameter of the path or query at fault."`
	Identifier *ProblemIdentifier `json:"identifier,omitempty" doc:"Name of the certificate at fault."`
	Detail     string             `json:"detail" doc:"What is wrong: value and rule."`
	Hint       string             `json:"hint,omitempty" doc:"What to do next."`
}

// ProblemIdentifier is a name that a certificate was to have.
type ProblemIdentifier struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// Error lists all that is wrong, one thing a line.
func (p *Problem) Error() string {
	var b strings.Builder
	if len(p.Errors) < 2 {
		b.WriteString(p.Detail)
		if len(p.Errors) == 1 && p.Errors[0].Pointer != "" {
			fmt.Fprintf(&b, " (%s)", p.Errors[0].Pointer)
		}
		return b.String()
	}
	// The detail repeats the first of them, for readers who see nothing else.
	fmt.Fprintf(&b, "%d things are wrong:", len(p.Errors))
	for _, e := range p.Errors {
		b.WriteString("\n  ")
		if field := e.Field(); field != "" {
			b.WriteString(field + ": ")
		}
		b.WriteString(e.Detail)
	}
	return b.String()
}

// Field names what is at fault: the member's pointer or the parameter; "" when it is nothing in particular.
func (e *ProblemError) Field() string {
	if e.Pointer != "" {
		return e.Pointer
	}
	return e.Parameter
}

// GetStatus and ContentType are what the server's framework asks of an error that it writes.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is that of a problem document.
func (p *Problem) ContentType(string) string { return ProblemType }

// ProblemType is the media type of problem documents.
const ProblemType = "application/problem+json"
