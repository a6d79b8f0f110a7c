package main

import (
	"bytes"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certloom/certloom/internal/cli"
)

// What keeps a server from starting is told with the next step, and with the status of a wrong command line.
func TestStartRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	dir := t.TempDir()
	missing, data := filepath.Join(dir, "none.yaml"), filepath.Join(dir, "data")
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"argument":        {[]string{"dev", "x"}, []string{`there is no place for "x"`}},
		"no settings":     {[]string{"server", "--config", missing}, []string{missing, "hint: ", "--config FILE"}},
		"no settings yet": {[]string{"init", "--config", missing}, []string{"hint: ", "docs/guide/server.md"}},
		"address taken": {
			[]string{"dev", "--data", data, "--listen", taken.Addr().String()},
			[]string{fmt.Sprintf("cannot listen on %s: bind: address already in use\n", taken.Addr()), "hint: ", "--listen"},
		},
	} {
		t.Run("refuses/"+name, func(t *testing.T) {
			t.Parallel()
			var stderr bytes.Buffer
			root := command()
			root.SetArgs(test.args)
			err := root.ExecuteContext(t.Context())
			cli.PrintError(&stderr, err)
			if code := cli.ExitCode(err); code != 2 {
				t.Errorf("exit status %d", code)
			}
			for _, want := range test.says {
				if !strings.Contains(stderr.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, stderr.String())
				}
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
