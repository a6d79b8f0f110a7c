//go:build unix

package store

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockFile takes the exclusive lock that says which process uses a database file, and writes this process's number
// into it for the message that a second one gets. The lock ends with the process, however that ends; the file stays,
// since removing it would let two processes lock two files of the same name.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock file: %w", err)
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return file, writeOwner(file)
	}
	defer func() { _ = file.Close() }()
	if !errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return nil, &inUseError{path: path, owner: readOwner(file)}
}

type inUseError struct {
	path  string
	owner string
}

func (e *inUseError) Error() string {
	return fmt.Sprintf("data folder in use by another process (PID %s): %s is locked", e.owner, e.path)
}

func writeOwner(file *os.File) error {
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	if _, err := file.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}

func readOwner(file *os.File) string {
	raw := make([]byte, 20)
	n, err := file.ReadAt(raw, 0)
	owner := strings.TrimSpace(string(raw[:n]))
	if n == 0 && err != nil || owner == "" {
		return "unknown"
	}
	return owner
}
