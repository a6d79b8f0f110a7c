// Package fault owns the error that crosses layers, and the one table that says what each kind of it means on the
// wire: ACME problem type, HTTP status, gRPC code and log level.
//
// A Public sentence is shown to clients, so it must never hold secrets, SQL, paths or the text of an unexpected
// error; that belongs into the cause, which only the log sees.
package fault

import (
	"errors"
	"fmt"
	"time"

	"github.com/certloom/certloom/internal/pki"
)

// Error is an error whose kind and public sentence are known. Make it with New or Wrap.
type Error struct {
	Kind   Kind
	Public string // one sentence for the client: the field, the value, the rule
	Hint   string // for the operator: what to do next, the command to run
	// Field is the field at fault in a request of the REST API, as a JSON pointer such as "/rules/validity/max".
	Field string
	// Subproblems are the parts of a compound error (RFC 8555 section 6.7.1), one for each identifier at fault.
	Subproblems []Subproblem
	// RetryAfter, when positive, is sent as the Retry-After header, rounded up to whole seconds.
	RetryAfter time.Duration
	// Location, when not empty, is sent as the Location header (key change conflict, RFC 8555 section 7.3.5).
	Location string
	// Algorithms are listed in a badSignatureAlgorithm problem (RFC 8555 section 6.2).
	Algorithms []string

	cause error
}

// Subproblem is one part of a compound error.
type Subproblem struct {
	Kind       Kind
	Public     string
	Identifier pki.Identifier
}

// New returns an error of the given kind with a public sentence.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Public: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the given kind with a public sentence and a cause that only the log sees.
func Wrap(cause error, kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Public: fmt.Sprintf(format, args...), cause: cause}
}

// Error returns the public sentence and the cause; it is for logs and the CLI, not for clients.
func (e *Error) Error() string {
	if e.cause == nil {
		return e.Public
	}
	return e.Public + ": " + e.cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

// WithHint returns e with a hint for the operator.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// WithField returns e with the JSON pointer of the field at fault.
func (e *Error) WithField(pointer string) *Error {
	e.Field = pointer
	return e
}

// From returns the Error in err's chain. Anything else becomes Internal with a sentence that says nothing: what
// we did not foresee may hold what a client must not see.
func From(err error) *Error {
	if found, ok := errors.AsType[*Error](err); ok {
		return found
	}
	return &Error{Kind: Internal, Public: "internal error; the server's log has the details", cause: err}
}

// Is reports whether err's chain has an Error of the given kind.
func Is(err error, kind Kind) bool {
	found, ok := errors.AsType[*Error](err)
	return ok && found.Kind == kind
}
