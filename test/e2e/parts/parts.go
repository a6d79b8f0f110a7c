// Package parts builds the programs of others that the tests run beside ours, once, and keeps them outside the tree.
// Each subfolder is a module of its own that pins one of them.
package parts

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Part is a program of somebody else that the tests run: a folder under parts/ with a go.mod of its own, because the
// parts' dependency graphs do not agree with ours or with one another.
type Part struct {
	Name     string   // folder under parts/
	Packages []string // what to build; each binary is named after the last element of its path unless Binary says otherwise
	Binary   string   // name of the only binary, where the import path would name it badly
	LDFlags  string   // more linker flags, mostly version stamps
	Tags     string   // build tags
	CRDs     string   // module whose definitions are kept beside the binaries
	CRDGlob  string   // the definitions' files in that module; "" is deploy/crds/*.yaml
	Patience string   // how long a cold build takes, for the progress line
}

// All lists every part, the slow one last so that a build that fails early fails soon.
func All() []Part {
	const kube = "k8s.io/component-base/version"
	return []Part{
		{
			Name: "etcd", Packages: []string{"go.etcd.io/etcd/server/v3"}, Binary: "etcd", Patience: "about a minute",
		},
		{
			Name: "certmanager", Packages: []string{"."}, Binary: "certmanager", Patience: "about two minutes",
			LDFlags: "-X github.com/cert-manager/cert-manager/pkg/util.AppVersion=v1.21.2",
			CRDs:    "github.com/cert-manager/cert-manager",
		},
		{
			Name: "pebble", Packages: []string{"github.com/letsencrypt/pebble/v2/cmd/pebble"}, Patience: "half a minute",
		},
		{
			// Istio's own tags; those of its agent would make a second build of everything.
			Name: "istio", Tags: "vtprotobuf,disable_pgv", Patience: "four to six minutes",
			Packages: []string{
				"istio.io/istio/pilot/cmd/pilot-discovery", "istio.io/istio/pilot/cmd/pilot-agent",
				"istio.io/istio/pkg/test/echo/cmd/server", "istio.io/istio/pkg/test/echo/cmd/client",
			},
			CRDs: "istio.io/istio", CRDGlob: "manifests/charts/base/files/crd-*.yaml",
		},
		{
			// With the tags of the part before, so that both share what is compiled.
			Name: "istioctl", Tags: "vtprotobuf,disable_pgv", Patience: "two minutes more", Packages: []string{"istio.io/istio/istioctl/cmd/istioctl"},
		},
		{
			Name: "helm", Packages: []string{"helm.sh/helm/v4/cmd/helm"}, Patience: "two minutes",
		},
		{
			Name: "oidcprovider", Packages: []string{"."}, Binary: "oidcprovider", Patience: "half a minute",
		},
		{
			Name: "stepca", Packages: []string{"github.com/smallstep/certificates/cmd/step-ca"}, Patience: "about a minute",
		},
		{
			Name:     "apiserver",
			Packages: []string{"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubectl"},
			// Unstamped, the API server calls itself v0.0.0-master and clients refuse it.
			LDFlags:  fmt.Sprintf("-X %[1]s.gitVersion=v1.37.2 -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=37", kube),
			Patience: "five to ten minutes",
		},
	}
}

// Find returns the part of that name.
func Find(name string) (Part, error) {
	for _, p := range All() {
		if p.Name == name {
			return p, nil
		}
	}
	return Part{}, fmt.Errorf("no part is called %q", name)
}

// Builder builds parts once and keeps them outside the tree.
type Builder struct {
	Root     string    // folder that holds parts/
	Cache    string    // folder of the built parts
	Progress io.Writer // lines that tell what is being built; nil for none
}

// NewBuilder returns a Builder for the module that the working directory lies in, with the cache at
// $XDG_CACHE_HOME/certloom/testbed, or ~/.cache/certloom/testbed.
func NewBuilder(progress io.Writer) (*Builder, error) {
	root, err := moduleDir()
	if err != nil {
		return nil, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the cache folder: %w", err)
	}
	return &Builder{Root: root, Cache: filepath.Join(cache, "certloom", "testbed"), Progress: progress}, nil
}

// Ensure returns the folder of a built part (bin/ and, where it has them, crds/), building it when the cache lacks it.
// Two processes that want the same part at once build it once.
func (b *Builder) Ensure(ctx context.Context, p Part) (string, error) {
	sum, err := b.fingerprint(p)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, p.Name+"-"+sum)
	if isDir(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(dir) { // somebody else built it while we waited
		return dir, nil
	}
	return dir, b.build(ctx, p, dir)
}

// build fills a temporary folder and renames it, so that dir is there whole or not at all.
func (b *Builder) build(ctx context.Context, p Part, dir string) error {
	started := time.Now()
	b.say("building %s (%s when cold; kept in %s)", p.Name, p.Patience, dir)
	tmp, err := os.MkdirTemp(b.Cache, ".build-"+p.Name+"-")
	if err != nil {
		return fmt.Errorf("make a build folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	done := b.beat(p)
	err = b.compile(ctx, p, filepath.Join(tmp, "bin"))
	done()
	if err != nil {
		return err
	}
	if p.CRDs != "" {
		if err := b.copyCRDs(ctx, p, filepath.Join(tmp, "crds")); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("open the build folder: %w", err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("keep %s: %w", p.Name, err)
	}
	b.say("built %s in %s", p.Name, time.Since(started).Round(time.Second))
	return nil
}

// beat says every half minute that the build goes on, until what it returns is called.
func (b *Builder) beat(p Part) func() {
	const often = 30 * time.Second
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := time.Now(), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(often)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				b.say("still building %s, %s so far", p.Name, time.Since(started).Round(time.Second))
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// compile runs the go command in the part's own module. Builds are niced: they take minutes, and nobody waits for them
// with the machine idle.
func (b *Builder) compile(ctx context.Context, p Part, bin string) error {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", bin, err)
	}
	out := bin + string(filepath.Separator)
	if p.Binary != "" {
		out = filepath.Join(bin, p.Binary)
	}
	args := []string{"-n", "10", "go", "build", "-mod=readonly", "-trimpath", "-ldflags=-s -w " + p.LDFlags, "-tags=" + p.Tags, "-o", out}
	_, err := b.goCommand(ctx, p, append(args, p.Packages...))
	return err
}

// copyCRDs takes the definitions from the same module version that the part was built from.
func (b *Builder) copyCRDs(ctx context.Context, p Part, dir string) error {
	out, err := b.goCommand(ctx, p, []string{"-n", "10", "go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", p.CRDs})
	if err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(strings.TrimSpace(out), cmp.Or(p.CRDGlob, "deploy/crds/*.yaml")))
	if err != nil {
		return fmt.Errorf("find definitions of %s: %w", p.Name, err)
	}
	if len(names) == 0 {
		return fmt.Errorf("module %s has no definitions at %q", p.CRDs, p.CRDGlob)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", dir, err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			return fmt.Errorf("read a definition of %s: %w", p.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), data, 0o644); err != nil {
			return fmt.Errorf("keep a definition of %s: %w", p.Name, err)
		}
	}
	return nil
}

// goCommand runs nice with the arguments in the part's folder and returns what it printed.
func (b *Builder) goCommand(ctx context.Context, p Part, args []string) (string, error) {
	cmd := exec.CommandContext(ctx, "nice", args...)
	cmd.Dir = b.partDir(p)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-buildvcs=false")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s: %s: %w\n%s", p.Name, strings.Join(args[2:4], " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// fingerprint names everything that decides what comes out: the module's files, the toolchain, the linker flags.
func (b *Builder) fingerprint(p Part) (string, error) {
	dir := b.partDir(p)
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return "", fmt.Errorf("list %s: %w", dir, err)
	}
	slices.Sort(names)
	h := sha256.New()
	fmt.Fprintln(h, runtime.Version(), runtime.GOOS, runtime.GOARCH, p.Packages, p.Binary, p.LDFlags, p.CRDs)
	if p.Tags+p.CRDGlob != "" {
		fmt.Fprintln(h, p.Tags, p.CRDGlob)
	}
	found := false
	for _, name := range names {
		switch base := filepath.Base(name); {
		case base == "go.mod", base == "go.sum", strings.HasSuffix(base, ".go"):
			data, err := os.ReadFile(name)
			if err != nil {
				return "", fmt.Errorf("read %s: %w", name, err)
			}
			fmt.Fprintln(h, base, len(data))
			h.Write(data)
			found = true
		}
	}
	if !found {
		return "", fmt.Errorf("%s holds no module", dir)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

func (b *Builder) partDir(p Part) string { return filepath.Join(b.Root, "parts", p.Name) }

func (b *Builder) say(format string, args ...any) {
	if b.Progress != nil {
		fmt.Fprintf(b.Progress, "testbed: "+format+"\n", args...)
	}
}

// lockFile takes the advisory lock on name, waiting for it, and returns what gives it back.
func lockFile(name string) (func(), error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return func() { f.Close() }, nil // closing gives the lock back
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// moduleDir finds the folder of the tests' own go.mod, from the working directory upwards.
func moduleDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the working directory: %w", err)
	}
	for {
		if isDir(filepath.Join(dir, "parts", "certmanager")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("run it inside test/e2e: no folder above the working directory has parts/certmanager")
		}
		dir = parent
	}
}
