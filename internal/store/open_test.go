package store_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

func TestMigrationsAreTheSameInBothDialects(t *testing.T) {
	t.Parallel()
	lite, post := store.Migrations(t, "sqlite"), store.Migrations(t, "postgres")
	if diff := cmp.Diff(lite, post); diff != "" {
		t.Errorf("migrations differ (-sqlite +postgres):\n%s", diff)
	}
	for i, name := range lite {
		if !strings.HasPrefix(name, fmt.Sprintf("%d ", i+1)) {
			t.Errorf("migration %q is at place %d", name, i+1)
		}
	}
}

func TestSecondProcessIsRefused(t *testing.T) {
	t.Parallel()
	db := storetest.SQLite(t)
	s := db.Open(t)
	path := databaseFile(t, s)
	_, err := store.OpenSQLite(t.Context(), store.SQLiteConfig{Path: path, Now: time.Now})
	want := fmt.Sprintf("data folder in use by another process (PID %d)", os.Getpid())
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db.Open(t)
}

// databaseFile asks SQLite where it keeps its data.
func databaseFile(t *testing.T, s *store.Store) string {
	t.Helper()
	return store.Text(t, s, `SELECT file FROM pragma_database_list WHERE name = 'main'`)
}

func TestFilesArePrivate(t *testing.T) {
	t.Parallel()
	s := storetest.OpenSQLite(t)
	storetest.Seed(t, s)
	files, err := filepath.Glob(databaseFile(t, s) + "*")
	if err != nil || len(files) < 3 {
		t.Fatalf("files %q, error %v", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o, want 600", filepath.Base(file), info.Mode().Perm())
		}
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	for name, fresh := range benchmarked {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := fresh(t)
			s := db.Open(t)
			store.Run(t, s, `INSERT INTO migration (number, name, applied_at) VALUES (9999, 'future', 0)`)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			const want = "the database has schema version 9999, but this program knows only up to"
			if err := db.Try(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		})
	}
}

func TestReplicasMigrateInTurn(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	db := storetest.Postgres(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if err := db.Try(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestReplicasShare lets two stores issue for the same identities and orders.
func TestReplicasShare(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	db := storetest.Postgres(t)
	first, second := db.Open(t), db.Open(t)
	f := storetest.Seed(t, first)
	const orders = 40
	var wg sync.WaitGroup
	var mu sync.Mutex // guards wins
	wins := map[string]int{}
	for i := range orders {
		id := storetest.Workload("demo", fmt.Sprintf("w%d", i%5))
		order := storetest.ID[pki.OrderID](t)
		for _, replica := range []*store.Store{first, second} {
			c := f.NewCertificate(t, id.String(), storetest.Now())
			c.OrderID = order
			wg.Go(func() {
				_, won, err := replica.RecordCertificate(context.Background(), c, id, storetest.Event(audit.CertificateIssue))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if won {
					wins[string(order)]++
				}
			})
		}
	}
	wg.Wait()
	if len(wins) != orders {
		t.Errorf("%d of %d orders have a certificate", len(wins), orders)
	}
	for order, n := range wins {
		if n != 1 {
			t.Errorf("order %s was won %d times", order, n)
		}
	}
	for _, replica := range []*store.Store{first, second} {
		stats, err := replica.Stats(t.Context())
		if err != nil || stats.Certificates != orders || stats.Identities != 5 {
			t.Errorf("stats %+v, error %v", stats, err)
		}
	}
	if got := store.Count(t, first, `SELECT count(*) FROM certificate`); got != orders {
		t.Errorf("%d rows", got)
	}
}

func TestRefusesToOpen(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	noDatabase := filepath.Join(folder, "text.db")
	if err := os.WriteFile(noDatabase, []byte(strings.Repeat("this is no database\n", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	lite := func(cfg store.SQLiteConfig) error {
		_, err := store.OpenSQLite(t.Context(), cfg)
		return err
	}
	post := func(cfg store.PostgresConfig) error {
		_, err := store.OpenPostgres(t.Context(), cfg)
		return err
	}
	const secret = "wrong-horse"
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"no path":        {lite(store.SQLiteConfig{Now: time.Now}), "path and clock are required"},
		"no clock":       {lite(store.SQLiteConfig{Path: filepath.Join(folder, "a.db")}), "path and clock are required"},
		"no folder":      {lite(store.SQLiteConfig{Path: filepath.Join(folder, "none", "a.db"), Now: time.Now}), "no such file or directory"},
		"no database":    {lite(store.SQLiteConfig{Path: noDatabase, Now: time.Now}), "text.db"},
		"no DSN":         {post(store.PostgresConfig{Now: time.Now}), "DSN and clock are required"},
		"bad DSN":        {post(store.PostgresConfig{DSN: "postgres://u:" + secret + "@host:port/db", Now: time.Now}), "PostgreSQL DSN"},
		"nobody there":   {post(store.PostgresConfig{DSN: "postgres://u:" + secret + "@127.0.0.1:1/certloom", Now: time.Now}), "certloom"},
		"no such socket": {post(store.PostgresConfig{DSN: "postgres:///certloom?host=" + folder, Now: time.Now}), "certloom"},
	} {
		if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, tt.err, tt.want)
		}
		if tt.err != nil && strings.Contains(tt.err.Error(), secret) {
			t.Errorf("%s: the password is in the error %v", name, tt.err)
		}
	}
}

func TestGiveBack(t *testing.T) {
	t.Parallel()
	s := storetest.OpenSQLite(t)
	store.Run(t, s, `INSERT INTO setting (name, value) VALUES ('large', zeroblob(40 << 20))`)
	store.Run(t, s, `DELETE FROM setting WHERE name = 'large'`)
	large, err := s.Space(t.Context())
	if err != nil || large.Free < 40<<20 {
		t.Fatal(large, err)
	}
	for more := true; more; {
		if more, err = s.GiveBack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	left, err := s.Space(t.Context())
	if err != nil || left.Bytes > large.Bytes-(20<<20) {
		t.Errorf("%+v of %+v are left, %v", left, large, err)
	}
}
