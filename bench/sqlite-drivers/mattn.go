//go:build mattn

package main

import _ "github.com/mattn/go-sqlite3"

const driverName = "mattn"

func open(path string) (conn, error) {
	c, err := openSQL("sqlite3", "file:"+path+"?_busy_timeout=1000&_journal_mode=WAL&_synchronous=FULL&_cache_size=-32768")
	if err != nil {
		return nil, err
	}
	return c, c.exec("PRAGMA wal_autocheckpoint = 4000")
}
