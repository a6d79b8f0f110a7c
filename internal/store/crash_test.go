package store_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// crashVariable tells this test binary to be the process that is killed, and names its database.
const crashVariable = "CERTLOOM_TEST_CRASH_DATABASE"

// TestKilled kills a process in the middle of storing certificates, again and again on the same database. What was
// acknowledged must be there, and the parts of each certificate together: its row, its identity, its event.
func TestKilled(t *testing.T) {
	t.Parallel()
	if path := os.Getenv(crashVariable); path != "" {
		storeUntilKilled(t, path)
		return
	}
	path := filepath.Join(t.TempDir(), "crash.db")
	seeded, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: path, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Seed(t, seeded)
	if err := seeded.Close(); err != nil {
		t.Fatal(err)
	}
	var acknowledged []pki.Serial
	for round := range 6 {
		acknowledged = append(acknowledged, killAfter(t, path, 40+97*round)...)
		s, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: path, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		checkAfterCrash(t, s, acknowledged)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killAfter starts this test again as a child, kills it after it has acknowledged some certificates, and returns all that
// it has acknowledged.
func killAfter(t *testing.T, path string, count int) []pki.Serial {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$", "-test.v")
	child.Env = append(os.Environ(), crashVariable+"="+path)
	output, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var serials []pki.Serial
	var other []string
	lines := bufio.NewScanner(output)
	for lines.Scan() {
		serial, found := strings.CutPrefix(lines.Text(), "stored ")
		if !found {
			other = append(other, lines.Text())
			continue
		}
		if serials = append(serials, pki.Serial(serial)); len(serials) == count {
			if err := child.Process.Kill(); err != nil { // the lines that are under way are read nevertheless
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait() // it was killed
	if len(serials) < count {
		t.Fatalf("the child stored %d certificates only and said:\n%s", len(serials), strings.Join(other, "\n"))
	}
	return serials
}

// storeUntilKilled is the child: it stores certificates and says so on its output.
func storeUntilKilled(t *testing.T, path string) {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: path, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	f := &storetest.Fixture{Store: s}
	cas, err := s.CAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	profiles, err := s.Profiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.CA, f.Profile = cas[0], profiles[0]
	var mu sync.Mutex // guards the output, so that a line is written at once
	var wg sync.WaitGroup
	for worker := range 12 {
		wg.Go(func() {
			for i := 0; ; i++ {
				id := storetest.Workload("demo", fmt.Sprintf("w%d", (worker+i)%20))
				c := f.NewCertificate(t, id.String(), storetest.Now())
				if _, _, err := s.RecordCertificate(context.Background(), c, id, storetest.Event(audit.CertificateIssue)); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				_, err := os.Stdout.WriteString("stored " + string(c.Serial) + "\n")
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

func checkAfterCrash(t *testing.T, s *store.Store, acknowledged []pki.Serial) {
	t.Helper()
	for _, serial := range acknowledged {
		if _, err := s.Certificate(t.Context(), serial); err != nil {
			t.Errorf("%s was acknowledged: %v", serial, err)
		}
	}
	rows := store.Count(t, s, `SELECT count(*) FROM certificate`)
	if rows < int64(len(acknowledged)) {
		t.Errorf("%d certificates for %d acknowledged ones", rows, len(acknowledged))
	}
	for what, query := range map[string]string{
		"events":                     `SELECT count(*) FROM event WHERE action = 'certificate.issue'`,
		"certificates of identities": `SELECT sum(certificates) FROM identity`,
		"counted certificates":       `SELECT sum(value) FROM counter WHERE name = 'certificates'`,
		"orders":                     `SELECT count(DISTINCT order_id) FROM certificate`,
		"certificates in chains": `WITH RECURSIVE chain (id) AS (SELECT newest FROM identity
			UNION ALL SELECT c.previous FROM chain JOIN certificate c ON c.id = chain.id WHERE c.previous > 0)
			SELECT count(DISTINCT id) FROM chain`,
	} {
		if got := store.Count(t, s, query); got != rows {
			t.Errorf("%d %s, but %d certificates", got, what, rows)
		}
	}
	if sound := store.Text(t, s, `PRAGMA integrity_check`); sound != "ok" {
		t.Error(sound)
	}
}
