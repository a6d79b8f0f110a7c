package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// profiler returns what writes a CPU profile of the program at an address while a line is measured; the last turn's stays.
func profiler(address, dir, name string) func(context.Context, time.Duration) error {
	return func(ctx context.Context, d time.Duration) (err error) {
		seconds := max(int(d.Seconds())-1, 1)
		url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", address, seconds)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("profile: %s", resp.Status)
		}
		out, err := os.Create(filepath.Join(dir, name+".pprof"))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, resp.Body)
		return errors.Join(err, out.Close())
	}
}

// printProfiles prints the functions that most of the time is spent below.
func printProfiles(ctx context.Context, s *session, dir string, names ...string) {
	const most = 45
	for _, name := range names {
		file := filepath.Join(dir, name+".pprof")
		out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", fmt.Sprintf("-nodecount=%d", most), file).CombinedOutput()
		if err != nil {
			s.Fatalf("go tool pprof: %v\n%s", err, out)
		}
		fmt.Printf("\nWhere the time goes, %s (%s):\n%s\n", name, file, strings.TrimSpace(string(out)))
	}
}
