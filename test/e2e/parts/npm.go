package parts

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// EnsureModules returns the folder node_modules with what a folder under parts/ locks in its package-lock.json. npm fetches
// it when the cache lacks it, verifies it by the lock, and runs none of its scripts.
func (b *Builder) EnsureModules(ctx context.Context, name string) (string, error) {
	h := sha256.New()
	files := make(map[string][]byte)
	for _, file := range []string{"package.json", "package-lock.json"} {
		data, err := os.ReadFile(filepath.Join(b.Root, "parts", name, file))
		if err != nil {
			return "", fmt.Errorf("read what %s is made of: %w", name, err)
		}
		files[file] = data
		fmt.Fprintln(h, file, len(data))
		h.Write(data)
	}
	dir := filepath.Join(b.Cache, name+"-"+hex.EncodeToString(h.Sum(nil))[:16])
	modules := filepath.Join(dir, "node_modules")
	if isDir(dir) {
		return modules, nil
	}
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lockFile(dir + ".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if isDir(dir) { // somebody else fetched it while we waited
		return modules, nil
	}
	started := time.Now()
	if err := b.fetchModules(ctx, dir, files); err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	b.say("fetched %s in %s", name, time.Since(started).Round(time.Second))
	return modules, nil
}

// fetchModules fills a temporary folder and renames it, so that dir is there whole or not at all.
func (b *Builder) fetchModules(ctx context.Context, dir string, files map[string][]byte) error {
	tmp, err := os.MkdirTemp(b.Cache, ".fetch-")
	if err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	defer os.RemoveAll(tmp)
	for file, data := range files {
		if err := os.WriteFile(filepath.Join(tmp, file), data, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = tmp
	var said bytes.Buffer
	npm.Stdout, npm.Stderr = &said, &said
	if err := npm.Run(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, said.String())
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("keep it: %w", err)
	}
	return nil
}
