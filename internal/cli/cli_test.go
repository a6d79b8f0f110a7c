package cli_test

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/cli"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/test/apitest"
)

var update = flag.Bool("update", false, "write the golden files")

// desk is where somebody types commands.
type desk struct {
	world  *apitest.World
	env    map[string]string
	stdin  io.Reader
	dir    string
	golden strings.Builder
}

// newDesk is a desk whose environment names a server, with the token of a role.
func newDesk(t *testing.T, w *apitest.World, role pki.Role) *desk {
	t.Helper()
	d := &desk{world: w, dir: t.TempDir(), stdin: strings.NewReader("")}
	d.env = map[string]string{
		"CERTLOOM_SERVER":     w.Server.URL,
		"CERTLOOM_TOKEN_FILE": d.file(t, "token", w.Tokens[role]+"\n"),
		"CERTLOOM_CA_FILE":    d.file(t, "root.pem", string(w.RootPEM())),
		"HOME":                d.dir,
	}
	return d
}

func (d *desk) file(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type result struct {
	stdout, stderr string
	code           int
}

// run runs one command as main does.
func (d *desk) run(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	root := cli.New(cli.Config{
		Stdin: d.stdin, Stdout: &stdout, Stderr: &stderr, Version: "1.2.3", Now: d.world.Clock.Now,
		Env: func(name string) string { return d.env[name] },
	})
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	cli.PrintError(&stderr, err)
	return result{stdout.String(), stderr.String(), cli.ExitCode(err)}
}

// type runs a command line and adds it with all that it prints to the session's golden file. DIR is the desk's folder.
func (d *desk) enter(t *testing.T, line string) result {
	t.Helper()
	args := []string{} // never nil: cobra would read the test's own
	for _, word := range split(line) {
		args = append(args, strings.ReplaceAll(word, "DIR", d.dir))
	}
	r := d.run(t, args...)
	fmt.Fprintf(&d.golden, "$ certloom %s\n%s", line, r.stdout)
	if r.stderr != "" {
		fmt.Fprintf(&d.golden, "[stderr]\n%s", r.stderr)
	}
	if r.code != 0 {
		fmt.Fprintf(&d.golden, "[exit %d]\n", r.code)
	}
	d.golden.WriteString("\n")
	return r
}

// split takes a line apart at spaces, except within single quotes.
func split(line string) []string {
	var words []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			words = append(words, part)
			continue
		}
		words = append(words, strings.Fields(part)...)
	}
	return words
}

// check compares the session with its golden file.
func (d *desk) check(t *testing.T) {
	t.Helper()
	name := filepath.Join("testdata", strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))+".golden")
	got := d.scrub(d.golden.String())
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got; go test ./internal/cli -update writes it anew):\n%s", name, diff)
	}
}

// scrub replaces what differs from run to run by something as long.
func (d *desk) scrub(text string) string {
	text = strings.NewReplacer(d.dir, "DIR", d.world.Server.URL, "https://SERVER").Replace(text)
	for _, r := range []struct{ pattern, with string }{
		{`\bclt_[\w-]{43}`, "clt_" + strings.Repeat("T", 43)},
		{`\b[0-9a-f]{64}\b`, strings.Repeat("f", 64)},
		{`\b[0-9a-f]{40}\b`, strings.Repeat("5", 40)},
		{`(request: )"?[0-9a-f]{16}"?`, "${1}REQUEST"},
		{`\b[0-9a-v]{36}\b`, strings.Repeat("i", 36)},
		{`("hmacKey": "|hmacKey: |HMAC key: +)[\w-]{43}`, "${1}" + strings.Repeat("K", 43)},
		{`(?s)(-----BEGIN [A-Z ]+-----)\n.*?\n-----END`, "$1\n...\n-----END"},
		{`(-----BEGIN [A-Z ]+-----)\\n[^"]*?\\n-----END`, `$1\n...\n-----END`},
		{`(answer(?:ed|s) in |"answer": ")[\d.]+[µm]?s`, "${1}TIME"},
	} {
		text = regexp.MustCompile(r.pattern).ReplaceAllString(text, r.with)
	}
	return text
}
