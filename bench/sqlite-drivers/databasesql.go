//go:build modernc || ncruces || mattn

package main

import (
	"context"
	"database/sql"
	"strings"
)

// sqlConn drives what implements database/sql/driver.
type sqlConn struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

func openSQL(driver, dsn string) (conn, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	c, err := db.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	return &sqlConn{db: db, conn: c, stmts: map[string]*sql.Stmt{}}, nil
}

func (c *sqlConn) prepare(query string) (*sql.Stmt, error) {
	if stmt, ok := c.stmts[query]; ok {
		return stmt, nil
	}
	stmt, err := c.conn.PrepareContext(context.Background(), query)
	c.stmts[query] = stmt
	return stmt, err
}

func (c *sqlConn) exec(query string, args ...any) error {
	if strings.HasPrefix(query, "CREATE") {
		_, err := c.conn.ExecContext(context.Background(), query)
		return err
	}
	stmt, err := c.prepare(query)
	if err != nil {
		return err
	}
	_, err = stmt.ExecContext(context.Background(), args...)
	return err
}

func (c *sqlConn) query(query string, args ...any) (int, error) {
	stmt, err := c.prepare(query)
	if err != nil {
		return 0, err
	}
	rows, err := stmt.QueryContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	var ints [12]int64
	var texts [8]string
	var blobs [5][]byte
	n := 0
	for ; rows.Next(); n++ {
		err := rows.Scan(&ints[0], &blobs[0], &ints[1], &ints[2], &ints[3], &ints[4], &ints[5], &ints[6], &ints[7], &ints[8],
			&ints[9], &ints[10], &ints[11], &texts[0], &texts[1], &texts[2], &texts[3], &texts[4], &texts[5], &texts[6],
			&blobs[1], &blobs[2], &blobs[3], &blobs[4], &texts[7])
		if err != nil {
			return n, err
		}
	}
	return n, rows.Err()
}

func (c *sqlConn) close() error { return c.db.Close() }
