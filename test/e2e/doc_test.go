// Package e2e_test drives the real binary with the programs that people use: cert-manager's controllers on a Kubernetes
// API server, lego, acmez, and clients that lose the server in the middle. README.md says how it runs.
package e2e_test

import (
	"os"
	"testing"

	"github.com/certloom/certloom/test/e2e/testbed"
)

func TestMain(m *testing.M) { os.Exit(testbed.Main(m)) }

// onEachDatabase runs a test on SQLite, and on PostgreSQL where the environment names a server.
func onEachDatabase(t *testing.T, run func(t *testing.T, o testbed.Options)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { run(t, testbed.Options{}) })
	if dsn := os.Getenv(testbed.PostgresVariable); dsn != "" {
		t.Run("postgres", func(t *testing.T) {
			run(t, testbed.Options{Postgres: testbed.FreshDatabase(t.Context(), t, dsn)})
		})
	}
}
