package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/telemetry"
)

// guard turns a panic of a handler into a log line and an answer with status 500. Without it the client would see
// a broken connection and nobody the reason, since net/http writes it among the noise of failed handshakes. Where the
// answer had begun already the connection is broken all the same, so that half an answer is not taken for a whole one.
func guard(next http.Handler, logger *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		watched := &watchedWriter{ResponseWriter: w}
		defer func() {
			panicked := recover()
			switch panicked {
			case nil:
				return
			case http.ErrAbortHandler: // meant to break the connection
				panic(panicked)
			}
			logger.ErrorContext(r.Context(), "panic in a request", telemetry.KeyResource, r.URL.Path,
				telemetry.KeyError, fmt.Sprintf("%v\n%s", panicked, debug.Stack()))
			if watched.begun {
				panic(http.ErrAbortHandler)
			}
			meaning := fault.Internal.Meaning()
			text(w, meaning.Status, meaning.Title+"\n")
		}()
		next.ServeHTTP(watched, r)
	})
}

// watchedWriter knows whether an answer has begun.
type watchedWriter struct {
	http.ResponseWriter
	begun bool
}

// Unwrap is for http.ResponseController.
func (w *watchedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader begins the answer.
func (w *watchedWriter) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

// Write begins the answer.
func (w *watchedWriter) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p) //nolint:wrapcheck // stands in for it
}
