//go:build zombiezen

package main

import (
	"fmt"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	modernc "modernc.org/sqlite"
)

const driverName = "zombiezen"

type zombieConn struct{ conn *sqlite.Conn }

func open(path string) (conn, error) {
	// It stands on modernc.org/sqlite/lib, and so takes its setting.
	if _, err := modernc.Fdatasync(true); err != nil {
		return nil, err
	}
	c, err := sqlite.OpenConn(path, sqlite.OpenReadWrite, sqlite.OpenCreate, sqlite.OpenWAL)
	if err != nil {
		return nil, err
	}
	for _, pragma := range []string{"synchronous = FULL", "cache_size = -32768", "wal_autocheckpoint = 4000"} {
		if err := sqlitex.ExecuteTransient(c, "PRAGMA "+pragma, nil); err != nil {
			return nil, err
		}
	}
	return &zombieConn{c}, nil
}

func (c *zombieConn) bind(query string, args []any) (*sqlite.Stmt, error) {
	stmt, err := c.conn.Prepare(query)
	if err != nil {
		return nil, err
	}
	for i, arg := range args {
		switch v := arg.(type) {
		case int64:
			stmt.BindInt64(i+1, v)
		case string:
			stmt.BindText(i+1, v)
		case []byte:
			stmt.BindBytes(i+1, v)
		default:
			return nil, fmt.Errorf("argument %d is a %T", i, arg)
		}
	}
	return stmt, nil
}

func (c *zombieConn) exec(query string, args ...any) error {
	if strings.HasPrefix(query, "CREATE") {
		return sqlitex.ExecuteTransient(c.conn, query, nil)
	}
	stmt, err := c.bind(query, args)
	if err != nil {
		return err
	}
	_, err = stmt.Step()
	if reset := stmt.Reset(); err == nil {
		err = reset
	}
	return err
}

func (c *zombieConn) query(query string, args ...any) (int, error) {
	stmt, err := c.bind(query, args)
	if err != nil {
		return 0, err
	}
	defer stmt.Reset()
	for n := 0; ; n++ {
		more, err := stmt.Step()
		if err != nil || !more {
			return n, err
		}
		for column := range stmt.ColumnCount() {
			switch stmt.ColumnType(column) {
			case sqlite.TypeInteger:
				_ = stmt.ColumnInt64(column)
			case sqlite.TypeText:
				_ = stmt.ColumnText(column)
			case sqlite.TypeBlob:
				_ = stmt.ColumnBytes(column, make([]byte, stmt.ColumnLen(column)))
			default:
			}
		}
	}
}

func (c *zombieConn) close() error { return c.conn.Close() }
