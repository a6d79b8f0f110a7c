// Package telemetry makes the logger and the metrics registry that everything else is handed, and owns the attribute
// keys of log lines.
//
// It must never be given secrets: what reaches a log line has been chosen by the caller, and values are shown as
// they are, with control characters escaped by the handler.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Attribute keys of log lines. Use these and no others, so that a search finds all lines about one thing.
const (
	KeyError     = "error"
	KeyRequest   = "request"
	KeyAccount   = "account"
	KeyActor     = "actor"
	KeyProfile   = "profile"
	KeyCluster   = "cluster"
	KeyNamespace = "namespace"
	KeyPod       = "pod"
	KeyResource  = "resource"
	KeyJob       = "job"
	KeyStatus    = "status"
	KeyDuration  = "duration"
	KeyAddress   = "address"
	KeyUserAgent = "user_agent"
	KeyComponent = "component"
	KeyIdentity  = "identity"
	KeyCount     = "count"
)

// NewLogger returns a logger that writes "text" or "json" lines of at least the given level ("debug", "info",
// "warn", "error") to w. Errors name the setting, the value and what is allowed.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var threshold slog.Level
	switch strings.ToLower(level) {
	case "debug", "info", "warn", "error":
		if err := threshold.UnmarshalText([]byte(level)); err != nil {
			return nil, fmt.Errorf("log level %q: %w", level, err)
		}
	default:
		return nil, fmt.Errorf("log level %q is not one of debug, info, warn, error", level)
	}
	options := &slog.HandlerOptions{Level: threshold}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		options.ReplaceAttr = withUnits
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("log format %q is not one of text, json", format)
	}
}

// withUnits writes durations as text does, "1.5ms": a bare number of nanoseconds would be taken for something else.
func withUnits(_ []string, attr slog.Attr) slog.Attr {
	if attr.Value.Kind() == slog.KindDuration {
		attr.Value = slog.StringValue(attr.Value.Duration().String())
	}
	return attr
}

// NewRegistry returns a metrics registry with the Go runtime's and the process's own metrics.
func NewRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return registry
}
