//go:build ncruces

package main

import (
	_ "github.com/ncruces/go-sqlite3/driver"
)

const driverName = "ncruces"

func open(path string) (conn, error) {
	return openSQL("sqlite3", "file:"+path+"?_pragma=busy_timeout(1000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+
		"&_pragma=cache_size(-32768)&_pragma=wal_autocheckpoint(4000)")
}
