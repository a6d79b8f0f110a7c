// Program sqlite-drivers measures one SQLite driver, chosen by a build tag, on the shape of Certloom's work. See README.md.
package main

import (
	"crypto/rand"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// conn is one connection of the driver under test. Statements are prepared once and kept.
type conn interface {
	exec(query string, args ...any) error
	// query reads all columns of all rows and returns how many rows there were.
	query(query string, args ...any) (int, error)
	close() error
}

//go:embed schema.sql
var schema string

const (
	batch   = 32
	filled  = 20_000
	batches = 600
	reads   = 20_000
	lists   = 500
)

func main() {
	folder := "/dev/shm"
	if len(os.Args) > 1 {
		folder = os.Args[1]
	}
	if err := measure(folder); err != nil {
		fmt.Fprintln(os.Stderr, driverName+":", err)
		os.Exit(1)
	}
}

func measure(folder string) error {
	folder, err := os.MkdirTemp(folder, "sqlite-drivers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	db, err := open(filepath.Join(folder, "test.db"))
	if err != nil {
		return err
	}
	defer db.close()
	for statement := range strings.SplitSeq(schema, ";\n") {
		if strings.TrimSpace(statement) != "" {
			if err := db.exec(statement); err != nil {
				return fmt.Errorf("%w in %s", err, statement)
			}
		}
	}
	w := work{db: db}
	if err := w.write(filled / batch); err != nil {
		return err
	}
	write, err := timed(batches*batch, func() error { return w.write(batches) })
	if err != nil {
		return err
	}
	one, err := timed(reads, func() error { return w.readOne(reads) })
	if err != nil {
		return err
	}
	list, err := timed(lists, func() error { return w.readLists(lists) })
	if err != nil {
		return err
	}
	fmt.Printf("%-10s write %6.1f us CPU %6.1f us wall a certificate | read one %5.1f us CPU | list of 100 %7.1f us CPU | peak %3d MiB\n",
		driverName, write.cpu, write.wall, one.cpu, list.cpu, usage().Maxrss/1024)
	return nil
}

type result struct{ cpu, wall float64 }

func timed(n int, f func() error) (result, error) {
	cpu, wall := processorTime(), time.Now()
	err := f()
	per := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 / float64(n) }
	return result{per(processorTime() - cpu), per(time.Since(wall))}, err
}

func processorTime() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u
}

type work struct {
	db      conn
	next    int64
	serials [][]byte
}

func rows(width int) string {
	row := "(?" + strings.Repeat(", ?", width-1) + ")"
	return row + strings.Repeat(", "+row, batch-1)
}

func random(n int) []byte {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		panic(err)
	}
	return b
}

func (w *work) write(n int) error {
	certificates := `INSERT INTO certificate VALUES ` + rows(24) + ` ON CONFLICT DO NOTHING`
	identities := `INSERT INTO identity VALUES ` + rows(12) + ` ON CONFLICT (id) DO UPDATE SET newest = excluded.newest,
		source_id = excluded.source_id, not_before = excluded.not_before, not_after = excluded.not_after,
		renew_at = excluded.renew_at, lapsing_at = excluded.lapsing_at, revoked_at = excluded.revoked_at,
		certificates = identity.certificates + excluded.certificates, last_issued_at = excluded.last_issued_at`
	events := `INSERT INTO event (time, actor_kind, actor_id, actor_name, action, target, user_agent, address, request,
		replica, outcome, detail) VALUES ` + rows(12)
	for range n {
		var c, i, e []any
		for range batch {
			c, i, e = w.certificate(c, i, e)
		}
		for _, s := range []struct {
			query string
			args  []any
		}{{"BEGIN IMMEDIATE", nil}, {certificates, c}, {identities, i}, {events, e}, {"COMMIT", nil}} {
			if err := w.db.exec(s.query, s.args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *work) certificate(c, i, e []any) (certificate, identity, event []any) {
	w.next++
	id, workload := w.next, w.next%10_000+1
	now := int64(1_780_000_000) + id/1000
	serial := append([]byte{byte(now >> 25), byte(now >> 17), byte(now >> 9), byte(now >> 1)}, random(16)...)
	if len(w.serials) < reads {
		w.serials = append(w.serials, serial)
	}
	order := fmt.Sprintf("%012d%x", id, serial[8:])
	name := fmt.Sprintf("spiffe://cluster.local/ns/ns-%d/sa/workload-%d", workload%100, workload)
	life := 86_400 - id%8_640
	c = append(c, id, serial, int64(1), workload, max(0, id-10_000), now, now+life, now+life/2, now, int64(0), life,
		int64(0), int64(0), order, "ecdsa-p256", "ECDSA-SHA256", `{"uris":["`+name+`"]}`, "cert-manager/v1.21.2", "10.0.0.7", "",
		random(32), random(32), random(32), random(650))
	i = append(i, workload, name, id, int64(1), now, now+life, now+life/2, now+life*3/4, int64(0), int64(1), now, now)
	e = append(e, now*1_000_000, "account", "0123456789abcdefghij0123456789abcdef", "", "certificate.issue",
		fmt.Sprintf("%x", serial), "cert-manager/v1.21.2", "10.0.0.7", "request-1", "replica-1", "done",
		`{"profile":"0123456789abcdefghij0123456789abcdef","order":"`+order+`","names":{"uris":["`+name+`"]}}`)
	return c, i, e
}

func (w *work) readOne(n int) error {
	for k := range n {
		found, err := w.db.query(`SELECT c.*, i.name FROM certificate c JOIN identity i ON i.id = c.identity_id
			WHERE c.serial = ?`, w.serials[k%len(w.serials)])
		if err != nil || found != 1 {
			return fmt.Errorf("found %d: %w", found, err)
		}
	}
	return nil
}

func (w *work) readLists(n int) error {
	for k := range n {
		found, err := w.db.query(`SELECT c.*, i.name FROM certificate c JOIN identity i ON i.id = c.identity_id
			WHERE c.id < ? ORDER BY c.id DESC LIMIT 100`, w.next-int64(k*20))
		if err != nil || found != 100 {
			return fmt.Errorf("found %d: %w", found, err)
		}
	}
	return nil
}
