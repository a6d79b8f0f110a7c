package testbed

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// binaryOnce builds the binary of this tree, once for a run of the tests, and returns its path. Sweep removes it.
// CERTLOOM_E2E_BINARY names one that is built already, CERTLOOM_E2E_AGENT an agent.
var (
	binaryOnce      = sync.OnceValues(func() (string, error) { return buildBinary("certloom", "CERTLOOM_E2E_BINARY") })
	agentBinaryOnce = sync.OnceValues(func() (string, error) { return buildBinary("certloom-agent", "CERTLOOM_E2E_AGENT") })
)

func buildBinary(name, variable string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	root, err := moduleFolder()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", folderName())
	if err != nil {
		return "", fmt.Errorf("make a folder for the binary: %w", err)
	}
	path := filepath.Join(dir, name)
	build := exec.Command("go", "build", "-ldflags=-X main.version=v0.0.0-e2e", "-o", path, "./cmd/"+name)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return path, nil
}

// moduleFolder is where the product's source is.
func moduleFolder() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/certloom/certloom").Output()
	if err != nil {
		return "", fmt.Errorf("find the product's module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Main runs the tests of a package and removes what they share. TestMain exits with what it returns.
func Main(m *testing.M) int {
	defer Sweep()
	return m.Run()
}

// Sweep removes the folders that this process has made, whatever became of their owners, and those of processes that
// are no more.
func Sweep() {
	sweep()
	found, err := filepath.Glob(filepath.Join(os.TempDir(), folderName()+"*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		_ = os.RemoveAll(dir) // if it cannot be removed, the next run tries again
	}
}
