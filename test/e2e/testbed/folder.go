package testbed

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// folderPrefix begins the name of every folder that a run makes; the number of its process follows.
const folderPrefix = "certloom-e2e-"

// Folder makes a temporary folder that is removed after the test. t.TempDir would do, but a run that is killed leaves
// it behind, and nobody could tell that its owner is gone; Sweep removes the folders of runs that are no more.
func Folder(t T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", folderName())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}

// folderName begins the names of this process's folders.
func folderName() string { return fmt.Sprintf("%s%d-", folderPrefix, os.Getpid()) }

// sweep removes the folders of processes that have ended.
func sweep() {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), folderPrefix+"*-*"))
	if err != nil {
		return
	}
	for _, dir := range found {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), folderPrefix), "-")
		pid, err := strconv.Atoi(owner)
		if err != nil {
			continue
		}
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = os.RemoveAll(dir) // the next run tries again
		}
	}
}
