package store

import (
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
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
	// utf8 replaces what is not text in the arguments of a statement: PostgreSQL refuses a NUL and bytes that are not
	// UTF-8, which clients may send (as a User-Agent, in a URL); SQLite stores any bytes.
	utf8 bool
	// prepare keeps prepared statements on the connection. pgx does that by itself.
	prepare bool
	// certificateIDs is the query for n ($1) fresh certificate IDs. With several writers they come from a sequence;
	// SQLite's only writer counts on from the newest row.
	certificateIDs string
	// down tells that the database cannot be used now, which is no fault of the statement.
	down func(err error) bool
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
		prepare:     true,
		certificateIDs: `WITH RECURSIVE fresh (id, n) AS (
			SELECT coalesce(max(id), 0) + 1, 1 FROM certificate UNION ALL SELECT id + 1, n + 1 FROM fresh WHERE n < $1)
			SELECT id FROM fresh`,
		down: sqliteDown,
	}
}

func postgresDialect() *dialect {
	return &dialect{
		name:           "postgres",
		begin:          "BEGIN",
		forUpdate:      " FOR UPDATE",
		utf8:           true,
		numbered:       func(query string) string { return query },
		placeholder:    func(n int) string { return "$" + strconv.Itoa(n) },
		certificateIDs: `SELECT nextval('certificate_id') FROM generate_series(1, $1::bigint)`,
		down:           postgresDown,
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

// postgresDown is true for everything that is not the server's judgement of a statement (the network, a timeout),
// and for the classes 08 connection, 53 resources, 57 operator intervention, 58 system error.
func postgresDown(err error) bool {
	found, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return true
	}
	switch found.Code[:2] {
	case "08", "53", "57", "58":
		return true
	default:
		return found.Code == "25006" // read-only: we reached a standby
	}
}
