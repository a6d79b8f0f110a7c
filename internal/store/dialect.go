package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// dialect is all that differs between the databases, apart from how they are opened (sqlite.go, postgres.go) and the
// types in the migrations. Everything else is one text for both, with placeholders $1, $2, ...
type dialect struct {
	name string
	// begin starts a writer's transaction. SQLite takes its write lock at once: upgrading later could fail.
	begin string
	// forUpdate locks selected rows until the transaction ends. SQLite needs no such words: there is one writer.
	forUpdate string
	// numbered rewrites the placeholders. SQLite would take "$1" for a name and number it by its first appearance;
	// its own "?1" says which argument it is.
	numbered func(query string) string
	// placeholder is the n-th one of a long list. SQLite's driver asks for the name of each, which takes time that grows
	// with their number, unless they have none.
	placeholder func(n int) string
	// typed is placeholder where a type cannot be guessed. SQLite's values have types of their own.
	typed func(n int, name string) string
	// utf8 replaces what is not text in the arguments of a statement: PostgreSQL refuses a NUL and bytes that are not
	// UTF-8, which clients may send (as a User-Agent, in a URL); SQLite stores any bytes.
	utf8 bool
	// prepare keeps prepared statements on the connection. pgx does that by itself.
	prepare bool
	// certificateIDs is the query for n ($1) fresh certificate IDs. With several writers they come from a sequence;
	// SQLite's only writer counts on from the newest row.
	certificateIDs string
	// space is the query for the bytes that the database takes, and for those of them that are free.
	space string
	// giveBack is the pragma that returns so many free pages to the file system, "" where the database sees to it.
	giveBack string
	// down tells that the database cannot be used now, which is no fault of the statement.
	down func(err error) bool
	// conflict tells that the transaction was ended in favour of another one, and that the same may succeed now.
	conflict func(err error) bool
	// aborted tells that a statement of the connection's transaction has failed, so that it cannot be committed.
	// SQLite undoes the statement alone.
	aborted func(conn *sql.Conn) bool
}

var (
	errQueueFull = errors.New("queue full")
	errClosed    = errors.New("store closed")
)

func sqliteDialect() *dialect {
	return &dialect{
		name:        "sqlite",
		begin:       "BEGIN IMMEDIATE",
		numbered:    func(query string) string { return strings.ReplaceAll(query, "$", "?") },
		placeholder: func(int) string { return "?" },
		typed:       func(int, string) string { return "?" },
		prepare:     true,
		certificateIDs: `WITH RECURSIVE fresh (id, n) AS (
			SELECT coalesce(max(id), 0) + 1, 1 FROM certificate UNION ALL SELECT id + 1, n + 1 FROM fresh WHERE n < $1)
			SELECT id FROM fresh`,
		space: `SELECT page_count * page_size, freelist_count * page_size
			FROM pragma_page_count() CROSS JOIN pragma_page_size() CROSS JOIN pragma_freelist_count()`,
		giveBack: `PRAGMA incremental_vacuum`,
		down:     sqliteDown,
		conflict: func(error) bool { return false }, // there is one writer
		aborted:  func(*sql.Conn) bool { return false },
	}
}

func postgresDialect() *dialect {
	return &dialect{
		name:           "postgres",
		begin:          "BEGIN ISOLATION LEVEL READ COMMITTED", // whatever the server's default is
		forUpdate:      " FOR UPDATE",
		utf8:           true,
		numbered:       func(query string) string { return query },
		placeholder:    func(n int) string { return "$" + strconv.Itoa(n) },
		typed:          func(n int, name string) string { return "$" + strconv.Itoa(n) + "::" + name },
		certificateIDs: `SELECT nextval('certificate_id') FROM generate_series(1, $1::bigint)`,
		space:          `SELECT pg_database_size(current_database()), CAST(0 AS BIGINT)`,
		down:           postgresDown,
		conflict:       postgresConflict,
		aborted:        postgresAborted,
	}
}

// arguments makes the arguments of a statement acceptable. It changes them in place.
func (d *dialect) arguments(args []any) []any {
	if !d.utf8 {
		return args
	}
	for i, arg := range args {
		if text, ok := arg.(string); ok && (strings.IndexByte(text, 0) >= 0 || !utf8.ValidString(text)) {
			args[i] = strings.ReplaceAll(strings.ToValidUTF8(text, "\ufffd"), "\x00", "\ufffd")
		}
	}
	return args
}

func sqliteDown(err error) bool {
	found, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	switch found.Code() & 0xff { // the primary code, without what SQLite calls the extended part
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_NOTADB:
		return true
	default:
		return false
	}
}

// postgresDown is true for what the network and the driver say, and of the server's errors for the classes 08
// connection, 53 resources, 57 operator intervention, 58 system error. What it does not know is taken for a mistake
// of ours, which must not be hidden as an outage.
func postgresDown(err error) bool {
	if found, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch found.Code[:2] {
		case "08", "53", "57", "58":
			return true
		default:
			return found.Code == "25006" // read-only: we reached a standby
		}
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	for _, known := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, driver.ErrBadConn, sql.ErrConnDone, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return pgconn.SafeToRetry(err) // the connection was closed before anything was sent
}

// postgresConflict is true for serialization_failure and deadlock_detected.
func postgresConflict(err error) bool {
	found, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (found.Code == "40001" || found.Code == "40P01")
}

// postgresAborted asks the driver, which knows it of the server's last answer.
func postgresAborted(conn *sql.Conn) bool {
	const failed = 'E'
	aborted := true
	err := conn.Raw(func(raw any) error {
		if c, ok := raw.(*stdlib.Conn); ok {
			aborted = c.Conn().PgConn().TxStatus() == failed
		}
		return nil
	})
	return err != nil || aborted
}
