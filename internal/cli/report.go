package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/internal/fault"
)

// reported is an error that the command has printed already, as part of its output.
type reported struct{ error }

// hinted adds what to do next.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// WithHint returns err with what to do about it, which PrintError shows.
func WithHint(err error, format string, args ...any) error {
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// PrintError tells a person what went wrong and what to do next.
func PrintError(w io.Writer, err error) {
	if err == nil {
		return
	}
	if _, ok := errors.AsType[reported](err); ok {
		return
	}
	fmt.Fprintf(w, "error: %s\n", clean(err.Error(), true))
	if problem, ok := errors.AsType[*apiv1.Problem](err); ok && problem.Status >= http.StatusInternalServerError && problem.Request != "" {
		fmt.Fprintf(w, "request: %s (in the server's log)\n", problem.Request)
	}
	for _, hint := range hints(err) {
		fmt.Fprintf(w, "hint: %s\n", clean(hint, false))
	}
}

// hints collects the next steps that an error has, each once.
func hints(err error) []string {
	var all []string
	add := func(hint string) {
		for _, known := range all {
			if known == hint {
				return
			}
		}
		if hint != "" {
			all = append(all, hint)
		}
	}
	if h, ok := errors.AsType[*hinted](err); ok {
		add(h.hint)
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		add(f.Hint)
	}
	if problem, ok := errors.AsType[*apiv1.Problem](err); ok {
		add(problem.Hint)
		for _, part := range problem.Errors {
			add(part.Hint)
		}
	}
	if len(all) == 0 {
		add(connectionHint(err))
	}
	return all
}

// connectionHint says what to do about a server that cannot be reached or trusted.
func connectionHint(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "name the root of the server's certificate: --ca-file FILE or CERTLOOM_CA_FILE"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "use one of the names in the server's certificate as --server"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "the server's certificate is not valid now: compare the clocks of both machines"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "what listens there does not speak TLS: check host and port of --server"
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "check the host name in --server"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: is the server running (certloom dev, certloom server), and is the port right?"
	case errors.Is(err, context.DeadlineExceeded):
		return "the server did not answer in time: is it reachable from here? wait longer with --timeout 2m"
	}
	return ""
}

// clean removes control characters: what a server or a file says must not steer the terminal. Line ends may stay.
func clean(s string, lines bool) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' && lines:
			return r
		case r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0):
			return -1
		}
		return r
	}, s)
}
