package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Helm renders charts.
type Helm struct{ path, dir, chart string }

// NewHelm returns Helm with the chart of certloom-agent, built first if it never was.
func NewHelm(ctx context.Context, t T) *Helm {
	t.Helper()
	root, err := moduleFolder()
	if err != nil {
		t.Fatal(err)
	}
	built := ensure(ctx, t, "helm")
	return &Helm{
		path: filepath.Join(built["helm"], "bin", "helm"), dir: Folder(t), chart: filepath.Join(root, "deploy", "charts", "certloom-agent"),
	}
}

// Lint runs Helm's own checks of the chart.
func (h *Helm) Lint(ctx context.Context, args ...string) error {
	_, err := h.run(ctx, append([]string{"lint", h.chart, "--strict"}, args...)...)
	return err
}

// Template renders the chart as release certloom-agent in istio-system.
func (h *Helm) Template(ctx context.Context, args ...string) (string, error) {
	return h.run(ctx, append([]string{"template", "certloom-agent", h.chart, "--namespace", "istio-system"}, args...)...)
}

// Render renders a packed chart as release certloom-agent in istio-system, with values from a file.
func (h *Helm) Render(ctx context.Context, chart, values string) (string, error) {
	return h.run(ctx, "template", "certloom-agent", chart, "--namespace", "istio-system", "--values", values)
}

func (h *Helm) run(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, h.path, args...)
	command.Env = []string{"HOME=" + h.dir, "PATH="} // nothing of the machine's own Helm
	var out, problem bytes.Buffer
	command.Stdout, command.Stderr = &out, &problem
	if err := command.Run(); err != nil {
		return "", errors.Join(fmt.Errorf("helm %s: %w", args[0], err), errors.New(strings.TrimSpace(problem.String()+out.String())))
	}
	return out.String(), nil
}

// CheckAgentFlags runs the agent with flags as a Pod would have them, outside of a cluster and without the Pod's files, and
// returns everything that it says is wrong.
func CheckAgentFlags(ctx context.Context, t T, args ...string) []string {
	t.Helper()
	binary, err := agentBinaryOnce()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(ctx, binary, args...)
	command.Env = []string{"POD_NAMESPACE=istio-system"}
	out, err := command.CombinedOutput()
	if err == nil {
		t.Fatal("the agent runs without a cluster")
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}
