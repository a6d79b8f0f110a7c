package server_test

import (
	"crypto/rand"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/server"
)

// A start that cannot be says all that is wrong, and makes nothing.
func TestStartRefuses(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, dir, listen string) error {
		t.Helper()
		settings, err := server.DevSettings(server.DevOptions{Data: dir, Listen: listen, HTTP01Port: 5002, TLSALPN01Port: 5001, LogLevel: "warn"})
		if err != nil {
			t.Fatal(err)
		}
		listeners, parts, err := server.StartDev(t.Context(), server.Config{
			Settings: settings, Version: "test", Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		}, rand.Reader)
		if err == nil {
			listeners.Close()
			_ = parts.Close()
			t.Fatal("started")
		}
		return err
	}
	dir, listen := t.TempDir(), freeListen(t)
	startDev(t, dir, listen, 0)
	t.Run("addresses and folder in use", func(t *testing.T) {
		t.Parallel()
		err := start(t, dir, listen)
		for _, want := range []string{"listen.https: ", "listen.health: ", "data folder in use by another process (PID "} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is missing in:\n%v", want, err)
			}
		}
	})
	t.Run("folder in use", func(t *testing.T) {
		t.Parallel()
		if err := start(t, dir, freeListen(t)); !strings.Contains(err.Error(), "data folder in use") {
			t.Error(err)
		}
	})
	t.Run("addresses in use", func(t *testing.T) {
		t.Parallel()
		fresh := filepath.Join(t.TempDir(), "data")
		if err := start(t, fresh, listen); !strings.Contains(err.Error(), "listen.https: ") {
			t.Error(err)
		}
		if _, err := os.Stat(fresh); err == nil {
			t.Error("the folder was made")
		}
	})
	t.Run("key file gone", func(t *testing.T) {
		t.Parallel()
		other := t.TempDir()
		d := startDev(t, other, freeListen(t), 0)
		d.stop()
		if err := os.Remove(filepath.Join(other, "master.key")); err != nil {
			t.Fatal(err)
		}
		if err := start(t, other, freeListen(t)); !strings.Contains(err.Error(), "master.key") {
			t.Error(err)
		}
	})
}
