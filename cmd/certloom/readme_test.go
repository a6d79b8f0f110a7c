package main

import (
	"bufio"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asMain makes this test binary the program itself, so that tests start what is shipped.
const asMain = "CERTLOOM_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// program returns a command that runs this program in a folder.
func program(ctx context.Context, t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, binary, args...)
	c.Dir = dir
	c.Env = append(os.Environ(), asMain+"=1", "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	return c
}

// The five minutes of README.md: certloom dev with simulated workloads, and then every command of ours that stands
// there.
func TestFiveMinutes(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	dev := program(ctx, t, dir, "dev", "--listen", "localhost:"+freePort(t), "--demo-workloads", "3")
	output, err := dev.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var problems strings.Builder
	dev.Stderr = &problems
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	started := false
	for lines := bufio.NewScanner(output); !started && lines.Scan(); {
		started = strings.Contains(lines.Text(), "Ctrl-C")
	}
	if !started {
		_ = dev.Wait()
		t.Fatalf("certloom dev ended before it said how to stop it:\n%s", problems.String())
	}

	for _, line := range readmeCommands(t) {
		out, err := program(ctx, t, dir, words(line)[1:]...).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", line, err, out)
		}
	}

	if err := dev.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := dev.Wait(); err != nil {
		t.Errorf("certloom dev did not end well: %v\n%s", err, problems.String())
	}
}

// readmeCommands returns our commands in the section of the five minutes.
func readmeCommands(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := regexp.MustCompile(`(?ms)^## Five minutes$.*?^## `).FindString(string(text))
	found := commandLines(section)
	if len(found) < 3 {
		t.Fatalf("README.md has only the commands %q", found)
	}
	return found
}

// freePort returns the first of three ports that were free a moment ago; certloom dev takes all three. They lie below the
// range that Linux takes the ports of outgoing connections and of other listeners from.
func freePort(t *testing.T) string {
	t.Helper()
	const lowest, highest = 20000, 32000
	for range 100 {
		port := lowest + rand.IntN(highest-lowest)
		if free(port) && free(port+1) && free(port+2) {
			return strconv.Itoa(port)
		}
	}
	t.Fatal("found no free port")
	return ""
}

func free(port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}
