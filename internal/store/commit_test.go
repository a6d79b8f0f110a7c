package store_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/certloom/certloom/internal/audit"
	"github.com/certloom/certloom/internal/fault"
	"github.com/certloom/certloom/internal/pki"
	"github.com/certloom/certloom/internal/store"
	"github.com/certloom/certloom/internal/store/storetest"
)

// cutter is a PostgreSQL server that loses a connection at a COMMIT, as a failover does.
type cutter struct {
	network, address string // of the real one
	dsn              string // of this one
	mode             atomic.Int32
}

// What a cutter does at the next COMMIT.
const (
	cutNothing int32 = iota
	cutBefore        // the server does not get it
	cutAfter         // the client does not get the answer
)

func startCutter(t *testing.T, database string) *cutter {
	t.Helper()
	server, err := pgx.ParseConfig(storetest.NeedPostgres(t))
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "pg") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	listener, err := net.Listen("unix", filepath.Join(folder, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{dsn: fmt.Sprintf("host=%s user=%s password='%s' dbname=%s sslmode=disable", folder, server.User, server.Password, database)}
	c.network, c.address = pgconn.NetworkAddress(server.Host, server.Port)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.serve(client)
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return c
}

func (c *cutter) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial(c.network, c.address)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	var mute atomic.Bool // the server's next words are lost, and the connection with them
	go func() {
		defer func() { _ = client.Close() }()
		relay(server, client, func([]byte) bool { return !mute.Load() })
	}()
	relay(client, server, func(said []byte) bool {
		if !bytes.Contains(said, []byte("COMMIT\x00")) {
			return true
		}
		switch c.mode.Swap(cutNothing) {
		case cutBefore:
			return false
		case cutAfter:
			mute.Store(true)
		}
		return true
	})
}

// relay copies for as long as what is copied may pass.
func relay(from io.Reader, to io.Writer, pass func([]byte) bool) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !pass(buffer[:n]) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// TestCommitWithoutAnAnswer: whether a certificate was stored or not, nothing is said to be, the same order asked for
// again gives one certificate, and all that was handed out is there.
func TestCommitWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	storetest.NeedPostgres(t)
	for name, tt := range map[string]struct {
		mode   int32
		stored bool
	}{
		"connection lost before COMMIT arrived": {cutBefore, false},
		"connection lost after COMMIT was done": {cutAfter, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			direct := storetest.Postgres(t).Open(t)
			f := storetest.Seed(t, direct)
			c := startCutter(t, store.Text(t, direct, `SELECT current_database()`))
			s, err := store.OpenPostgres(t.Context(), store.PostgresConfig{DSN: c.dsn, Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			record := func(r *pki.Certificate) (*pki.Certificate, bool, error) {
				return s.RecordCertificate(context.Background(), r, pki.SPIFFEID{}, storetest.Event(audit.CertificateIssue))
			}
			first := f.NewCertificate(t, "a.example", storetest.Now())
			c.mode.Store(tt.mode)
			if stored, won, err := record(first); !fault.Is(err, fault.Unavailable) || won || stored != nil {
				t.Fatalf("stored %v, won %t, error %v; want Unavailable", stored, won, err)
			}
			again := f.NewCertificate(t, "a.example", storetest.Now())
			again.OrderID = first.OrderID
			stored, won, err := record(again)
			if err != nil {
				t.Fatal(err)
			}
			want := again.Serial
			if tt.stored {
				want = first.Serial
			}
			if won == tt.stored || stored.Serial != want {
				t.Errorf("won %t with %s; the first is %s", won, stored.Serial, first.Serial)
			}
			for _, table := range []string{"certificate", "identity", "event WHERE action = 'certificate.issue'"} {
				if n := store.Count(t, direct, "SELECT count(*) FROM "+table); n != 1 {
					t.Errorf("%d rows in %s, want 1", n, table)
				}
			}
		})
	}
}
