package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/apiv1"
	"github.com/certloom/certloom/test/e2e/parts"
	"github.com/certloom/certloom/test/e2e/testbed"
)

// openAPITools are the programs of others that read the API's OpenAPI document.
type openAPITools struct {
	modules  string // node_modules
	document string // the running server's, in a file
	dir      string
}

func prepareOpenAPI(t *testing.T, server *testbed.Certloom) *openAPITools {
	t.Helper()
	builder, err := parts.NewBuilder(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	tools := &openAPITools{dir: testbed.Folder(t)}
	if tools.modules, err = builder.EnsureModules(t.Context(), "openapi"); err != nil {
		t.Fatal(err)
	}
	answer, err := server.HTTPClient(t).Get(server.URL + apiv1.Prefix + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	document, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("OpenAPI document: %s, %v", answer.Status, err)
	}
	tools.document = filepath.Join(tools.dir, "openapi.json")
	tools.write(t, "openapi.json", document)
	if err := os.Symlink(tools.modules, filepath.Join(tools.dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return tools
}

func (o *openAPITools) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(o.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a program of node_modules, or node itself.
func (o *openAPITools) run(ctx context.Context, env []string, program string, args ...string) (string, error) {
	if program != "node" {
		program = filepath.Join(o.modules, ".bin", program)
	}
	command := exec.CommandContext(ctx, program, args...)
	command.Dir = o.dir
	command.Env = append(os.Environ(), append([]string{"REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true"}, env...)...)
	output, err := command.CombinedOutput()
	return string(output), err
}

// TestOpenAPI lets a validator judge the API's document by all rules that it recommends.
func TestOpenAPI(t *testing.T) {
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{})
	tools := prepareOpenAPI(t, server)
	said, err := tools.run(t.Context(), nil, "redocly", "lint", "--extends=recommended", "--format=stylish", tools.document)
	t.Log(strings.TrimSpace(said))
	if err != nil || regexp.MustCompile(`[0-9]+ warning`).MatchString(said) {
		t.Errorf("the document does not pass: %v", err)
	}
	// A validator that finds nothing in anything would prove nothing.
	broken := regexp.MustCompile(`"operationId":"list-certificates"`)
	document, err := os.ReadFile(tools.document)
	if err != nil {
		t.Fatal(err)
	}
	tools.write(t, "broken.json", broken.ReplaceAll(document, []byte(`"operationId":"get-status","responses":7`)))
	if said, err := tools.run(t.Context(), nil, "redocly", "lint", "--extends=recommended", "broken.json"); err == nil {
		t.Errorf("a broken document passes:\n%s", said)
	}
}

// documented returns the code of a language in docs/reference/api.md, one text for each block.
func documented(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for _, found := range regexp.MustCompile("(?ms)^```"+language+"$\\n(.*?)^```$").FindAllSubmatch(text, -1) {
		blocks = append(blocks, string(found[1]))
	}
	if len(blocks) == 0 {
		t.Fatalf("the document has no code in %s", language)
	}
	return blocks
}

// TestDocumentedRequests runs what docs/reference/api.md tells people to type, in the folder of a server that was just set up.
func TestDocumentedRequests(t *testing.T) {
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{DemoWorkloads: 10})
	tools := prepareOpenAPI(t, server)
	awaitCertificates(t, server, 10)
	if err := os.Symlink(filepath.Dir(server.RootFile), filepath.Join(tools.dir, "certloom-data")); err != nil {
		t.Fatal(err)
	}
	// Each answer's status goes to a file. What asks for it itself is seen in the output.
	script := `set -euo pipefail
curl() { command curl --write-out '%{stderr}status %{http_code}\n' "$@"; }
` + strings.Join(documented(t, "sh"), "\n")
	command := exec.CommandContext(t.Context(), "bash", "-c", script)
	command.Dir = tools.dir
	var stdout, stderr strings.Builder
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stdout.String(), stderr.String())
	}
	var got []string
	for _, line := range strings.Split(stderr.String(), "\n") {
		if status, ok := strings.CutPrefix(line, "status "); ok {
			got = append(got, status)
		}
	}
	// whoami, a wrong filter, a credential, five pages or more, fields twice, a tag, 304 in the output, a tag that has changed, the document
	pages := len(got) - 8
	want := append([]string{"200", "400", "201"}, slices.Repeat([]string{"200"}, max(0, pages))...)
	want = append(want, "200", "200", "200", "412", "200")
	if pages < 5 || !slices.Equal(got, want) {
		t.Errorf("statuses %v, want %v\n%s", got, want, stderr.String())
	}
	if !strings.Contains(stdout.String(), "304\n") {
		t.Errorf("a record that is the same was sent again:\n%s", stdout.String())
	}
	if _, err := os.Stat(filepath.Join(tools.dir, "api.d.ts")); err != nil {
		t.Error(err)
	}
}

// awaitCertificates waits for simulated workloads and returns the serials of what they have.
func awaitCertificates(t *testing.T, server *testbed.Certloom, least int) []string {
	t.Helper()
	var serials []string
	err := testbed.Poll(t.Context(), 100*time.Millisecond, func(context.Context) error {
		serials = serials[:0]
		for serial := range server.Inventory(t.Context(), t) {
			serials = append(serials, serial)
		}
		if len(serials) < least {
			return fmt.Errorf("%d certificates are too few", len(serials))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return serials
}

// refusedProgram shows a problem document as the types of the generated client have it.
const refusedProgram = `import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

const client = createClient<paths>({
  baseUrl: process.env.CERTLOOM_SERVER + "/api/v1",
  headers: { Authorization: "Bearer " + process.env.CERTLOOM_TOKEN },
});
const { data, error } = await client.GET("/certificates", { params: { query: { after: "forged" } } });
if (data) throw new Error("a forged cursor was taken");
const problem: components["schemas"]["Problem"] = error;
console.log(JSON.stringify(problem));
`

// TestGeneratedClient makes a client in another language of the API's document, as anybody could: what it lists is what
// our own command lists. The program is the one that docs/reference/api.md shows.
func TestGeneratedClient(t *testing.T) {
	server := testbed.StartCertloom(t.Context(), t, testbed.Options{DemoWorkloads: 10})
	tools := prepareOpenAPI(t, server)
	if said, err := tools.run(t.Context(), nil, "openapi-typescript", "openapi.json", "--output", "api.d.ts"); err != nil {
		t.Fatalf("generate: %v\n%s", err, said)
	}
	tools.write(t, "package.json", []byte(`{"type": "module"}`))
	tools.write(t, "list.ts", []byte(documented(t, "ts")[0]))
	tools.write(t, "refused.ts", []byte(refusedProgram))
	if said, err := tools.run(t.Context(), nil, "tsc", "--strict", "--noEmitOnError", "--target", "es2022", "--module", "nodenext", "--skipLibCheck",
		"--types", "node", "list.ts", "refused.ts"); err != nil {
		t.Fatalf("type check: %v\n%s", err, said)
	}
	serials := awaitCertificates(t, server, 10)
	env := []string{"CERTLOOM_SERVER=" + server.URL, "CERTLOOM_TOKEN=" + server.APIToken, "NODE_EXTRA_CA_CERTS=" + server.RootFile}
	listed, err := tools.run(t.Context(), env, "node", "list.js")
	if err != nil {
		t.Fatalf("list: %v\n%s", err, listed)
	}
	for _, serial := range serials {
		if !strings.Contains(listed, serial) {
			t.Errorf("certificate %s is not among those that the generated client lists:\n%s", serial, listed)
		}
	}
	said, err := tools.run(t.Context(), env, "node", "refused.js")
	if err != nil {
		t.Fatalf("refused: %v\n%s", err, said)
	}
	var problem apiv1.Problem
	if err := json.Unmarshal([]byte(said), &problem); err != nil || problem.Status != http.StatusBadRequest || len(problem.Errors) != 1 || problem.Errors[0].Parameter != "after" {
		t.Errorf("problem %s: %v", said, err)
	}
	t.Logf("%d certificates, 3 a page; problem: %s", strings.Count(listed, "\n"), problem.Detail)
}
