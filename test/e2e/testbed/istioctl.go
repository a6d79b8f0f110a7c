package testbed

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
)

// IstioManifest renders an IstioOperator with istioctl and the charts that are in it, building it first if it never was.
func IstioManifest(ctx context.Context, t T, file string) string {
	t.Helper()
	command := exec.CommandContext(ctx, filepath.Join(ensure(ctx, t, "istioctl")["istioctl"], "bin", "istioctl"), "manifest", "generate", "--filename", file)
	command.Env = []string{"HOME=" + Folder(t), "PATH="} // no cluster
	var out, problem bytes.Buffer
	command.Stdout, command.Stderr = &out, &problem
	if err := command.Run(); err != nil {
		t.Fatalf("istioctl manifest generate: %v\n%s", err, problem.String())
	}
	return out.String()
}
