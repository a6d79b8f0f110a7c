package telemetry_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/telemetry"
)

func TestNewLogger(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ format, level, want string }{
		"text":                {"text", "info", `msg=hello name="a\nb" duration=1.5ms`},
		"json":                {"json", "debug", `"msg":"hello","name":"a\nb","duration":"1.5ms"`},
		"refuses/bad level":   {"text", "loud", `log level "loud" is not one of`},
		"refuses/bad format":  {"xml", "info", `log format "xml" is not one of`},
		"refuses/level of no": {"text", "", `log level "" is not one of`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			logger, err := telemetry.NewLogger(&out, tt.format, tt.level)
			if err != nil {
				out.WriteString(err.Error())
			} else {
				logger.InfoContext(t.Context(), "hello", "name", "a\nb", telemetry.KeyDuration, 1500*time.Microsecond)
			}
			if !strings.Contains(out.String(), tt.want) {
				t.Errorf("got %q, want it to contain %q", out.String(), tt.want)
			}
		})
	}
}

func TestNewRegistry(t *testing.T) {
	t.Parallel()
	families, err := telemetry.NewRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == "go_goroutines" {
			return
		}
	}
	t.Error("go_goroutines is missing")
}
